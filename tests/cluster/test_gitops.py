"""What GitOps tools see: the health of EventSinks in every state, and no drift from what was applied."""

from __future__ import annotations

import json
import os
import re
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import yaml

from eventsink.resources import status as statuses
from tests.support.admission import admission_settings, bundle
from tests.support.cluster import MANIFESTS, SYSTEM_NAMESPACE, Installed, MakeControlPlane, MakeNamespace, install_crd
from tests.support.gitops import HEALTH_KEY, Verdict, judge
from tests.support.helm import Helm
from tests.support.kubectl import Kubectl
from tests.support.parts import Router, alert, cluster_router, notification, start_operator
from tests.support.ports import free_port
from tests.support.receiver import Receiver
from tests.support.sinks import event_sink, signed
from tests.support.waiting import wait_until
from tests.unit.docs.pages import between, names, page, rows

RECORDINGS = Path(__file__).parents[1] / "data" / "gitops" / "states.yaml"
AGAIN = "if this is meant, record the states again: RECORD=1 .venv/bin/pytest tests/cluster/test_gitops.py"
RECORD = os.environ.get("RECORD") == "1"
RECORDED_TIME = "2026-01-01T00:00:00Z"
TENANT = "acme"
ARGO = "argocd-controller"
"""The field manager of Argo CD's server-side apply."""
BAD_MATCHER = {"matchers": ['team=~"("']}


@dataclass(frozen=True)
class State:
    """A state of an EventSink, and what the tools have to say of it."""

    title: str
    """In docs/gitops.md."""
    flux: str
    argo: str
    message: str
    """What Argo CD's message starts with."""


STATES = {
    "new": State("new, and the operator is down", "InProgress", "Progressing", "the EventSink operator has not seen"),
    "accepted": State("accepted, nothing sent yet", "Current", "Healthy", "spec accepted and active"),
    "delivering": State("accepted, and messages arrive", "Current", "Healthy", "spec accepted and active"),
    "failing": State("accepted, but `Delivering` is `False`", "Current", "Healthy", "accepted, but not delivering: HTTP404: "),
    "suspended": State("`suspend: true`", "Current", "Healthy", "suspended: "),
    "waiting": State("`Reconciling`, for example without its Secret", "InProgress", "Progressing", "SecretNotFound: "),
    "rejected": State("`Stalled`, for example with an invalid matcher", "Failed", "Degraded", "InvalidMatcher: "),
    "bad-edit": State("`Stalled` after a bad edit; the accepted version stays active", "Failed", "Degraded", "InvalidMatcher: "),
    "withdrawn": State("`Stalled` and withdrawn, for example of another tenant", "Failed", "Degraded", "TenantMismatch: "),
    "edited": State("changed, and the operator is down", "InProgress", "Progressing", "the EventSink operator has not seen"),
    "deleting": State("being deleted, held by somebody's finalizer", "Terminating", "Progressing", "being deleted"),
}


def spec_of(name: str, receiver: Receiver) -> dict[str, Any]:
    """The spec of the sink that comes into a state."""
    hook = {"webhook": {"url": receiver.url(f"/{name}")}}
    match name:
        case "waiting":
            return {"webhook": signed(receiver.url("/waiting"))}
        case "suspended":
            return {**hook, "suspend": True}
        case "rejected":
            return {**hook, "match": BAD_MATCHER}
        case "withdrawn":
            return {**hook, "tenant": "globex"}
        case "delivering" | "failing":
            return hook
    return {**hook, "match": {"matchers": [f'alertname="{name}"']}}


@pytest.fixture(scope="module")
def live(install_manifests: Installed, kubectl: Kubectl, tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, Any]]:
    """State -> an EventSink in it, as the API server shows it, with the real operator and router; recorded again on demand."""
    operators, routers = (tmp_path_factory.mktemp(part) for part in ("operator", "router"))
    router = cluster_router(install_manifests, routers)
    with kubectl.namespace(tenant=TENANT) as namespace, Receiver() as receiver:
        found = _play(install_manifests, kubectl, operators, router, namespace, receiver)
        held = {"metadata": {"finalizers": None}}
        kubectl.run("-n", namespace, "patch", "eventsink", "deleting", "--type=merge", "-p", json.dumps(held))
        recorded = {name: _recorded(found[name], namespace, receiver.port) for name in STATES}
    if RECORD:
        RECORDINGS.parent.mkdir(exist_ok=True)
        RECORDINGS.write_text(yaml.safe_dump_all(recorded.values(), sort_keys=False, width=140))
    return recorded


