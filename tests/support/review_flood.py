"""Forged reviews, as many as a pod can send: python -m tests.support.review_flood PORT SECONDS PEERS. Prints the responses by status.

From PEERS addresses other than the API server's, so that the webhook can tell them apart, as in a cluster.
"""

from __future__ import annotations

import asyncio
import json
import ssl
import sys
import time
from collections import Counter
from typing import Any

from tests.support.sinks import event_sink, signed

CONNECTIONS = 64


def review(obj: Any, old: Any = None, *, kind: str = "eventsinks", uid: str = "u") -> bytes:
    """The body of a review."""
    resource = {"group": "eventsink.dev", "version": "v1alpha1", "resource": kind}
    request = {
        "uid": uid,
        "resource": resource,
        "namespace": "default",
        "operation": "UPDATE" if old else "CREATE",
        "userInfo": {},
    }
    return json.dumps({"request": request | {"object": obj, "oldObject": old}}).encode()


def bodies() -> list[bytes]:
    """What costs most, or what once did."""
    sink = event_sink("default")
    spec = sink["spec"]
    unknown = {f"f{number}": 0 for number in range(100_000)}
    matchers = [{"matchers": [f'l{n}=~"{text}{n}"' for n in range(32)]} for text in ("a{1000}" * 140, r"\\PL\\pL" * 150, "(")]
    return [
        *(
            review(sink | {"spec": spec | {"match": one}}, sink | {"spec": spec | {"match": one, "suspend": True}})
            for one in matchers
        ),
        review(sink | {"spec": spec | unknown}),
        review(sink | {"spec": spec | {"match": {"matchers": ["a=b"] * 100_000}}}),
        review(sink | {"spec": spec | dict(list(unknown.items())[:900])}),
        review(sink | {"spec": spec | {"tenant": "another"}}),  # the API server is asked
        review(sink | {"spec": spec | {"webhook": signed()}}),
        review(sink, sink | {"spec": unknown}),
        review(sink | {"spec": spec | {"description": "d" * 400_000}}),
        review(sink | {"status": unknown}),
        review(sink, kind="pods"),
        review(sink).replace(b'"request"', b'"deep": ' + b"[" * 900_000 + b"]" * 900_000 + b', "request"'),
        review({}, uid="u" * 1_000_000),
        b"{" * 2_000_000,
        b"x" * 3_000_000,
    ]


async def flood(port: int, seconds: float, peers: int) -> Counter[str]:
    """Send until the time is over; the responses by status, `lost` for those that did not come."""
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    given: Counter[str] = Counter()
    all_bodies = bodies()
    end = time.monotonic() + seconds

    async def send(number: int) -> None:
        body = all_bodies[number % len(all_bodies)]
        reader, writer = await asyncio.open_connection(
            "127.0.0.1", port, ssl=context, local_addr=(f"127.0.0.{2 + number % peers}", 0)
        )
        try:
            for _ in range(1 + number % 16):  # some with a handshake each
                writer.write(b"POST /validate HTTP/1.1\r\nHost: h\r\nContent-Length: %d\r\n\r\n" % len(body) + body)
                head = await reader.readuntil(b"\r\n\r\n")
                await reader.readexactly(int(head.lower().partition(b"content-length: ")[2].split(b"\r\n")[0]))
                given[head[9:12].decode()] += 1
                if b"connection: close" in head.lower():
                    break
        finally:
            writer.transport.abort()

    async def client(number: int) -> None:
        while time.monotonic() < end:
            try:
                async with asyncio.timeout(max(0.1, end - time.monotonic())):
                    await send(number)
            except (OSError, TimeoutError, asyncio.IncompleteReadError):
                given["lost"] += 1
            number += CONNECTIONS + 1

    async with asyncio.TaskGroup() as tasks:
        for number in range(CONNECTIONS):
            tasks.create_task(client(number))
    return given


if __name__ == "__main__":
    print(json.dumps(asyncio.run(flood(int(sys.argv[1]), float(sys.argv[2]), int(sys.argv[3])))))
