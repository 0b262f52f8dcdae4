"""What NetworkPolicies admit, as Kubernetes defines it: a simulation, since the tests' clusters do not enforce them.

A connection is admitted if the policies of its source admit it as egress and those of its destination as ingress. A pod that no policy
selects for a direction is not restricted in it. What a node itself sends to its pods, such as probes, is always admitted, and not asked here.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

Policy = Mapping[str, Any]


@dataclass(frozen=True)
class Endpoint:
    """A pod, or (without a namespace) an address outside of the pod network.

    Attributes
    ----------
    ports
        The names of its containers' ports.
    """

    address: str
    namespace: str = ""
    labels: Mapping[str, str] = field(default_factory=dict)
    ports: Mapping[str, int] = field(default_factory=dict)


def pod(workload: Mapping[str, Any], address: str) -> Endpoint:
    """A pod of a rendered Deployment or StatefulSet."""
    template = workload["spec"]["template"]
    ports = {one["name"]: one["containerPort"] for container in template["spec"]["containers"] for one in container["ports"]}
    return Endpoint(address, workload["metadata"]["namespace"], template["metadata"]["labels"], ports)


def admitted(policies: Sequence[Policy], source: Endpoint, destination: Endpoint, port: int, protocol: str = "TCP") -> bool:
    """Whether a connection is made."""
    return _one_way(policies, "Egress", source, destination, destination, port, protocol) and _one_way(
        policies, "Ingress", destination, source, destination, port, protocol
    )


def _one_way(
    policies: Sequence[Policy], direction: str, own: Endpoint, other: Endpoint, destination: Endpoint, port: int, protocol: str
) -> bool:
    selecting = [
        one["spec"]
        for one in policies
        if direction in one["spec"]["policyTypes"]
        and own.namespace == one["metadata"]["namespace"]
        and _selects(one["spec"]["podSelector"], own.labels)
    ]
    peers = "from" if direction == "Ingress" else "to"
    return not selecting or any(
        _is_peer(rule.get(peers), other, own.namespace) and _has_port(rule.get("ports"), destination, port, protocol)
        for spec in selecting
        for rule in spec.get(direction.lower()) or ()
    )


def _is_peer(peers: Iterable[Mapping[str, Any]] | None, other: Endpoint, namespace: str) -> bool:
    if not peers:
        return True
    for peer in peers:
        if block := peer.get("ipBlock"):
            address = ipaddress.ip_address(other.address)
            within = [address in ipaddress.ip_network(one) for one in (block["cidr"], *block.get("except", ()))]
            if within[0] and not any(within[1:]):
                return True
        elif (
            other.namespace
            and _in_namespace(peer.get("namespaceSelector"), other, namespace)
            and _selects(peer.get("podSelector", {}), other.labels)
        ):
            return True
    return False


def _in_namespace(selector: Mapping[str, Any] | None, other: Endpoint, namespace: str) -> bool:
    if selector is None:
        return other.namespace == namespace
    return _selects(selector, {"kubernetes.io/metadata.name": other.namespace})


def _selects(selector: Mapping[str, Any], labels: Mapping[str, str]) -> bool:
    assert not selector.keys() - {"matchLabels"}, "the simulation knows matchLabels only"
    wanted: Mapping[str, str] = selector.get("matchLabels", {})
    return wanted.items() <= labels.items()


def _has_port(ports: Iterable[Mapping[str, Any]] | None, destination: Endpoint, port: int, protocol: str) -> bool:
    if not ports:
        return True
    return any(
        one.get("protocol", "TCP") == protocol and port in (one.get("port", port), destination.ports.get(str(one.get("port"))))
        for one in ports
    )
