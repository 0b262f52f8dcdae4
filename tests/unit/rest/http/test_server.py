"""What clients of many kinds send over HTTP: the server over a real socket, on the local API, without an operator."""

from __future__ import annotations

import asyncio
import contextlib
import json
import uuid
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import Any

import pytest

from eventsink.kube.api import NAMESPACES, SECRETS
from eventsink.kube.local import LocalApi
from eventsink.resources.names import EVENTSINKS
from eventsink.rest.access.keys import make_key
from eventsink.rest.config import FacadeSettings
from eventsink.rest.http.operations import OPERATIONS
from eventsink.rest.process import RestApi, Watches
from eventsink.runtime.monitor import MonitorSettings
from eventsink.runtime.process import Process
from tests.support.rest import SINKS, Response, RestClient

HOOK = {"Webhook": {"url": "https://example.com/hook"}}


class Server:
    """The REST API, and a client with a key for all tenants."""

    def __init__(self, port: int, key: str) -> None:
        self._client = RestClient(port, key)

    async def ask(self, method: str, path: str, body: Any = None, **more: Any) -> Response:
        return await asyncio.to_thread(self._client.ask, method, path, body, **more)

    async def create(self) -> Response:
        body = {"tenant_id": "acme", "name": "Alerts", "event_sink_args": HOOK}
        return await self.ask("POST", SINKS, body)


@pytest.fixture
async def server() -> AsyncIterator[Server]:
    api = LocalApi((EVENTSINKS, SECRETS, NAMESPACES))
    await api.create(NAMESPACES, {"metadata": {"name": "acme", "labels": {"eventsink.dev/tenant": "acme"}}})
    key, record = make_key("test", None, datetime.now(UTC))
    settings = FacadeSettings(address="127.0.0.1:0", create_wait=0)
    watches = Watches()
    process = Process("rest", MonitorSettings(address="127.0.0.1:0"), asyncio.Event())
    rest = RestApi(
        settings,
        api,
        process,
        records=lambda: {record.id: record},
        watches=watches,
        unavailable=watches.missing,
        tester=None,
    )
    tasks = [asyncio.ensure_future(one.run()) for one in watches]
    port = await rest.server.start()
    async with asyncio.timeout(10):
        await asyncio.gather(*(one.synced.wait() for one in watches))
    try:
        yield Server(port, key)
    finally:
        await rest.server.stop()
        for task in tasks:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task


async def test_each_call_by_id_takes_it_in_upper_and_lower_case(server: Server) -> None:
    uid = (await server.create()).sink["id"]
    upper = uid.upper()
    assert (await server.ask("GET", f"{SINKS}/{upper}")).sink["id"] == uid
    for path, body in ((upper, upper), (uid, upper), (upper, uid)):
        assert (await server.ask("PUT", f"{SINKS}/{path}", {"id": body, "description": "x"})).sink["id"] == uid
    assert (await server.ask("POST", f"{SINKS}/{upper}/test")).error.startswith("test alerts are not configured")
    assert (await server.ask("DELETE", f"{SINKS}/{upper}")).json["id"] == uid


async def test_another_id_in_the_body_than_in_the_path_is_rejected(server: Server) -> None:
    uid = (await server.create()).sink["id"]
    other = await server.ask("PUT", f"{SINKS}/{uid}", {"id": str(uuid.uuid4())})
    assert (other.status, other.error) == (400, "id: differs from the id in the path; write the same")


async def test_a_slash_at_the_end_of_a_path_makes_no_difference(server: Server) -> None:
    uid = (await server.create()).sink["id"]
    assert (await server.ask("GET", f"{SINKS}/?tenant_id=acme")).json["event_sinks"][0]["id"] == uid
    for method, path, body in (
        ("GET", f"{SINKS}/{uid}/", None),
        ("PUT", f"{SINKS}/{uid}/", {"id": uid}),
        ("POST", f"{SINKS}/", {"tenant_id": "acme", "name": "Other", "event_sink_args": HOOK}),
        ("GET", "/openapi.json/", None),
    ):
        assert (await server.ask(method, path, body)).status == 200, path
    assert (await server.ask("POST", f"{SINKS}/{uid}/test/")).status == 409
    docs = await server.ask("GET", "/docs/")
    assert (docs.status, docs.headers["location"]) == (308, "../docs")
    assert (await server.ask("DELETE", f"{SINKS}/{uid}/")).status == 200
    assert (await server.ask("GET", f"{SINKS}//")).status == 404


async def test_head_gets_the_head_of_the_response_to_get(server: Server) -> None:
    uid = (await server.create()).sink["id"]
    for path in (f"{SINKS}/{uid}", f"{SINKS}?tenant_id=acme", f"{SINKS}/{uuid.uuid4()}", SINKS, "/openapi.json", "/docs"):
        got, head = await server.ask("GET", path), await server.ask("HEAD", path)
        assert (head.status, head.body) == (got.status, b""), path
        assert {name: value for name, value in head.headers.items() if name != "date"} == {
            name: value for name, value in got.headers.items() if name != "date"
        }
    assert (await server.ask("HEAD", f"{SINKS}/{uid}", raw=b"not looked at")).status == 200
    assert "HEAD" in (await server.ask("PATCH", f"{SINKS}/{uid}")).headers["allow"]


