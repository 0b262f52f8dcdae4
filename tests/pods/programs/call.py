"""One HTTP request from inside the cluster: `call.py METHOD URL BODY [TOKEN_FILE]`; prints {status, body} as JSON."""

from __future__ import annotations

import json
import sys
import urllib.error
import urllib.request
from pathlib import Path

TIMEOUT_SECONDS = 15


def main() -> None:
    """Send it and print the response, whatever its status."""
    method, url, body = sys.argv[1:4]
    headers = {"Content-Type": "application/json"}
    if len(sys.argv) > 4:
        headers["Authorization"] = f"Bearer {Path(sys.argv[4]).read_text().strip()}"
    try:
        with urllib.request.urlopen(
            urllib.request.Request(url, data=body.encode() or None, headers=headers, method=method), timeout=TIMEOUT_SECONDS
        ) as response:
            status, content = response.status, response.read()
    except urllib.error.HTTPError as error:
        status, content = error.code, error.read()
    except OSError as error:  # nobody listens (yet)
        status, content = 0, str(error).encode()
    print(json.dumps({"status": status, "body": content.decode()}))


if __name__ == "__main__":
    main()
