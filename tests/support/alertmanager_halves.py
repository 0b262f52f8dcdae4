"""One Alertmanager, or a highly available pair whose halves gossip over loopback, sending to webhooks: all times are short."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from tests.support.monitoring import Alertmanager, AlertmanagerProgram
from tests.support.ports import free_ports

HALVES = ("a", "b")
GROUP_WAIT_SECONDS = 0.3
GROUP_INTERVAL_SECONDS = 1.0
REPEAT_SECONDS = 4.0
PEER_TIMEOUT_SECONDS = 0.6
"""How long the second half waits for the first one's notification before it sends its own."""
POST_TIMEOUT_SECONDS = 1.0

EXTERNAL_URL = "http://alertmanager.example.com"


def configuration(webhooks: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """A configuration that sends everything to these webhooks, in one group for each alert name and replica.

    Labels of an alert change that: `repeat: often` is repeated every REPEAT_SECONDS (others are not while a test runs), `grouping: alone` is
    a group of its own, `routes: two` is in two groups, which both go to the webhooks. A `severity: warning` is inhibited while a
    `severity: critical` fires with the same name and instance.
    """
    always = {"receiver": "eventsink", "continue": True}
    return {
        "route": {
            "receiver": "eventsink",
            "group_by": ["alertname", "replica"],
            "group_wait": _duration(GROUP_WAIT_SECONDS),
            "group_interval": _duration(GROUP_INTERVAL_SECONDS),
            "repeat_interval": "4h",
            "routes": [
                {"receiver": "eventsink", "matchers": ['repeat="often"'], "repeat_interval": _duration(REPEAT_SECONDS)},
                {"receiver": "eventsink", "matchers": ['grouping="alone"'], "group_by": ["..."]},
                {**always, "matchers": ['routes="two"']},
                {**always, "matchers": ['routes="two"'], "group_by": ["alertname", "instance"]},
            ],
        },
        "inhibit_rules": [
            {
                "source_matchers": ['severity="critical"'],
                "target_matchers": ['severity="warning"'],
                "equal": ["alertname", "instance"],
            }
        ],
        "receivers": [{"name": "eventsink", "webhook_configs": [dict(one) for one in webhooks]}],
    }


class AlertmanagerHalves:
    """The running halves, by name; use as a context manager.

    Parameters
    ----------
    names
        Of the halves: one is a single Alertmanager.
    configurations
        Of a half, by its name.
    """

    def __init__(
        self, program: AlertmanagerProgram, names: Sequence[str], configurations: Callable[[str], Mapping[str, Any]], folder: Path
    ) -> None:
        self._program = program
        self._configurations = configurations
        self._folder = folder
        ports = free_ports(2 * len(names))  # together: one that was given back could be given out again
        self._ports = dict(zip(names, ports, strict=False))
        self._gossip = dict(zip(names, ports[len(names) :], strict=True))
        self._stack = ExitStack()
        self.running: dict[str, Alertmanager] = {}

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            self._stack = stack
            for name in self._ports:
                self.start(name)
            for one in self.running.values():
                one.wait_up()
            self._stack = stack.pop_all()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None) -> None:
        self._stack.close()

    def start(self, name: str, *, alone: bool = False) -> None:
        """Start a half with the data that it has; `alone`, it does not know the other one."""
        options = [f"--web.external-url={EXTERNAL_URL}"]
        if len(self._ports) > 1 and not alone:
            options += [
                f"--cluster.listen-address=127.0.0.1:{self._gossip[name]}",
                *(f"--cluster.peer=127.0.0.1:{port}" for other, port in self._gossip.items() if other != name),
                f"--cluster.peer-timeout={_duration(PEER_TIMEOUT_SECONDS)}",
                "--cluster.gossip-interval=20ms",
                "--cluster.probe-interval=200ms",
                "--cluster.probe-timeout=100ms",
                "--cluster.pushpull-interval=1s",
                "--cluster.reconnect-interval=1s",
            ]
        else:
            options.append("--cluster.listen-address=")
        process = Alertmanager(
            self._program,
            self._configurations(name),
            self._folder / name,
            port=self._ports[name],
            options=options,
            name=f"alertmanager {name}",
        )
        self.running[name] = self._stack.enter_context(process)

    def restart(self, name: str, *, alone: bool = False) -> None:
        """Kill a half and start it again."""
        self.running[name].kill9()
        self.start(name, alone=alone)
        self.running[name].wait_up()

    def post(self, name: str, alerts: Sequence[Mapping[str, Any]]) -> None:
        """Post alerts to a half, as a Prometheus server that soon gives up."""
        self.running[name].post_alerts(*alerts, timeout=POST_TIMEOUT_SECONDS)


def _duration(seconds: float) -> str:
    return f"{round(seconds * 1000)}ms"
