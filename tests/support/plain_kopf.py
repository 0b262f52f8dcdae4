"""An operator as kopf's tutorial builds one: create, update and resume handlers that do the work. For comparison with the product's.

python -m tests.support.plain_kopf NAMESPACE KUBECONFIG: compiles each EventSink into a Secret of NAMESPACE, reports it in the
status, and prints a line for each.
"""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path
from typing import Any

import kopf

from eventsink.kube.api import SECRETS
from eventsink.kube.http import connect
from eventsink.kube.secrets import encoded
from eventsink.kube.settings import KubernetesSettings
from eventsink.resources.eventsink import read_spec
from eventsink.resources.names import GROUP, PLURAL, VERSION

DONE = "handled"
AT_ONCE = 100
MANAGER = "plain-kopf"


async def serve(namespace: str, kubeconfig: Path) -> None:
    """Run until the process is ended."""
    api = await connect(KubernetesSettings(kubeconfig=kubeconfig, request_timeout=60.0, connections=AT_ONCE), "plain-kopf")
    registry = kopf.OperatorRegistry()
    settings = kopf.OperatorSettings()
    settings.peering.standalone = True
    settings.scanning.disabled = True
    # Without these, it tries all objects at once: at 10,000 it has 3 GB of memory and is not done after 20 minutes.
    settings.queueing.worker_limit = AT_ONCE
    settings.queueing.idle_timeout = 0.1

    @kopf.on.login(registry=registry)
    def login(**arguments: Any) -> kopf.ConnectionInfo | None:
        return kopf.login_with_kubeconfig(**arguments)

    @kopf.on.resume(GROUP, VERSION, PLURAL, registry=registry)
    @kopf.on.create(GROUP, VERSION, PLURAL, registry=registry)
    @kopf.on.update(GROUP, VERSION, PLURAL, registry=registry)
    async def handle(body: kopf.Body, patch: kopf.Patch, **_: Any) -> None:
        metadata = body["metadata"]
        spec = read_spec(body["spec"])
        for reference in body["spec"]["webhook"]["signingSecretRefs"]:
            await api.get(SECRETS, (metadata["namespace"], reference["name"]))
        secret = {
            "apiVersion": "v1",
            "kind": "Secret",
            "metadata": {"namespace": namespace, "name": f"sink-{metadata['uid']}"},
            "data": encoded({"sink.json": spec.model_dump_json()}),
        }
        await api.apply(SECRETS, secret, manager=MANAGER)
        patch.status["observedGeneration"] = metadata["generation"]
        patch.status["type"] = "webhook"
        print(DONE, flush=True)

    await kopf.operator(registry=registry, settings=settings, clusterwide=True, standalone=True)


if __name__ == "__main__":
    asyncio.run(serve(sys.argv[1], Path(sys.argv[2])))