async def test_head_uses_up_no_link_that_works_once(server: Server) -> None:
    for path in ("/v1/slack/open", "/v1/slack/callback"):
        response = await server.ask("HEAD", path)
        assert (response.status, response.headers["allow"]) == (405, "GET")


@pytest.mark.parametrize(
    ("form", "status"),
    [
        ("{}", 200),
        ("W/{}", 200),
        ('"other", {}', 200),
        ('W/"other",W/{}', 200),
        (" {} , ", 200),
        ("*", 200),
        ('"other"', 412),
        ('W/"other"', 412),
        ("w/{}", 412),
    ],
)
async def test_if_match_takes_the_etag_also_as_a_proxy_weakened_it(server: Server, form: str, status: int) -> None:
    made = await server.create()
    condition = form.format(made.headers["etag"])
    changed = await server.ask(
        "PUT", f"{SINKS}/{made.sink['id']}", {"id": made.sink["id"], "name": "New"}, headers={"If-Match": condition}
    )
    assert changed.status == status


async def test_the_members_about_the_state_are_in_every_response(server: Server) -> None:
    made = (await server.create()).sink
    listed = (await server.ask("GET", f"{SINKS}?tenant_id=acme")).json["event_sinks"][0]
    changed = (await server.ask("PUT", f"{SINKS}/{made['id']}", {"id": made["id"], "name": "New"})).sink
    for one in (made, listed, changed, (await server.ask("GET", f"{SINKS}/{made['id']}")).sink):
        assert one["ready"] is False
        assert one["reason"].startswith("Pending: ")
        assert one["delivering"] == {
            "status": "Unknown",
            "reason": "NotReported",
            "message": "the router has not reported on this sink yet",
        }


MALFORMED: list[tuple[str, bytes, str]] = [
    (
        "a comma at the end",
        b'{"tenant_id": "acme",\n "name": "x",}',
        "the body: invalid JSON: trailing comma at line 2 column 14",
    ),
    ("a duplicate", b'{"name": "a",\n  "name": "b"}', "the body: duplicate field at line 2 column 3; remove one of the two"),
    ("nothing", b"", "the body: invalid JSON: EOF while parsing a value at line 1 column 0"),
    ("two values", b"{}{}", "the body: invalid JSON: trailing characters at line 1 column 3"),
    ("deep lists", b'{"name": ' + b"[" * 500_000, "the body: invalid JSON: recursion limit exceeded at line 1 column"),
    ("closed deep lists", b"[" * 500_000 + b"]" * 500_000, "the body: invalid JSON: recursion limit exceeded at line 1 column"),
    ("half of a character", b'{"name": "\\ud800"}', "the body: invalid JSON: "),
    ("a NUL in the text", b'{"name": "a\x00b"}', "the body: invalid JSON: control character"),
]


@pytest.mark.parametrize(("raw", "sentence"), [case[1:] for case in MALFORMED], ids=[case[0] for case in MALFORMED])
async def test_a_body_that_is_not_json_is_rejected_with_the_position(server: Server, raw: bytes, sentence: str) -> None:
    if "duplicate" in sentence:
        args = b', "tenant_id": "acme", "event_sink_args": {"Webhook": {"url": "https://example.com/"}}}'
        raw = raw[:-1] + args
    response = await server.ask("POST", SINKS, raw=raw)
    assert (response.status, response.error[: len(sentence)]) == (400, sentence)


async def test_a_byte_order_mark_before_the_body_is_skipped(server: Server) -> None:
    body = json.dumps({"tenant_id": "acme", "name": "Alerts", "event_sink_args": HOOK}).encode()
    assert (await server.ask("POST", SINKS, raw=b"\xef\xbb\xbf" + body)).status == 200


INVISIBLE = ["200b", "a0 3000 2003", "200e 200f", "3164", "fe0f", "2060 feff", "2800", "e0020", "ad", "2028", "200d 301"]
"""Characters, by their numbers."""


async def test_a_name_that_nobody_can_see_is_rejected(server: Server) -> None:
    uid = (await server.create()).sink["id"]
    for numbers in INVISIBLE:
        name = "".join(chr(int(one, 16)) for one in numbers.split())
        body = {"tenant_id": "acme", "name": name, "event_sink_args": HOOK}
        sentence = "name: write one line of text with visible characters"
        assert (await server.ask("POST", SINKS, body)).error == sentence, numbers
        assert (await server.ask("PUT", f"{SINKS}/{uid}", {"id": uid, "name": name})).error == sentence, numbers
    for name in ("\u0905\u0928\u094d\u200d\u092f", "\U0001f468\u200d\U0001f469", "\u3164a", "\xa0\xe4"):
        assert (await server.ask("PUT", f"{SINKS}/{uid}", {"id": uid, "name": name})).sink["name"] == name


def test_the_document_names_each_call_once() -> None:
    assert len({(method, one.path) for one in OPERATIONS for method in one.methods}) == sum(
        len(one.methods) for one in OPERATIONS
    )
