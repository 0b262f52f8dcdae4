"""Requests to the REST API and to the intake, as their listeners give them to whoever decides on them."""

from __future__ import annotations

import hashlib
from datetime import UTC, datetime
from functools import cache
from typing import Any, cast

from prometheus_client import CollectorRegistry

from eventsink.rest.access.authenticator import Authenticator
from eventsink.rest.access.callers import Caller, KeyCaller
from eventsink.rest.access.keys import make_key
from eventsink.rest.calls import paging
from eventsink.rest.calls.facade import Facade
from eventsink.rest.calls.idempotency import sink_name
from eventsink.rest.config import FacadeSettings, FailureSettings, SlackInstallSettings
from eventsink.rest.errors import NotFound
from eventsink.rest.http.app import RestServer
from eventsink.rest.http.metrics import RestMetrics
from eventsink.rest.http.operations import MAX_HEADER, MAX_PAGE_SIZE
from eventsink.rest.models import CreateRequest
from eventsink.rest.pages.slack_install import SlackInstall
from eventsink.router.intake.metrics import IntakeMetrics
from eventsink.router.intake.requests import MAX_SENDER_CHARACTERS, Accept, Intake, Posting
from eventsink.router.sources import PostingSourceSettings, open_sources
from eventsink.runtime.listener.messages import RequestHead, Response, rendered
from eventsink.runtime.listener.metrics import ListenerMetrics
from tests.fuzz.http import loop
from tests.fuzz.target import Target

_NOW = datetime(2026, 1, 1, tzinfo=UTC)
_TOKEN = "token-of-the-source"
_UID = b"00000000-0000-4000-8000-000000000000"


class _NoSinks:
    """In place of what calls do: it takes what was read of a request, and has no sink."""

    async def list_sinks(self, _: Caller, tenant: str, *, page_size: int | None, page_token: str) -> None:
        assert tenant
        assert page_size is None or 1 <= page_size <= MAX_PAGE_SIZE
        paging.cut([], tenant, page_size or MAX_PAGE_SIZE, page_token)
        raise NotFound("no sink")

    async def create(self, _: Caller, request: CreateRequest, key: str) -> None:
        assert not key or key.isprintable()
        assert len(sink_name(request.tenant_id, key)) == len(sink_name(request.tenant_id, ""))
        raise NotFound("no namespace")

    async def check_create(self, _: Caller, request: CreateRequest) -> None:
        assert request.tenant_id

    def __getattr__(self, name: str) -> Any:
        async def missing(_: Caller, uid: str, *rest: object) -> None:
            assert len(uid) == len(_UID)
            assert all(len(one) <= MAX_HEADER for one in rest if isinstance(one, str))
            raise NotFound("no sink")

        return missing


@cache
def _rest() -> tuple[RestServer, str]:
    """The server, and a key that is valid there."""
    key, record = make_key("a", None, _NOW)
    records = {record.id: record}
    facade = cast(Facade, _NoSinks())
    slack = SlackInstallSettings(client_id="1.2", redirect_url="https://a.example/v1/slack/callback")
    server = RestServer(
        FacadeSettings(slack_install=slack),
        facade,
        Authenticator(FailureSettings(), lambda: records),
        SlackInstall(slack, facade, lambda _: KeyCaller(record), clock=_NOW.timestamp),
        RestMetrics(CollectorRegistry()),
        ListenerMetrics(CollectorRegistry(), "rest"),
        prefix="limits.",
        max_connections=2,
    )
    return server, key


@cache
def _intake() -> Intake:
    digest = f"sha256:{hashlib.sha256(_TOKEN.encode()).hexdigest()}"
    settings = [
        {"name": name, "format": form, "tenant": {"fixed": "t"}, "tokenHashes": [digest], "pathToken": True}
        for name, form in (("prom", "prometheus"), ("ce", "cloudevents"), ("gr", "grafana"))
    ]
    sources = open_sources(tuple(PostingSourceSettings.model_validate(one) for one in settings))
    metrics = IntakeMetrics(CollectorRegistry())
    return Intake(sources, cast(Accept, None), metrics, max_under_way=10, max_body_bytes=1000, sender_header="X-Forwarded-For")


