"""What comes over the ports of the REST API and the router's admin API, what comes back from there, and what people give to commands."""

from __future__ import annotations

import base64
import tempfile
from collections.abc import Sequence
from datetime import UTC, datetime
from functools import cache
from ipaddress import ip_network
from pathlib import Path
from typing import cast

import click
from prometheus_client import CollectorRegistry

from eventsink.rest.access.authenticator import Authenticator
from eventsink.rest.access.keys import make_key
from eventsink.rest.body import read
from eventsink.rest.calls.facade import Facade
from eventsink.rest.calls.preconditions import check_if_match, require_etag
from eventsink.rest.calls.router_tests import outcome_of
from eventsink.rest.config import FailureSettings, SlackInstallSettings
from eventsink.rest.errors import InvalidRequest, PreconditionFailed, PreconditionRequired, RestError, Unauthorized
from eventsink.rest.http.messages import MAX_ADDRESS, address_of
from eventsink.rest.pages.slack_install import InstallRequest, SlackInstall
from eventsink.router.admin.client import AdminError, Failure, Page, read_response, table
from eventsink.router.admin.server import Admin, AdminSettings
from eventsink.router.directory import SinkDirectory
from eventsink.router.dispatch.sink_tests import SinkTestResult, SinkTests
from eventsink.router.queue.delivery_log import DeliveryFilter, DeliveryRecord
from eventsink.router.queue.protocol import Queue
from eventsink.runtime.listener.messages import RequestHead, Response
from eventsink.runtime.listener.metrics import ListenerMetrics
from eventsink.runtime.yaml_text import InvalidYaml, read_yaml
from eventsink.sinks.sink import Sink
from eventsink.sinks_command import read_body
from eventsink.standalone.preview import NoPreview, read_notification
from tests.fuzz.http import loop
from tests.fuzz.target import Target, on_text

_NOW = datetime(2026, 1, 1, tzinfo=UTC)
_TOKEN = "token-of-the-admin"
_UID = "00000000-0000-4000-8000-000000000000"
_SINK = Sink.model_validate(
    {
        "version": 2,
        "uid": _UID,
        "namespace": "n",
        "name": "a",
        "displayName": "A",
        "tenant": "t",
        "compiledFrom": {"generation": 1},
        "destination": "d",
        "type": "webhook",
        "webhook": {"url": "https://a.example"},
    }
)
_EVENT_SINK = {"metadata": {"uid": _UID, "generation": 1, "resourceVersion": "1"}, "spec": {}}
_LINK = base64.urlsafe_b64encode(
    b'{"for":"callback","nonce":"n","until":4102444800,"caller":"c","request":{"tenant_id":"a","name":"b","channel":"#c"},"version":""}'
)
_DELIVERY = (
    b'{"seq":1,"id":"d","uid":"u","sink":"n/a","tenant":"t","alert":"A","status":"firing","state":"dead","created":"2026-01-01T00:00:00Z",'
    b'"died":null,"arrived":null,"message":"","reference":"","attempts":3,"reason":"HTTP400","detail":"","held":""}'
)


class _NoDeliveries:
    """In place of the queue."""

    async def look_up(self, _: DeliveryFilter, *, after: int, limit: int) -> Sequence[DeliveryRecord]:
        assert after >= 0
        assert limit > 0
        return ()

    async def replay(self, _: DeliveryFilter, *, max_age: float, limit: int) -> int:
        return 0 * (int(max_age) + limit)

    async def sinks_waiting(self) -> dict[str, int]:
        return {}


class _Untested:
    """In place of the test alerts."""

    async def test(self, _: Sink, wait: float) -> SinkTestResult:
        assert 0 <= wait <= 30
        return SinkTestResult("d", True, "2xx", "", "arrived", wait)


@cache
def _admin() -> Admin:
    folder = Path(tempfile.mkdtemp(prefix="eventsink-fuzz-"))
    (folder / "token").write_text(_TOKEN)
    directory = SinkDirectory()
    directory.put(_SINK)
    return Admin(
        AdminSettings(token_file=folder / "token"),
        cast(Queue, _NoDeliveries()),
        directory,
        lambda _: None,
        cast(SinkTests, _Untested()),
        ListenerMetrics(CollectorRegistry(), "router"),
    )


