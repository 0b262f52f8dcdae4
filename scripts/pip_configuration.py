"""Prints a pip.conf with the indexes that this machine's pip uses, for a build that cannot see the environment.

Paths on this machine (certificates, folders of wheels) are left out: the build has none of them.
"""

from __future__ import annotations

import subprocess
import sys

OPTIONS = ("index-url", "extra-index-url", "trusted-host", "proxy", "timeout", "default-timeout")


def main() -> None:
    """Print it."""
    listed = subprocess.run([sys.executable, "-m", "pip", "config", "list"], capture_output=True, text=True, check=True).stdout
    settings: dict[str, str] = {}
    for line in listed.splitlines():
        name, _, value = line.partition("=")
        option = name.rpartition(".")[2]
        if option in OPTIONS:
            settings[option] = value.strip("'\"")
    print("[global]")
    print("cert = /etc/ssl/certs/ca-certificates.crt")
    for option, value in settings.items():
        print(f"{option} = {value}")


if __name__ == "__main__":
    main()