def _head(data: bytes, reads: frozenset[bytes]) -> tuple[RequestHead, bytes]:
    """A method and a target in a line, headers in one each, and after an empty one the body."""
    lines, _, body = data.partition(b"\n\n")
    line, *others = lines.split(b"\n")
    method, _, target = line.decode("latin-1").partition(" ")
    path, _, query = target.partition("?")
    pairs = (one.partition(b":") for one in others)
    headers = {name.lower(): value.strip() for name, _, value in pairs if name.lower() in reads}
    return RequestHead(method, path, query, headers, "192.0.2.1"), body


def _call(data: bytes) -> None:
    server, key = _rest()
    head, body = _head(data, server.reads)
    head.headers = {b"authorization": b"Bearer " + key.encode(), b"content-type": b"application/json", **head.headers}
    admitted = server.admit(head)
    response = admitted if isinstance(admitted, Response) else loop().run_until_complete(server.handle(admitted, body))
    assert response.status not in (200, 500) or head.path.rstrip("/") in ("/openapi.json", "/docs", "/v1/slack/install")
    rendered(response, keep_alive=True)


def _admit(data: bytes) -> None:
    intake = _intake()
    head, _ = _head(data, intake.reads)
    admitted = intake.admit(head)
    assert intake.admit(head) == admitted
    if isinstance(admitted, Posting):
        assert 0 < len(admitted.sender) <= MAX_SENDER_CHARACTERS
        assert admitted.headers.keys() <= admitted.source.format.headers
    else:
        assert 400 <= admitted.status < 500
        rendered(admitted, keep_alive=True)


TARGETS: dict[str, Target] = {
    "rest_call": Target(
        _call,
        (),
        (
            b"GET /v1/event_sink?tenant_id=a&pagination[page_size]=10&pagination[page_token]=W10=\n\n",
            b"GET /v1/event_sink/" + _UID + b"/\n\n",
            b"POST /v1/event_sink\nidempotency-key: abc\ncontent-type: application/json; charset=utf-8\n\n"
            b'{"tenant_id":"a","name":"b","event_sink_args":{"Webhook":{"url":"https://a.example"}}}',
            b"PUT /v1/event_sink/" + _UID + b'\nif-match: "a.1"\n\n{"id":"' + _UID + b'","name":"b"}',
            b"POST /v1/event_sink/" + _UID + b'/mute\n\n{"matchers":["a=b"],"until":"2026-01-01T00:00:00Z"}',
            b"DELETE /v1/event_sink/" + _UID + b'/mute?index=0\nif-match: "a.1"\n\n',
            b"POST /v1/event_sink/" + _UID + b"/test\n\n{}",
            b'POST /v1/slack/install\n\n{"tenant_id":"a","name":"b","channel":"#c"}',
            b"GET /v1/slack/callback?state=e30.0&code=a%ffb&error=\ncookie: eventsink_install_0=a; b\n\n",
            b"HEAD /docs/\n\n",
            b"GET /openapi.json\ncontent-encoding: gzip\nx-forwarded-for: a\nauthorization: Bearer esk_a\n\n",
        ),
    ),
    "intake_request": Target(
        _admit,
        (),
        (
            b"POST /v1/alerts/prom/" + _TOKEN.encode() + b"/api/v2/alerts\nContent-Encoding: gzip\n",
            b"POST /v1/alerts/ce\nAuthorization: Bearer "
            + _TOKEN.encode()
            + b"\nce-id: 1\nce-specversion: 1.0\nx-forwarded-for: a\n",
            b"PUT /v1/alerts/gr/%74oken-of-the-source?a=b\nAuthorization: Basic YTp0b2tlbi1vZi10aGUtc291cmNl\n",
        ),
    ),
}
