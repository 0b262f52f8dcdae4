"""`eventsink events` follows reports of policies on a real API server: what fails fires once, and what is gone ends, whatever is killed."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.controlplane import ControlPlane
from tests.support.cluster import ROOT, SYSTEM_NAMESPACE
from tests.support.kubectl import Kubectl
from tests.support.kubernetes_events import create_all, leads, source, start_events
from tests.support.kustomize import build, copied, edit
from tests.support.parts import Router
from tests.support.processes import RunningProcess
from tests.support.receiver import Receiver
from tests.support.router_process import start_router
from tests.support.waiting import wait_until
from tests.unit.events.reports_made import CLUSTER, NAMESPACED, OPEN_NAMESPACED, report, result

CRDS = ROOT / "tests" / "data" / "policy_report" / "crds"
REPORTS = 200
ABSENT_DEADLINE = 90.0
"""A kind that was absent is looked for every 30 seconds."""


@pytest.fixture(scope="module")
def account(plane: ControlPlane, admin: Kubectl, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The part's ServiceAccount with the rights that both components give it; a kubeconfig of it."""
    manifests = copied(tmp_path_factory.mktemp("edited"))
    components = "components: [../components/kubernetes-events, ../components/policy-reports, "
    edit(manifests / "default/kustomization.yaml", r"^components: \[", components)
    objects = [one for one in build(manifests / "default") if one["metadata"]["name"] == "eventsink-events"]
    admin.run("create", "namespace", SYSTEM_NAMESPACE)
    admin.apply([one for one in objects if one["kind"].startswith(("Role", "ClusterRole", "ServiceAccount"))])
    return plane.service_account_kubeconfig(SYSTEM_NAMESPACE, "eventsink-events")


def install_crds(admin: Kubectl) -> None:
    applied = admin.run("apply", "-f", str(CRDS), "-o", "name").stdout.split()
    admin.wait_established(*(one.partition("/")[2] for one in applied))


class Alerts:
    """What a sink was sent of reports."""

    def __init__(self, receiver: Receiver, path: str) -> None:
        self._receiver = receiver
        self._path = path

    def seen(self) -> list[str]:
        """Object, policy and status of each."""
        alerts = [one["data"] for request in self._receiver.requests(self._path) for one in json.loads(request.body)]
        return [f"{one['labels'].get('name', '')} {one['name']} {one['status']}" for one in alerts]

    def wait_for(self, *expected: str, deadline: float = 60.0) -> None:
        """Wait until it has all these, and nothing else."""
        wait_until("the alerts", lambda: sorted(self.seen()) == sorted(expected), show=self.seen, deadline=deadline)


def in_namespace(namespace: str, made: dict[str, Any], **labels: str) -> dict[str, Any]:
    return {**made, "metadata": {"name": made["metadata"]["name"], "namespace": namespace, "labels": labels}}


def sources(folder: Path) -> list[dict[str, Any]]:
    return [source(folder), source(folder, name="policy-reports", format="policy-report", defaultTenant="platform")]


Start = Callable[..., RunningProcess]


@pytest.fixture
def start(account: Path, tmp_path: Path) -> Start:
    """Starts the part for a router."""

    def started(router: Router, *groups: str, name: str = "events", **more: Any) -> RunningProcess:
        url = f"http://127.0.0.1:{router.running.port_of('intake')}/v1/alerts/policy-reports"
        reports = {"groups": list(groups), "router": {"url": url, "tokenFile": str(tmp_path / "token")}}
        return start_events(account, router, tmp_path, name=name, policyReports=reports, **more)

    return started


def rounds(process: RunningProcess) -> bool:
    """Whether a round has ended."""
    return "eventsink_events_report_rounds_total 0.0" not in process.metrics()


