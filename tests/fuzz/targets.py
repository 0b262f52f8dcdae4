"""Every parser of what others write: for any bytes it returns or raises what its contract says, and soon."""

from __future__ import annotations

import base64
import gzip
import json
from collections.abc import Iterable
from datetime import UTC, datetime
from pathlib import Path

import msgspec
from pydantic import ValidationError

from eventsink.alerts.alert import UnusablePayload
from eventsink.alerts.formats.registry import FORMATS
from eventsink.alerts.matcher_syntax import InvalidMatcher
from eventsink.cel.errors import InvalidExpression
from eventsink.controller.admission.messages import NoReview, TooLarge, read_review
from eventsink.destinations.slack.api import hook_error
from eventsink.destinations.slack.objections import objections
from eventsink.destinations.slack.spec import read_text_template
from eventsink.destinations.slack.tokens import TokenRecord
from eventsink.destinations.webhook.client_certificate import InvalidCertificate, client_certificate
from eventsink.destinations.webhook.oauth2 import classify_token_response, lifetime_of
from eventsink.destinations.webhook.success import SuccessWhen
from eventsink.destinations.webhook.templated import check_template
from eventsink.resources.eventsink import InvalidSpec, read_spec
from eventsink.rest.access.keys import read_records
from eventsink.rest.body import read
from eventsink.rest.errors import InvalidRequest
from eventsink.rest.models import CreateRequest, MuteRequest, UpdateRequest
from eventsink.router.intake.compressed import expand
from eventsink.router.intake.requests import token_in_header, token_in_path
from eventsink.router.watch import UnreadableDocument, read_sink
from eventsink.runtime import time_intervals
from eventsink.runtime.durations import InvalidDuration, parse_duration
from eventsink.runtime.listener.framing import BadRequest, parse_head
from eventsink.runtime.retry_after import parse_retry_after
from eventsink.runtime.times import parse_time
from eventsink.sinks.authorities import read_authorities
from eventsink.sinks.proxy import parse_proxy
from eventsink.sinks.signatures import InvalidSigningSecret, signing_key
from eventsink.sinks.sink import SINK_SECRET_KEY, Sink, Tenancy, sink_secret_name
from eventsink.sinks.transport import Endpoint, Response
from eventsink.standalone.documents import read_documents
from eventsink.templates.errors import InvalidTemplate
from eventsink.templates.template import read_template
from tests.fuzz import calls, configuration, objects, receivers, runs, servers
from tests.fuzz.http import read_proxy_response, read_requests, read_response
from tests.fuzz.target import Target, as_text, on_text

ROOT = Path(__file__).parents[2]
CORPUS = Path(__file__).parent / "corpus"
"""A folder for each target: inputs that found something once; what leads far into a parser is among its seeds."""
MAX_BYTES = 4096
"""Of one input: the parsers' own bounds are tested where they are."""


def _samples(*folders: str) -> tuple[bytes, ...]:
    return tuple(
        file.read_bytes()
        for folder in folders
        for file in sorted((ROOT / "tests" / "data" / folder).glob("*.json"))
        if file.is_file()
    )


def _specs() -> Iterable[bytes]:
    for file in sorted((ROOT / "manifests" / "samples").glob("*.yaml")):
        yield file.read_bytes()


def _headers_and_body(data: bytes) -> object:
    head, _, body = data.partition(b"\r\n\r\n")
    headers = {name.lower(): value.strip() for name, _, value in (line.partition(b":") for line in head.split(b"\r\n"))}
    made = FORMATS["cloudevents"].enveloped
    assert made is not None
    return FORMATS["cloudevents"].parse(made(headers, body))


def _template(data: bytes) -> None:
    template = read_template(as_text(data[:1000]))
    template.render({"alert": {"labels": {"a": "b"}, "summary": "x", "status": "firing"}, "alerts": []}, limit=1000)


def _compiled(data: bytes) -> None:
    secret = {"metadata": {"name": sink_secret_name("u")}, "data": {SINK_SECRET_KEY: base64.b64encode(data).decode()}}
    sink = read_sink(secret)
    assert Sink.model_validate_json(sink.to_json()).to_json() == sink.to_json()


def _success(data: bytes) -> bool:
    pointer, _, body = data.partition(b"\n")
    return SuccessWhen(pointer="/" + as_text(pointer), equals="x").takes_body(Response(200, None, body))


def _token_response(data: bytes) -> object:
    classify_token_response(Response(400, as_text(data[:20]), data), "https://a.example", 0.0)
    try:
        return lifetime_of(json.loads(data))
    except (ValueError, RecursionError):
        return None


def _slack(data: bytes) -> object:
    hook_error(data)
    try:
        found = msgspec.json.decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None
    return objections(found, {"blocks": [{"text": "a"}], "attachments": [{"blocks": []}]})


