"""`helm uninstall`: what is left, and what a new installation makes of it."""

from __future__ import annotations

from tests.pods.installation import RELEASE, ROUTER, Installation
from tests.pods.load import assert_delivered, load, wait_refused
from tests.pods.workloads import TENANT, Client, Receiver
from tests.support.cluster import CRD
from tests.support.kubectl import Kubectl
from tests.support.sinks import event_sink

KEPT = {
    "customresourcedefinition/eventsinks.eventsink.dev",
    "namespace/eventsink-system-sinks",
    "persistentvolumeclaim/queue-eventsink-router-0",
}
SELECTOR = f"app.kubernetes.io/instance={RELEASE}"


def belongings(kubectl: Kubectl) -> set[str]:
    """Every object in the cluster that is labelled as the release's, except pods that are ending."""
    kinds: list[str] = []
    for namespaced in ("true", "false"):
        listed = kubectl.run("api-resources", "--verbs=list", f"--namespaced={namespaced}", "-o", "name").stdout.split()
        kinds += [kind for kind in listed if kind not in ("events", "events.events.k8s.io", "pods")]
    found = kubectl.run("get", ",".join(kinds), "--all-namespaces", f"--selector={SELECTOR}", "-o", "name", timeout=120).stdout
    return {f"{line.split('/')[0].split('.')[0]}/{line.split('/')[1]}" for line in found.split()}


def test_uninstall_leaves_sinks_queue_and_tokens_and_nothing_that_runs(
    kubectl: Kubectl, installation: Installation, client: Client, receiver: Receiver, sink: str
) -> None:
    sinks = {one["metadata"]["uid"] for one in kubectl.list("eventsink")}
    receiver.respond_with(503)
    with load(installation, client, "load-uninstall") as sent:
        wait_refused(receiver, sink, "load-uninstall")

    installation.uninstall()

    assert belongings(kubectl) <= KEPT
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


def test_what_is_left_can_be_removed_for_good(kubectl: Kubectl, installation: Installation) -> None:
    installation.uninstall()
    kubectl.delete("crd", CRD)
    kubectl.delete("namespace", installation.sinks_namespace)
    kubectl.delete("namespace", installation.namespace)

    assert belongings(kubectl) == set()
