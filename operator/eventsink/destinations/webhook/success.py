"""Whether a response says that a message was taken, where a sink's owner says by what: the status, or a member of the body."""

from __future__ import annotations

import msgspec

from eventsink.sinks.target import CompiledDocument
from eventsink.sinks.transport import Response

_MISSING = object()


class SuccessWhen(CompiledDocument):
    """What a response must be; every member that is there must be fulfilled."""

    statuses: tuple[int, ...] = ()
    """One of these; empty: any 2xx."""
    pointer: str | None = None
    """JSON pointer (RFC 6901) into the body ..."""
    equals: str | None = None
    """... to a text that is this, or to a number, true, false or null that is written so in JSON."""

    def takes(self, response: Response) -> bool:
        """Whether a response is one of success."""
        return self.takes_status(response.status) and self.takes_body(response)

    def takes_status(self, status: int) -> bool:
        """Whether the status is one of success."""
        return status in self.statuses if self.statuses else 200 <= status < 300

    def takes_body(self, response: Response) -> bool:
        """Whether the body is one of success. One that is no JSON, or was cut short, is none."""
        if self.pointer is None:
            return True
        try:
            value = msgspec.json.decode(response.body)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            return False
        for part in self.pointer.split("/")[1:]:
            value = _member(value, part.replace("~1", "/").replace("~0", "~"))
        if isinstance(value, str):
            return value == self.equals
        return not isinstance(value, dict | list) and value is not _MISSING and msgspec.json.encode(value).decode() == self.equals


def _member(value: object, name: str) -> object:
    if isinstance(value, dict):
        return value.get(name, _MISSING)
    if isinstance(value, list) and name.isascii() and name.isdigit() and len(name) <= 5 and int(name) < len(value):
        return value[int(name)]
    return _MISSING
