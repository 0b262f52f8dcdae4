"""How many sinks a tenant may have: the oldest ones, whoever is seen first, and the next one as soon as one is gone."""

from __future__ import annotations

import random
from typing import Any

import pytest

from eventsink.controller.cluster_state import ClusterState
from eventsink.controller.config import TenancySettings
from eventsink.kube.api import Key
from tests.support.sinks import event_sink

LIMITS = TenancySettings.model_validate({"maxSinks": 2, "maxSinksOf": {"globex": 3, "free": 0}})


class Cluster:
    """What an operator sees, and which EventSinks it looks at again."""

    def __init__(self, limits: TenancySettings = LIMITS) -> None:
        self.again: set[Key] = set()
        self.state = ClusterState(self.again.add, lambda: None, max_sinks=limits.sinks_of)
        self.version = 0
        for name, tenant in (("acme", "acme"), ("acme-too", "acme"), ("globex", "globex"), ("free", "free"), ("other", "")):
            self.label(name, tenant)

    def label(self, name: str, tenant: str) -> None:
        labels = {"eventsink.dev/tenant": tenant} if tenant else {}
        self.state.namespace_handler.upsert(("", name), {"metadata": {"name": name, "uid": name, "labels": labels}})

    def see(self, name: str, namespace: str = "acme", *, tenant: str = "", minute: int = 0, uid: str = "") -> None:
        self.again.clear()
        self.version += 1
        obj: dict[str, Any] = event_sink(namespace, tenant=tenant or self.state.namespaces[namespace].tenant)
        metadata = {
            "name": name,
            "uid": uid or f"{namespace}-{name}",
            "resourceVersion": str(self.version),
            "creationTimestamp": f"2026-01-01T12:{minute:02}:00Z",
        }
        self.state.see(obj | {"metadata": obj["metadata"] | metadata})

    def lose(self, name: str, namespace: str = "acme") -> None:
        self.again.clear()
        self.state.lose((namespace, name), f"{namespace}-{name}")

    def accepted(self, tenant: str = "acme") -> set[str]:
        return {
            "/".join(key)
            for key, known in self.state.eventsinks.items()
            if known.tenant == tenant and not self.state.quota.exceeded(key, tenant)
        }


@pytest.fixture
def cluster() -> Cluster:
    return Cluster()


def test_the_oldest_are_accepted_whatever_is_seen_first(cluster: Cluster) -> None:
    for name, minute in (("c", 3), ("b", 2), ("d", 4), ("a", 1)):
        cluster.see(name, minute=minute)
    assert cluster.accepted() == {"acme/a", "acme/b"}
    assert cluster.state.quota.beyond() == 2


@pytest.mark.parametrize(("limits", "accepted"), [({"maxSinks": 1}, {"ops/a", "ops/b"}), ({"maxSinksOf": {"*": 1}}, {"ops/a"})])
def test_sinks_of_the_platform_are_bounded_by_their_own_number_alone(limits: dict[str, Any], accepted: set[str]) -> None:
    cluster = Cluster(TenancySettings.model_validate(limits))
    labels = {"eventsink.dev/platform": "true"}
    cluster.state.namespace_handler.upsert(("", "ops"), {"metadata": {"name": "ops", "uid": "ops", "labels": labels}})
    for minute, name in enumerate("ab"):
        cluster.see(name, "ops", tenant="*", minute=minute)
    assert cluster.accepted("*") == accepted


def test_those_of_one_moment_are_told_apart_by_their_uids(cluster: Cluster) -> None:
    for name in ("c", "a", "b"):
        cluster.see(name)
    assert cluster.accepted() == {"acme/a", "acme/b"}


def test_a_tenant_with_several_namespaces_has_one_quota(cluster: Cluster) -> None:
    cluster.see("a", minute=1)
    cluster.see("b", "acme-too", minute=2)
    cluster.see("c", minute=3)
    assert cluster.accepted() == {"acme/a", "acme-too/b"}


@pytest.mark.parametrize(("namespace", "accepted"), [("globex", 3), ("free", 5)])
def test_an_override_holds_for_its_tenant_and_0_means_any_number(cluster: Cluster, namespace: str, accepted: int) -> None:
    for number in range(5):
        cluster.see(str(number), namespace, minute=number)
    assert len(cluster.accepted(namespace)) == accepted


def test_the_next_one_is_looked_at_as_soon_as_one_is_deleted(cluster: Cluster) -> None:
    for minute, name in enumerate("abcd"):
        cluster.see(name, minute=minute)
    cluster.lose("a")
    assert ("acme", "c") in cluster.again
    assert ("acme", "d") not in cluster.again
    assert cluster.accepted() == {"acme/b", "acme/c"}


def test_one_beyond_the_quota_that_is_deleted_frees_nothing(cluster: Cluster) -> None:
    for minute, name in enumerate("abcd"):
        cluster.see(name, minute=minute)
    cluster.lose("d")
    assert cluster.accepted() == {"acme/a", "acme/b"}


def test_one_that_is_created_again_under_its_name_is_the_newest(cluster: Cluster) -> None:
    for minute, name in enumerate("abc"):
        cluster.see(name, minute=minute)
    cluster.see("a", minute=9, uid="another")
    assert cluster.accepted() == {"acme/b", "acme/c"}
    assert ("acme", "c") in cluster.again


def test_who_only_claims_a_tenant_takes_no_place_of_it(cluster: Cluster) -> None:
    for name in "xyz":
        cluster.see(name, "other", tenant="acme")
    cluster.see("a", minute=8)
    cluster.see("b", minute=9)
    assert {"acme/a", "acme/b"} <= cluster.accepted()


def test_a_namespace_that_changes_hands_brings_its_sinks(cluster: Cluster) -> None:
    cluster.see("a", minute=5)
    cluster.see("b", minute=6)
    cluster.see("x", "other", tenant="acme", minute=1)
    cluster.again.clear()
    cluster.label("other", "acme")
    assert {("acme", "a"), ("acme", "b"), ("other", "x")} <= cluster.again
    assert cluster.accepted() == {"other/x", "acme/a"}


@pytest.mark.parametrize("seed", range(5))
def test_whoever_is_accepted_or_not_any_more_is_looked_at_again(cluster: Cluster, seed: int) -> None:
    draw = random.Random(seed)
    there: set[str] = set()
    for _ in range(200):
        before = cluster.accepted()
        if there and draw.random() < 0.5:
            there.remove(name := draw.choice(sorted(there)))
            cluster.lose(name)
        else:
            name = str(draw.randrange(20))
            if name in there:
                continue
            there.add(name)
            cluster.see(name, minute=draw.randrange(60))
        gone = {f"acme/{name}"} - {f"acme/{one}" for one in there}
        assert {tuple(key.split("/")) for key in (cluster.accepted() ^ before) - gone} <= cluster.again
        assert len(cluster.accepted()) == min(2, len(there))
