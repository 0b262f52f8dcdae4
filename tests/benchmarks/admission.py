"""What a review at admission adds to `kubectl apply`, with many EventSinks known: creations with and without it, in turn, in one run.

python -m tests.benchmarks.admission [EVENTSINKS | full]
"""

from __future__ import annotations

import asyncio
import json
import ssl
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import aiohttp

from eventsink.kube.api import NAMESPACES, Object
from eventsink.kube.http import HttpApi, connect
from eventsink.kube.settings import KubernetesSettings
from eventsink.resources.names import EVENTSINKS
from tests.controlplane import ControlPlane
from tests.support.admission import admission_settings, configuration, replace_configuration, wait_reviewing
from tests.support.cluster import install, install_crd
from tests.support.kubectl import Kubectl
from tests.support.load import percentile, size
from tests.support.parts import start_operator
from tests.support.ports import free_port
from tests.support.processes import RunningProcess
from tests.support.sinks import event_sink, signed
from tests.support.waiting import wait_until

TENANTS = 100
ROUNDS = 500
"""Creations of each kind, with and without a review."""
UNREVIEWED = "benchmark.eventsink.dev/unreviewed"
"""Label of the EventSinks that the API server asks nobody about."""
FIRST_PASS_SECONDS = 1200.0
TARGET_SECONDS = 0.05
BAD_MATCHER = {"matchers": ['team=~"("']}

KINDS: dict[str, Callable[[str], Object]] = {
    "accepted": lambda namespace: event_sink(namespace, name="new", tenant=namespace),
    "refused": lambda namespace: event_sink(namespace, name="new", tenant=namespace, match=BAD_MATCHER),
    "a Secret is missing": lambda namespace: event_sink(namespace, name="new", tenant=namespace, webhook=signed()),
}


def label(obj: Object) -> Object:
    """The same, and the API server asks nobody about it."""
    return obj | {"metadata": obj["metadata"] | {"labels": {UNREVIEWED: "true"}}}


async def fill(api: HttpApi, eventsinks: int) -> None:
    """Make tenants and their EventSinks."""
    for tenant in range(TENANTS):
        metadata = {"name": f"t{tenant}", "labels": {"eventsink.dev/tenant": f"t{tenant}"}}
        await api.create(NAMESPACES, {"apiVersion": "v1", "kind": "Namespace", "metadata": metadata})

    async def create(numbers: range) -> None:
        for number in numbers:
            tenant = f"t{number % TENANTS}"
            await api.create(EVENTSINKS, event_sink(tenant, name=f"sink-{number}", tenant=tenant))

    await asyncio.gather(*(create(range(start, eventsinks, 16)) for start in range(16)))


class Client:
    """Creates EventSinks as a dry run: everything but the storage."""

    def __init__(self, session: aiohttp.ClientSession, server: str, context: ssl.SSLContext) -> None:
        self._session = session
        self._server = server
        self._context = context

    async def seconds(self, obj: Object, status: int) -> float:
        """How long one creation takes."""
        path = f"/apis/eventsink.dev/v1alpha1/namespaces/{obj['metadata']['namespace']}/eventsinks?dryRun=All"
        began = time.perf_counter()
        async with self._session.post(self._server + path, json=obj, ssl=self._context) as response:
            body = await response.read()
        taken = time.perf_counter() - began
        assert response.status == status, body
        return taken


async def measure(api: HttpApi) -> dict[str, tuple[list[float], list[float]]]:
    """For each kind: seconds of reviewed creations, and of the others."""
    access = await api.access()
    context = ssl.create_default_context(cafile=access.ca)
    assert access.certificate is not None
    context.load_cert_chain(access.certificate, access.key)
    found = {}
    async with aiohttp.ClientSession() as session:
        client = Client(session, access.server, context)
        for kind, make in KINDS.items():
            reviewed, others = [], []
            for number in range(ROUNDS):
                obj = make(f"t{number % TENANTS}")
                reviewed.append(await client.seconds(obj, 422 if kind == "refused" else 201))
                others.append(await client.seconds(label(obj), 201))
            found[kind] = (reviewed, others)
    return found


def percentiles(seconds: list[float]) -> tuple[float, float]:
    """The median and the 99th percentile, in milliseconds."""
    return percentile(seconds, 50) * 1000, percentile(seconds, 99) * 1000


def unreviewed_selector(found: dict[str, Any]) -> dict[str, Any]:
    """The configuration without the labelled EventSinks."""
    for webhook in found["webhooks"]:
        webhook["objectSelector"] = {"matchExpressions": [{"key": UNREVIEWED, "operator": "DoesNotExist"}]}
    return found


def compiled(process: RunningProcess, eventsinks: int) -> bool:
    """Whether the first pass is over."""
    start = 'eventsink_operator_reconciles_total{outcome="ready"'
    lines = [line for line in process.metrics().splitlines() if line.startswith(start)]
    return any(float(line.rpartition(" ")[2]) >= eventsinks for line in lines)


def own_seconds(metrics: str) -> list[tuple[float, float]]:
    """How long reviews took in the operator itself: upper bounds in seconds, and the share of reviews up to each."""
    start = 'eventsink_operator_admission_duration_seconds_bucket{le="'
    found = [line.removeprefix(start).split('"} ') for line in metrics.splitlines() if line.startswith(start)]
    total = float(found[-1][1])
    return [(float(bound), float(count) / total) for bound, count in found]


def main(eventsinks: int) -> None:
    """Print a line for each kind."""
    with tempfile.TemporaryDirectory() as name, ControlPlane() as control_plane:
        kubectl, port = Kubectl(control_plane.admin_kubeconfig), free_port()
        install_crd(kubectl)
        installed = install(control_plane, kubectl)

        async def with_api(work: Callable[[HttpApi], Any]) -> Any:
            api = await connect(KubernetesSettings(kubeconfig=control_plane.admin_kubeconfig), "benchmark")
            try:
                return await work(api)
            finally:
                await api.close()

        asyncio.run(with_api(lambda api: fill(api, eventsinks)))
        replace_configuration(kubectl, unreviewed_selector(configuration(kubectl, port, failure_policy="Fail")))
        with start_operator(installed, Path(name), admission=admission_settings(port)) as operator:
            operator.wait_ready(deadline=FIRST_PASS_SECONDS)
            wait_until("the first pass", lambda: compiled(operator, eventsinks), deadline=FIRST_PASS_SECONDS, poll=1.0)
            wait_reviewing(kubectl)
            found = asyncio.run(with_api(measure))
            own = own_seconds(operator.metrics())
    print(f"{eventsinks} EventSinks known; creations, milliseconds: median and 99th percentile")
    worst = 0.0
    for kind, (reviewed, others) in found.items():
        (middle, high), (other_middle, other_high) = percentiles(reviewed), percentiles(others)
        worst = max(worst, high)
        ratio = middle / other_middle
        print(
            f"{kind:>20}: {middle:5.1f} {high:5.1f} reviewed, {other_middle:5.1f} {other_high:5.1f} not; {ratio:4.2f} times the median"
        )
    print(
        "in the operator: "
        + ", ".join(f"{share:.1%} within {bound * 1000:g} ms" for bound, share in own if bound <= 2 * TARGET_SECONDS)
    )
    print(json.dumps({"p99_ms": round(worst, 1), "target_ms": TARGET_SECONDS * 1000}))


if __name__ == "__main__":
    main(size(500, 10_000))
