"""An installation with Roles only: the least that each part needs where its setting `namespaces` lists where it works."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from tests.controlplane import ControlPlane
from tests.support.cluster import Installed
from tests.support.kubectl import Kubectl

Rules = list[dict[str, Any]]


def rule(group: str, resources: str, verbs: str) -> dict[str, Any]:
    """One rule of a Role."""
    return {"apiGroups": [group], "resources": resources.split(), "verbs": verbs.split()}


IN_LISTED_NAMESPACES: Mapping[str, Rules] = {
    "operator": [
        rule("eventsink.dev", "eventsinks", "get list watch"),
        rule("eventsink.dev", "eventsinks/status", "patch"),
        rule("", "secrets", "get list watch"),
        rule("", "events", "create"),
        rule("", "namespaces", "get"),  # its uid, to which an OAuth code of Slack is bound
    ],
    "router": [rule("eventsink.dev", "eventsinks/status", "patch")],
    "rest": [
        rule("eventsink.dev", "eventsinks", "get list watch create update delete"),
        rule("", "secrets", "create delete"),
    ],
}
WITH_COMPILED_SINKS: Mapping[str, Rules] = {
    "operator": [rule("", "secrets", "get list watch create patch delete")],
    "router": [rule("", "secrets", "list watch")],
}
IN_OWN_NAMESPACE: Mapping[str, Rules] = {
    "operator": [rule("", "secrets", "get list watch create update delete")],  # tokens of Slack
    "rest": [{**rule("", "secrets", "get list watch"), "resourceNames": ["eventsink-rest-keys"]}],
}


@dataclass(frozen=True)
class Scoped:
    """What is installed, and its namespaces."""

    installed: Installed
    kubectl: Kubectl

    def give(self, namespace: str, parts: Iterable[str] = ("operator", "router", "rest")) -> None:
        """Make the Roles in a listed namespace that exists."""
        system = self.installed.namespace
        self.kubectl.apply([one for part in parts for one in grant(system, part, namespace, IN_LISTED_NAMESPACES[part])])


def grant(system: str, part: str, namespace: str, rules: Rules) -> list[dict[str, Any]]:
    """A Role of a part in a namespace, and its binding."""
    name = f"eventsink-{part}"
    metadata, group = {"name": name, "namespace": namespace}, "rbac.authorization.k8s.io"
    return [
        {"apiVersion": f"{group}/v1", "kind": "Role", "metadata": metadata, "rules": rules},
        {
            "apiVersion": f"{group}/v1",
            "kind": "RoleBinding",
            "metadata": metadata,
            "roleRef": {"apiGroup": group, "kind": "Role", "name": name},
            "subjects": [{"kind": "ServiceAccount", "name": name, "namespace": system}],
        },
    ]


def install_scoped(plane: ControlPlane, kubectl: Kubectl, system: str) -> Scoped:
    """Namespaces, ServiceAccounts and Roles of an installation that is given listed namespaces later; nothing cluster-wide."""
    sinks = f"{system}-sinks"
    namespaces = [{"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}} for name in (system, sinks)]
    accounts = [
        {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": f"eventsink-{part}", "namespace": system}}
        for part in IN_LISTED_NAMESPACES
    ]
    places = ((system, IN_OWN_NAMESPACE), (sinks, WITH_COMPILED_SINKS))
    roles = [one for place, rules in places for part in rules for one in grant(system, part, place, rules[part])]
    kubectl.apply([*namespaces, *accounts, *roles])
    tokens = {part: plane.service_account_kubeconfig(system, f"eventsink-{part}") for part in IN_LISTED_NAMESPACES}
    return Scoped(Installed(**tokens, namespace=system, sinks_namespace=sinks), kubectl)
