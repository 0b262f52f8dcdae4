"""The certificate of the admission webhook on a real API server: shared by replicas, renewed without a gap, or from files."""

from __future__ import annotations

import asyncio
import base64
import json
import ssl
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import trustme
from prometheus_client import CollectorRegistry

from eventsink.controller.admission.certificates import (
    LIFETIME,
    PUBLISHED_BEFORE,
    RENEW_AHEAD,
    due,
    issue,
    read_certificates,
    service_names,
)
from eventsink.controller.admission.managed import ManagedCertificate
from eventsink.controller.admission.server import AdmissionServer
from eventsink.controller.config import AdmissionSettings
from eventsink.controller.metrics import OperatorMetrics
from eventsink.kube.api import SECRETS, Conflict
from eventsink.kube.http import connect
from eventsink.kube.secrets import secret_data
from eventsink.kube.settings import KubernetesSettings
from eventsink.runtime.listener.metrics import ListenerMetrics
from tests.support.admission import REFUSED, bundle, configured, dry_run, wait_reviewing
from tests.support.cluster import SYSTEM_NAMESPACE, Installed
from tests.support.kubectl import Kubectl
from tests.support.parts import start_operator
from tests.support.ports import free_port
from tests.support.sinks import event_sink
from tests.support.waiting import wait_until


@asynccontextmanager
async def serving(certificate: tuple[Path, Path], port: int) -> AsyncIterator[None]:
    """A webhook that refuses everything."""

    async def refuse(request: Any, **_: Any) -> Any:
        review = {"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview"}
        return {
            **review,
            "response": {"uid": request["request"]["uid"], "allowed": False, "status": {"code": 422, "message": "no"}},
        }

    registry = CollectorRegistry()
    server = AdmissionServer(f"127.0.0.1:{port}", certificate, ListenerMetrics(registry, "operator"), OperatorMetrics(registry))(
        refuse
    )
    await anext(server)
    try:
        yield
    finally:
        await server.aclose()  # type: ignore[attr-defined]


@pytest.fixture
def port(install_manifests: Installed, kubectl: Kubectl) -> Iterator[int]:
    """Where the API server calls the webhook."""
    chosen = free_port()
    with configured(kubectl, chosen):
        yield chosen


async def test_a_certificate_is_renewed_without_a_gap(kubectl: Kubectl, install_manifests: Installed, port: int) -> None:
    clock = [datetime.now(UTC) - LIFETIME + RENEW_AHEAD - timedelta(days=1)]  # soon due for renewal
    # The API server's clock is the real one: at first the certificate is almost due for renewal, by that clock too.
    settings = AdmissionSettings(secret_name="renewed", extra_names=("127.0.0.1",))
    api = await connect(KubernetesSettings(kubeconfig=install_manifests.operator), "operator")

    def replica() -> ManagedCertificate:
        return ManagedCertificate(settings, SYSTEM_NAMESPACE, api, OperatorMetrics(CollectorRegistry()), lambda: clock[0])

    async def is_reviewed(certificate: ManagedCertificate) -> bool:
        """Whether the API server calls, and trusts, a replica with that certificate."""
        async with serving(certificate.files, port):
            sink = event_sink("default", name="probe")
            for _ in range(20):  # a new bundle reaches the webhook's client a moment later
                result = await asyncio.to_thread(dry_run, kubectl, sink)
                if REFUSED in result.stderr:
                    return True
                await asyncio.sleep(0.2)
        return False

    def served(certificate: ManagedCertificate) -> str:
        return certificate.files[0].read_text()

    one, other = replica(), replica()
    try:
        await one.look()
        await other.look()
        assert served(one) == served(other)
        assert await is_reviewed(one)
        first = served(one)
        clock[0] = datetime.now(UTC)  # renewal is due
        await one.look()
        await one.look()
        assert served(one) == first
        assert len(read_bundle(await asyncio.to_thread(bundle, kubectl))) == 2
        assert await is_reviewed(one)
        clock[0] += PUBLISHED_BEFORE + timedelta(seconds=1)
        await one.look()
        assert served(one) != first
        assert served(other) == first
        assert await is_reviewed(one)
        assert await is_reviewed(other), "another replica serves the old certificate for a moment"
        await other.look()
        assert served(other) == served(one)
    finally:
        await asyncio.to_thread(kubectl.delete, "secret", "renewed", namespace=SYSTEM_NAMESPACE)
        await one.close()
        await other.close()
        await api.close()


def read_bundle(encoded: str) -> list[Any]:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.load_verify_locations(cadata=base64.b64decode(encoded).decode())
    return context.get_ca_certs()


