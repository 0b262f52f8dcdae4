"""`helm uninstall`: what is left, and what a new installation makes of it."""

from __future__ import annotations

import json
import re
from pathlib import Path

from tests.pods.installation import CHART, RELEASE, ROUTER, Installation
from tests.pods.load import assert_delivered, load, wait_refused
from tests.pods.shell import assert_works
from tests.pods.workloads import TENANT, Client, Receiver
from tests.support.kubectl import Kubectl
from tests.support.sinks import event_sink
from tests.support.waiting import wait_until

KEPT = {
    "CustomResourceDefinition/eventsinks.eventsink.dev",
    "APIService/v1alpha1.eventsink.dev",
    "Namespace/eventsink-system-sinks",
    "PersistentVolumeClaim/queue-eventsink-router-0",
    "Secret/eventsink-source-tokens",
    "Secret/eventsink-admin",
    "Secret/eventsink-operator-webhook",
    "Secret/tenancy",
    "Lease/eventsink-operator",
    "Lease/eventsink-events-leader",
    "ConfigMap/eventsink-events-checkpoint",
}
OWN = {"Namespace/eventsink-system", "Secret/slack-app", "Secret/slack-workspace"}
"""Made by these tests."""
DEFAULTS = {"ServiceAccount/default", "ConfigMap/kube-root-ca.crt"}
"""In every namespace."""
MANY = re.compile(r"Secret/(sink-[0-9a-f-]{36}|slack-[0-9a-f]{40})")
"""Compiled sinks, and tokens of Slack that codes were exchanged for: kept, too."""
NAME = "eventsink"
COMMAND = re.compile(r"^\|[^|]+\| `(kubectl [^`]+)` \|$", re.MULTILINE)


def belongings(kubectl: Kubectl, installation: Installation) -> set[str]:
    """Every object of every kind, as KIND/NAME, that is in a namespace of the installation or has its name or label; not Events, and not what
    a tenant made.
    """
    kinds: list[str] = []
    for namespaced in ("true", "false"):
        listed = kubectl.run("api-resources", "--verbs=list", f"--namespaced={namespaced}", "-o", "name").stdout.split()
        kinds += [kind for kind in listed if not kind.startswith("events") and not kind.startswith("componentstatuses")]
    found = json.loads(kubectl.run("get", ",".join(kinds), "--all-namespaces", "-o", "json", timeout=120).stdout)["items"]
    own = {installation.namespace, installation.sinks_namespace}
    return {
        f"{one['kind']}/{name}"
        for one in found
        for name in [one["metadata"]["name"]]
        if one["metadata"].get("namespace") in own
        or NAME in name
        or one["metadata"].get("labels", {}).get("app.kubernetes.io/instance") == RELEASE
    } - DEFAULTS


def test_uninstall_leaves_sinks_queue_and_tokens_and_nothing_that_runs(
    kubectl: Kubectl, installation: Installation, client: Client, receiver: Receiver, sink: str
) -> None:
    sinks = {one["metadata"]["uid"] for one in kubectl.list("eventsink")}
    receiver.respond_with(503)
    with load(installation, client, "load-uninstall") as sent:
        wait_refused(receiver, sink, "load-uninstall")

    installation.uninstall()

    left: set[str] = set()

    def only_what_is_kept() -> bool:
        nonlocal left
        left = belongings(kubectl, installation)
        return {one for one in left if not MANY.fullmatch(one)} == KEPT | OWN

    wait_until("the end of what belongs to Deployments", only_what_is_kept, poll=1, show=lambda: left ^ (KEPT | OWN))
    assert {one[:12] for one in left if MANY.fullmatch(one)} == {"Secret/sink-", "Secret/slack"}
    assert {one["metadata"]["uid"] for one in kubectl.list("eventsink")} == sinks
    assert kubectl.get("persistentvolumeclaim", "queue-eventsink-router-0", namespace=installation.namespace)
    for name in ("eventsink-source-tokens", "eventsink-admin"):
        assert kubectl.get("secret", name, namespace=installation.namespace)
    # nobody is blocked by what is gone
    kubectl.apply(event_sink(TENANT, "meanwhile", tenant=TENANT))
    kubectl.delete("eventsink", "meanwhile", namespace=TENANT)

    receiver.respond_with(200)
    installation.install()
    installation.wait_ready(ROUTER)
    assert_delivered(receiver, sink, sent.acknowledged)


def test_what_is_left_can_be_removed_for_good(kubectl: Kubectl, installation: Installation, tmp_path: Path) -> None:
    commands = COMMAND.findall((CHART / "README.md").read_text())
    assert commands
    installation.uninstall()

    assert_works("\n".join(commands), installation.environment, tmp_path)

    wait_until(
        "the end of it",
        lambda: belongings(kubectl, installation) == OWN,
        poll=1,
        show=lambda: belongings(kubectl, installation),
    )
