"""Errors of the REST API. Each class is one HTTP status; the text is a sentence for the client and repeats no value.

RestError
  InvalidRequest           400
  Unauthorized             401
  Forbidden                403
  NotFound                 404
  MethodNotAllowed         405
  Conflict                 409
  PreconditionFailed       412
  ContentTooLarge          413
  UnsupportedMediaType     415
  PreconditionRequired     428
  TooManyRequests          429
  ServiceUnavailable       503
"""

from __future__ import annotations

from typing import ClassVar

from eventsink.runtime.retry_after import format_retry_after

RETRY_SECONDS = 5
"""Retry-After of a response, where nothing better is known."""


class RestError(Exception):
    """The request was not carried out."""

    status: ClassVar[int] = 500

    def __init__(self, sentence: str, *, headers: dict[str, str] | None = None) -> None:
        super().__init__(sentence)
        self.sentence = sentence
        self.headers = headers or {}
        """Of the response."""


class InvalidRequest(RestError):
    """The request is invalid; the sentence names the field."""

    status = 400


class Unauthorized(RestError):
    """The API key is missing or invalid."""

    status = 401

    def __init__(self, sentence: str = "missing or invalid API key: send Authorization: Bearer <key>") -> None:
        super().__init__(sentence, headers={"WWW-Authenticate": 'Bearer realm="eventsink"'})


class Forbidden(RestError):
    """The caller has no access to this tenant, or no permission for this call."""

    status = 403


class NotFound(RestError):
    """Not found, or not visible to this caller."""

    status = 404


class MethodNotAllowed(RestError):
    """The path does not support the method."""

    status = 405


class Conflict(RestError):
    """Somebody else changed the sink, or something else manages it."""

    status = 409


class PreconditionFailed(RestError):
    """The sink does not match If-Match."""

    status = 412


class ContentTooLarge(RestError):
    """The body is too large."""

    status = 413


class UnsupportedMediaType(RestError):
    """By its Content-Type the body is not JSON."""

    status = 415


class PreconditionRequired(RestError):
    """Without If-Match, the request may mean something else than the caller has seen."""

    status = 428


class TooManyRequests(RestError):
    """Too many requests, or too many invalid keys from one address."""

    status = 429

    def __init__(self, sentence: str, *, retry_after: float = 1.0) -> None:
        super().__init__(sentence, headers={"Retry-After": format_retry_after(retry_after)})


class ServiceUnavailable(RestError):
    """Something that the call needs is not available, such as the API server."""

    status = 503

    def __init__(self, sentence: str, *, retry_after: float = RETRY_SECONDS) -> None:
        super().__init__(sentence, headers={"Retry-After": format_retry_after(retry_after)})
