"""Receivers that do not read take up a bounded part of the router's memory, however much waits for them, and after a restart too."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.support.parts import Router, alert, notification
from tests.support.receiver import Receiver
from tests.support.router_process import start_router
from tests.support.waiting import wait_until

MIB = 1024**2
RECEIVERS = 24
ALERTS = 60
ANNOTATION = 60_000
MOST_MIB = 100
"""More than the router takes with nothing waiting."""


@contextmanager
def deaf_receivers() -> Iterator[list[str]]:
    """The URLs of receivers that accept connections and read nothing."""
    listeners = [socket.create_server(("127.0.0.1", 0), backlog=64) for _ in range(RECEIVERS)]
    accepted: list[socket.socket] = []

    def accept(listener: socket.socket) -> None:
        while True:
            try:
                accepted.append(listener.accept()[0])
            except OSError:
                return  # it was closed

    for listener in listeners:
        threading.Thread(target=accept, args=(listener,), daemon=True).start()
    try:
        yield [f"http://127.0.0.1:{listener.getsockname()[1]}/deaf" for listener in listeners]
    finally:
        for one in (*listeners, *accepted):
            one.close()


def memory(router: Router, line: str) -> float:
    """MiB of the process: `VmRSS` now, `VmHWM` at most."""
    status = Path(f"/proc/{router.running.pid}/status").read_text().splitlines()
    return int(next(one for one in status if one.startswith(line)).split()[1]) / 1024


def metric(router: Router, name: str) -> float:
    return next(float(line.split()[1]) for line in router.metrics().splitlines() if line.startswith(f"eventsink_router_{name} "))


def test_receivers_that_do_not_read_take_little_memory_and_delay_no_other(tmp_path: Path) -> None:
    with deaf_receivers() as deaf, Receiver() as receiver:
        with start_router(tmp_path, *deaf, receiver.url("/well")) as router:
            before = memory(router, "VmRSS")
            for number in range(0, ALERTS, 10):
                alerts = [alert(f"A{number + n}", namespace="acme") for n in range(10)]
                for one in alerts:
                    one["annotations"] = {f"text{n}": "x" * ANNOTATION for n in range(4)}
                assert router.post(notification(*alerts, group=str(number)))[0] == 200
            receiver.wait_for(ALERTS)
            assert metric(router, "deliveries_waiting") >= RECEIVERS * ALERTS  # more than 300 MiB
            assert 4 * MIB < metric(router, "bytes_in_flight") <= 20 * MIB
            assert memory(router, "VmHWM") < before + MOST_MIB
        with start_router(tmp_path, *deaf, receiver.url("/well")) as router:
            wait_until("what may be in flight", lambda: metric(router, "bytes_in_flight") > 4 * MIB)
            assert router.post(notification(alert("new", namespace="acme"), group="new"))[0] == 200
            receiver.wait_for(ALERTS + 1)
            assert memory(router, "VmHWM") < before + MOST_MIB
