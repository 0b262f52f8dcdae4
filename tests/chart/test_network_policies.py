"""NetworkPolicies admit what the product needs, and nothing else: for the chart's values of its README, and for kustomize's component."""

from __future__ import annotations

import re
from typing import Any

import pytest
import yaml

from tests.support.helm import CHART, Helm, find, of_kind
from tests.support.kustomize import build, copied
from tests.support.network import Endpoint, admitted, pod

SYSTEM = "eventsink-system"
PARTS = ("operator", "router", "rest", "events")
OTHERS = {
    "Alertmanager": Endpoint("10.244.1.1", "monitoring", {"app": "alertmanager"}),
    "Prometheus": Endpoint("10.244.1.2", "monitoring", {"app": "prometheus"}),
    "the ingress controller": Endpoint("10.244.1.3", "ingress-nginx", {"app": "ingress"}),
    "a tenant's pod": Endpoint("10.244.1.4", "acme", {"app.kubernetes.io/name": "eventsink-rest"}, {"admin": 8081}),
    "a neighbour in the namespace": Endpoint("10.244.1.5", SYSTEM, {"app": "debug"}),
    "the API server": Endpoint("172.18.0.2"),
    "DNS": Endpoint("10.244.0.2", "kube-system", {"k8s-app": "kube-dns"}),
    "a receiver": Endpoint("203.0.113.7"),
    "the metadata of the cloud": Endpoint("169.254.169.254"),
    "a database": Endpoint("10.0.0.5"),
}
Flow = tuple[str, str, int]
NEEDED: set[Flow] = {
    ("Alertmanager", "router", 8080),
    *(("Prometheus", part, 9090) for part in PARTS),
    ("the API server", "operator", 9443),
    ("the ingress controller", "rest", 8082),
    ("rest", "router", 8081),
    ("events", "router", 8080),
    *((part, "DNS", 53) for part in PARTS),
    *((part, "the API server", 6443) for part in PARTS),
    ("operator", "a receiver", 443),
    ("router", "a receiver", 443),
}
ALSO_ADMITTED: set[Flow] = {
    ("Prometheus", "router", 8080),  # the same namespace as Alertmanager: a policy of the README tells namespaces apart, not pods
    *(("Alertmanager", part, 9090) for part in PARTS),
}


def documented() -> dict[str, Any]:
    """The values of the chart's README for closed networks."""
    [block] = re.findall(r"<!-- test: networks -->\n```yaml\n(.*?)```", (CHART / "README.md").read_text(), re.DOTALL)
    values: dict[str, Any] = yaml.safe_load(block)
    values["events"]["enabled"] = True
    return values


def flows(objects: list[dict[str, Any]], policies: list[dict[str, Any]]) -> set[Flow]:
    """Every connection to a port of interest that is admitted, with one of the product's pods at an end of it."""
    own = {
        one["metadata"]["name"].removeprefix("eventsink-"): pod(one, f"10.244.2.{number}")
        for number, one in enumerate(of_kind(objects, "Deployment", "StatefulSet"), 1)
    }
    everybody = {**OTHERS, **own}
    found = set()
    for source, where in everybody.items():
        for destination, there in everybody.items():
            for port in (53, 80, 443, 5432, 6443, 8080, 8081, 8082, 9090, 9443):
                listens = port in there.ports.values() if destination in own else True
                if source != destination and listens and {source, destination} & own.keys():
                    protocol = "UDP" if port == 53 else "TCP"
                    if admitted(policies, where, there, port, protocol):
                        found.add((source, destination, port))
    return found


def test_the_values_of_the_readme_admit_what_is_needed_and_nothing_else(helm: Helm) -> None:
    objects = helm.render(documented())
    assert flows(objects, of_kind(objects, "NetworkPolicy")) == NEEDED | ALSO_ADMITTED


def test_names_are_resolved_over_tcp_too(helm: Helm) -> None:
    objects = helm.render(documented())
    router = pod(find(objects, "StatefulSet", "eventsink-router"), "10.244.2.1")
    assert admitted(of_kind(objects, "NetworkPolicy"), router, OTHERS["DNS"], 53, "TCP")


@pytest.mark.parametrize("tool", ["chart", "kustomize"])
def test_without_peers_everybody_reaches_every_port_but_the_admin_api(helm: Helm, tmp_path: Any, tool: str) -> None:
    if tool == "chart":
        switches: dict[str, Any] = {part: {"networkPolicy": {"enabled": True}} for part in PARTS}
        switches["events"]["enabled"] = True
        objects = helm.render(switches)
    else:
        copied(tmp_path)
        folder = tmp_path / "own"
        folder.mkdir()
        components = ["../manifests/components/network-policies", "../manifests/components/kubernetes-events"]
        (folder / "kustomization.yaml").write_text(
            yaml.safe_dump({"resources": ["../manifests/default"], "components": components})
        )
        objects = build(folder)
    found = flows(objects, of_kind(objects, "NetworkPolicy"))
    reached = {(to, port) for source, to, port in found if source == "a neighbour in the namespace"}
    assert reached == {("router", 8080), ("rest", 8082), ("operator", 9443), *((part, 9090) for part in PARTS)}
    assert {source for source, to, port in found if (to, port) == ("router", 8081)} == {"rest"}
    assert ("router", "a database", 5432) in found, "the router itself decides where it connects to"


def test_the_rest_api_of_another_release_in_the_namespace_does_not_reach_the_admin_api(helm: Helm) -> None:
    values = {"router": {"networkPolicy": {"enabled": True}}}
    ours, theirs = helm.render(values), Helm(release="other").render(values)
    router = pod(find(ours, "StatefulSet", "eventsink-router"), "10.244.2.1")
    policies = of_kind([*ours, *theirs], "NetworkPolicy")
    for objects, name, expected in ((ours, "eventsink-rest", True), (theirs, "other-eventsink-rest", False)):
        assert admitted(policies, pod(find(objects, "Deployment", name), "10.244.2.2"), router, 8081) is expected