def _play(
    installed: Installed, kubectl: Kubectl, folder: Path, router: Router, namespace: str, receiver: Receiver
) -> dict[str, dict[str, Any]]:
    found: dict[str, dict[str, Any]] = {}

    def see(name: str, type: str, status: str, reason: str) -> None:
        kubectl.wait_condition("eventsink", name, type, status, reason=reason, namespace=namespace)
        found[name] = kubectl.get("eventsink", name, namespace=namespace)

    def patch(name: str, spec: dict[str, Any]) -> None:
        kubectl.run("-n", namespace, "patch", "eventsink", name, "--type=merge", "-p", json.dumps({"spec": spec}))

    sinks = [event_sink(namespace, name, **{"tenant": TENANT, **spec_of(name, receiver)}) for name in STATES]
    [deleted] = [one for one in sinks if one["metadata"]["name"] == "deleting"]
    deleted["metadata"]["finalizers"] = ["example.com/hold"]
    kubectl.apply(sinks)
    found["new"] = kubectl.get("eventsink", "new", namespace=namespace)
    with start_operator(installed, folder) as operator:
        see("accepted", "Ready", "True", "Accepted")
        see("waiting", "Ready", "False", "SecretNotFound")
        see("rejected", "Ready", "False", "InvalidMatcher")
        see("withdrawn", "Ready", "False", "TenantMismatch")
        see("bad-edit", "Ready", "True", "Accepted")
        patch("bad-edit", {"match": BAD_MATCHER})
        see("bad-edit", "Ready", "False", "InvalidMatcher")
        see("edited", "Ready", "True", "Accepted")
        see("deleting", "Ready", "True", "Accepted")
        kubectl.delete("eventsink", "deleting", namespace=namespace, wait=False)
        found["deleting"] = kubectl.get("eventsink", "deleting", namespace=namespace)
        with router.start():
            for name in ("delivering", "failing"):
                router.wait_known(f"{namespace}/{name}")
            receiver.respond_with(404, path="/failing")
            assert router.post(notification(alert("DiskFull", namespace=namespace)))[0] == 200
            see("delivering", "Delivering", "True", "Delivered")
            see("failing", "Delivering", "False", "HTTP404")
            see("suspended", "Delivering", "Unknown", "Suspended")
            see("edited", "Delivering", "Unknown", "NothingSent")
        operator.terminate()
    patch("edited", {"description": "changed"})
    found["edited"] = kubectl.get("eventsink", "edited", namespace=namespace)
    return found


