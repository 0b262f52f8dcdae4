"""The router through kills, a full queue, and sinks that hang: what got a 200 arrives, and no sink delays another."""

from __future__ import annotations

import random
import signal
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Event
from urllib.parse import urlencode

import pytest

from tests.support.parts import Router, alert, notification
from tests.support.ports import free_port
from tests.support.receiver import HANG, CannedResponse, Received, Receiver
from tests.support.router_process import start_router
from tests.support.waiting import wait_until

KILLS = 4
POSTERS = 8
EACH_ROUND = 150


def post(router: Router, name: str) -> bool:
    """Whether the router accepted the alert."""
    try:
        return router.post(notification(alert(name, namespace="acme"), group=name))[0] == 200
    except OSError:
        return False  # it was killed: no response, no promise


def names(requests: list[Received]) -> list[str]:
    """The alerts in requests, in batches or alone."""
    found = []
    for request in requests:
        events = request.json()
        found += [event["data"]["name"] for event in (events if isinstance(events, list) else [events])]
    return found


@pytest.mark.parametrize("batch", [1, 20])
def test_every_accepted_alert_arrives_despite_many_kills(receiver: Receiver, tmp_path: Path, batch: int) -> None:
    chance = random.Random(batch)
    receiver.respond_with(CannedResponse(delay=0.003))
    address = f"{receiver.url('/hook')}#batch={batch}"
    intake = {"address": f"127.0.0.1:{free_port()}"}
    accepted: set[str] = set()
    for number in range(KILLS):
        with start_router(tmp_path, address, intake=intake) as router, ThreadPoolExecutor(POSTERS) as posters:
            wanted = [f"{number}-{n}" for n in range(EACH_ROUND)]
            posts = {name: posters.submit(post, router, name) for name in wanted}
            moment = chance.randint(1, EACH_ROUND - POSTERS)
            wait_until("a moment to kill", lambda: sum(one.done() for one in posts.values()) >= moment)  # noqa: B023
            router.running.kill9()
            accepted |= {name for name, one in posts.items() if one.result()}
    with start_router(tmp_path, address, intake=intake) as router:
        receiver.wait_for(lambda seen: accepted <= set(names(seen)))
        wait_until("an empty queue", lambda: "eventsink_router_deliveries_waiting 0.0" in router.metrics())
        assert "eventsink_router_dead_letters 0.0" in router.metrics()
    # The same message is the same alerts, however often it came.
    contents: dict[str, set[bytes]] = {}
    for request in receiver.requests():
        contents.setdefault(request.headers["webhook-id"], set()).add(request.body)
    assert all(len(bodies) == 1 for bodies in contents.values())


def test_after_sigterm_the_router_finishes_requests_and_messages_under_way_and_loses_nothing(
    receiver: Receiver, tmp_path: Path
) -> None:
    receiver.respond_with(CannedResponse(delay=0.05))
    shutdown = {"unready": "1s", "grace": "10s"}
    accepted: set[str] = set()
    with start_router(tmp_path, receiver.url("/hook"), shutdown=shutdown) as router, ThreadPoolExecutor(POSTERS) as posters:
        posts = {f"A{n}": posters.submit(post, router, f"A{n}") for n in range(300)}
        wait_until("some to be accepted", lambda: sum(one.done() for one in posts.values()) >= 50)
        router.running.send_signal(signal.SIGTERM)
        assert router.running.wait() == 0
        accepted = {name for name, one in posts.items() if one.result()}
        events = [line["event"] for line in router.running.lines()]
        assert events[-2:] == ["stopping", "stopped"]
    before = names(receiver.requests())
    assert len(before) == len(set(before))  # nothing that arrived was left unrecorded
    with start_router(tmp_path, receiver.url("/hook")) as router:
        receiver.wait_for(lambda seen: accepted <= set(names(seen)))
        wait_until("an empty queue", lambda: "eventsink_router_deliveries_waiting 0.0" in router.metrics())
    assert len(names(receiver.requests())) == len(set(names(receiver.requests())))


def test_hanging_and_dead_sinks_delay_no_other(receiver: Receiver, tmp_path: Path) -> None:
    receiver.respond_with(HANG, path="/hanging")
    receiver.respond_with(500, path="/dead")
    unreachable = f"http://127.0.0.1:{free_port()}/unreachable"
    addresses = [receiver.url("/well"), receiver.url("/hanging"), receiver.url("/dead"), unreachable]
    with start_router(tmp_path, *addresses) as router:
        for number in range(200):
            assert post(router, f"A{number}")
        arrived = receiver.wait_for(200, path="/well")
        wait_until("the rest to be recorded", lambda: "eventsink_router_deliveries_waiting 600.0" in router.metrics())
        assert sorted(names(arrived)) == sorted(f"A{number}" for number in range(200))
        receiver.wait_for(1, path="/hanging")
        assert len(receiver.requests("/hanging")) < 8  # one at a time until it responds


