"""A router without a cluster, as a process of its own: one webhook sink of the tenant acme.

python -m tests.benchmarks.router_process CONFIG URL
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from eventsink.router.config import RouterSettings
from eventsink.router.service import Router
from eventsink.runtime.logs import configure_logs
from eventsink.runtime.process import run
from eventsink.runtime.settings import load_settings
from eventsink.sinks.sink import CompiledFrom, Sink, Tenancy, WebhookTarget, destination_of
from tests.support import parts
from tests.support.processes import RunningProcess


async def serve(settings: RouterSettings, url: str, stop: asyncio.Event) -> None:
    """Run the router with a directory that is filled here."""
    router = Router(settings)
    router.directory.set_tenancy(Tenancy(owners={"acme": "acme"}))

    async def fill() -> None:
        router.directory.put(
            Sink(
                uid="11111111-1111-4111-8111-111111111111",
                namespace="acme",
                name="alerts",
                display_name="Alerts",
                tenant="acme",
                compiled_from=CompiledFrom(generation=1),
                destination=destination_of("webhook", url),
                webhook=WebhookTarget(url=url),
            )
        )
        router.directory.mark_loaded()
        await asyncio.Event().wait()

    await router.run(stop, lambda: {"fill": fill()})


@contextmanager
def start_router(folder: Path, url: str, **settings: object) -> Iterator[parts.Router]:
    """The process, ready."""
    router = parts.Router(folder, dict(settings))
    (folder / "token").write_text(router.token)
    (folder / "admin-token").write_text(router.admin_token)
    file = parts.write_settings(folder / "router.yaml", router.configuration())
    command: list[str | Path] = [sys.executable, "-m", "tests.benchmarks.router_process", file, url]
    with RunningProcess(command, log=folder / "router.log", name="router") as process:
        router.process = process
        process.wait_ready()
        yield router


if __name__ == "__main__":
    loaded = load_settings(RouterSettings, part="router", path=Path(sys.argv[1]))
    configure_logs(loaded.log)
    sys.exit(run(lambda stop: serve(loaded, sys.argv[2], stop)))
