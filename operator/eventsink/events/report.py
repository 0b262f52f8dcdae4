"""What is read of a report of policies, and what of it is sent to the router: the results that somebody has to know of."""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import msgspec

from eventsink.alerts.formats.policy_report import MAX_ALERTS
from eventsink.alerts.policy_results import PASSED
from eventsink.events.event import members_of, picked, text_of
from eventsink.events.posts import Item
from eventsink.kube.api import Object, Resource

RESOURCES: Mapping[str, tuple[Resource, Resource]] = {
    "wgpolicyk8s.io": (
        Resource("wgpolicyk8s.io", "v1alpha2", "policyreports", "PolicyReport"),
        Resource("wgpolicyk8s.io", "v1alpha2", "clusterpolicyreports", "ClusterPolicyReport", namespaced=False),
    ),
    "openreports.io": (
        Resource("openreports.io", "v1alpha1", "reports", "Report"),
        Resource("openreports.io", "v1alpha1", "clusterreports", "ClusterReport", namespaced=False),
    ),
}
"""API group -> its reports in namespaces, and those of the cluster."""
ITEM_ALERTS = 250
"""Of one item that is posted, so that a request is bounded."""
_OF_RESULT = ("policy", "rule", "source", "result", "severity", "category", "message", "timestamp", "properties")
_OF_METADATA = ("name", "namespace", "creationTimestamp")
_OF_OBJECT = ("kind", "namespace", "name")
_encoder = msgspec.json.Encoder()


class Result(NamedTuple):
    """What stays the same of a result about one object, however it comes out: what the labels of its alert are made of."""

    policy: str
    rule: str
    engine: str
    namespace: str
    kind: str
    name: str


class Report(NamedTuple):
    """A report as it is now."""

    failing: dict[Result, str]
    """The results that somebody has to know of, with their severities."""
    items: list[Item]
    """The same as they are posted."""
    digest: bytes
    """Of all that is posted but the times of results, which policy engines change whenever they look."""
    left_out: int
    """Results beyond what the router makes alerts of."""


def report_of(resource: Resource, obj: Object) -> Report:
    """Read a report; what is not as its API says is left out."""
    metadata = members_of(obj.get("metadata"))
    namespace, engine, scope = (
        text_of(metadata.get("namespace")),
        text_of(obj.get("source")),
        picked(members_of(obj.get("scope")), _OF_OBJECT),
    )
    head: dict[str, Any] = {"apiVersion": resource.api_version, "kind": resource.kind, "metadata": picked(metadata, _OF_METADATA)}
    head |= {name: value for name, value in (("source", engine), ("scope", scope)) if value}
    failing: dict[Result, str] = {}
    items: list[Item] = []
    results: list[dict[str, Any]] = []
    digest = hashlib.blake2b(digest_size=16)
    alerts = left_out = 0
    for result, objects in _failing(obj):
        if alerts >= MAX_ALERTS:
            left_out += len(objects) or 1
            continue
        for some in (objects[start : start + ITEM_ALERTS] for start in range(0, len(objects) or 1, ITEM_ALERTS)):
            if results and sum(len(one.get("resources", ())) or 1 for one in results) + (len(some) or 1) > ITEM_ALERTS:
                items.append(_item(head, results))
                results = []
            results.append({**result, **({"resources": some} if some else {})})
            alerts += len(some) or 1
            for about in some or [scope]:
                failing[_result(result, engine, namespace, about)] = text_of(result.get("severity"))
        digest.update(_encoder.encode([{**result, "timestamp": None}, objects]))
    if results:
        items.append(_item(head, results))
    digest.update(_encoder.encode(scope))
    return Report(failing, items, digest.digest(), left_out)


def passed(resource: Resource, namespace: str, name: str, gone: Mapping[Result, str]) -> Iterator[Item]:
    """What is posted of results that a report does not have any more, or that pass in it: that they pass, each with its severity."""
    head = {"apiVersion": resource.api_version, "kind": resource.kind, "metadata": {"namespace": namespace, "name": name}}
    results: list[dict[str, Any]] = []
    for one, severity in gone.items():
        about = {name: value for name, value in (("kind", one.kind), ("namespace", one.namespace), ("name", one.name)) if value}
        results.append(
            {
                "policy": one.policy,
                "rule": one.rule,
                "source": one.engine,
                "result": "pass",
                "severity": severity,
                **({"resources": [about]} if about else {}),
            }
        )
    for start in range(0, len(results), ITEM_ALERTS):
        yield _item(head, results[start : start + ITEM_ALERTS])


def _failing(obj: Object) -> Iterator[tuple[dict[str, Any], list[dict[str, Any]]]]:
    """Each result that somebody has to know of, with the objects that it is about."""
    results = obj.get("results")
    for one in results if isinstance(results, list) else ():
        result = members_of(one)
        if not text_of(result.get("policy")) or text_of(result.get("result")).strip().lower() in PASSED:
            continue
        objects = result.get("resources")
        listed = objects if isinstance(objects, list) else []
        yield picked(result, _OF_RESULT), [picked(members_of(about), _OF_OBJECT) for about in listed]


def _result(result: Mapping[str, Any], engine: str, namespace: str, about: Mapping[str, Any]) -> Result:
    return Result(
        sys.intern(text_of(result.get("policy"))),
        sys.intern(text_of(result.get("rule"))),
        sys.intern(text_of(result.get("source")) or engine),
        sys.intern(namespace or text_of(about.get("namespace"))),
        sys.intern(text_of(about.get("kind"))),
        text_of(about.get("name")),
    )


def _item(head: Mapping[str, Any], results: Sequence[Mapping[str, Any]]) -> Item:
    alerts = sum([len(one.get("resources", ())) or 1 for one in results])
    return Item(_encoder.encode({**head, "results": results}), alerts)
