"""Idempotency-Key: the same request with the same key creates one sink.

The sink's name is derived from the key, so that two calls cannot both create it, and an annotation says which request and which call
created it.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import secrets
from datetime import UTC, datetime

from eventsink.kube.api import Object
from eventsink.rest.calls.responses import created_at
from eventsink.rest.errors import Conflict
from eventsink.rest.models import CreateRequest
from eventsink.runtime.times import parse_time

REQUEST_ANNOTATION = "eventsink.dev/request"
"""On an EventSink created with an Idempotency-Key: digest of the request, a dot, and what identifies the call."""
NAME_PREFIX = "rest-"
YOUNG_SECONDS = 60.0
"""Age up to which a repeated request decides about a sink that an interrupted call left without a verdict."""


def sink_name(tenant: str, key: str) -> str:
    """Name of the EventSink that a create with this Idempotency-Key makes; without a key, a new one."""
    if not key:
        return NAME_PREFIX + secrets.token_hex(10)
    return NAME_PREFIX + hashlib.sha256(f"{tenant}\n{key}".encode("utf-8", "surrogatepass")).hexdigest()[:20]


def request_mark(request: CreateRequest, key: str) -> str:
    """A value of REQUEST_ANNOTATION for this request and call.

    It covers the credentials, and whoever may read the EventSink sees it: it is slow to compute (some 50 ms), so that none is guessed.
    """
    text = json.dumps(request.model_dump(by_alias=True, exclude_unset=True), sort_keys=True)
    digest = hashlib.scrypt(text.encode(), salt=key.encode(), n=2**14, r=8, p=1, dklen=32).hex()
    return f"{digest}.{secrets.token_hex(8)}"


def check_same_request(obj: Object, mark: str) -> None:
    """Check that an existing sink was created by the same request.

    Parameters
    ----------
    mark
        `request_mark` of the request; empty: it has no Idempotency-Key.

    Raises
    ------
    Conflict
        It was not, or is being deleted.
    """
    known = str((obj["metadata"].get("annotations") or {}).get(REQUEST_ANNOTATION, ""))
    if not mark or not hmac.compare_digest(_request_part(known), _request_part(mark)):
        raise Conflict("Idempotency-Key: already used with another request; send a new key")
    if obj["metadata"].get("deletionTimestamp"):
        raise Conflict("Idempotency-Key: the sink that it created is being deleted; send a new key")


def is_young(obj: Object) -> bool:
    """Whether the sink was created a moment ago and not changed since."""
    age = (datetime.now(UTC) - parse_time(created_at(obj))).total_seconds()
    return obj["metadata"].get("generation") == 1 and age < YOUNG_SECONDS


def _request_part(mark: str) -> bytes:
    return mark.partition(".")[0].encode()
