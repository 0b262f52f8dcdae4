"""What a change requires of the sink as it is: If-Match, and that nothing else manages it."""

from __future__ import annotations

from eventsink.kube.api import Object
from eventsink.rest.calls.managers import managed_by
from eventsink.rest.calls.responses import etag
from eventsink.rest.errors import Conflict, PreconditionFailed, PreconditionRequired


def check_if_match(if_match: str, obj: Object) -> None:
    """Check an If-Match header (RFC 9110 section 13.1.1); an empty one allows the change.

    A weak ETag counts as the strong one that it was made from: proxies weaken it (`W/`) when they compress the response.

    Raises
    ------
    PreconditionFailed
        The sink was changed since.
    """
    wanted = _etags(if_match)
    if wanted and "*" not in wanted and etag(obj) not in wanted:
        raise PreconditionFailed("If-Match: the sink was changed since; read it again")


def require_etag(if_match: str, sentence: str) -> None:
    """Check that an If-Match header names versions of the sink, and not any.

    Raises
    ------
    PreconditionRequired
        It names none, or any; the text is `sentence`.
    """
    etags = _etags(if_match)
    if not etags or "*" in etags:
        raise PreconditionRequired(sentence)


def _etags(if_match: str) -> list[str]:
    return [one.strip().removeprefix("W/") for one in if_match.split(",") if one.strip()]


def check_unmanaged(obj: Object) -> None:
    """Check that no tool or file would undo a change.

    Raises
    ------
    Conflict
        One would; the sentence says where to change the sink.
    """
    if (sentence := managed_by(obj)) is not None:
        raise Conflict(sentence)
