"""What an API server sends for a review, read as far as a review needs it.

Of an EventSink that is its name, its namespace and its spec: labels, annotations, managed fields and status are skipped without being
read, and so cost nothing but their bytes. Any pod may reach the port, so all of it has bounds.
"""

from __future__ import annotations

from itertools import chain
from typing import Annotated, Any

import msgspec

from eventsink.kube.api import Object

MAX_SPEC_BYTES = 768 * 1024
"""Of one spec, as JSON: the largest that the CRD lets pass has 600 KiB, unless it consists of characters that JSON escapes."""
MAX_VALUES = 4000
"""Fields and entries of a spec, at all levels; the largest that the CRD lets pass has less than half of that."""
MAX_DEPTH = 16
"""Levels of a spec; the deepest that the CRD lets pass has half of that."""

_Word = Annotated[str, msgspec.Meta(max_length=253)]
_Namespace = Annotated[str, msgspec.Meta(max_length=63, pattern=r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?\Z")]
"""It becomes part of the path of requests to the API server, and an empty one would be all namespaces."""


class NoReview(Exception):
    """It is no AdmissionReview; the text says what one is."""

    def __init__(self) -> None:
        super().__init__("send an AdmissionReview (admission.k8s.io/v1) as JSON")


class TooLarge(Exception):
    """No EventSink that the CRD lets pass has such a spec; the text says so."""

    def __init__(self) -> None:
        super().__init__("the spec is too large for a review")


class _Metadata(msgspec.Struct, rename="camel"):
    name: _Word = ""
    deletion_timestamp: _Word | None = None


class _EventSink(msgspec.Struct):
    metadata: _Metadata = msgspec.field(default_factory=_Metadata)
    spec: msgspec.Raw = msgspec.Raw(b"null")

    def read(self, namespace: str) -> Object:
        """As the API server has it, without what no review needs. That includes the uid: kopf keeps something for ever for each in an update."""
        found: Object = {"metadata": {"name": self.metadata.name, "namespace": namespace}}
        if self.metadata.deletion_timestamp is not None:
            found["metadata"]["deletionTimestamp"] = self.metadata.deletion_timestamp
        if (spec := _spec(self.spec)) is not None:
            found["spec"] = spec
        return found


class _Resource(msgspec.Struct):
    group: _Word
    version: _Word
    resource: _Word


class _Request(msgspec.Struct, rename="camel"):
    uid: _Word
    resource: _Resource
    namespace: _Namespace
    operation: _Word
    object: _EventSink | None = None
    old_object: _EventSink | None = None


class _Review(msgspec.Struct):
    request: _Request


_DECODER = msgspec.json.Decoder(_Review)


def read_review(body: bytes) -> Any:
    """The AdmissionReview in a request's body, as kopf takes it, with what a review needs.

    Raises
    ------
    NoReview, TooLarge
        There is nothing to review.
    """
    try:
        request = _DECODER.decode(body).request
        objects = {
            name: one.read(request.namespace) if one is not None else None
            for name, one in (("object", request.object), ("oldObject", request.old_object))
        }
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError):
        raise NoReview from None
    return {
        "apiVersion": "admission.k8s.io/v1",
        "kind": "AdmissionReview",
        "request": {
            "uid": request.uid,
            "resource": msgspec.to_builtins(request.resource),
            "operation": request.operation,
            "userInfo": {},  # kopf wants it
            **objects,
        },
    }


def _spec(raw: msgspec.Raw) -> Any:
    """A spec, if it is no larger than any that the CRD lets pass."""
    if len(raw) > MAX_SPEC_BYTES:
        raise TooLarge
    spec = msgspec.json.decode(raw)
    if not is_bounded(spec):
        raise TooLarge
    return spec


def is_bounded(spec: Any) -> bool:
    """Whether it has no more than `MAX_VALUES` fields and entries in no more than `MAX_DEPTH` levels; it is not looked at any further."""
    level, count = [spec], 0
    for _ in range(MAX_DEPTH + 1):
        inner = [one.values() if isinstance(one, dict) else one for one in level if isinstance(one, dict | list)]
        if not inner:
            return True
        count += sum(map(len, inner))
        if count > MAX_VALUES:
            return False
        level = list(chain.from_iterable(inner))
    return False
