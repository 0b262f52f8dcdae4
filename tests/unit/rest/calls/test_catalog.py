"""The catalog: writes are seen at once, deleted sinks do not come back, sinks with invalid claims are hidden."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from eventsink.rest.calls.catalog import Catalog
from eventsink.rest.errors import Conflict, InvalidRequest


def sink(
    uid: str, *, tenant: str = "acme", namespace: str = "acme", name: str = "", version: int = 1, **metadata: Any
) -> dict[str, Any]:
    return {
        "metadata": {
            "uid": uid,
            "namespace": namespace,
            "name": name or uid,
            "resourceVersion": str(version),
            "creationTimestamp": "2026-01-01T00:00:00Z",
            **metadata,
        },
        "spec": {"tenant": tenant},
    }


def namespace(catalog: Catalog, name: str, tenant: str | None = None, **metadata: Any) -> None:
    labels = {"eventsink.dev/tenant": tenant} if tenant else {}
    labels |= metadata.pop("labels", {})
    catalog.namespaces.upsert(("", name), {"metadata": {"name": name, "labels": labels, **metadata}})


def see(catalog: Catalog, obj: dict[str, Any]) -> None:
    catalog.sinks.upsert((obj["metadata"]["namespace"], obj["metadata"]["name"]), obj)


def uids(catalog: Catalog, tenant: str = "acme") -> list[str]:
    return [one["metadata"]["uid"] for one in catalog.of_tenant(tenant)]


def test_a_tenants_sinks_are_sorted_by_age() -> None:
    catalog = Catalog()
    for uid, created in (("b", "2026-01-02T00:00:00Z"), ("c", "2026-01-01T00:00:00Z"), ("a", "2026-01-02T00:00:00Z")):
        see(catalog, sink(uid, creationTimestamp=created))
    see(catalog, sink("x", tenant="other", namespace="other"))
    assert uids(catalog) == ["c", "a", "b"]


def test_an_older_event_of_the_watch_changes_nothing() -> None:
    catalog = Catalog()
    catalog.put(sink("a", version=10))
    see(catalog, sink("a", version=9, tenant="umbrella"))
    assert uids(catalog) == ["a"]
    see(catalog, sink("a", version=11, deletionTimestamp="2026-01-01T00:00:00Z"))
    assert uids(catalog) == []


def test_a_deleted_sink_does_not_reappear_and_its_name_can_be_reused() -> None:
    catalog = Catalog()
    first = sink("a", name="alerts", version=5)
    catalog.put(first)
    catalog.drop(first)
    see(catalog, sink("a", name="alerts", version=6))
    assert catalog.get("a") is None
    see(catalog, sink("b", name="alerts", version=7))
    assert uids(catalog) == ["b"]
    catalog.sinks.delete(("acme", "alerts"))
    assert uids(catalog) == []
    catalog.sinks.delete(("acme", "alerts"))


def test_a_late_response_does_not_bring_a_deleted_sink_back_while_the_watch_may() -> None:
    catalog = Catalog()
    one = sink("a", name="alerts", version=5)
    see(catalog, one)
    catalog.sinks.delete(("acme", "alerts"))
    catalog.put(one)
    assert uids(catalog) == []
    see(catalog, sink("a", name="alerts", version=6))
    assert uids(catalog) == ["a"], "a document that was removed and put back keeps its uid"


CLAIMS: list[tuple[str, dict[str, str], bool]] = [
    ("the tenant's own namespace", {"acme": "acme"}, True),
    ("one of its several", {"acme": "acme", "other": "acme"}, True),
    ("nobody's, of nobody's tenant", {}, True),
    ("nobody's, of a tenant that has one", {"other": "acme"}, False),
    ("another tenant's", {"acme": "umbrella"}, False),
]


@pytest.mark.parametrize(("owners", "shown"), [case[1:] for case in CLAIMS], ids=[case[0] for case in CLAIMS])
def test_a_sink_belongs_to_its_tenant_only_if_the_claim_is_valid(owners: dict[str, str], shown: bool) -> None:
    catalog = Catalog()
    see(catalog, sink("a"))
    for name, tenant in owners.items():
        namespace(catalog, name, tenant)
    assert (uids(catalog) == ["a"]) is shown
    assert (catalog.get("a") is not None) is shown
    for name in owners:
        catalog.namespaces.delete(("", name))
    assert uids(catalog) == ["a"]


def test_a_namespace_with_another_label_belongs_to_the_new_tenant() -> None:
    catalog = Catalog()
    namespace(catalog, "acme", "acme")
    namespace(catalog, "acme", "umbrella")
    with pytest.raises(InvalidRequest):
        catalog.home("acme", "")
    assert catalog.home("umbrella", "") == "acme"
    namespace(catalog, "acme", "umbrella", deletionTimestamp="2026-01-01T00:00:00Z")
    assert catalog.home("umbrella", "default") == "default"


def test_of_several_namespaces_exactly_one_must_be_marked() -> None:
    catalog = Catalog()
    namespace(catalog, "one", "acme")
    namespace(catalog, "two", "acme")
    with pytest.raises(Conflict, match=r"eventsink\.dev/rest=true"):
        catalog.home("acme", "default")
    namespace(catalog, "two", "acme", labels={"eventsink.dev/rest": "true"})
    assert catalog.home("acme", "default") == "two"
    namespace(catalog, "one", "acme", labels={"eventsink.dev/rest": "true"})
    with pytest.raises(Conflict):
        catalog.home("acme", "default")


def test_of_several_listed_namespaces_the_first_is_that_of_new_sinks() -> None:
    catalog = Catalog()
    for name, owner in (("first", "acme"), ("second", "acme"), ("other", "globex")):
        catalog.give(name, owner)
    assert (catalog.home("acme", ""), catalog.home("globex", "")) == ("first", "other")
    with pytest.raises(InvalidRequest, match="by the setting namespaces"):
        catalog.home("umbrella", "")


async def test_a_wait_ends_when_its_condition_holds_when_the_sink_is_deleted_or_after_its_time() -> None:
    catalog = Catalog()
    catalog.put(sink("a", version=1))

    def at(version: int) -> Any:
        return lambda obj: int(obj["metadata"]["resourceVersion"]) >= version

    waiting = asyncio.create_task(catalog.until("a", at(3), 30))
    await asyncio.sleep(0)
    see(catalog, sink("a", version=2))
    await asyncio.sleep(0)
    assert not waiting.done()
    see(catalog, sink("a", version=3))
    found = await asyncio.wait_for(waiting, 5)
    assert found is not None
    gone = asyncio.create_task(catalog.until("a", at(9), 30))
    await asyncio.sleep(0)
    catalog.sinks.delete(("acme", "a"))
    assert await asyncio.wait_for(gone, 5) is None
    catalog.put(sink("b", version=1))
    late = await catalog.until("b", at(9), 0.01)
    assert late is not None
    assert late["metadata"]["resourceVersion"] == "1"
    assert not catalog.has_waits


def test_a_tenant_without_a_namespace_does_not_use_that_of_another() -> None:
    catalog = Catalog()
    catalog.namespaces.upsert(("", "default"), {"metadata": {"name": "default", "labels": {"eventsink.dev/tenant": "acme"}}})
    assert catalog.home("acme", "default") == "default"
    with pytest.raises(InvalidRequest, match="no namespace belongs to this tenant"):
        catalog.home("globex", "default")


def test_a_sink_of_all_tenants_is_shown_and_created_only_in_a_namespace_of_the_platform() -> None:
    catalog = Catalog()
    see(catalog, sink("all", tenant="*", namespace="ops"))
    namespace(catalog, "ops", "platform")
    assert (uids(catalog, "*"), catalog.get("all")) == ([], None)
    with pytest.raises(InvalidRequest, match=r"eventsink\.dev/platform=true"):
        catalog.home("*", "default")
    namespace(catalog, "ops", "platform", labels={"eventsink.dev/platform": "true"})
    assert (uids(catalog, "*"), uids(catalog, "platform"), catalog.home("*", "default")) == (["all"], [], "ops")
    namespace(catalog, "ops", "platform")
    assert (uids(catalog, "*"), catalog.get("all")) == ([], None)


def test_of_several_listed_namespaces_of_the_platform_the_first_is_that_of_its_new_sinks() -> None:
    catalog = Catalog()
    with_platform = (("acme", "acme", False), ("z-ops", "platform", True), ("a-ops", "acme", True))
    for name, owner, platform in with_platform:
        catalog.give(name, owner, platform=platform)
    assert [catalog.home(tenant, "") for tenant in ("*", "acme", "platform")] == ["z-ops", "acme", "z-ops"]
