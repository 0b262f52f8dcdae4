"""EventSinks, Secrets and compiled sinks, as tests write and read them."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Iterable
from typing import Any

from tests.support.cluster import SINKS_NAMESPACE
from tests.support.kubectl import Kubectl, is_current
from tests.support.waiting import DEADLINE_SECONDS, wait_until

SECRET = "whsec_" + base64.b64encode(b"0123456789abcdefghijklmn").decode()
"""A usable signing secret."""
OTHER_SECRET = "whsec_" + base64.b64encode(b"nmlkjihgfedcba9876543210").decode()


def event_sink(namespace: str, name: str = "alerts", *, tenant: str = "acme", **spec: Any) -> dict[str, Any]:
    """An EventSink; a webhook unless the spec says otherwise."""
    if not {"webhook", "slack", "pager"} & spec.keys():
        spec["webhook"] = {"url": "https://hooks.example.com/alerts"}
    return {
        "apiVersion": "eventsink.dev/v1alpha1",
        "kind": "EventSink",
        "metadata": {"name": name, "namespace": namespace},
        "spec": {"tenant": tenant, "name": name, **spec},
    }


def signed(url: str = "https://hooks.example.com/alerts", secret: str = "hook", key: str = "secret") -> dict[str, Any]:
    """The `webhook` of a sink that signs with a key of a Secret."""
    return {"url": url, "signingSecretRefs": [{"name": secret, "key": key}]}


def secret(namespace: str, name: str = "hook", **data: str) -> dict[str, Any]:
    """A Secret with texts."""
    return {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name, "namespace": namespace}, "stringData": data}


def compiled(kubectl: Kubectl, uid: str) -> dict[str, Any] | None:
    """The compiled sink of an EventSink; None: there is none."""
    found = kubectl.find("secret", f"sink-{uid}", namespace=SINKS_NAMESPACE)
    if found is None:
        return None
    document: dict[str, Any] = json.loads(base64.b64decode(found["data"]["sink.json"]))
    return document


def wait_compiled(
    kubectl: Kubectl, uid: str, holds: Callable[[dict[str, Any]], object], *, deadline: float = DEADLINE_SECONDS
) -> dict[str, Any]:
    """Wait until the compiled sink is there and `holds` is true of it."""
    last: dict[str, Any] = {}

    def probe() -> bool:
        nonlocal last
        last = compiled(kubectl, uid) or {}
        return bool(last and holds(last))

    wait_until(f"compiled sink {uid}", probe, deadline=deadline, poll=0.2, show=lambda: {**last, "webhook": "..."})
    return last


def wait_all_ready(kubectl: Kubectl, namespace: str, names: Iterable[str]) -> dict[str, str]:
    """Wait until EventSinks of a namespace are Ready; returns their uids. Reads all at once: kubectl is a process for each call."""
    wanted = set(names)
    uids: dict[str, str] = {}

    def missing() -> set[str]:
        for one in kubectl.list("eventsink", namespace=namespace):
            if is_current(one, "Ready", "True"):
                uids[one["metadata"]["name"]] = str(one["metadata"]["uid"])
        return wanted - uids.keys()

    wait_until("ready EventSinks", lambda: not missing(), poll=0.2, show=missing)
    return {name: uids[name] for name in wanted}


def compiled_uids(kubectl: Kubectl) -> set[str]:
    """The uids of the EventSinks that have a compiled sink."""
    names = [str(one["metadata"]["name"]) for one in kubectl.list("secret", namespace=SINKS_NAMESPACE)]
    return {name.removeprefix("sink-") for name in names if name.startswith("sink-")}


def uid_of(kubectl: Kubectl, namespace: str, name: str = "alerts") -> str:
    """uid of an EventSink."""
    return str(kubectl.get("eventsink", name, namespace=namespace)["metadata"]["uid"])


def events_of(kubectl: Kubectl, uid: str) -> list[dict[str, Any]]:
    """The Events about an EventSink, oldest first."""
    found = kubectl.run("get", "events", "--all-namespaces", f"--field-selector=involvedObject.uid={uid}", "-o", "json")
    items: list[dict[str, Any]] = json.loads(found.stdout)["items"]
    return sorted(items, key=lambda one: str(one["metadata"]["creationTimestamp"]))


def label(kubectl: Kubectl, namespace: str, tenant: str | None) -> None:
    """Give a namespace to a tenant, or to nobody."""
    change = f"eventsink.dev/tenant={tenant}" if tenant is not None else "eventsink.dev/tenant-"
    kubectl.run("label", "namespace", namespace, change, "--overwrite")