async def test_replicas_that_start_at_once_share_one_certificate(kubectl: Kubectl, install_manifests: Installed) -> None:
    api = await connect(KubernetesSettings(kubeconfig=install_manifests.operator), "operator")
    settings = AdmissionSettings(secret_name="claimed")
    replicas = [ManagedCertificate(settings, SYSTEM_NAMESPACE, api, OperatorMetrics(CollectorRegistry())) for _ in range(4)]
    try:
        for result in await asyncio.gather(*(one.look() for one in replicas), return_exceptions=True):
            assert result is None or isinstance(result, Conflict)
        for one in replicas:
            await one.look()
        stored = read_certificates(secret_data(await api.get(SECRETS, (SYSTEM_NAMESPACE, "claimed"))))
        assert stored is not None
        assert {one.files[0].read_text() for one in replicas} == {stored.current.certificate}
    finally:
        await asyncio.to_thread(kubectl.delete, "secret", "claimed", namespace=SYSTEM_NAMESPACE)
        for one in replicas:
            await one.close()
        await api.close()


def made_at(moment: datetime) -> dict[str, str]:
    names = service_names("eventsink-operator-webhook", SYSTEM_NAMESPACE)
    made = due(None, names, moment, published=False)
    assert made is not None
    return made.to_data()


GARBAGE: dict[str, dict[str, str]] = {
    "nothing": {"tls.crt": "", "tls.key": ""},
    "text": {"tls.crt": "none", "tls.key": "none", "ca.crt": "none"},
    "the authorities of another": {"ca.crt": issue(("a",), datetime.now(UTC))[1]},
    "a certificate from the future": made_at(datetime.now(UTC) + LIFETIME),
    "an expired certificate": made_at(datetime.now(UTC) - LIFETIME - timedelta(days=1)),
}


async def test_whatever_somebody_writes_into_the_secret_or_if_he_deletes_it_there_is_a_certificate_again(
    kubectl: Kubectl, install_manifests: Installed
) -> None:
    api = await connect(KubernetesSettings(kubeconfig=install_manifests.operator), "operator")
    settings, key = AdmissionSettings(secret_name="damaged"), (SYSTEM_NAMESPACE, "damaged")
    replicas = [ManagedCertificate(settings, SYSTEM_NAMESPACE, api, OperatorMetrics(CollectorRegistry())) for _ in range(2)]

    async def is_served_by_all() -> None:
        for one in replicas:
            await one.look()
        stored = read_certificates(secret_data(await api.get(SECRETS, key)))
        assert stored is not None
        assert stored.current.is_valid(datetime.now(UTC))
        assert {one.files[0].read_text() for one in replicas} == {stored.current.certificate}
        assert base64.b64decode(await asyncio.to_thread(bundle, kubectl)).decode() == stored.bundle

    try:
        await is_served_by_all()
        for data in GARBAGE.values():
            patch = json.dumps({"data": {name: base64.b64encode(text.encode()).decode() for name, text in data.items()}})
            await asyncio.to_thread(
                kubectl.run, "-n", SYSTEM_NAMESPACE, "patch", "secret", "damaged", "--type=merge", "-p", patch
            )
            await is_served_by_all()
        await asyncio.to_thread(kubectl.delete, "secret", "damaged", namespace=SYSTEM_NAMESPACE)
        await is_served_by_all()
    finally:
        await asyncio.to_thread(kubectl.delete, "secret", "damaged", namespace=SYSTEM_NAMESPACE)
        for one in replicas:
            await one.close()
        await api.close()


def test_a_certificate_from_files_is_used_and_the_configuration_is_left_alone(
    kubectl: Kubectl, install_manifests: Installed, tmp_path: Path
) -> None:
    authority, port = trustme.CA(), free_port()
    issued = authority.issue_cert("127.0.0.1")
    certificate, key = tmp_path / "tls.crt", tmp_path / "tls.key"
    ca = base64.b64encode(authority.cert_pem.bytes()).decode()
    admission = {
        "enabled": True,
        "address": f"127.0.0.1:{port}",
        "tlsCertificateFile": str(certificate),
        "tlsKeyFile": str(key),
    }
    with configured(kubectl, port, ca=ca), start_operator(install_manifests, tmp_path, admission=admission) as running:
        wait_until("the reason", lambda: f"waits for the file {certificate}" in running.readiness()[1])
        issued.private_key_pem.write_to_path(key)
        issued.cert_chain_pems[0].write_to_path(certificate)
        running.wait_ready()
        wait_reviewing(kubectl)
        assert bundle(kubectl) == ca
