"""Calls a router's admin API, for `eventsink deliveries` and `eventsink replay`."""

from __future__ import annotations

import json
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator, Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

from eventsink.runtime.settings import read_secret_file
from eventsink.runtime.times import parse_time

TIMEOUT_SECONDS = 30.0
PAGE = 500


class AdminError(Exception):
    """The router rejected the request or cannot be reached; the text is a sentence for the person at the terminal."""


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
            page = self._call(f"/v1/deliveries?{urllib.parse.urlencode(query, doseq=True)}")
            yield from page["deliveries"]
            limit -= len(page["deliveries"])
            after = page["next"]
            if after is None:
                return

    def replay(self, wanted: Mapping[str, Any]) -> int:
        """Replay dead letters; how many."""
        body = {key: value for key, value in wanted.items() if value}
        return int(self._call("/v1/deliveries/replay", body)["replayed"])

    def test(self, uid: str, *, wait: float = 10.0) -> dict[str, Any]:
        """Send a test alert to the sink of this uid and wait for its outcome, `wait` seconds at most."""
        return self._call(f"/v1/sinks/{urllib.parse.quote(uid, safe='')}/test", {"wait": wait})

    def _call(self, path: str, body: Mapping[str, Any] | None = None) -> dict[str, Any]:
        request = urllib.request.Request(
            self._server + path,
            data=json.dumps(body).encode() if body is not None else None,
            headers={"Authorization": f"Bearer {self._token}", "Content-Type": "application/json"},
        )
        try:
            with urllib.request.urlopen(request, timeout=TIMEOUT_SECONDS) as response:
                result: dict[str, Any] = json.loads(response.read())
                return result
        except urllib.error.HTTPError as error:
            raise AdminError(_sentence(error)) from None
        except (OSError, ValueError) as error:
            reason = error.reason if isinstance(error, urllib.error.URLError) else error
            raise AdminError(f"{self._server} cannot be reached: {reason}; is it the router's admin.address?") from None


def _sentence(error: urllib.error.HTTPError) -> str:
    try:
        return str(json.loads(error.read())["error"])
    except (ValueError, KeyError, TypeError):
        return f"the router responded with {error.code}; is it the admin.address?"


def table(deliveries: list[dict[str, Any]], *, wide: bool, now: datetime) -> str:
    """Deliveries as lines for a terminal."""
    heads = ["ID", "AGE", "STATE", "TENANT", "SINK", "ALERT", "STATUS", "TRIES", "REASON"]
    rows = [
        [
            one["id"],
            age(one["created"], now),
            one["state"],
            one["tenant"],
            one["sink"] or one["uid"],
            one["alert"] or "-",
            one["status"],
            str(one["attempts"]),
            one["reason"] or one["held"] or "-",
            *([one["detail"], one["message"], one["reference"]] if wide else []),
        ]
        for one in deliveries
    ]
    if wide:
        heads += ["DETAIL", "MESSAGE", "REFERENCE"]
    widths = [max(len(row[column]) for row in [heads, *rows]) for column in range(len(heads))]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in [heads, *rows]
    )


def age(created: str, now: datetime) -> str:
    """How long ago a time was, as kubectl writes it: 45s, 12m, 3h, 5d."""
    seconds = max(0, int((now - parse_time(created)).total_seconds()))
    for unit, size in (("d", 86400), ("h", 3600), ("m", 60)):
        if seconds >= 2 * size:
            return f"{seconds // size}{unit}"
    return f"{seconds}s"
