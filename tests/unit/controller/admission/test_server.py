"""The webhook over HTTPS: reviews are passed on, and whatever is none decides about nothing."""

from __future__ import annotations

import asyncio
import io
import json
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import trustme
from prometheus_client import CollectorRegistry

from eventsink.controller.admission import server as served
from eventsink.controller.admission.confirm import Confirmation
from eventsink.controller.admission.review import Fresh
from eventsink.controller.admission.server import AdmissionServer
from eventsink.controller.metrics import OperatorMetrics
from eventsink.controller.tenancy import Namespace
from eventsink.kube.api import NAMESPACES, SECRETS
from eventsink.kube.local import LocalApi
from eventsink.runtime.listener.metrics import ListenerMetrics
from eventsink.runtime.process import ExitStatus, Stop
from tests.support.ports import free_port

RESOURCE = {"group": "eventsink.dev", "version": "v1alpha1", "resource": "eventsinks"}
REVIEW = {"request": {"uid": "u", "resource": RESOURCE, "namespace": "acme", "operation": "CREATE", "userInfo": {}, "object": {}}}


def response(**members: Any) -> dict[str, Any]:
    return {"response": {"uid": "u", "allowed": True, **members}}


@dataclass
class Webhook:
    url: str
    registry: CollectorRegistry

    async def post(self, body: bytes | io.BytesIO, path: str = "/validate", method: str = "POST") -> tuple[int, Any]:
        async with aiohttp.ClientSession() as session, session.request(method, self.url + path, data=body, ssl=False) as given:
            return given.status, json.loads(await given.read())

    @property
    def port(self) -> int:
        return int(self.url.rpartition(":")[2])

    def count(self, outcome: str) -> float:
        return self.registry.get_sample_value("eventsink_operator_admissions_total", {"outcome": outcome}) or 0.0


@pytest.fixture
def certificate(tmp_path: Path) -> tuple[Path, Path]:
    issued = trustme.CA().issue_cert("127.0.0.1")
    issued.private_key_pem.write_to_path(tmp_path / "tls.key")
    issued.cert_chain_pems[0].write_to_path(tmp_path / "tls.crt")
    return tmp_path / "tls.crt", tmp_path / "tls.key"


@asynccontextmanager
async def running(certificate: tuple[Path, Path], review: Any) -> AsyncIterator[Webhook]:
    registry, port = CollectorRegistry(), free_port()
    server = AdmissionServer(f"127.0.0.1:{port}", certificate, ListenerMetrics(registry, "operator"), OperatorMetrics(registry))
    serving: Any = server(review)
    await anext(serving)
    assert server.missing is None
    try:
        yield Webhook(f"https://127.0.0.1:{port}", registry)
    finally:
        await serving.aclose()
        assert server.missing


@pytest.mark.parametrize(
    ("reviewed", "outcome"),
    [
        (response(), "accepted"),
        (response(warnings=["w"]), "warned"),
        (response(allowed=False, status={"code": 422, "message": "no"}), "refused"),
    ],
)
async def test_a_review_is_passed_on_and_its_outcome_counted(
    certificate: tuple[Path, Path], reviewed: dict[str, Any], outcome: str
) -> None:
    async def review(request: Any) -> Any:
        assert request["request"]["resource"] == RESOURCE
        return reviewed

    async with running(certificate, review) as webhook:
        assert await webhook.post(json.dumps(REVIEW).encode()) == (200, reviewed)
        assert webhook.count(outcome) == 1


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"[]",
        b"1",
        b'{"request": 1}',
        b'{"request": {}}',
        b'{"request": {"uid": "u", "resource": 1}}',
        b'{"request": {"uid": "u", "resource": {"group": "g", "version": "v", "resource": "r"}}}',
        b"\xff",
        b"[" * 100_000,
    ],
)
async def test_what_is_no_review_is_a_client_error(certificate: tuple[Path, Path], body: bytes) -> None:
    async with running(certificate, None) as webhook:
        status, said = await webhook.post(body)
        assert status == 400
        assert "AdmissionReview" in said["error"]


async def test_only_the_path_of_the_webhook_is_served(certificate: tuple[Path, Path]) -> None:
    async with running(certificate, None) as webhook:
        assert (await webhook.post(b"", path="/"))[0] == 404
        assert (await webhook.post(b"", method="PUT"))[0] == 405


async def test_a_review_that_is_too_large_is_rejected(certificate: tuple[Path, Path]) -> None:
    async with running(certificate, None) as webhook:
        assert (await webhook.post(io.BytesIO(b" " * (served.LIMITS.max_body_bytes + 1))))[0] == 413


async def test_what_no_review_needs_does_not_reach_kopf(certificate: tuple[Path, Path]) -> None:
    """kopf keeps something for ever for each uid in an update: kopf/_core/reactor/inventory.py, ResourceMemories.recall."""
    seen: list[Any] = []

    async def review(request: Any) -> Any:
        seen.append(request["request"]["object"])
        return response()

    metadata = {"name": "a", "namespace": "acme", "uid": "u" * 1000, "annotations": {"a": "b" * 100_000}, "managedFields": [{}]}
    obj = {"metadata": metadata, "spec": {"tenant": "acme"}, "status": {"conditions": []}}
    async with running(certificate, review) as webhook:
        body = {"request": REVIEW["request"] | {"operation": "UPDATE", "object": obj, "oldObject": obj}}
        assert (await webhook.post(json.dumps(body).encode()))[0] == 200
    assert seen == [{"metadata": {"name": "a", "namespace": "acme"}, "spec": {"tenant": "acme"}}]


