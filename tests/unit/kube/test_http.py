"""Credentials as they are passed to another library's client, and responses as errors."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager
from pathlib import Path

import pytest
import trustme
import yaml
from kubernetes.aio.config import incluster_config

from eventsink.kube import http
from eventsink.kube.api import SECRETS, Collection, Forbidden, Gone, Invalid, NotFound, Unavailable, WatchEvent
from eventsink.kube.http import MAX_LINE_BYTES, api_error, changes_in, connect
from eventsink.kube.lease import LeaderApi, NotLeading
from eventsink.kube.settings import KubernetesSettings
from tests.support.sinks import secret
from tests.unit.sinks.transport_contract import TIMEOUT_SECONDS, serving


async def test_the_scheme_is_removed_from_a_pods_token(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "token").write_text("a.b.c")
    trustme.CA().cert_pem.write_to_path(str(tmp_path / "ca.crt"))
    monkeypatch.setenv("KUBERNETES_SERVICE_HOST", "10.96.0.1")
    monkeypatch.setenv("KUBERNETES_SERVICE_PORT", "443")
    monkeypatch.setattr(http, "IN_CLUSTER_TOKEN", tmp_path / "token")
    monkeypatch.setattr(incluster_config, "SERVICE_TOKEN_FILENAME", str(tmp_path / "token"))
    monkeypatch.setattr(incluster_config, "SERVICE_CERT_FILENAME", str(tmp_path / "ca.crt"))
    api = await connect(KubernetesSettings(), "test")
    try:
        access = await api.access()
    finally:
        await api.close()
    assert (access.server, access.token) == ("https://10.96.0.1:443", "a.b.c")


def kubeconfig(folder: Path, server: str) -> Path:
    config = {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": "c",
        "contexts": [{"name": "c", "context": {"cluster": "c", "user": "u"}}],
        "clusters": [{"name": "c", "cluster": {"server": server}}],
        "users": [{"name": "u", "user": {"token": "a.b.c"}}],
    }
    (folder / "config").write_text(yaml.safe_dump(config))
    return folder / "config"


@pytest.mark.parametrize("name", ["HTTP_PROXY", "http_proxy"])
async def test_the_api_server_is_not_reached_through_a_proxy_of_the_environment(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    listed = b'{"metadata": {"resourceVersion": "1"}, "items": []}'
    async with serving(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(listed) + listed) as server:
        monkeypatch.setenv(name, "http://127.0.0.1:1")
        api = await connect(KubernetesSettings(kubeconfig=kubeconfig(tmp_path, f"http://127.0.0.1:{server.port}")), "test")
        try:
            assert (await api.list(Collection(SECRETS))).items == []
        finally:
            await api.close()


@pytest.mark.parametrize("body", [b"<html>", b"[" * 100_000, b"[]", b"{}", b'{"metadata":{"name":1}}', b'{"metadata":"\\ud800"}'])
async def test_what_no_api_server_says_is_an_api_server_that_is_unavailable(body: bytes, tmp_path: Path) -> None:
    async with serving(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(body) + body) as server:
        api = await connect(KubernetesSettings(kubeconfig=kubeconfig(tmp_path, f"http://127.0.0.1:{server.port}")), "test")
        try:
            with pytest.raises(Unavailable, match="not one of an API server"):
                await api.get(SECRETS, ("n", "a"))
            with pytest.raises(Unavailable, match="not one of an API server"):
                await api.list(Collection(SECRETS))
            with pytest.raises(Unavailable, match="not one of an API server"):
                await api.create(SECRETS, secret("acme"))
        finally:
            await api.close()
    assert str(api_error(503, body)) == "the API server responded with 503"


async def test_the_scheme_is_removed_from_a_kubeconfigs_token(tmp_path: Path) -> None:
    api = await connect(KubernetesSettings(kubeconfig=kubeconfig(tmp_path, "https://127.0.0.1:1")), "test")
    try:
        access = await api.access()
    finally:
        await api.close()
    assert (access.server, access.token) == ("https://127.0.0.1:1", "a.b.c")


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (404, NotFound),
        (403, Forbidden),
        (401, Forbidden),
        (410, Gone),
        (422, Invalid),
        (429, Unavailable),
        (500, Unavailable),
        (503, Unavailable),
    ],
)
def test_responses_become_errors_by_their_status(status: int, kind: type[Exception]) -> None:
    for body in (b'{"reason":"R","message":"M"}', b"<html>", b"[]", b""):
        error = api_error(status, body)
        assert type(error) is kind
        assert str(error)


TOO_LARGE = {
    "kind": "Status",
    "status": "Failure",
    "message": "Timeout: Too large resource version: 750, current: 1",
    "reason": "Timeout",
    "details": {
        "causes": [{"reason": "ResourceVersionTooLarge", "message": "Too large resource version"}],
        "retryAfterSeconds": 1,
    },
    "code": 504,
}


@pytest.mark.parametrize("in_stream", [False, True])
async def test_a_version_that_the_api_server_has_not_reached_is_one_to_list_again_for(in_stream: bool, tmp_path: Path) -> None:
    async def respond(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await server.read_request(reader)
        head, said = (b"504 Gateway Timeout", TOO_LARGE) if not in_stream else (b"200 OK", {"type": "ERROR", "object": TOO_LARGE})
        body = json.dumps(said).encode() + b"\n"
        writer.write(b"HTTP/1.1 %b\r\nContent-Length: %d\r\n\r\n%b" % (head, len(body), body))

    async with serving(respond) as server:
        settings = KubernetesSettings(kubeconfig=kubeconfig(tmp_path, f"http://127.0.0.1:{server.port}"))
        api = await connect(settings, "test")
        try:
            watch = api.watch(Collection(SECRETS), resource_version="750", seconds=60)
            with pytest.raises(Gone):
                await _read(watch)
        finally:
            await api.close()
    assert type(api_error(504, b'{"reason":"Timeout","message":"Timeout: request did not complete"}')) is Unavailable


@pytest.mark.parametrize(
    "line", [b"[]", b"{}", b"{", b'{"type":"ADDED","object":[]}', b'{"type":"ERROR"}', b'{"type":"NEW","object":{}}']
)
async def test_a_line_that_no_api_server_sends_ends_a_watch(line: bytes, tmp_path: Path) -> None:
    body = line + b"\n"
    async with serving(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body)) as server:
        api = await connect(KubernetesSettings(kubeconfig=kubeconfig(tmp_path, f"http://127.0.0.1:{server.port}")), "test")
        try:
            with pytest.raises(Unavailable, match="not one of an API server"):
                await _read(api.watch(Collection(SECRETS), resource_version="1", seconds=60))
        finally:
            await api.close()


async def test_a_line_that_never_ends_ends_a_watch_before_it_takes_all_memory() -> None:
    read = 0

    async def endless() -> AsyncIterator[bytes]:
        nonlocal read
        while read < 4 * MAX_LINE_BYTES:
            read += 1 << 20
            yield bytes(1 << 20)

    with pytest.raises(Unavailable, match="not one of an API server"):
        async for _ in changes_in(endless()):
            pass
    assert read <= MAX_LINE_BYTES + (2 << 20)


async def _read(watch: AbstractAsyncContextManager[AsyncIterator[WatchEvent]]) -> None:
    async with watch as events:
        async for _ in events:
            pass


STORED = b'{"metadata":{"name":"acme","resourceVersion":"1"}}'
CREATED = b"HTTP/1.1 201 Created\r\nContent-Length: %d\r\n\r\n%b" % (len(STORED), STORED)


async def test_what_waited_for_a_connection_is_not_sent_by_a_replica_that_leads_no_more(tmp_path: Path) -> None:
    arrived, responds, connections = asyncio.Semaphore(0), asyncio.Event(), 4
    leads = True

    def check() -> float:
        if not leads:
            raise NotLeading
        return 60.0

    async def respond(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            await server.read_request(reader)
            arrived.release()
            await responds.wait()
            writer.write(CREATED)

    async with serving(respond) as server:
        settings = KubernetesSettings(kubeconfig=kubeconfig(tmp_path, f"http://127.0.0.1:{server.port}"), connections=connections)
        api = LeaderApi(await connect(settings, "test"), check)
        try:
            writes = [asyncio.create_task(api.create(SECRETS, secret("acme"))) for _ in range(connections + 2)]
            for _ in range(connections):
                await asyncio.wait_for(arrived.acquire(), TIMEOUT_SECONDS)
            leads = False
            responds.set()
            results = await asyncio.gather(*writes, return_exceptions=True)
        finally:
            await api.close()
    assert [type(one) for one in results] == [dict] * connections + [NotLeading] * 2
    assert len(server.requests) == connections


async def test_nothing_is_sent_on_a_new_connection_by_a_replica_that_leads_no_more(tmp_path: Path) -> None:
    leads = iter((True, False))

    def check() -> float:
        if not next(leads):
            raise NotLeading
        return 60.0

    async with serving(CREATED) as server:
        settings = KubernetesSettings(kubeconfig=kubeconfig(tmp_path, f"http://127.0.0.1:{server.port}"))
        api = LeaderApi(await connect(settings, "test"), check)
        try:
            with pytest.raises(NotLeading):
                await api.create(SECRETS, secret("acme"))
        finally:
            await api.close()
    assert server.requests == []
