"""Whatever a notification holds, it is read or rejected with a sentence, and what is made of it is JSON about its own alerts.

    python -m tests.soak.notifications [SECONDS]

Recorded notifications are changed as JSON (members lost, doubled, of another type) and as bytes; what can still be read goes on to the
payloads of a sink of each form.
"""

from __future__ import annotations

import json
import random
import secrets
import sys
import time
from pathlib import Path
from typing import Any

import msgspec

from eventsink.alerts.alert import Alert, UnusablePayload
from eventsink.alerts.formats import alertmanager
from eventsink.router.planning.alert_states import StateChange
from eventsink.router.planning.batch import BatchBuilder, Owned
from eventsink.router.queue.protocol import PayloadKind
from tests.unit.router.sinks import sink

RECORDED = Path(__file__).parents[1] / "data" / "alertmanager" / "group.json"
SECONDS = 600.0
TIMES = ["2026-01-01T00:00:00Z", "0001-01-01T00:00:00Z", "9999-12-31T23:59:59-23:59"]
VALUES: list[Any] = [
    None,
    True,
    0,
    -1,
    1.5,
    1e300,
    10**40,
    "",
    "4",
    "firing",
    "\ud7ff",
    *TIMES,
    [],
    {},
    [None],
    {"a": None},
    {"": 1},
    [[[]]],
]
NAMES = ["alerts", "Alerts", "status", "labels", "startsAt", ""]
PIECES = [
    b"null",
    b'"',
    b"\\ud800",
    b"\\u0000",
    b"{",
    b"]",
    b"1e999",
    b"9" * 400,
    b",",
    b'"a":',
    b"\xff",
    b"\xed\xa0\x80",
    b"[" * 2000,
]


class Fuzz:
    """Changed notifications, always the same for a seed."""

    def __init__(self, seed: int) -> None:
        self._random = random.Random(seed)
        self._recorded = json.loads(RECORDED.read_bytes())
        self._groups, self._events = sink("g", webhook={"format": "alertmanager"}), sink("e")
        self.tried = 0
        self.read = 0
        self.rewritten = 0

    def one(self) -> None:
        """Try one; raises where a promise is broken."""
        body = self._body()
        self.tried += 1
        try:
            notification = alertmanager.parse(body)
        except UnusablePayload:
            return
        self.read += 1
        alerts = [Owned(index, one.identify(source="s", tenant="acme")) for index, one in notification.numbered()]
        builder = BatchBuilder(notification)
        builder.add_alerts(self._events, alerts)
        builder.add_received_group(self._groups, alerts)
        builder.add_received_group(self._groups, alerts[:1])
        known = {one.alert.fingerprint for one in alerts}
        for payload in builder.build(StateChange()).payloads:
            json.loads(payload.body)
            if payload.kind is PayloadKind.ALERT:
                assert msgspec.json.decode(payload.body, type=Alert).fingerprint in known
            elif payload.body != body:
                self.rewritten += 1
                again = alertmanager.parse(payload.body)
                assert {one.identify(source="s", tenant="acme").fingerprint for one in again.alerts} <= known

    def _body(self) -> bytes:
        chance = self._random
        changed = self._changed(self._recorded)
        body = json.dumps(changed, ensure_ascii=chance.random() < 0.5).encode("utf-8", "surrogatepass")
        for _ in range(chance.choice([0, 0, 1, 2, 3])):
            start = chance.randint(0, len(body))
            end = min(len(body), start + chance.randint(0, 6))
            body = body[:start] + chance.choice([chance.randbytes(2), chance.choice(PIECES)]) + body[end:]
        return body

    def _changed(self, value: Any) -> Any:
        chance = self._random
        if chance.random() < 0.08:
            return chance.choice(VALUES)
        if isinstance(value, dict):
            kept = [(name, one) for name, one in value.items() if chance.random() > 0.04]
            return {chance.choice([*NAMES, name]) if chance.random() < 0.03 else name: self._changed(one) for name, one in kept}
        if isinstance(value, list):
            return [self._changed(one) for one in value for _ in range(chance.choice([1, 1, 1, 2, 0]))]
        return value


def main(seconds: float) -> None:
    """Try for so long."""
    seed = secrets.randbits(32)
    print(f"seed {seed}", flush=True)
    fuzz = Fuzz(seed)
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        fuzz.one()
    print(f"{fuzz.tried} notifications, {fuzz.read} of them read, {fuzz.rewritten} groups rewritten")


if __name__ == "__main__":
    main(float(sys.argv[1]) if len(sys.argv) > 1 else SECONDS)