def test_a_full_queue_responds_with_503_and_accepts_alerts_again_when_there_is_room(receiver: Receiver, tmp_path: Path) -> None:
    receiver.respond_with(503)
    with start_router(
        tmp_path, receiver.url("/hook"), queue={"maxWaiting": 50}, dispatch={"retry": {"sinkLongest": "1s"}}
    ) as router:
        for number in range(50):
            assert post(router, f"A{number}")
        status, response = router.post(notification(alert("A50", namespace="acme"), group="A50"))
        assert status == 503
        assert "the queue is full: 50 deliveries wait (queue.maxWaiting)" in response["error"]
        receiver.respond_with(200)
        wait_until("room", lambda: post(router, "A50"))
        receiver.wait_for(lambda seen: {f"A{n}" for n in range(51)} <= set(names(seen)))


def test_a_router_whose_queue_was_removed_delivers_what_waits_and_accepts_nothing(receiver: Receiver, tmp_path: Path) -> None:
    receiver.respond_with(503)
    with start_router(tmp_path, receiver.url("/hook"), dispatch={"retry": {"sinkLongest": "1s"}}) as router:
        assert post(router, "A")
        (tmp_path / "queue.db").unlink()
        status, response = router.post(notification(alert("B", namespace="acme"), group="B"))
        assert status == 503
        assert "could not be stored" in response["error"]
        status, health = router.running.readiness()
        assert status == 503
        assert "queue.db was removed or replaced" in health
        assert "eventsink_router_queue_damaged 1.0" in router.metrics()
        receiver.respond_with(200)
        receiver.wait_for(lambda seen: names(seen).count("A") >= 2)
        assert "B" not in names(receiver.requests())
    with start_router(tmp_path, receiver.url("/hook"), ready=False) as router:
        assert router.running.wait() == 1
        reason = router.running.lines()[-1]["reason"]
        assert "that was used here is missing" in reason
        lost = reason.partition("acceptLoss: ")[2].split()[0]
    with start_router(tmp_path, receiver.url("/hook"), queue={"acceptLoss": lost}) as router:
        assert post(router, "C")
        receiver.wait_for(lambda seen: "C" in names(seen))


def test_a_waiting_delivery_is_shown_with_the_reason_of_its_last_attempt(receiver: Receiver, tmp_path: Path) -> None:
    receiver.respond_with(503)
    with start_router(tmp_path, receiver.url("/hook")) as router:
        assert post(router, "A")
        receiver.wait_for(1)
        shown = router.admin("/v1/deliveries?state=waiting")[1]["deliveries"]
        assert [(one["alert"], one["state"]) for one in shown] == [("A", "waiting")]
        wait_until(
            "the reason of the last attempt", lambda: router.admin("/v1/deliveries")[1]["deliveries"][0]["reason"] == "HTTP503"
        )
        [shown] = router.admin("/v1/deliveries")[1]["deliveries"]
        assert shown["detail"] == f"http://127.0.0.1:{receiver.port} responded with 503"


def test_a_tenant_whose_matchers_are_expensive_delays_no_other(receiver: Receiver, tmp_path: Path) -> None:
    """One alert with a label of 16,384 characters took 67 s at five such sinks, and nobody else got a response."""
    hostile = [
        f"{receiver.url('/hostile')}#"
        + urlencode([("tenant", "mallory"), *(("matcher", f'x=~"{n}?(.*.{{{180 - m}}})+"') for m in range(32))])
        for n in range(5)
    ]
    seconds = []
    with start_router(tmp_path, receiver.url("/hook"), *hostile) as router, ThreadPoolExecutor(1) as posters:
        done = Event()

        def attack() -> int:
            accepted = 0
            while not done.is_set():
                alerts = (alert(f"H{accepted}-{n}", namespace="mallory", x=f"{n}" + "a" * 16_384) for n in range(10))
                accepted += router.post(notification(*alerts, group=f"h{accepted}"))[0] == 200
            return accepted

        attacking = posters.submit(attack)
        try:
            wait_until("the attack", lambda: receiver.requests("/hostile"))
            for n in range(40):
                began = time.monotonic()
                assert post(router, f"A{n}")
                seconds.append(time.monotonic() - began)
        finally:
            done.set()
        assert attacking.result(60) > 0
        wait_until("the others' alerts", lambda: len(receiver.requests("/hook")) == 40)
        assert max(seconds) < 2.0
        assert sorted(seconds)[20] < 0.5
