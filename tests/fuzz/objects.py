"""Objects of the API server: what it is that sends them, and what reads them for a part of the program."""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from datetime import UTC, datetime, timedelta

import msgspec

from eventsink.controller.admission.certificates import due, issue, read_certificates
from eventsink.controller.store import FROM_ANNOTATION, SINK_ANNOTATION, read_compiled
from eventsink.controller.tenancy import read_namespace
from eventsink.events.checkpoint import positions_of
from eventsink.events.config import FilterSettings
from eventsink.events.event import characters_of, created, last_seen, sent_of, subject_of
from eventsink.events.filters import Filter
from eventsink.events.report import RESOURCES, passed, report_of
from eventsink.kube.api import ApiError, Object
from eventsink.kube.http import api_error, change_of, changes_in, page_of, read_object, stored
from eventsink.kube.lease import MAX_LEASE_SECONDS, next_step, read_record
from eventsink.resources.eventsink import InvalidSpec, read_eventsink
from eventsink.rest.access.reviews import is_allowed, user_of
from eventsink.rest.errors import ServiceUnavailable
from tests.fuzz.http import loop, ways_to_cut
from tests.fuzz.target import Target

_NOW = datetime(2026, 1, 1, tzinfo=UTC)
_FILTER = Filter(FilterSettings.model_validate({"alsoReasons": ["Back*"], "exclude": {"kinds": ["Node"]}}))
_FAILED = b'{"kind":"Status","reason":"Expired","message":"Too large resource version","code":410}'
_METADATA = b'"metadata":{"name":"a","namespace":"n","uid":"u","resourceVersion":"1","creationTimestamp":"2026-01-01T00:00:00Z"}'
_EVENT = (
    b"{"
    + _METADATA
    + b',"regarding":{"kind":"Pod","namespace":"n","name":"p","fieldPath":"f"},"related":{"kind":"Node"},"reason":"BackOff",'
    b'"type":"Warning","action":"a","note":"text","eventTime":"2026-01-01T00:00:00.000001Z","series":{"count":2,"lastObservedTime":'
    b'"2026-01-01T00:00:01Z"},"deprecatedSource":{"component":"kubelet","host":"h"},"deprecatedCount":3,"deprecatedLastTimestamp":null}'
)
_REPORT = (
    b"{"
    + _METADATA
    + b',"source":"kyverno","scope":{"kind":"Pod","namespace":"n","name":"p"},"results":[{"policy":"p","rule":"r",'
    b'"result":"fail","severity":"high","source":"s","message":"m","timestamp":{"seconds":1,"nanos":2},"properties":{"a":"b"},'
    b'"resources":[{"kind":"Pod","namespace":"n","name":"p"},{"kind":"Node","name":"q"}]},{"policy":"q","result":"pass"}]}'
)
_LEASE = b"{" + _METADATA + b',"spec":{"holderIdentity":"h","leaseDurationSeconds":15,"leaseTransitions":3,"renewTime":"2026"}}'
_CONFIG_MAP = b"{" + _METADATA + b',"data":{"_all":"12","n":"7"}}'
_COMPILED = json.dumps(
    {
        "metadata": {
            "name": "sink-u",
            "resourceVersion": "1",
            "annotations": {SINK_ANNOTATION: "n/a", FROM_ANNOTATION: '{"generation":1,"secrets":{"n/s":"7"}}'},
        }
    }
).encode()
_EVENTSINK = (
    b"{"
    + _METADATA
    + b',"spec":{"tenant":"acme","name":"A","webhook":{"url":"https://a.example/x"}},"status":{"observedGeneration":1,'
    b'"conditions":[{"type":"Ready","status":"True","reason":"Accepted","message":"m","lastTransitionTime":"2026-01-01T00:00:00Z"}],'
    b'"delivery":{"lastDeliveredTime":"2026-01-01T00:00:00Z"},"slack":{"teamId":"T1"}}}'
)
_NAMESPACE = (
    b'{"metadata":{"name":"n","uid":"u","resourceVersion":"1","labels":{"eventsink.dev/tenant":"acme"},"deletionTimestamp":null}}'
)

_TOKEN_REVIEW = (
    b'{"kind":"TokenReview","status":{"authenticated":true,"audiences":["a","eventsink-rest"],"user":{"username":"b","uid":"u",'
    b'"groups":["g"],"extra":{"c":["d"]}}}}'
)


def _on_stored(read: Callable[[Object], object]) -> Callable[[bytes], object]:
    """As the API server's client gives an object to those who read it."""
    return lambda data: read(stored(read_object(data)))


def _fail(data: bytes) -> None:
    for status in (410, 504):
        assert isinstance(api_error(status, data), ApiError)