def _certificate(data: bytes) -> object:
    first, _, second = as_text(data).partition("\0")
    return client_certificate(first, second, datetime(2026, 1, 1, tzinfo=UTC))


def _spec(data: bytes) -> object:
    try:
        found = json.loads(data)
    except (ValueError, RecursionError):
        return None
    return read_spec(found)


def _documents(data: bytes) -> object:
    found = read_documents("file.yaml", data)
    return [str(one) for one in found.faults]


def _location(name: str) -> object:
    return time_intervals.load_location(name)


_SAMPLE_SINK = (
    b'{"version":2,"uid":"u","namespace":"n","name":"a","displayName":"A","tenant":"t","compiledFrom":{"generation":1},"destination":"d",'
    b'"type":"webhook","webhook":{"url":"https://a.example","headers":[{"name":"a","value":"b"}],"oauth2":{"tokenUrl":"https://a",'
    b'"clientId":"a","clientSecret":"b","endpointParams":[["a","b"]]}},"times":{"active":[{"times":[["08:00","18:00"]]}]}}'
)
_SPEC = b'{"tenant":"acme","name":"A","webhook":{"url":"https://a.example/x","auth":{"basic":{"username":"a","passwordSecretRef":{"name":"b","key":"c"}}},"tls":{"serverName":"a"}},"match":{"matchers":["a=b"],"activeTimes":[{"weekdays":["monday:friday"]}]},"mutes":[{"matchers":["a=b"],"from":"2026-01-01T00:00:00Z","until":"2027-01-01T00:00:00Z"}]}'
_CREATE = b'{"tenant_id":"a","name":"b","event_sink_args":{"Webhook":{"url":"https://a.example","headers":[{"name":"a","value":"b"}],"auth":{"bearer":{"token":"t"}}}},"match":{"min_severity":"high"}}'
_REST_SINK = (
    b'{"event_sink":{"id":"a","tenant_id":"b","name":"n","description":"","event_sink_type":"Webhook","configuration":{"Webhook":{"url":"x"}},'
    b'"created_at":"2026-01-01T00:00:00Z","updated_at":"2026-01-01T00:00:00Z","ready":true,"reason":"","delivering":{"status":"True","reason":"a",'
    b'"message":"b","last_delivered_at":"2026-01-01T00:00:00Z"}}}'
)
_PAGE_TOKEN = b"WyIyMDI2LTAxLTAxVDAwOjAwOjAwWiIsICJ1aWQiLCAiMDAwMDAwMDAiXQ=="
_RESPONSES = (
    b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nRetry-After: 3\r\n\r\nok",
    b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 204 No Content\r\n\r\n",
    b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3;a=b\r\nabc\r\n0\r\nTrailer: x\r\n\r\n",
    b"HTTP/1.0 503 No\r\nConnection: close\r\n\r\nbody",
)
_REQUESTS = (
    b"POST /v1/alerts/a/token HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer x\r\nContent-Length: 3\r\n\r\n",
    b"POST http://a/v1?b HTTP/1.0\r\nHost: a\r\nTransfer-Encoding: chunked\r\nExpect: 100-continue\r\n\r\n",
    b"GET / HTTP/1.1\r\nUpgrade: h2c\r\nConnection: upgrade\r\n\r\n",
)
_STREAMS = (
    b"POST /a HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3;a=b\r\nabc\r\nA\r\n0123456789\r\n0\r\nTrailer: x\r\n\r\n"
    b"GET /b?c HTTP/1.1\r\nHost: a\r\n\r\n",
    b"PUT /early HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabcHEAD /a HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n",
    b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 12\r\n\r\nPOST / HTTP/POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\n\r\na"
    b"\r\nPOST / HTTP/1.0\r\nConnection: close\r\n\r\n",
)
_TIMES = {
    "time_of_day": (time_intervals.parse_time_of_day, (b"08:00", b"24:00")),
    "weekdays": (time_intervals.parse_weekdays, (b"monday:friday", b"saturday")),
    "days_of_month": (time_intervals.parse_days_of_month, (b"-3:-1", b"1:31")),
    "months": (time_intervals.parse_months, (b"december", b"1:3")),
    "years": (time_intervals.parse_years, (b"2027:2029", b"2026")),
    "location": (_location, (b"Europe/Berlin", b"UTC")),
}