async def test_a_spec_that_no_crd_lets_pass_is_not_reviewed(certificate: tuple[Path, Path]) -> None:
    async with running(certificate, None) as webhook:
        body = {"request": REVIEW["request"] | {"object": {"spec": {str(number): 0 for number in range(100_000)}}}}
        status, said = await webhook.post(io.BytesIO(json.dumps(body).encode()))
        assert (status, said) == (413, {"error": "the EventSink could not be reviewed: the spec is too large for a review"})
        assert webhook.count("failed") == 1


async def test_a_review_that_fails_or_takes_too_long_is_no_refusal(
    certificate: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(served, "REVIEW_SECONDS", 0.05)

    async def review(request: Any) -> Any:
        operation = request["request"]["operation"]
        if operation == "SLOW":
            await asyncio.Event().wait()
        if operation == "BROKEN":
            raise KeyError("userInfo")
        return response(allowed=False, status={"code": 500, "message": "broken"})

    async with running(certificate, review) as webhook:
        for number, operation in enumerate(("SLOW", "BROKEN", "FAILED"), 1):
            body = {"request": REVIEW["request"] | {"operation": operation}}
            assert (await webhook.post(json.dumps(body).encode()))[0] == 500
            assert webhook.count("failed") == number


async def test_an_address_that_is_taken_ends_the_operator_with_the_name_of_the_setting(certificate: tuple[Path, Path]) -> None:
    async with running(certificate, None) as webhook:
        address = webhook.url.removeprefix("https://")
        registry = CollectorRegistry()
        other = AdmissionServer(address, certificate, ListenerMetrics(registry, "operator"), OperatorMetrics(registry))
        with pytest.raises(Stop, match=r"admission\.address: cannot listen there") as stop:
            await anext(other(None))  # type: ignore[arg-type]
        assert stop.value.status == ExitStatus.USAGE


async def eventually(condition: Callable[[], object]) -> None:
    async with asyncio.timeout(10):
        while not condition():
            await asyncio.sleep(0.005)


async def test_it_waits_for_the_files_of_its_certificate(certificate: tuple[Path, Path], tmp_path: Path) -> None:
    later = tmp_path / "later.crt"
    registry = CollectorRegistry()
    server = AdmissionServer(
        f"127.0.0.1:{free_port()}", (later, certificate[1]), ListenerMetrics(registry, "operator"), OperatorMetrics(registry)
    )
    serving: Any = server(None)  # type: ignore[arg-type]
    starting = asyncio.ensure_future(anext(serving))
    await eventually(lambda: server.missing == f"the admission webhook waits for the file {later}")
    later.write_bytes(certificate[0].read_bytes())
    await starting
    await eventually(lambda: server.missing is None)
    await serving.aclose()


def unchecked() -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    return context


@pytest.mark.filterwarnings("ignore:ssl.TLSVersion:DeprecationWarning")
async def test_tls_before_1_2_is_not_spoken(certificate: tuple[Path, Path]) -> None:
    context = unchecked()
    context.set_ciphers("ALL:@SECLEVEL=0")
    async with running(certificate, None) as webhook:
        context.minimum_version = context.maximum_version = ssl.TLSVersion.TLSv1_1
        with pytest.raises((ssl.SSLError, ConnectionError)):
            await asyncio.open_connection("127.0.0.1", webhook.port, ssl=context)
        context.minimum_version = context.maximum_version = ssl.TLSVersion.TLSv1_2
        _, writer = await asyncio.open_connection("127.0.0.1", webhook.port, ssl=context)
        writer.close()


async def test_a_client_that_speaks_http_2_is_answered_in_http_1(certificate: tuple[Path, Path]) -> None:
    context = unchecked()
    context.set_alpn_protocols(["h2", "http/1.1"])  # as the API server offers
    async with running(certificate, None) as webhook:
        reader, writer = await asyncio.open_connection("127.0.0.1", webhook.port, ssl=context)
        assert writer.get_extra_info("ssl_object").selected_alpn_protocol() in (None, "http/1.1")
        writer.write(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")
        assert (await reader.read()).startswith(b"HTTP/1.1 ")
        writer.close()


# ---- asking the API server


async def in_another_loop(confirm: Confirmation, *questions: tuple[str, list[str], bool]) -> list[Fresh | None]:
    async def ask() -> list[Fresh | None]:
        return await asyncio.gather(*(confirm(namespace, secrets, owner=owner) for namespace, secrets, owner in questions))

    return await asyncio.to_thread(asyncio.run, ask())


class CountingApi(LocalApi):
    """Counts lists that are under way."""

    def __init__(self) -> None:
        super().__init__((SECRETS, NAMESPACES))
        self.lists = 0

    async def list(self, *given: Any, **more: Any) -> Any:
        self.lists += 1
        await asyncio.sleep(0.05)  # so that the questions overlap
        return await super().list(*given, **more)


@pytest.fixture
def api() -> CountingApi:
    made = CountingApi()
    labels = {"eventsink.dev/tenant": "acme"}
    made.put(NAMESPACES, {"metadata": {"name": "acme", "labels": labels}})
    made.put(SECRETS, {"metadata": {"name": "hook", "namespace": "acme"}})
    return made


async def test_the_api_server_is_asked_from_another_thread(api: CountingApi) -> None:
    confirm = Confirmation(api, asyncio.get_running_loop())
    [fresh, absent] = await in_another_loop(confirm, ("acme", ["hook", "other"], True), ("none", [], True))
    assert fresh is not None
    assert isinstance(fresh.namespace, Namespace)
    assert (fresh.namespace.tenant, fresh.secrets) == ("acme", frozenset({"hook"}))
    assert absent == Fresh(None, frozenset())
    before = api.lists
    assert await in_another_loop(confirm, ("acme", ["hook"], False)) == [Fresh(None, frozenset({"hook"}))]
    assert api.lists == before + 1
