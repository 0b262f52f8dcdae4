"""Why a request is refused. Each class is one HTTP status; the text is a sentence for whoever sent it, and repeats no value.

Refused
  InvalidRequest           400
  Unauthenticated          401
  NotPermitted             403
  Unknown                  404
  WrongMethod              405
  Conflicting              409
  PreconditionFailed       412
  TooLarge                 413
  UnsupportedType          415
  TooMany                  429
  Away                     503
"""

from __future__ import annotations

from typing import ClassVar

from eventsink.runtime.retry_after import format_retry_after

RETRY_SECONDS = 5
"""When to come again, where nothing better is known."""


class Refused(Exception):
    """The request is not carried out."""

    status: ClassVar[int] = 500

    def __init__(self, sentence: str, *, headers: dict[str, str] | None = None) -> None:
        super().__init__(sentence)
        self.sentence = sentence
        self.headers = headers or {}
        """Of the answer."""


class InvalidRequest(Refused):
    """It cannot be carried out as it stands."""

    status = 400


class Unauthenticated(Refused):
    """No key, or a wrong one."""

    status = 401

    def __init__(self, sentence: str = "no API key, or a wrong one: send Authorization: Bearer <key>") -> None:
        super().__init__(sentence, headers={"WWW-Authenticate": 'Bearer realm="eventsink"'})


class NotPermitted(Refused):
    """The key may not touch this tenant."""

    status = 403


class Unknown(Refused):
    """There is no such thing, as far as this key may know."""

    status = 404


class WrongMethod(Refused):
    """The path is there; the method is not."""

    status = 405


class Conflicting(Refused):
    """Somebody else changed it, or is in charge of it."""

    status = 409


class PreconditionFailed(Refused):
    """It is not as If-Match says."""

    status = 412


class TooLarge(Refused):
    """The body is too large."""

    status = 413


class UnsupportedType(Refused):
    """The body is not JSON by its Content-Type."""

    status = 415


class TooMany(Refused):
    """Too many requests, or failures, from there."""

    status = 429

    def __init__(self, sentence: str, *, retry_after: float = 1.0) -> None:
        super().__init__(sentence, headers={"Retry-After": format_retry_after(retry_after)})


class Away(Refused):
    """What is needed to answer does not answer itself."""

    status = 503

    def __init__(self, sentence: str, *, retry_after: float = RETRY_SECONDS) -> None:
        super().__init__(sentence, headers={"Retry-After": format_retry_after(retry_after)})