TARGETS: dict[str, Target] = {
    "http_request_head": Target(
        lambda data: parse_head(data, frozenset((b"authorization", b"content-length", b"transfer-encoding", b"host")), "a"),
        (BadRequest,),
        _REQUESTS,
    ),
    "http_requests": Target(read_requests, (), (*(one + b"abc" for one in _REQUESTS), *_STREAMS)),
    "http_response": Target(read_response, (), _RESPONSES),
    "proxy_response": Target(read_proxy_response, (), (*_RESPONSES, b"HTTP/1.0 200 Connection established\r\n\r\n")),
    "gzip": Target(lambda data: expand(data, 100_000), (UnusablePayload,), (gzip.compress(b"{}" * 100), gzip.compress(b"a") * 3)),
    **{
        f"format_{name}": Target(form.parse, (UnusablePayload,), _samples(name, name.replace("-", "_")) or (b"{}",))
        for name, form in FORMATS.items()
    },
    "cloudevents_in_headers": Target(
        _headers_and_body,
        (UnusablePayload,),
        (
            (ROOT / "tests" / "data" / "cloudevents" / "binary.http").read_bytes(),
            b'ce-specversion: 1.0\r\nce-id: 1\r\nce-source: /a\r\nce-type: b\r\ncontent-type: application/json\r\n\r\n{"a":1}',
        ),
    ),
    "format_json_mapped": Target(
        runs.read_mapped,
        (UnusablePayload,),
        (
            b'{"checks":[{"check":{"name":"api","host":"a","tags":["prod","ns-shop"]},"state":"DOWN","since":1767225600,"count":"3"}]}',
            b'{"checks":[{"check":{"name":1},"since":"2026-01-01T00:00:00Z","count":1e300}]}',
        ),
    ),
    "slack_message": Target(runs.show, (UnusablePayload,), _samples("alertmanager")),
    "matchers": Target(
        on_text(runs.match), (InvalidMatcher,), (b'{a="b",c=~"d.*"}', b"\"host.name\"!='x'", b'a!~"(b|c)+"', b"a==b")
    ),
    "expression": Target(
        on_text(runs.evaluate),
        (InvalidExpression,),
        (
            b'alert.labels.team == "a" && alert.labels["b"].matches("c.*")',
            b'atLeast(alert.severity, "high") || ["a"].exists(x, x in ["b"])',
        ),
    ),
    "template": Target(
        _template,
        (InvalidTemplate,),
        (
            b"{% for a in alerts %}{{ a.summary | json }}{% endfor %}",
            b"{% if alert.labels.a == 'b' %}x{% else %}{{ alert.name | upcase }}{% endif %}",
        ),
    ),
    "slack_template": Target(
        on_text(read_text_template), (InvalidTemplate,), (b"{{ alert.name | upcase }} <!here>", b"{% if a %}b{% endif %}")
    ),
    "webhook_template": Target(
        lambda data: check_template(as_text(data), "application/json", batch=2),
        (InvalidTemplate,),
        (b'{"text": {{ alert.summary | json }}}', b"[{% for a in alerts %}{{ a.labels | json }}{% endfor %}]"),
    ),
    "duration": Target(on_text(parse_duration), (InvalidDuration,), (b"1h30m", b"90s", b"1w2d3h4m5s6ms")),
    **{
        f"times_{name}": Target(on_text(parse), (ValueError,), seeds)  # each says what to do, as a rule of a spec does
        for name, (parse, seeds) in _TIMES.items()
    },
    "success_when": Target(_success, (), (b'ok/0/a~1b\n{"ok":[{"a/b":"x"}]}', b'\n{"":null}')),
    "compiled_sink": Target(_compiled, (UnreadableDocument,), (_SAMPLE_SINK,)),
    "compiled_tenancy": Target(
        Tenancy.model_validate_json, (ValidationError,), (b'{"version":1,"owners":{"a":"b"},"platform":["c"]}',)
    ),
    "rest_create": Target(lambda data: read(CreateRequest, data), (InvalidRequest,), (_CREATE,)),
    "rest_update": Target(lambda data: read(UpdateRequest, data), (InvalidRequest,), (_CREATE,)),
    "rest_mute": Target(
        lambda data: read(MuteRequest, data),
        (InvalidRequest,),
        (b'{"matchers":["a=b"],"until":"2026-01-01T00:00:00Z","comment":"c"}',),
    ),
    "rest_page_token": Target(on_text(runs.turn_page), (InvalidRequest,), (_PAGE_TOKEN,)),
    "rest_query": Target(runs.read_query, (InvalidRequest,), (b"tenant_id=a%20b&tenant_id=c\na=b; c=d", b"x=%ff")),
    "rest_response": Target(
        runs.call,
        (),
        (
            _REST_SINK,
            b'{"id":"a","tenant_id":"b"}',
            b'{"event_sinks":[],"pagination":{"next_page_token":""}}',
            b'{"url":"https://a.example","expires_at":"2026-01-01T00:00:00Z"}',
            b'{"delivered":true,"status":"2xx","reason":"","message":"","seconds":0.1,"delivery_id":"d"}',
        ),
    ),
    "api_keys": Target(
        lambda data: read_records({"a": as_text(data)}),
        (),
        (b'{"id":"aaaaaaaaaa","name":"n","tenants":["a"],"hash":"sha256:0","created":"2026-01-01T00:00:00Z","expires":1e12}',),
    ),
    "admission_review": Target(
        read_review,
        (NoReview, TooLarge),
        (
            b'{"request":{"uid":"a","resource":{"group":"eventsink.dev","version":"v1alpha1","resource":"eventsinks"},"namespace":"n",'
            b'"operation":"UPDATE","object":{"metadata":{"name":"a"},"spec":{"tenant":"a"}},"oldObject":null}}',
        ),
    ),
    "events_response": Target(
        runs.read_accepted,
        (),
        (
            b'{"rejected":[{"index":0,"reason":"no tenant"}],"moreRejected":2}',
            b'{"error":"no","moreRejected":1e3,"rejected":[{}]}',
        ),
    ),
    "time": Target(
        on_text(parse_time), (ValueError,), (b"2026-01-01T12:00:00Z", b"9999-12-31T23:59:59-10:00", b"20260101T120000.5+01")
    ),
    "spec": Target(_spec, (InvalidSpec,), (_SPEC,)),
    "yaml_documents": Target(_documents, (), tuple(_specs())),
    "retry_after": Target(
        lambda data: parse_retry_after(data.decode("latin-1"), 0.0),
        (),
        (b"120", b"Wed, 21 Oct 2026 07:28:00 GMT", b"Fri, 31 Dec 9999 23:59:59 -9999"),
    ),
    "slack_response": Target(
        _slack,
        (),
        (
            b"invalid_payload",
            b'{"ok":false,"error":"invalid_blocks","response_metadata":{"messages":["[ERROR] a [json-pointer:/blocks/0/text]"]}}',
        ),
    ),
    "slack_token": Target(
        runs.exchange,
        (),
        (
            b'{"ok":true,"access_token":"x","refresh_token":"y","expires_in":43200,"scope":"a,b","team":{"id":"T1","name":"A"},'
            b'"incoming_webhook":{"url":"https://hooks.slack.com/x","channel":"#a","channel_id":"C1"}}',
        ),
    ),
    "slack_channels": Target(
        runs.list_channels,
        (ValueError,),
        (b'{"channels":[{"id":"C1","name":"a","is_archived":false}],"response_metadata":{"next_cursor":"x"}}',),
    ),
    "slack_stored_token": Target(
        TokenRecord.model_validate_json,
        (ValidationError,),
        (b'{"version":1,"namespaceUid":"u","tenant":"t","claimedAt":1,"expiresAt":null}',),
    ),
    "token_response": Target(_token_response, (), (b'{"error":"invalid_client"}', b'{"access_token":"a","expires_in":3600}')),
    "url": Target(
        on_text(Endpoint.parse),
        (ValueError,),
        (b"https://a:b@example.com:8443/x?y#z", b"http://[::1]:80/", b"https://xn--a.example./"),
    ),
    "proxy_url": Target(on_text(parse_proxy), (ValueError,), (b"http://user:p%20w@proxy.example.com:3128",)),
    "signing_secret": Target(
        on_text(signing_key), (InvalidSigningSecret,), (b"whsec_ZXhhbXBsZS1zZWNyZXQtZG8tbm90", b"0123456789abcdef")
    ),
    "authorities": Target(
        on_text(read_authorities),
        (ValueError,),
        (b"# \xc3\xa9\n-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----\n",),
    ),
    "client_certificate": Target(
        _certificate,
        (InvalidCertificate,),
        (
            b"-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----\n\0-----BEGIN PRIVATE KEY-----\nMIIB\n-----END PRIVATE KEY-----\n",
        ),
    ),
    "token_in_header": Target(lambda data: token_in_header(data.decode("latin-1")), (), (b"Bearer abc", b"Basic YTpi")),
    "token_in_path": Target(
        lambda data: token_in_path(data.decode("latin-1"), ("/api/v2/alerts",)), (), (b"/abc/api/v2/alerts",)
    ),
    **objects.TARGETS,
    **calls.TARGETS,
    **configuration.TARGETS,
    **receivers.TARGETS,
    **servers.TARGETS,
}
"""By name. What else reads bytes of others is a library's work as a whole: TLS, DNS, a kubeconfig."""


def inputs(name: str) -> list[bytes]:
    """The seeds of a target and what its corpus holds."""
    return [*TARGETS[name].seeds, *(file.read_bytes() for file in sorted((CORPUS / name).glob("*")))]


def unmarked(marked: bytes) -> tuple[str, bytes]:
    """The name of a target, which is the first line, and the input for it."""
    name, _, data = marked.partition(b"\n")
    return name.decode("latin-1"), data