def test_reports_of_both_apis_fire_and_end_for_the_owners_of_their_namespaces(
    admin: Kubectl, start: Start, receiver: Receiver, tmp_path: Path
) -> None:
    for namespace in ("globex", "initech"):
        admin.run("create", "namespace", namespace)
    sinks = [receiver.url(f"/{one}#batch=1000&tenant={one}") for one in ("globex", "initech", "platform")]
    globex, initech, platform = (Alerts(receiver, f"/{one}") for one in ("globex", "initech", "platform"))
    with (
        start_router(tmp_path, *sinks, sources=sources(tmp_path)) as router,
        start(router, "wgpolicyk8s.io", "openreports.io") as events,
    ):
        wait_until("a round without any kind of reports", lambda: rounds(events))
        assert "watch failed" not in events.text()
        install_crds(admin)
        first = in_namespace("globex", report("api", result("privileged"), result("labels"), result("probes", "pass")))
        node = {"kind": "Node", "name": "node-1"}
        admin.apply(
            [
                first,
                in_namespace("initech", report("web", result("host-path"), resource=OPEN_NAMESPACED)),
                report("patched", result("patches", resources=[node]), resource=CLUSTER, scope=None),
            ]
        )
        fired = ["api privileged firing", "api labels firing"]
        globex.wait_for(*fired, deadline=ABSENT_DEADLINE)
        initech.wait_for("web host-path firing", deadline=ABSENT_DEADLINE)
        platform.wait_for("node-1 patches firing")
        # One result passes, and another one is not there any more.
        admin.apply({**first, "results": [{**first["results"][0], "result": "pass"}, first["results"][2]]})
        globex.wait_for(*fired, "api privileged resolved", "api labels resolved")
        admin.run("delete", "clusterpolicyreport", "patched")
        platform.wait_for("node-1 patches firing", "node-1 patches resolved")
        admin.run("delete", "namespace", "initech")
        initech.wait_for("web host-path firing", "web host-path resolved")


def test_what_fails_fires_once_and_what_went_meanwhile_ends_through_kills_an_outage_and_410(
    plane: ControlPlane, admin: Kubectl, start: Start, receiver: Receiver, tmp_path: Path
) -> None:
    install_crds(admin)
    admin.run("create", "namespace", "acme")
    acme = Alerts(receiver, "/acme")
    going = REPORTS // 10
    made = [
        in_namespace("acme", report(f"r{number}", result("p")), goes="yes" if number < going else "no")
        for number in range(REPORTS)
    ]
    create_all(plane, made, plural=NAMESPACED.plural)
    with start_router(tmp_path, receiver.url("/acme#batch=1000"), sources=sources(tmp_path)) as router:
        first = start(router, "wgpolicyk8s.io", name="first")
        wait_until("that the first one leads", lambda: leads(first), poll=0.01)
        second = start(router, "wgpolicyk8s.io", name="second")
        first.kill9()
        expected = [f"r{number} p firing" for number in range(REPORTS)]
        acme.wait_for(*expected)
        wait_until("the round of the one that leads then", lambda: rounds(second))
        plane.stop_api_server()
        plane.start_api_server()
        admin.apply(in_namespace("acme", report("late", result("p"))))
        acme.wait_for(*expected, "late p firing")
        second.kill9()
        # While nobody follows, some reports go, and a result passes; and etcd forgets that they were.
        admin.run("-n", "acme", "delete", "policyreports", "-l", "goes=yes")
        admin.apply(in_namespace("acme", report("late", result("p", "pass"))))
        plane.compact()
        with start(router, "wgpolicyk8s.io", name="third") as third:
            ended = [f"r{number} p resolved" for number in range(going)]
            acme.wait_for(*expected, "late p firing", *ended, "late p resolved")
            wait_until("the end of the round", lambda: rounds(third))
            plane.compact()
            admin.run("-n", "acme", "delete", "policyreport", f"r{going}")
            wait_until("another end", lambda: f"r{going} p resolved" in acme.seen(), show=acme.seen)
    assert max(Counter(acme.seen()).values()) == 1