def _ask_admin(data: bytes) -> None:
    line, _, rest = data.partition(b"\n")
    header, _, body = rest.partition(b"\n")
    method, _, target = line.decode("latin-1").partition(" ")
    path, _, query = target.partition("?")
    for authorization in (f"Bearer {_TOKEN}", header.decode("latin-1")):
        admitted = _admin().admit(RequestHead(method, path, query, {b"authorization": authorization.encode("latin-1")}, "a"))
        response = admitted if isinstance(admitted, Response) else loop().run_until_complete(_admin().handle(admitted, body))
        assert response.status < 500


def _show_deliveries(data: bytes) -> None:
    for wide in (False, True):
        table(read_response(200, data, Page).deliveries, wide=wide, now=_NOW)


def _match_etags(text: str) -> None:
    require_etag(text, "name a version")
    check_if_match(text, _EVENT_SINK)


def _locate(data: bytes) -> None:
    head = RequestHead("GET", "/", "", {b"x-forwarded-for": data}, "192.0.2.1")
    assert len(address_of(head, [ip_network("192.0.2.0/24"), ip_network("2001:db8::/32")])) <= MAX_ADDRESS


def _authenticate(data: bytes) -> object:
    _, record = make_key("a", None, _NOW)
    authenticator = Authenticator(FailureSettings(), lambda: {record.id: record})
    return loop().run_until_complete(authenticator.authenticate(data.decode("latin-1"), "192.0.2.1"))


def _open_link(data: bytes) -> None:
    settings = SlackInstallSettings(client_id="1.2", redirect_url="https://a.example/v1/slack/callback")
    install = SlackInstall(settings, cast(Facade, None), lambda _: None, clock=_NOW.timestamp)
    body = data.decode("latin-1")
    for state in (body, f"{body}.{install._mac(body)}"):  # noqa: SLF001  # of another version that has the same key
        try:
            loop().run_until_complete(install.finish(state, "code", "", {}))
        except RestError:
            install.open(state)


def _preview(data: bytes) -> None:
    for resolved in (False, True):
        read_notification(data, format="alertmanager", resolved=resolved, now=_NOW)


TARGETS: dict[str, Target] = {
    "admin_request": Target(
        _ask_admin,
        (),
        (
            b"GET /v1/deliveries?state=dead&tenant=t&sink=n/a&id=d&id=e&after=1&limit=10\nBearer x\n",
            b'POST /v1/deliveries/replay\n\n{"ids":["d"],"tenant":"t","sink":"n/a","reason":"HTTP400","all":false,"limit":10}',
            b"POST /v1/sinks/" + _UID.encode() + b'/test\n\n{"wait":1.5}',
            b"GET /v1/sinks\n\n",
        ),
    ),
    "admin_response": Target(_show_deliveries, (AdminError,), (b'{"deliveries":[' + _DELIVERY + b'],"next":null}',)),
    "admin_error": Target(lambda data: read_response(503, data, Failure), (AdminError,), (b'{"error":"the queue is closed"}',)),
    "router_test_response": Target(
        lambda data: outcome_of(200, data),
        (RestError,),
        (b'{"id":"d","delivered":true,"status":"2xx","reason":"","message":"arrived","seconds":0.1}',),
    ),
    "rest_if_match": Target(on_text(_match_etags), (PreconditionFailed, PreconditionRequired), (b'"a.1", W/"b.2"', b"*")),
    "rest_forwarded_for": Target(_locate, (), (b"198.51.100.7, [2001:db8::1]:80, 192.0.2.2:1234",)),
    "rest_authorization": Target(_authenticate, (Unauthorized,), (b"Bearer esk_aaaaaaaaaa_" + b"a" * 43, b"bearer a.b.c")),
    "rest_install": Target(
        lambda data: read(InstallRequest, data),
        (InvalidRequest,),
        (b'{"tenant_id":"a","name":"b","description":"c","channel":"#d"}', b'{"id":"' + _UID.encode() + b'"}'),
    ),
    "slack_install_state": Target(_open_link, (RestError,), (_LINK, b"e30.0")),
    "preview": Target(
        _preview, (NoPreview,), (b'[{"labels":{"alertname":"A"}}]', b'{"version":"4","alerts":[{"labels":{"a":"b"}}]}')
    ),
    "command_file": Target(
        read_body, (click.UsageError,), (b'{"name":"a","match":{"min_severity":"low"}}', b"name: a\nmatch: &a {b: !!bool x}\n")
    ),
    "yaml": Target(
        read_yaml,
        (InvalidYaml,),
        (b"a: [1, 0x1f, 1.5, 2026-01-01T00:00:00Z, !!binary aGk=, ~]\n", b"a: &a [*a, !!set {x}, !!omap [b: 1]]\n"),
    ),
}
