"""A compiled sink that cannot be read neither stops the router, nor replaces the last good version, nor is taken for deleted."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest
from structlog.testing import capture_logs

from eventsink.kube.api import Object
from eventsink.router.watch import SinkHandler
from eventsink.sinks.sink import Sink
from tests.unit.router.sinks import directory, sink

CANARY = "canary"
GOOD = sink("s", url=f"https://hooks.example.com/{CANARY}")


def secret(document: object, name: str = GOOD.uid) -> Object:
    text = document if isinstance(document, str) else json.dumps(document)
    return {"metadata": {"name": f"sink-{name}"}, "data": {"sink.json": base64.b64encode(text.encode()).decode()}}


def document(of: Sink = GOOD, **changed: Any) -> dict[str, Any]:
    members: dict[str, Any] = json.loads(of.to_json())
    return members | changed


@pytest.mark.parametrize(
    ("unreadable", "reason"),
    [
        (secret(CANARY), "the document: json_invalid"),
        (secret(document(version=9)), "version: value_error"),
        (secret(document(webhook=None)), "the document: target_missing"),
        (secret(document(type="slack", webhook=None)), "the document: target_missing"),
        (secret(document(webhook={"url": [CANARY]})), "webhook.url: string_type"),
        (secret(document(uid=CANARY)), "uid: is not the one in the Secret's name"),
        (
            {"metadata": {"name": f"sink-{GOOD.uid}"}, "data": {"sink.json": CANARY[:5]}},
            "data.sink.json: is missing or not base64",
        ),
        ({"metadata": {"name": f"sink-{GOOD.uid}"}, "data": [CANARY]}, "data.sink.json: is missing or not base64"),
        ({"metadata": {"name": f"sink-{GOOD.uid}"}, "data": {"sink.json": 1}}, "data.sink.json: is missing or not base64"),
        ({"metadata": {"name": f"sink-{GOOD.uid}"}, "data": {"sink.json": None}}, "data.sink.json: is missing or not base64"),
        ({"metadata": {"name": f"sink-{GOOD.uid}"}}, "data.sink.json: is missing or not base64"),
    ],
)
def test_a_sink_that_cannot_be_read_keeps_its_last_good_version(unreadable: Object, reason: str) -> None:
    known = directory()
    handler = SinkHandler(known)
    key = ("", unreadable["metadata"]["name"])
    with capture_logs() as lines:
        handler.upsert(key, unreadable)
        assert (known.withheld, dict(known.sinks)) == ({GOOD.uid}, {})
        handler.upsert(key, secret(document()))
        assert (known.withheld, dict(known.sinks), handler.unreadable) == (set(), {GOOD.uid: GOOD}, set())
        handler.upsert(key, unreadable)
        assert (known.withheld, dict(known.sinks), handler.unreadable) == (set(), {GOOD.uid: GOOD}, {key[1]})
        handler.delete(key)
    assert (known.withheld, dict(known.sinks), handler.unreadable) == (set(), {}, set())
    assert [line["reason"] for line in lines] == [reason] * 2
    assert CANARY not in json.dumps(lines)
