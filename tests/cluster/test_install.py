"""Installing with kubectl, in namespaces of one's own: what is applied, what holds there, and what is left after uninstalling."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.controlplane import ControlPlane
from tests.controlplane.binaries import older
from tests.support.attacks import patched_by_router, rest_secret, rest_sink
from tests.support.cluster import CRD, Installed
from tests.support.kubectl import Kubectl
from tests.support.kubelet import report_pod
from tests.support.kustomize import build, copied, edit
from tests.support.parts import Router, apply_and_wait, cluster_router, start_operator
from tests.support.rest import Rest
from tests.support.sinks import event_sink, secret
from tests.support.waiting import wait_until
from tests.unit.docs.pages import between, names, page, rows

NAMESPACE = "alerting"
SINKS_NAMESPACE = "alerting-compiled"
TENANT = "acme"
PRUNE = ("--prune", "-l", "app.kubernetes.io/part-of=eventsink", "--prune-allowlist=core/v1/ConfigMap")
STEPS = ("../crds", "namespaces", "default")


@dataclass(frozen=True)
class Place:
    """A cluster in which EventSink is installed, and the manifests that it was installed with."""

    kubectl: Kubectl
    manifests: Path
    installed: Installed
    plane: ControlPlane

    def apply(self, folder: str, *more: str) -> list[str]:
        """`kubectl apply -k`: its lines."""
        return self.kubectl.run("apply", "-k", str(self.manifests / folder), *more).stdout.splitlines()


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    with ControlPlane() as plane:
        yield install(plane, tmp_path_factory.mktemp("place"))


def install(plane: ControlPlane, folder: Path) -> Place:
    manifests = copied(folder, namespace=NAMESPACE, sinksNamespace=SINKS_NAMESPACE)
    kubectl = Kubectl(plane.admin_kubeconfig)
    for step in STEPS:
        kubectl.run("apply", "-k", str(manifests / step))
    kubectl.wait_established(CRD)
    tokens = {part: plane.service_account_kubeconfig(NAMESPACE, f"eventsink-{part}") for part in ("operator", "router", "rest")}
    installed = Installed(**tokens, namespace=NAMESPACE, sinks_namespace=SINKS_NAMESPACE)
    return Place(kubectl, manifests, installed, plane)


# ---- in another namespace


def test_an_alert_is_delivered_and_the_rest_api_works_in_another_namespace(place: Place, tmp_path: Path) -> None:
    with ExitStack() as stack:
        namespace = stack.enter_context(place.kubectl.namespace(tenant="shop"))
        own = {"tokensNamespace": NAMESPACE}
        stack.enter_context(start_operator(place.installed, tmp_path, slackApp=own)).wait_ready()
        router: Router = cluster_router(place.installed, tmp_path)
        stack.enter_context(router.start())
        apply_and_wait(place.kubectl, router, event_sink(namespace, tenant="shop"))
        rest = Rest(place.installed, tmp_path, admin_kubeconfig=place.plane.admin_kubeconfig)
        stack.enter_context(rest.start())
        client = rest.client("shop")
        client.wait_for_namespace("shop")
        assert [one["ready"] for one in client.sinks("shop")] == [True]
        assert client.create("shop", {"Webhook": {"url": "https://example.com/hook"}}).sink["ready"] is True


def test_the_policies_hold_a_rest_api_that_was_taken_over_in_another_namespace(place: Place) -> None:
    def created(obj: Mapping[str, Any]) -> str:
        done = Kubectl(place.installed.rest).run("create", "--dry-run=server", "-f", "-", input=json.dumps(obj), check=False)
        return str(done.stderr)

    sentence = "the REST API may not write in a namespace of the system"
    wait_until("the policy", lambda: sentence in created(rest_secret(NAMESPACE)))
    for namespace in (NAMESPACE, SINKS_NAMESPACE, "kube-system"):
        assert sentence in created(rest_secret(namespace))
        assert sentence in created(rest_sink(namespace, TENANT))
    assert "which belongs to no tenant" in created(rest_sink("default", TENANT))
    with place.kubectl.namespace(tenant=TENANT) as namespace:
        assert created(rest_sink(namespace, TENANT)) == ""
        wait_until("the policy of EventSinks", lambda: "is named rest-<20 digits>" in created(event_sink(namespace)))
        wait_until("the policy of Secrets", lambda: "of the type eventsink.dev/rest only" in created(secret(namespace, "x")))


def test_the_policies_hold_a_router_that_was_taken_over_in_another_namespace(place: Place) -> None:
    made = {"status": "True", "reason": "A", "message": "", "lastTransitionTime": "2026-01-01T00:00:00Z"}
    sentence = "the router may change the condition Delivering only"
    with place.kubectl.namespace(tenant=TENANT) as namespace:
        place.kubectl.apply(event_sink(namespace))

        def patched(type: str) -> str:
            return patched_by_router(place.installed, namespace, {"conditions": [{"type": type, **made}]})

        wait_until("the policy", lambda: sentence in patched("Ready"))
        assert json.loads(patched("Delivering"))["kind"] == "EventSink"


# ---- applying again


def test_applying_it_again_changes_nothing(place: Place) -> None:
    lines = [line for step in STEPS for line in place.apply(step)]
    assert len(lines) > 30
    # An older API server shows times in the StatefulSet's template that nobody gave; kubectl then sends a patch that changes nothing.
    noise = ["statefulset.apps/eventsink-router configured"] if older() else []
    assert [line for line in lines if not line.endswith(" unchanged")] == noise


def test_settings_that_no_pod_uses_any_more_can_be_removed(place: Place) -> None:
    edit(place.manifests / "base/rest/rest.yaml", r"^monitor:", "createWait: 9s\nmonitor:")
    place.apply("default")
    used = {one["metadata"]["name"] for one in build(place.manifests / "default") if one["kind"] == "ConfigMap"}
    assert used < config_maps(place), "the old ones are there as long as pods may use them"
    place.kubectl.apply({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "theirs", "namespace": NAMESPACE}})
    place.apply("default", *PRUNE)
    assert config_maps(place) == {*used, "theirs"}


def config_maps(place: Place) -> set[str]:
    found = {one["metadata"]["name"] for one in place.kubectl.list("configmap", namespace=NAMESPACE)}
    return found - {"kube-root-ca.crt"}


# ---- pods


def test_pods_are_accepted_under_the_restricted_profile(place: Place) -> None:
    workloads = [one for one in build(place.manifests / "default") if one["kind"] in ("Deployment", "StatefulSet")]
    assert len(workloads) == 3
    for one in workloads:
        template = one["spec"]["template"]
        pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "a", "namespace": NAMESPACE}, "spec": template["spec"]}
        if one["kind"] == "StatefulSet":
            volume = {"name": "queue", "persistentVolumeClaim": {"claimName": "queue-eventsink-router-0"}}
            pod["spec"] = {**template["spec"], "volumes": [*template["spec"]["volumes"], volume]}
        place.kubectl.run("create", "--dry-run=server", "-f", "-", input=json.dumps(pod))


def test_a_router_that_never_became_ready_is_replaced_once_its_settings_are_corrected(place: Place) -> None:
    def revision() -> str:
        pod = place.kubectl.find("pod", "eventsink-router-0", namespace=NAMESPACE) or {"metadata": {"labels": {}}}
        return str(pod["metadata"]["labels"].get("controller-revision-hash", ""))

    wait_until("the router's pod", revision)
    report_pod(place.kubectl, NAMESPACE, "eventsink-router-0", ready=False)
    bad = revision()
    edit(place.manifests / "base/router/router.yaml", r"^queue:", "shutdown: {grace: 11s}\nqueue:")
    place.apply("default")
    wait_until("its successor", lambda: revision() not in ("", bad))


@pytest.mark.parametrize("part", ["operator", "rest"])
def test_pods_that_run_go_on_with_their_settings_while_new_ones_do_not_become_ready(place: Place, part: str) -> None:
    def pods() -> dict[str, dict[str, Any]]:
        selector = f"app.kubernetes.io/name=eventsink-{part}"
        return {one["metadata"]["name"]: one for one in place.kubectl.list("pod", namespace=NAMESPACE, selector=selector)}

    def settled() -> bool:
        for name in pods():
            report_pod(place.kubectl, NAMESPACE, name, ready=True)
        return len(pods()) == 1

    wait_until("one pod", settled)
    [running] = pods()
    edit(place.manifests / f"base/{part}/{part}.yaml", r"^monitor:", "log: {level: warning}\nmonitor:")
    place.apply("default")
    wait_until("its successor", lambda: len(pods()) == 2)
    [successor] = pods().keys() - {running}
    report_pod(place.kubectl, NAMESPACE, successor, ready=False)
    [config] = [one["configMap"]["name"] for one in pods()[running]["spec"]["volumes"] if one["name"] == "config"]
    assert place.kubectl.get("configmap", config, namespace=NAMESPACE)
    place.kubectl.run("rollout", "undo", f"deployment/eventsink-{part}", f"--namespace={NAMESPACE}")
    wait_until("the successor to be gone", lambda: pods().keys() == {running})


# ---- components


def test_the_network_policies_follow_the_parameters_and_are_accepted(place: Place) -> None:
    edit(place.manifests / "default/kustomization.yaml", r"^components: \[", "components: [../components/network-policies, ")
    policies = [one for one in build(place.manifests / "default") if one["kind"] == "NetworkPolicy"]
    assert {one["metadata"]["namespace"] for one in policies} == {NAMESPACE}
    place.kubectl.run("create", "--dry-run=server", "-f", "-", input=yaml.safe_dump_all(policies))
    edit(place.manifests / "default/kustomization.yaml", r"\.\./components/network-policies, ", "")


# ---- what tenants may do


@pytest.mark.parametrize(("role", "allowed"), [("view", False), ("edit", True), ("admin", True)])
def test_the_roles_of_kubernetes_cover_eventsinks(place: Place, role: str, allowed: bool) -> None:
    with place.kubectl.namespace(tenant=TENANT) as namespace:
        place.kubectl.run("create", "serviceaccount", "somebody", f"--namespace={namespace}")
        subject = f"--serviceaccount={namespace}:somebody"
        place.kubectl.run("create", "rolebinding", "somebody", f"--namespace={namespace}", f"--clusterrole={role}", subject)
        theirs = Kubectl(place.plane.service_account_kubeconfig(namespace, "somebody"))

        def may(verb: str, what: str = "eventsinks.eventsink.dev", *more: str) -> bool:
            asked = theirs.run("auth", "can-i", verb, what, f"--namespace={namespace}", *more, check=False)
            return str(asked.stdout).strip() == "yes"

        wait_until("the aggregated role", lambda: may("watch"))
        wait_until("the rights to change", lambda: may("create") is allowed)
        theirs.apply(event_sink(namespace), expect_failure=not allowed)
        assert [may(verb) for verb in ("update", "patch", "delete", "deletecollection")] == [allowed] * 4
        assert len(theirs.list("eventsink", namespace=namespace)) == int(allowed)
        assert may("get", "secrets") is allowed, "whoever may create a sink, which can send a Secret anywhere, can read it anyway"
        assert not may("patch", "eventsinks.eventsink.dev", "--subresource=status")


@pytest.mark.parametrize("role", ["edit", "admin"])
def test_the_roles_of_kubernetes_do_not_reach_what_says_whose_alerts_go_where(place: Place, role: str) -> None:
    with place.kubectl.namespace(tenant=TENANT) as namespace:
        place.kubectl.run("create", "serviceaccount", "somebody", f"--namespace={namespace}")
        subject = f"--serviceaccount={namespace}:somebody"
        place.kubectl.run("create", "rolebinding", "somebody", f"--namespace={namespace}", f"--clusterrole={role}", subject)
        theirs = Kubectl(place.plane.service_account_kubeconfig(namespace, "somebody"))
        for label in ("tenant=globex", "platform=true", "rest=true"):
            patch = json.dumps({"metadata": {"labels": dict([f"eventsink.dev/{label}".split("=")])}})
            denied = theirs.run("patch", "namespace", namespace, "--type=merge", "-p", patch, check=False)
            assert denied.returncode != 0
            assert "forbidden" in denied.stderr.lower()
        denied = theirs.run("get", "secrets", f"--namespace={SINKS_NAMESPACE}", check=False)
        assert "forbidden" in denied.stderr.lower()


def test_whoever_may_change_namespaces_sets_no_label_that_says_whose_alerts_go_where(place: Place) -> None:
    kubectl, labels = place.kubectl, ("tenant=globex", "platform=true", "rest=true")
    with kubectl.namespace(tenant=TENANT) as namespace:
        kubectl.run("create", "serviceaccount", "somebody", f"--namespace={namespace}")
        theirs = Kubectl(place.plane.service_account_kubeconfig(namespace, "somebody"))
        rights = ("create", "clusterrole", "changes-namespaces", "--verb=get,create,update,patch,delete")
        kubectl.run(*rights, "--resource=namespaces,namespaces/status,namespaces/finalize")
        bind = ("create", "clusterrolebinding", f"--serviceaccount={namespace}:somebody")
        kubectl.run(*bind, "changes-namespaces", "--clusterrole=changes-namespaces")
        place.apply("namespace-labels")
        refused = "says whose alerts go where"

        def set_label(label: str) -> str:
            done = theirs.run("label", "namespace", namespace, "--overwrite", label, check=False)
            return "" if done.returncode == 0 else str(done.stderr)

        # A policy is effective a moment after it was applied.
        probes = count()
        wait_until("the policy", lambda: refused in set_label(f"eventsink.dev/tenant=probe-{next(probes)}"))
        assert set_label("team=a") == ""
        for label in (*(f"eventsink.dev/{one}" for one in labels), "eventsink.dev/tenant-"):
            assert refused in set_label(label), label
        labelled = json.dumps({"metadata": {"labels": {"eventsink.dev/platform": "true"}}})
        patch = ("patch", "namespace", namespace, "--subresource=status", f"--patch={labelled}")
        assert refused in theirs.run(*patch, check=False).stderr
        own = json.loads(kubectl.run("get", "namespace", namespace, "-o", "json").stdout)
        own["metadata"]["labels"]["eventsink.dev/platform"] = "true"
        finalize = ("replace", f"--raw=/api/v1/namespaces/{namespace}/finalize", "-f", "-")
        assert refused in theirs.run(*finalize, input=json.dumps(own), check=False).stderr
        metadata = {"name": f"{namespace}-new", "labels": {"eventsink.dev/platform": "true"}}
        new = {"apiVersion": "v1", "kind": "Namespace", "metadata": metadata}
        assert refused in theirs.apply(new, expect_failure=True)
        kubectl.run(*bind, "assigns-tenants", "--clusterrole=eventsink-assign-tenants")
        wait_until("the right to assign", lambda: set_label("eventsink.dev/platform=true") == "")
    kubectl.run("delete", "-k", str(place.manifests / "namespace-labels"))
    kubectl.run("delete", "clusterrole,clusterrolebinding", "changes-namespaces")
    kubectl.run("delete", "clusterrolebinding", "assigns-tenants")


# ---- what each part may do

EVERYBODYS = ("selfsubjectaccessreviews", "selfsubjectrulesreviews", "selfsubjectreviews")
"""Kubernetes lets everybody ask about themselves."""


def rights(kubectl: Kubectl, namespace: str) -> set[str]:
    """What the API server says that somebody may do with resources in a namespace, as `resource verb`."""
    review = {
        "apiVersion": "authorization.k8s.io/v1",
        "kind": "SelfSubjectRulesReview",
        "spec": {"namespace": namespace},
    }
    asked = kubectl.run("create", "--validate=false", "-f", "-", "-o", "json", input=json.dumps(review))
    status = json.loads(asked.stdout)["status"]
    assert not status["incomplete"]
    found = set()
    for rule in status["resourceRules"]:
        for resource in rule["resources"]:
            for name in rule.get("resourceNames") or [""]:
                found |= {
                    f"{resource}{'/' + name if name else ''} {verb}" for verb in rule["verbs"] if resource not in EVERYBODYS
                }
    return found


@pytest.mark.parametrize("part", ["operator", "router", "rest"])
def test_each_part_has_the_rights_on_the_page_and_no_others(place: Place, part: str) -> None:
    check_rights(part, Kubectl(getattr(place.installed, part)))


def test_the_part_that_follows_events_has_the_rights_on_the_page_and_no_others(place: Place) -> None:
    edit(place.manifests / "default/kustomization.yaml", r"^components: \[", "components: [../components/kubernetes-events, ")
    objects = [one for one in build(place.manifests / "default") if one["metadata"]["name"] == "eventsink-events"]
    edit(place.manifests / "default/kustomization.yaml", r"\.\./components/kubernetes-events, ", "")
    place.kubectl.apply([one for one in objects if one["kind"].startswith(("Role", "ClusterRole", "ServiceAccount"))])
    check_rights("events", Kubectl(place.plane.service_account_kubeconfig(NAMESPACE, "eventsink-events")))


def test_with_policy_reports_it_may_read_them_and_nothing_more(place: Place) -> None:
    components = "../components/kubernetes-events, ../components/policy-reports, "
    edit(place.manifests / "default/kustomization.yaml", r"^components: \[", f"components: [{components}")
    [role] = [one for one in build(place.manifests / "default") if named(one) == ("ClusterRole", "eventsink-events")]
    edit(place.manifests / "default/kustomization.yaml", re.escape(components), "")
    place.kubectl.apply(role)
    theirs = Kubectl(place.plane.service_account_kubeconfig(NAMESPACE, "eventsink-events"))
    check_rights("events", theirs, "everywhere, with policy reports")


def named(obj: dict[str, Any]) -> tuple[str, str]:
    return obj["kind"], obj["metadata"]["name"]


def check_rights(part: str, theirs: Kubectl, *switched_on: str) -> None:
    """Compare what a part may do with docs/security.md, and with what is switched on there."""
    table = rows(between(page("security.md"), "## Rights on the API server", "\n## "))
    listed: dict[str, set[str]] = {}
    for account, where, text in table:
        if account == f"`eventsink-{part}`":
            for right in text.split("; "):
                [resource], verbs = names(right), right.rpartition("`")[2]
                listed.setdefault(where, set()).update(f"{resource} {verb.strip()}" for verb in verbs.split(","))
    for where, namespace in (
        ("", "default"),
        ("its own namespace", NAMESPACE),
        ("the namespace of compiled sinks", SINKS_NAMESPACE),
    ):
        expected = listed["everywhere"].union(listed.get(where, ()), *[listed[one] for one in switched_on])
        assert rights(theirs, namespace) == expected, namespace
