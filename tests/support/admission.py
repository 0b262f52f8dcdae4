"""The admission webhook in tests: the configuration that manifests/ ships, with the address of a process on this machine."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import yaml

from tests.support.cluster import MANIFESTS, SYSTEM_NAMESPACE
from tests.support.kubectl import Kubectl
from tests.support.sinks import event_sink
from tests.support.waiting import wait_until

CONFIGURATION = "eventsink-operator-webhook"
KIND = "validatingwebhookconfiguration"
REFUSED = 'admission webhook "eventsinks.eventsink.dev" denied the request: '
"""What kubectl shows before the reason."""
WEBHOOK_SECRET = "eventsink-operator-webhook"


def admission_settings(port: int) -> dict[str, Any]:
    """Settings of an operator on this machine: the API server calls it by its address instead of the Service's."""
    return {
        "enabled": True,
        "address": f"127.0.0.1:{port}",
        "namespace": SYSTEM_NAMESPACE,
        "extraNames": ["127.0.0.1"],
    }


def shipped_configuration(kubectl: Kubectl) -> dict[str, Any]:
    """The configuration as manifests/ has it."""
    rendered = yaml.safe_load_all(kubectl.run("kustomize", str(MANIFESTS / "default")).stdout)
    found: dict[str, Any] = next(one for one in rendered if one["kind"] == "ValidatingWebhookConfiguration")
    return found


def configuration(kubectl: Kubectl, port: int, *, failure_policy: str = "", ca: str | None = None) -> dict[str, Any]:
    """The shipped configuration, with a URL of this machine."""
    found = shipped_configuration(kubectl)
    for webhook in found["webhooks"]:
        path = webhook["clientConfig"]["service"]["path"]
        webhook["clientConfig"] = {"url": f"https://127.0.0.1:{port}{path}"} | ({"caBundle": ca} if ca is not None else {})
        if failure_policy:
            webhook["failurePolicy"] = failure_policy
    return found


def replace_configuration(kubectl: Kubectl, new: dict[str, Any]) -> None:
    """Make the configuration be this, and nothing that others added."""
    kubectl.run("replace", "-f", "-", input=json.dumps(new))


@contextmanager
def configured(kubectl: Kubectl, port: int, **how: Any) -> Iterator[None]:
    """Have the API server call a port of this machine."""
    replace_configuration(kubectl, configuration(kubectl, port, **how))
    try:
        yield
    finally:
        replace_configuration(kubectl, shipped_configuration(kubectl))


def bundle(kubectl: Kubectl) -> str:
    """The authorities that the API server has, as base64."""
    [webhook] = kubectl.get(KIND, CONFIGURATION)["webhooks"]
    return str(webhook["clientConfig"].get("caBundle", ""))


def applied(kubectl: Kubectl, *objects: dict[str, Any]) -> subprocess.CompletedProcess[str]:
    """`kubectl apply` of objects, in their order; it may fail."""
    return kubectl.run("apply", "-f", "-", input=yaml.safe_dump_all(objects), check=False)


def dry_run(kubectl: Kubectl, *objects: dict[str, Any]) -> subprocess.CompletedProcess[str]:
    """The same with `--dry-run=server`."""
    return kubectl.run("apply", "--dry-run=server", "-f", "-", input=yaml.safe_dump_all(objects), check=False)


def wait_reviewing(kubectl: Kubectl) -> None:
    """Wait until the API server calls the webhook, and trusts it."""
    probe = event_sink("default", name="probe", match={"matchers": ['team=~"("']})
    wait_until("refusals", lambda: REFUSED in dry_run(kubectl, probe).stderr, poll=0.2)
