"""The operator's kopf thread alone, whose first logins the API server does not accept.

python -m tests.support.kopf_logins KUBECONFIG WRONG [SECONDS]: logs in WRONG times with a token that is none, then with the right one;
gives up after SECONDS instead of the operator's time. Prints a line of JSON for each EventSink that it sees, and at last how it ended.

A process of its own: kopf ends while its connections are closing, which Python reports to whoever runs a test at that moment.
"""

from __future__ import annotations

import asyncio
import json
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

from eventsink.controller import handlers
from eventsink.controller.handlers import KopfThread
from eventsink.kube.http import Access, HttpApi, connect
from eventsink.kube.settings import KubernetesSettings


class Accepting:
    """An API server that accepts the token after so many logins."""

    def __init__(self, api: HttpApi, wrong: int) -> None:
        self._api = api
        self._wrong = wrong
        self._logins = 0

    async def access(self) -> Access:
        """As `HttpApi` has it."""
        self._logins += 1
        access = await self._api.access()
        return access if self._logins > self._wrong else replace(access, token="wrong")


def say(**line: object) -> None:
    """Print one line."""
    print(json.dumps(line), flush=True)


async def watch(kubeconfig: Path, wrong: int) -> None:
    """Watch until kopf ends."""
    api: Any = Accepting(await connect(KubernetesSettings(kubeconfig=kubeconfig), "operator"), wrong)
    try:
        await KopfThread(api, lambda _kind, obj: say(seen=obj["metadata"]["namespace"]), lambda _key, _version: False).run()
    except RuntimeError as error:
        say(ended=str(error))


if __name__ == "__main__":
    if len(sys.argv) > 3:
        handlers.UNAUTHORIZED_FOR_SECONDS = float(sys.argv[3])
    asyncio.run(watch(Path(sys.argv[1]), int(sys.argv[2])))
