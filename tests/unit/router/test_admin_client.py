"""The client of the router's admin API, beside what only seems to be a router; beside a real one, tests/e2e has it."""

from __future__ import annotations

import asyncio
import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from eventsink.router.admin.client import AdminClient, AdminError, table
from tests.unit.sinks.transport_contract import TIMEOUT_SECONDS, serving

DELIVERY = {
    **dict.fromkeys(
        ("id", "state", "tenant", "sink", "uid", "alert", "status", "reason", "held", "detail", "message", "reference"), "x"
    ),
    "created": "2026-01-01T00:00:00Z",
    "attempts": 1,
}


async def deliveries(response: bytes, folder: Path) -> list[dict[str, Any]]:
    (folder / "token").write_text("t")
    async with serving(response) as server:
        client = AdminClient(f"http://127.0.0.1:{server.port}", folder / "token")
        asked = asyncio.to_thread(lambda: list(client.deliveries({}, limit=10_000)))
        return await asyncio.wait_for(asked, TIMEOUT_SECONDS)


def responding(status: bytes, body: bytes) -> bytes:
    return b"HTTP/1.1 %b\r\nConnection: close\r\nContent-Length: %d\r\n\r\n%b" % (status, len(body), body)


@pytest.mark.parametrize("body", [b"<html>", b"[" * 100_000, b"[]", b"{}", b'{"deliveries":[{}],"next":null}', b'{"error":1}'])
@pytest.mark.parametrize("status", [b"200 OK", b"503 No"])
async def test_what_no_router_responds_is_said_to_be_of_another_address(status: bytes, body: bytes, tmp_path: Path) -> None:
    with pytest.raises(AdminError, match=rf"responded with {status[:3].decode()}; is it the admin.address\?"):
        await deliveries(responding(status, body), tmp_path)


@pytest.mark.parametrize(
    "response", [b"no HTTP\r\n\r\n", b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\nConnection: close\r\n\r\n"]
)
async def test_a_response_that_is_none_is_a_router_that_cannot_be_reached(response: bytes, tmp_path: Path) -> None:
    async def respond(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(response)

    (tmp_path / "token").write_text("t")
    async with serving(respond) as server:
        client = AdminClient(f"http://127.0.0.1:{server.port}", tmp_path / "token")
        with pytest.raises(AdminError, match="cannot be reached"):
            await asyncio.wait_for(asyncio.to_thread(client.test, "u"), TIMEOUT_SECONDS)


async def test_no_redirect_is_followed_with_the_token(tmp_path: Path) -> None:
    async with serving(responding(b"200 OK", b"{}")) as other:
        head = (
            b"HTTP/1.1 302 Found\r\nLocation: http://127.0.0.1:%d/\r\nConnection: close\r\nContent-Length: 0\r\n\r\n" % other.port
        )
        with pytest.raises(AdminError, match="responded with 302"):
            await deliveries(head, tmp_path)
    assert other.requests == []


async def test_pages_that_go_nowhere_come_to_an_end(tmp_path: Path) -> None:
    page = json.dumps({"deliveries": [DELIVERY], "next": 7}).encode()
    assert await deliveries(responding(b"200 OK", page), tmp_path) == [DELIVERY, DELIVERY]


def test_an_alert_moves_no_terminal() -> None:
    hostile = "\x1b[2J\x9b2J\u202e\x07\n"
    shown = table([{**DELIVERY, "alert": f"A{hostile}"}], wide=True, now=datetime(2026, 1, 1, 1, tzinfo=UTC))
    assert "60m" in shown
    assert len(shown.splitlines()) == 2
    assert not {"\x1b", "\x9b", "\u202e", "\x07"} & set(shown)
