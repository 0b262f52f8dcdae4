"""One alert for many sinks, which is stored in parts, through kills in the middle of it: each sink is notified of it and of its end."""

from __future__ import annotations

import random
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from tests.support.parts import Router, alert, notification
from tests.support.ports import free_port
from tests.support.receiver import Receiver
from tests.support.router_process import start_router
from tests.support.waiting import wait_until

SINKS = 100
KILLS = 3
EACH_ROUND = 10
POSTERS = 4


class Alert:
    """An alert whose sender repeats what was not accepted, and reports the end when the alert was accepted."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.accepted: list[str] = []

    def go_on(self, router: Router) -> None:
        """Send what is left, until the router is gone."""
        for status in ("firing", "resolved")[len(self.accepted) :]:
            try:
                if router.post(notification(alert(self.name, status=status, namespace="acme"), group=self.name))[0] != 200:
                    return
            except OSError:
                return  # it was killed: no response, no promise
            self.accepted.append(status)


def arrived(receiver: Receiver, sink: int) -> set[tuple[str, str]]:
    events = [request.json() for request in receiver.requests(f"/{sink}")]
    return {(event["data"]["name"], event["data"]["status"]) for event in events}


def go_on(alerts: Sequence[Alert], router: Router, posters: ThreadPoolExecutor) -> None:
    for one in alerts:
        posters.submit(one.go_on, router)


def test_each_of_many_sinks_is_notified_of_each_alert_and_its_end_through_kills(receiver: Receiver, tmp_path: Path) -> None:
    chance = random.Random(1)
    urls = [receiver.url(f"/{sink}") for sink in range(SINKS)]
    intake = {"address": f"127.0.0.1:{free_port()}"}
    alerts: list[Alert] = []
    for number in range(KILLS):
        alerts += [Alert(f"{number}-{n}") for n in range(EACH_ROUND)]
        with start_router(tmp_path, *urls, intake=intake) as router, ThreadPoolExecutor(POSTERS) as posters:
            go_on(alerts, router, posters)
            moment = sum(len(one.accepted) for one in alerts) + chance.randint(1, EACH_ROUND)
            wait_until("a moment to kill", lambda: sum(len(one.accepted) for one in alerts) >= moment)  # noqa: B023
            router.running.kill9()
    assert any(len(one.accepted) < 2 for one in alerts)
    with start_router(tmp_path, *urls, intake=intake) as router, ThreadPoolExecutor(POSTERS) as posters:
        go_on(alerts, router, posters)
        wait_until("all to be accepted", lambda: all(len(one.accepted) == 2 for one in alerts))
        wait_until("an empty queue", lambda: "eventsink_router_deliveries_waiting 0.0" in router.metrics())
        assert "eventsink_router_dead_letters 0.0" in router.metrics()
    wanted = {(one.name, status) for one in alerts for status in ("firing", "resolved")}
    for sink in range(SINKS):
        assert arrived(receiver, sink) == wanted
