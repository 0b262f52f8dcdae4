"""The router in 512 MiB, whatever is sent to it and however little its receivers read: it is not killed, and goes on delivering."""

from __future__ import annotations

import json
import socket
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest

from tests.support.memory_limit import memory_limit, peak_bytes
from tests.support.parts import Router, alert, notification
from tests.support.ports import free_port
from tests.support.receiver import Receiver
from tests.support.router_process import start_router

LIMIT = 512 * 1024**2
MEBIBYTE = 1024**2
LARGEST = 16 * MEBIBYTE - 1024
"""Of a body, with the default of `intake.maxBodyBytes`."""
AT_ONCE = 8


def many(count: int, prefix: str = "A", **members: Any) -> bytes:
    """A notification of so many alerts of one group."""
    alerts = [{**alert(f"{prefix}{number}", namespace="acme", pod=f"pod-{number}"), **members} for number in range(count)]
    return json.dumps(notification(*alerts, group=prefix)).encode()


def shared(member: str, value: object) -> bytes:
    """500 alerts that share something large."""
    alerts = [alert(f"{member}{number}", namespace="acme") for number in range(500)]
    return json.dumps({**notification(*alerts, group=member), member: value}).encode()


def with_alerts(alerts: bytes) -> bytes:
    """A notification whose list of alerts is this."""
    return b'{"version":"4","groupKey":"x","alerts":[%s]}' % alerts


def one_with(labels: bytes) -> bytes:
    """A notification of one alert with these members as labels."""
    return with_alerts(b'{"status":"firing","startsAt":"2026-01-01T00:00:00Z","labels":{"namespace":"acme",%s}}' % labels)


def dense_labels() -> bytes:
    """As many labels as fit."""
    labels = bytearray()
    number = 0
    while len(labels) < LARGEST - 1000:
        labels += b'"%x":"",' % number
        number += 1
    return one_with(bytes(labels) + b'"z":""')


HOSTILE: dict[str, tuple[Callable[[], bytes], set[int]]] = {
    "a mebibyte of common labels": (lambda: shared("commonLabels", {"a": "x" * MEBIBYTE}), {200}),
    "a mebibyte of group labels": (lambda: shared("groupLabels", {"a": "x" * MEBIBYTE}), {200}),
    "an external URL of a mebibyte": (lambda: shared("externalURL", "https://am.example.com/" + "x" * MEBIBYTE), {200}),
    "a group key of a mebibyte": (lambda: shared("groupKey", "x" * MEBIBYTE), {200}),
    "10,001 alerts": (lambda: many(10_001), {200}),
    "130 labels": (lambda: many(200, "L", labels={"namespace": "acme"} | {f"l{n}": "x" * 50 for n in range(130)}), {200}),
    "annotations of 70 kB": (lambda: many(100, "N", annotations={"description": "x" * 70_000}), {200}),
    "a label of 15 MiB": (lambda: one_with(b'"a":"%s"' % (b"x" * (15 * MEBIBYTE))), {200}),
    "as many labels as fit": (dense_labels, {413}),
    "as many alerts as fit": (lambda: with_alerts(b"0," * (LARGEST // 2 - 100) + b"0"), {413}),
    "as many absent alerts as fit": (lambda: with_alerts(b"null," * (LARGEST // 5 - 100) + b"null"), {413}),
    "a nest": (lambda: with_alerts(b"[" * (LARGEST - 1000)), {400}),
    "only quotes": (lambda: b'"' * LARGEST, {413}),
}


@contextmanager
def not_reading() -> Iterator[str]:
    """A receiver that accepts connections, as far as its backlog goes, and reads nothing: its URL."""
    with socket.socket() as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        listener.bind(("127.0.0.1", 0))
        listener.listen(1000)
        yield f"http://127.0.0.1:{listener.getsockname()[1]}/"


@contextmanager
def dead() -> Iterator[str]:
    """A receiver that nobody runs: its URL."""
    yield f"http://127.0.0.1:{free_port()}/"


def post(router: Router, body: bytes) -> int:
    """Post as the source does: the status."""
    return router.post_bytes(body)[0]


@pytest.fixture(scope="module")
def hostile() -> Mapping[str, tuple[bytes, set[int]]]:
    """What to send, and the statuses that are right for it."""
    return {what: (make(), statuses) for what, (make, statuses) in HOSTILE.items()}


@pytest.mark.parametrize("receivers", [dead, not_reading], ids=lambda one: one.__name__)
def test_the_router_is_not_killed_for_its_memory_whatever_it_is_sent(
    tmp_path: Path, hostile: Mapping[str, tuple[bytes, set[int]]], receivers: Callable[[], AbstractContextManager[str]]
) -> None:
    with memory_limit(LIMIT) as before, Receiver() as well, receivers() as url:
        only = quote('alertname=~"first|second"')  # 60,000 others would take the test's time, not the router's memory
        addresses = [well.url("/alerts") + f"#matcher={only}", f"{url}#batch=100", f"{url}#format=alertmanager", url]
        intake = {"address": f"127.0.0.1:{free_port()}"}
        for number, name in enumerate(("first", "second"), 1):
            with start_router(tmp_path, *addresses, before=before, intake=intake) as router:
                send_hostile(router, hostile)
                send_large(router, name)
                assert post(router, json.dumps(notification(alert(name, namespace="acme"), group=name)).encode()) == 200
                well.wait_for(number, path="/alerts")
                assert router.running.exit_code is None
                assert peak_bytes(router.running.pid) < LIMIT
                router.running.kill9()  # it starts again with all that waits


def send_hostile(router: Router, hostile: Mapping[str, tuple[bytes, set[int]]]) -> None:
    """One after the other."""
    for what, (body, statuses) in hostile.items():
        assert post(router, body) in statuses, what


def send_large(router: Router, name: str) -> None:
    """Several of the largest bodies at once: some are accepted, the others may come again later."""
    large = many(30_000, f"{name}-", annotations={"description": "x" * 250})
    assert 0.9 * LARGEST < len(large) < LARGEST
    with ThreadPoolExecutor(AT_ONCE) as posters:
        statuses = list(posters.map(lambda _: post(router, large), range(AT_ONCE)))
    assert set(statuses) == {200, 503}
