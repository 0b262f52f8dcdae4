"""What an upgrade cannot do, or would destroy, is refused before anything is changed, in words that say what to do instead."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from tests.controlplane import ControlPlane
from tests.support.helm import Helm, Values
from tests.support.kubectl import Kubectl

QUEUE = {"size": "10240Mi", "storageClassName": "fast", "annotations": {"example.com/backup": "daily"}}
INSTALLED: dict[str, Any] = {"router": {"queue": QUEUE}}


@pytest.fixture(scope="module")
def plane() -> Iterator[ControlPlane]:
    with ControlPlane() as running:
        Helm(running.admin_kubeconfig).install(INSTALLED, "--create-namespace")
        yield running


@pytest.fixture(scope="module")
def release(plane: ControlPlane) -> Helm:
    return Helm(plane.admin_kubeconfig)


def refusal(release: Helm, values: Values, command: str = "upgrade") -> str:
    """What Helm says of an upgrade that it only tries; empty where it would be done."""
    done = release.run(command, release.release, str(release.chart), "--dry-run=server", values=values, check=False)
    return done.stderr if done.returncode else ""


def queue(**changed: Any) -> dict[str, Any]:
    return {"router": {"queue": {**QUEUE, **changed}}}


@pytest.mark.parametrize(
    ("values", "words"),
    [
        (queue(size="20Gi"), "router.queue.size: the queue's claim was made with 10Gi, and an upgrade cannot change it"),
        (
            queue(storageClassName=""),
            'router.queue.storageClassName: the queue\'s claim was made with "fast", and an upgrade cannot',
        ),
        (queue(accessModes=["ReadWriteOncePod"]), 'router.queue.accessModes: the queue\'s claim was made with ["ReadWriteOnce"]'),
        (queue(annotations={}), 'router.queue.annotations: the queue\'s claim was made with {"example.com/backup":"daily"}'),
        (queue(existingClaim="mine"), "router.queue.existingClaim: the router's StatefulSet has a claim of its own"),
        ({**INSTALLED, "fullnameOverride": "alerts"}, "under another name it would start with an empty queue"),
        ({**INSTALLED, "nameOverride": "alerts"}, "set fullnameOverride to eventsink"),
    ],
    ids=lambda one: one.split(":")[0] if isinstance(one, str) else "",
)
def test_what_would_take_the_queue_away_is_refused(release: Helm, values: Values, words: str) -> None:
    assert words in refusal(release, values)


def test_the_same_values_in_other_words_are_no_change(release: Helm) -> None:
    for size in ("10240Mi", "10Gi"):
        assert refusal(release, queue(size=size)) == ""


def test_the_crd_and_the_compiled_sinks_are_not_deleted_by_an_upgrade(release: Helm) -> None:
    switched_off = {**INSTALLED, "crds": {"enabled": False}, "sinksNamespace": {"create": False}}
    elsewhere = {**INSTALLED, "sinksNamespace": {"name": "compiled"}}
    assert refusal(release, switched_off) == "", "they are kept"
    assert refusal(release, elsewhere) == "", "they are kept"
    release.upgrade({**INSTALLED, "crds": {"keep": False}, "sinksNamespace": {"keep": False}})
    assert "this upgrade would delete the CRD, and with it every tenant's EventSinks" in refusal(release, switched_off)
    sentence = "this upgrade would delete the namespace eventsink-system-sinks with the compiled sinks"
    assert sentence in refusal(release, elsewhere)
    assert sentence in refusal(release, {**INSTALLED, "sinksNamespace": {"create": False}})
    release.upgrade(INSTALLED)
    assert refusal(release, switched_off) == ""


def test_a_second_installation_for_the_whole_cluster_is_refused(plane: ControlPlane, release: Helm) -> None:
    Kubectl(plane.admin_kubeconfig).apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "second"}})
    second = Helm(plane.admin_kubeconfig, release="second", namespace="second")
    values: dict[str, Any] = {"crds": {"enabled": False}}
    assert "an operator in the namespace eventsink-system works in the whole cluster already" in refusal(
        second, values, "install"
    )
    listed = {**values, "namespaces": [{"name": "acme", "tenant": "acme"}]}
    assert refusal(second, listed, "install") == ""


def test_a_router_with_a_claim_of_somebody_keeps_it(plane: ControlPlane) -> None:
    Kubectl(plane.admin_kubeconfig).apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "claimed"}})
    release = Helm(plane.admin_kubeconfig, release="claimed", namespace="claimed")
    values: dict[str, Any] = {"crds": {"enabled": False}, "namespaces": [{"name": "default", "tenant": "acme"}]}
    release.install({**values, "router": {"queue": {"existingClaim": "mine"}}})
    assert "router.queue.existingClaim: the router uses an existing claim" in refusal(release, values)
    assert refusal(release, {**values, "router": {"queue": {"existingClaim": "mine", "size": "1Gi"}}}) == ""
