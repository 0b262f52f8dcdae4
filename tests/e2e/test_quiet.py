"""A real router keeps alerts back while a sink is quiet, over a kill -9, says so, and sends what still fires afterwards."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from tests.support.receiver import Received, Receiver
from tests.support.standalone import NAMESPACE, Standalone, sink
from tests.support.waiting import wait_until

ALWAYS: list[dict[str, Any]] = [{"years": ["2000:9999"]}]


@pytest.fixture
def standalone(tmp_path: Path) -> Iterator[Standalone]:
    one = Standalone(tmp_path)
    yield one
    if one.process is not None:
        one.process.close()


def names_of(received: list[Received]) -> list[str]:
    return [str(one.json()["data"]["name"]) for one in received]


def delivering(standalone: Standalone, name: str) -> tuple[str, str]:
    """Reason and message of `Delivering` in the status of a sink, as it was written last."""
    with standalone.rest() as client:
        found = next(one for one in client.list("acme") if one.name == name).delivering
    return (found.reason, found.message) if found is not None else ("", "")


def test_what_a_sink_was_not_sent_for_a_time_is_sent_afterwards_also_when_the_router_was_killed(
    standalone: Standalone, receiver: Receiver
) -> None:
    def put(*, quiet: bool, until: str = "2096-01-01T00:00:00Z") -> None:
        mutes = [{"matchers": ['alertname=~"Mut.*"'], "until": until}]
        times = {"muteTimes": ALWAYS} if quiet else {}
        standalone.put(
            "sinks.yaml",
            NAMESPACE,
            sink("muting", receiver.url("/muting"), mutes=mutes),
            sink("waiting", receiver.url("/waiting"), match=times),
            sink("dropping", receiver.url("/dropping"), match={**times, "outsideTimes": "drop"}),
        )

    def counted(name: str, value: float) -> None:
        wait_until(f"{name} {value}", lambda: f"{name} {value}\n" in standalone.running.metrics())

    def reported() -> str:
        return delivering(standalone, "muting")[1]

    put(quiet=True)
    standalone.start()
    standalone.post_alert("Muted")
    standalone.post_alert("Other")
    receiver.wait_for(1, path="/muting")
    counted('eventsink_router_notifications_suppressed_total{reason="Muted"}', 1.0)
    counted('eventsink_router_notifications_suppressed_total{reason="OutsideTimes"}', 2.0)
    wait_until("the status to say so", lambda: "mutes[0] are muted until 2096-01-01T00:00:00Z" in reported(), show=reported)
    counted("eventsink_router_deliveries_deferred_total", 2.0)
    counted("eventsink_router_deliveries_waiting", 2.0)
    waiting = standalone.deliveries(state="waiting")
    assert {(one["sink"], one["held"]) for one in waiting} == {("acme/waiting", "OutsideTimes")}

    standalone.running.kill9()
    standalone.start()
    standalone.post_alert("Later")
    receiver.wait_for(2, path="/muting")
    counted('eventsink_router_notifications_suppressed_total{reason="OutsideTimes"}', 1.0)
    until = (datetime.now(UTC) + timedelta(seconds=2)).replace(microsecond=0)
    put(quiet=False, until=until.isoformat())

    receiver.wait_for(lambda seen: "Muted" in names_of(seen), path="/muting")
    assert datetime.now(UTC) >= until
    wait_until("the status to say that", lambda: reported().endswith("; ended and to be removed: mutes[0]"), show=reported)
    receiver.wait_for(3, path="/waiting")
    receiver.wait_for(3, path="/dropping")
    assert names_of(receiver.requests("/muting")) == ["Other", "Later", "Muted"]
    assert sorted(names_of(receiver.requests("/waiting"))) == ["Later", "Muted", "Other"]
    assert sorted(names_of(receiver.requests("/dropping"))) == ["Later", "Muted", "Other"]
    counted(
        "eventsink_router_deliveries_waiting", 0.0
    )  # what arrived and is not recorded yet when it is killed would be sent again
    standalone.running.kill9()
    standalone.start()
    standalone.post_alert("Last")
    assert names_of(receiver.wait_for(4, path="/dropping"))[3:] == ["Last"], "nothing is sent twice"


def test_a_sink_whose_tenant_has_no_more_room_for_what_waits_says_so_until_it_got_all(
    standalone: Standalone, receiver: Receiver
) -> None:
    def put(**match: Any) -> None:
        standalone.put("sinks.yaml", NAMESPACE, sink("waiting", receiver.url("/waiting"), match=match))

    def wait_reported(reason: str) -> str:
        wait_until(reason, lambda: delivering(standalone, "waiting")[0] == reason, show=lambda: delivering(standalone, "waiting"))
        return delivering(standalone, "waiting")[1]

    put(muteTimes=ALWAYS)
    standalone.start(quotas={"default": {"waitingDeliveries": 3}})
    wait_reported("OutsideTimes")
    for number in range(5):
        standalone.post_alert(f"A{number}")
    assert "more is sent to the sinks of tenant acme than its quota allows (waitingDeliveries: 3)" in wait_reported(
        "QuotaExceeded"
    )
    put()
    assert sorted(names_of(receiver.wait_for(5, path="/waiting"))) == [f"A{number}" for number in range(5)]
    wait_reported("Delivered")