def _recorded(found: dict[str, Any], namespace: str, port: int) -> dict[str, Any]:
    """What does not differ from one run to the next."""
    kept = ("name", "namespace", "generation", "deletionTimestamp", "finalizers")
    metadata = {key: found["metadata"][key] for key in kept if key in found["metadata"]}
    text = json.dumps({**found, "metadata": metadata}, sort_keys=True).replace(namespace, TENANT)
    text = text.replace(f"127.0.0.1:{port}", "127.0.0.1:8080")
    one: dict[str, Any] = json.loads(re.sub(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", RECORDED_TIME, text))
    return one


@pytest.fixture(scope="module")
def recordings(request: pytest.FixtureRequest) -> dict[str, dict[str, Any]]:
    """State -> the recorded EventSink."""
    if RECORD:
        request.getfixturevalue("live")
    return {one["metadata"]["name"]: one for one in yaml.safe_load_all(RECORDINGS.read_text())}


@pytest.fixture(scope="module")
def verdicts(recordings: dict[str, dict[str, Any]]) -> dict[str, Verdict]:
    """State -> what the tools say of the recorded EventSink."""
    return dict(zip(recordings, judge(list(recordings.values())), strict=True))


# ---- health


@pytest.mark.parametrize("name", STATES)
def test_the_recorded_states_are_what_operator_and_router_write(
    live: dict[str, dict[str, Any]], recordings: dict[str, dict[str, Any]], name: str
) -> None:
    assert live[name] == recordings[name], AGAIN


@pytest.mark.parametrize(("name", "state"), STATES.items())
def test_kstatus_flux_and_argo_cd_judge_each_state_as_documented(verdicts: dict[str, Verdict], name: str, state: State) -> None:
    verdict = verdicts[name]
    assert verdict.kstatus == state.flux
    # Flux asks kstatus first whether an object is being deleted; its expressions do not.
    assert verdict.flux == state.flux or state.flux == "Terminating"
    assert verdict.argo == state.argo
    assert verdict.message.startswith(state.message)


def test_the_page_lists_each_state_with_what_the_tools_say() -> None:
    listed = rows(between(page("gitops.md"), "## Health", "\n## "))
    assert [row[:3] for row in listed] == [[one.title, f"`{one.flux}`", f"`{one.argo}`"] for one in STATES.values()]


def test_each_documented_reason_is_in_progress_or_failed_as_its_condition_says() -> None:
    documented = {
        names(row[0])[0]: names(row[1])[0] for row in rows(between(page("status.md"), "## Ready", "\n## ")) if len(row) == 4
    }
    assert len(documented) > 20
    make = {"Reconciling": statuses.reconciling, "Stalled": statuses.stalled}
    expected = {"Reconciling": ("InProgress", "Progressing"), "Stalled": ("Failed", "Degraded")}
    objects = []
    for reason, beside in documented.items():
        conditions = make[beside](reason, "what to do", generation=3, now=datetime(2026, 1, 1, tzinfo=UTC))
        status = statuses.EventSinkStatus(observed_generation=3, conditions=conditions).to_dict()
        sink = event_sink("acme", reason.lower())
        objects.append({**sink, "metadata": {**sink["metadata"], "generation": 3}, "status": status})
    for (reason, beside), verdict in zip(documented.items(), judge(objects), strict=True):
        assert (verdict.kstatus, verdict.argo) == expected[beside], reason
        assert verdict.flux == verdict.kstatus
        assert verdict.message == f"{reason}: what to do"


def test_without_a_status_argo_cd_waits_and_kstatus_does_not_which_is_why_the_crd_has_a_default() -> None:
    sink = event_sink("acme")
    sink["metadata"]["generation"] = 1
    [verdict] = judge([{**sink, "status": {}}])
    assert (verdict.kstatus, verdict.flux, verdict.argo) == ("Current", "InProgress", "Progressing")


# ---- drift


@pytest.mark.parametrize(
    "options", [("apply",), ("apply", "--server-side", f"--field-manager={ARGO}")], ids=["client-side", "server-side"]
)
def test_nothing_that_operator_and_router_write_is_drift_of_an_eventsink(
    install_manifests: Installed, kubectl: Kubectl, make_namespace: MakeNamespace, tmp_path: Path, options: tuple[str, ...]
) -> None:
    acme = make_namespace(TENANT)
    router = cluster_router(install_manifests, tmp_path)
    with Receiver() as receiver, start_operator(install_manifests, tmp_path), router.start():
        sink = event_sink(acme, webhook={"url": receiver.url("/hook")})
        given = yaml.safe_dump(sink)
        kubectl.run(*options, "-f", "-", input=given)
        router.wait_known(f"{acme}/alerts")
        assert router.post(notification(alert("DiskFull", namespace=acme)))[0] == 200
        kubectl.wait_condition("eventsink", "alerts", "Delivering", "True", namespace=acme)
    found = kubectl.run("-n", acme, "get", "eventsink", "alerts", "-o", "json", "--show-managed-fields").stdout
    metadata = json.loads(found)["metadata"]
    written = {
        one["manager"]: set(one["fieldsV1"]) for one in metadata["managedFields"] if one["manager"].startswith("eventsink-")
    }
    assert written == {"eventsink-operator": {"f:status"}, "eventsink-router": {"f:status"}}
    assert not metadata.keys() & {"labels", "finalizers", "ownerReferences"}
    assert metadata["generation"] == 1
    kubectl.run("diff", *options[1:], "-f", "-", input=given)  # fails on any difference
    kubectl.run(*options, "-f", "-", input=given)
    assert kubectl.get("eventsink", "alerts", namespace=acme)["metadata"]["resourceVersion"] == metadata["resourceVersion"]


@pytest.mark.parametrize("way", ["kustomize, client-side", "chart, server-side"])
def test_nothing_that_the_operator_writes_is_drift_of_the_installation(
    fresh_control_plane: MakeControlPlane, tmp_path: Path, way: str
) -> None:
    plane = fresh_control_plane()
    kubectl = Kubectl(plane.admin_kubeconfig)
    install_crd(kubectl)
    kubectl.run("apply", "--server-side", "-k", str(MANIFESTS / "namespaces"))
    if way.startswith("chart"):
        given = Helm().text()
        options: tuple[str, ...] = ("--server-side", "--force-conflicts", f"--field-manager={ARGO}", "-f", "-")
    else:
        given, options = "", ("-k", str(MANIFESTS / "default"))
    kubectl.run("apply", *options, input=given)
    account = plane.service_account_kubeconfig(SYSTEM_NAMESPACE, "eventsink-operator")
    installed = Installed(operator=account, router=account, rest=account)
    with start_operator(installed, tmp_path, admission=admission_settings(free_port())) as operator:
        operator.wait_ready()
        wait_until("the bundle of the webhook", lambda: bundle(kubectl), poll=0.2)
        with kubectl.namespace(tenant=TENANT) as acme:
            kubectl.apply(event_sink(acme))
            kubectl.wait_condition("eventsink", "alerts", "Ready", "True", namespace=acme)
    kubectl.run("diff", *options, input=given)  # fails on any difference


# ---- the page


def test_the_command_of_the_page_tells_argo_cd_how_to_judge(kubectl: Kubectl) -> None:
    [command] = re.findall(r"<!-- test: cluster -->\n```sh\nkubectl (.*?)\n```", page("gitops.md"), re.DOTALL)
    other = "resource.customizations.health.example.com_Other"
    present = {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": "argocd-cm", "namespace": "argocd"},
        "data": {other: "-- theirs"},
    }
    kubectl.apply([{"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "argocd"}}, present])
    kubectl.run(*command.replace("manifests/", f"{MANIFESTS}/").split())
    assert kubectl.get("configmap", "argocd-cm", namespace="argocd")["data"].keys() == {HEALTH_KEY, other}
