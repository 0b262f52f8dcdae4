"""Calls a router's admin API, for `eventsink deliveries` and `eventsink replay`."""

from __future__ import annotations

import http.client
import json
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator, Mapping
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any, TypeVar

import msgspec

from eventsink.runtime.settings import read_secret_file

TIMEOUT_SECONDS = 30.0
PAGE = 500
T = TypeVar("T")


class AdminError(Exception):
    """The router rejected the request or cannot be reached; the text is a sentence for the person at the terminal."""


class _Shown(msgspec.Struct):
    """What a table shows of a delivery."""

    id: str
    created: Annotated[datetime, msgspec.Meta(tz=True)]
    state: str
    tenant: str
    sink: str
    uid: str
    alert: str
    status: str
    attempts: int
    reason: str
    held: str
    detail: str
    message: str
    reference: str


class Page(msgspec.Struct):
    """Some deliveries."""

    deliveries: list[dict[str, Any]]
    next: int | None
    """None: this is the last one."""

    def __post_init__(self) -> None:
        msgspec.convert(self.deliveries, list[_Shown])


class Failure(msgspec.Struct):
    """What it says of a request that it rejects."""

    error: str


class _Replayed(msgspec.Struct):
    replayed: int


class _NoRedirects(urllib.request.HTTPRedirectHandler):
    """Follows none: the token would go to another server, too."""

    def redirect_request(self, *_: Any) -> None:
        return None


_OPENER = urllib.request.build_opener(_NoRedirects)


class AdminClient:
    """The admin API of one router.

    Parameters
    ----------
    server
        Its address, such as http://127.0.0.1:8081.
    token_file
        Holds the bearer token. A file that cannot be read raises ConfigurationError.
    """

    def __init__(self, server: str, token_file: Path) -> None:
        self._server = server.rstrip("/")
        self._token = read_secret_file(token_file)

    def deliveries(self, conditions: Mapping[str, Any], *, limit: int) -> Iterator[dict[str, Any]]:
        """Deliveries that fulfil the conditions (parameters of the API), oldest first, at most `limit`."""
        after = 0
        while limit > 0:
            query = {key: value for key, value in conditions.items() if value} | {"after": after, "limit": min(PAGE, limit)}
            page = self._call(f"/v1/deliveries?{urllib.parse.urlencode(query, doseq=True)}", Page)
            yield from page.deliveries
            limit -= len(page.deliveries)
            if page.next is None or page.next <= after:
                return
            after = page.next

    def replay(self, wanted: Mapping[str, Any]) -> int:
        """Replay dead letters; how many."""
        body = {key: value for key, value in wanted.items() if value}
        return self._call("/v1/deliveries/replay", _Replayed, body).replayed

    def test(self, uid: str, *, wait: float = 10.0) -> dict[str, Any]:
        """Send a test alert to the sink of this uid and wait for its outcome, `wait` seconds at most."""
        return self._call(f"/v1/sinks/{urllib.parse.quote(uid, safe='')}/test", dict[str, Any], {"wait": wait})

    def _call(self, path: str, kind: type[T], body: Mapping[str, Any] | None = None) -> T:
        request = urllib.request.Request(
            self._server + path,
            data=json.dumps(body).encode() if body is not None else None,
            headers={"Authorization": f"Bearer {self._token}", "Content-Type": "application/json"},
        )
        try:
            with _OPENER.open(request, timeout=TIMEOUT_SECONDS) as response:
                return read_response(response.status, response.read(), kind)
        except urllib.error.HTTPError as error:
            with error:
                raise AdminError(_sentence(error)) from None
        except (OSError, ValueError, http.client.HTTPException) as error:
            reason = error.reason if isinstance(error, urllib.error.URLError) else error
            raise AdminError(f"{self._server} cannot be reached: {reason}; is it the router's admin.address?") from None


def _sentence(error: urllib.error.HTTPError) -> str:
    try:
        body = error.read()
    except (OSError, http.client.HTTPException):  # the connection broke
        body = b""
    return read_response(error.code, body, Failure).error


def read_response(status: int, body: bytes, kind: type[T]) -> T:
    """What a router has responded.

    Raises
    ------
    AdminError
        No router responds so.
    """
    try:
        return msgspec.json.decode(body, type=kind)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise AdminError(f"the router responded with {status}; is it the admin.address?") from None


def table(deliveries: list[dict[str, Any]], *, wide: bool, now: datetime) -> str:
    """Deliveries as lines for a terminal."""
    heads = ["ID", "AGE", "STATE", "TENANT", "SINK", "ALERT", "STATUS", "TRIES", "REASON"]
    rows = [
        [
            one.id,
            age(one.created, now),
            one.state,
            one.tenant,
            one.sink or one.uid,
            one.alert or "-",
            one.status,
            str(one.attempts),
            one.reason or one.held or "-",
            *([one.detail, one.message, one.reference] if wide else []),
        ]
        for one in msgspec.convert(deliveries, list[_Shown])
    ]
    if wide:
        heads += ["DETAIL", "MESSAGE", "REFERENCE"]
    rows = [["".join(map(_visible, cell)) for cell in row] for row in rows]
    widths = [max(len(row[column]) for row in [heads, *rows]) for column in range(len(heads))]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in [heads, *rows]
    )


def _visible(character: str) -> str:
    """Whoever sends alerts chooses their names: they must not write to a terminal."""
    return character if character.isprintable() else "\N{REPLACEMENT CHARACTER}"


def age(created: datetime, now: datetime) -> str:
    """How long ago a time was, as kubectl writes it: 45s, 12m, 3h, 5d."""
    seconds = max(0, int((now - created).total_seconds()))
    for unit, size in (("d", 86400), ("h", 3600), ("m", 60)):
        if seconds >= 2 * size:
            return f"{seconds // size}{unit}"
    return f"{seconds}s"
