"""Sends one alert after another until a line comes on standard input, each until it is acknowledged, as Alertmanager would, and then one more.

`load.py URL TOKEN_FILE NAMESPACE PREFIX`. Prints {acknowledged: names, longestGap: seconds between two acknowledgements} as JSON.
"""

from __future__ import annotations

import json
import sys
import threading
import time
import urllib.request
from pathlib import Path

TIMEOUT_SECONDS = 2.0
PAUSE_SECONDS = 0.02
"""Between two alerts: some 40 a second."""


def notification(namespace: str, name: str) -> bytes:
    """What Alertmanager's webhook sends for one new alert."""
    alert = {
        "status": "firing",
        "labels": {"alertname": name, "severity": "critical", "namespace": namespace},
        "annotations": {},
        "startsAt": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "endsAt": "0001-01-01T00:00:00Z",
    }
    group = {
        "groupKey": name,
        "groupLabels": {},
        "commonLabels": {},
        "commonAnnotations": {},
        "externalURL": "http://alertmanager",
    }
    return json.dumps({"version": "4", "status": "firing", "receiver": "eventsink", **group, "alerts": [alert]}).encode()


def acknowledged(url: str, token: str, body: bytes) -> bool:
    """Post once; whether the response was 2xx."""
    headers = {"Content-Type": "application/json", "Authorization": f"Bearer {token}"}
    try:
        with urllib.request.urlopen(urllib.request.Request(url, data=body, headers=headers), timeout=TIMEOUT_SECONDS):
            return True
    except OSError:  # refused, reset, no answer in time, or a status that is not 2xx
        return False


def _wait_for_the_end(ended: threading.Event) -> None:
    sys.stdin.readline()
    ended.set()


def main() -> None:
    """Send until a line comes."""
    url, token_file, namespace, prefix = sys.argv[1:]
    token = Path(token_file).read_text().strip()
    ended = threading.Event()
    threading.Thread(target=_wait_for_the_end, args=(ended,), daemon=True).start()
    names: list[str] = []
    longest, last = 0.0, time.monotonic()
    one_more = False
    while True:
        name = f"{prefix}-{len(names)}"
        if acknowledged(url, token, notification(namespace, name)):
            now = time.monotonic()
            longest, last = max(longest, now - last), now
            names.append(name)
            if len(names) == 1:
                print("started", flush=True)
            if one_more:
                break
            one_more = ended.is_set()  # so that an outage that lasts until now is measured, too
        ended.wait(PAUSE_SECONDS)
    print(json.dumps({"acknowledged": names, "longestGap": longest}), flush=True)


if __name__ == "__main__":
    main()