def _event(event: Object) -> None:
    hash(subject_of(event))
    last_seen(event)
    created(event)
    _FILTER.passes(event)
    sent = sent_of(event)
    assert characters_of(sent) <= len(msgspec.json.encode(sent))


def _report(obj: Object) -> None:
    resource = RESOURCES["wgpolicyk8s.io"][0]
    report = report_of(resource, obj)
    list(passed(resource, "n", "a", report.failing))


def _lease(obj: Object) -> None:
    record = read_record(obj)
    assert 0.0 <= record.seconds <= MAX_LEASE_SECONDS
    next_step(record, "me", 1.0)


def _checkpoint(obj: Object) -> None:
    assert all(version.isdigit() for version in positions_of(obj).values())


def _compiled(obj: Object) -> object:
    return read_compiled("u", obj["metadata"]).made_from


def _follow(data: bytes) -> None:
    """The stream of a watch, however it is cut."""

    async def follow(pieces: list[bytes]) -> list[object]:
        async def arriving() -> AsyncGenerator[bytes]:
            for piece in pieces:
                yield piece

        found: list[object] = []
        try:
            async with aclosing(arriving()) as stream:
                async for change in changes_in(stream):
                    found.append(change)  # noqa: PERF401  # also what came before an error
        except ApiError as error:
            found.append((type(error), error.status))
        return found

    first, *others = [loop().run_until_complete(follow(pieces)) for pieces in ways_to_cut(data)]
    for other in others:
        assert other == first


def _user(data: bytes) -> None:
    user = user_of(read_object(data), ("eventsink-rest",))
    if user is not None:
        assert user["username"]
        json.dumps(user, sort_keys=True)


def _certificates(data: bytes) -> object:
    certificate, _, rest = data.partition(b"\0")
    key, _, authorities = rest.partition(b"\0")
    stored_ones = read_certificates({"tls.crt": certificate, "tls.key": key, "ca.crt": authorities})
    return due(stored_ones, ["a.example"], _NOW, published=True) if stored_ones is not None else None


def _issued() -> bytes:
    issued, authority = issue(["a.example"], _NOW - timedelta(days=1))
    return "\0".join((issued.certificate, issued.key, authority)).encode()


TARGETS: dict[str, Target] = {
    "api_error": Target(_fail, (), (_FAILED, b"<html>")),
    "api_object": Target(_on_stored(lambda obj: obj["metadata"]["name"]), (ApiError,), (_NAMESPACE, _CONFIG_MAP)),
    "api_list": Target(
        lambda data: page_of(read_object(data)),
        (ApiError,),
        (b'{"metadata":{"resourceVersion":"1","continue":"x"},"items":[' + _EVENT + b"]}",),
    ),
    "api_watch": Target(
        change_of,
        (ApiError,),
        (
            b'{"type":"ADDED","object":' + _NAMESPACE + b"}",
            b'{"type":"ERROR","object":' + _FAILED + b"}",
            b'{"type":"BOOKMARK","object":{"metadata":{"resourceVersion":"9"}}}',
        ),
    ),
    "api_stream": Target(
        _follow,
        (),
        (
            b'{"type":"ADDED","object":'
            + _NAMESPACE
            + b'}\n\n{"type":"BOOKMARK","object":{"metadata":{"resourceVersion":"9"}}}\n',
            b'{"type":"MODIFIED","object":' + _CONFIG_MAP + b'}\r\n{"type":"ERROR","object":' + _FAILED + b"}\n",
            b'{"type":"DELETED","object":' + _CONFIG_MAP[:-1] + b',"data":{"a":"' + b"x" * 3000 + b'"}}}\n{"type":',
        ),
    ),
    "event": Target(_on_stored(_event), (ApiError,), (_EVENT,)),
    "policy_report": Target(_on_stored(_report), (ApiError,), (_REPORT,)),
    "lease": Target(_on_stored(_lease), (ApiError,), (_LEASE,)),
    "checkpoint": Target(_on_stored(_checkpoint), (ApiError,), (_CONFIG_MAP,)),
    "compiled_metadata": Target(_on_stored(_compiled), (ApiError,), (_COMPILED,)),
    "eventsink": Target(_on_stored(read_eventsink), (ApiError, InvalidSpec), (_EVENTSINK,)),
    "namespace": Target(_on_stored(lambda obj: read_namespace(obj["metadata"])), (ApiError,), (_NAMESPACE,)),
    "token_review": Target(
        _user, (ApiError, ServiceUnavailable), (_TOKEN_REVIEW, b'{"status":{"authenticated":false,"user":{}}}')
    ),
    "access_review": Target(
        lambda data: is_allowed(read_object(data)), (ApiError, ServiceUnavailable), (b'{"status":{"allowed":true,"reason":"r"}}',)
    ),
    "admission_certificates": Target(_certificates, (), (_issued(),)),
}
