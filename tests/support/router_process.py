"""A router without a cluster, as a process of its own: a webhook sink for each URL.

    python -m tests.support.router_process CONFIG URL...

The sinks are named alerts, alerts-1, alerts-2 ... A URL may be followed by `#` and options in the form of a query: `batch`, `format`,
`tenant` (else acme, which has a namespace of the same name), `matcher` (several), `resolved=false`, `repeat`
(seconds). `slack:TEAM/CHANNEL/TOKEN` is a Slack channel, with the options `updates` and `repeats`.
SIGUSR1 deletes the last sink.
"""

from __future__ import annotations

import asyncio
import signal
import sys
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import parse_qs

from eventsink.destinations.slack.target import SlackTarget
from eventsink.destinations.webhook.target import WebhookTarget
from eventsink.resources.names import ALL_TENANTS
from eventsink.router.config import RouterSettings
from eventsink.router.process import Router
from eventsink.runtime.process import Process, run_command
from eventsink.runtime.settings import load_settings
from eventsink.sinks.sink import CompiledFrom, Sink, SinkDelivery, SinkMatch, Tenancy
from eventsink.sinks.target import Target
from tests.support import parts
from tests.support.processes import RunningProcess


def sink(number: int, address: str) -> Sink:
    """The compiled sink of one URL."""
    url, _, query = address.partition("#")
    options = parse_qs(query)
    name = f"alerts-{number}" if number else "alerts"
    chosen = {option: options[option][0] for option in ("batch", "format") if option in options}
    target: Target = WebhookTarget.model_validate({"url": url, "batch": 1, **chosen})
    if address.startswith("slack:"):
        team, channel, token = url.removeprefix("slack:").split("/")
        follows = {option: options[option][0] for option in ("updates", "repeats") if option in options}
        target = SlackTarget.model_validate({"token": token, "team_id": team, "channel_id": channel, **follows})
    return Sink(
        uid=str(uuid.uuid5(uuid.NAMESPACE_URL, name)),
        namespace="acme",
        name=name,
        display_name=name,
        tenant=options.get("tenant", ["acme"])[0],
        compiled_from=CompiledFrom(generation=1),
        destination=target.destination(),
        match=SinkMatch(matchers=tuple(options.get("matcher", ()))),
        delivery=SinkDelivery(
            send_resolved=options.get("resolved") != ["false"],
            repeat_interval=float(options["repeat"][0]) if "repeat" in options else None,
        ),
        dispatch=target.dispatch_parameters(),
        target=target,
    )


async def serve(settings: RouterSettings, addresses: Sequence[str], stop: asyncio.Event) -> None:
    """Run the router with a directory that is filled here."""
    async with Process("router", settings.monitor, stop) as process:
        router = await Router.open(settings, process)
        sinks = [sink(number, address) for number, address in enumerate(addresses)]
        owners = {"acme": "acme"} | {one.tenant: one.tenant for one in sinks if one.tenant != ALL_TENANTS}
        router.directory.set_tenancy(Tenancy(owners=owners, platform=("acme",)))
        for one in sinks:
            router.directory.put(one)
        router.directory.mark_loaded()
        asyncio.get_running_loop().add_signal_handler(signal.SIGUSR1, router.directory.remove, sinks[-1].uid)
        await process.until_stopped()


@contextmanager
def start_router(
    folder: Path,
    *addresses: str,
    module: str = "tests.support.router_process",
    before: Sequence[str] = (),
    ready: bool = True,
    log: str = "router.log",
    **settings: object,
) -> Iterator[parts.Router]:
    """The process, ready unless it is not to wait; started again in the same folder, it goes on with the same queue and tokens.

    `module` is run instead of this one, to change something first; `before` is put before the command. Two that run at a time need a `log`
    each.
    """
    router = parts.Router(folder, dict(settings))
    for file, token in ((folder / "token", "token"), (folder / "admin-token", "admin_token")):
        if file.exists():
            setattr(router, token, file.read_text())
        else:
            file.write_text(getattr(router, token))
    configuration = parts.write_settings(folder / "router.yaml", router.configuration())
    command: list[str | Path] = [*before, sys.executable, "-m", module, configuration, *addresses]
    with RunningProcess(command, log=folder / log, name="router") as process:
        router.process = process
        if ready:
            process.wait_ready()
        yield router


if __name__ == "__main__":
    config, *addresses = sys.argv[1:]
    sys.exit(
        run_command(
            "router",
            lambda: load_settings(RouterSettings, part="router", path=Path(config)),
            lambda settings, stop: serve(settings, addresses, stop),
        )
    )
