"""The index finds exactly the sinks that want an alert, and never one of another tenant."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from eventsink.alerts.alert import Alert, Links, Severity, Status
from eventsink.router.directory import SinkChange
from eventsink.router.planning.match import CompiledMatch, SinkIndex
from eventsink.sinks.sink import Sink, SinkMatch
from tests.unit.router.sinks import sink


def alert(tenant: str = "acme", *, severity: str = "high", source: str = "am", namespace: str = "shop", **labels: str) -> Alert:
    return Alert(
        id="i",
        fingerprint="f",
        source=source,
        tenant=tenant,
        status=Status.FIRING,
        severity=Severity(severity),
        name="A",
        summary="",
        description="",
        namespace=namespace,
        labels=labels,
        annotations={},
        starts_at=datetime(2026, 1, 1, tzinfo=UTC),
        ends_at=None,
        links=Links(),
    )


@pytest.mark.parametrize(
    ("match", "wanted"),
    [
        ({}, True),
        ({"min_severity": "high"}, True),
        ({"min_severity": "critical"}, False),
        ({"sources": ("am", "falco")}, True),
        ({"sources": ("falco",)}, False),
        ({"namespaces": ("shop",)}, True),
        ({"namespaces": ("sho*",)}, True),
        ({"namespaces": ("*op", "x")}, True),
        ({"namespaces": ("s*p",)}, True),
        ({"namespaces": ("shop-*",)}, False),
        ({"namespaces": ("ho",)}, False),
        ({"matchers": ('team="a"',)}, True),
        ({"matchers": ('team="a"', 'team!="a"')}, False),
        ({"matchers": ('team="b"',)}, False),
        ({"matchers": ('none=""',)}, True),
        ({"min_severity": "high", "sources": ("am",), "namespaces": ("shop",), "matchers": ('team=~"[ab]"',)}, True),
    ],
)
def test_every_part_of_a_condition_must_be_fulfilled(match: dict[str, Any], wanted: bool) -> None:
    assert CompiledMatch(SinkMatch(**match)).fulfilled(alert(team="a")) is wanted


def test_an_alert_without_a_namespace_fulfils_no_namespace_pattern() -> None:
    assert not CompiledMatch(SinkMatch(namespaces=("*",))).fulfilled(alert(namespace=""))


@pytest.mark.parametrize(
    ("pattern", "namespace", "wanted"),
    [("a.b", "axb", False), ("a.b", "a.b", True), ("*", "any\nthing", True), ("a|b", "a", False), ("x-*-y", "x--y", True)],
)
def test_only_the_star_of_a_namespace_pattern_has_a_meaning(pattern: str, namespace: str, wanted: bool) -> None:
    assert CompiledMatch(SinkMatch(namespaces=("other", pattern))).fulfilled(alert(namespace=namespace)) is wanted


def test_no_pattern_is_slow_to_match() -> None:
    """With an engine that backtracks, this takes longer than anybody waits."""
    many = CompiledMatch(SinkMatch(namespaces=("*a" * 31,), matchers=('team=~"(a+)+b"',)))
    assert not many.fulfilled(alert(namespace="a" * 10_000 + "b", team="a" * 10_000))


def test_as_many_patterns_as_a_spec_allows_compile() -> None:
    patterns = tuple(f"{n:02}-" + "*x" * 30 for n in range(64))
    assert CompiledMatch(SinkMatch(namespaces=patterns)).fulfilled(alert(namespace="63-" + "yx" * 30))


def test_an_unknown_severity_is_never_hidden() -> None:
    assert CompiledMatch(SinkMatch(min_severity="fatal")).fulfilled(alert(severity="unknown"))


def test_a_sink_is_found_under_its_own_tenant_only() -> None:
    index = SinkIndex()
    index.change(SinkChange(None, sink("mine")))
    index.change(SinkChange(None, sink("theirs", tenant="globex")))
    assert [one.name for one in index.matching(alert("acme"))] == ["mine"]
    assert [one.name for one in index.matching(alert("globex"))] == ["theirs"]
    assert index.matching(alert("nobody")) == []


def test_suspended_and_unreadable_sinks_get_nothing() -> None:
    index = SinkIndex()
    index.change(SinkChange(None, sink("asleep", suspend=True)))
    index.change(SinkChange(None, sink("newer", match={"matchers": ("a=~(",)})))
    assert index.matching(alert()) == []
    index.change(SinkChange(sink("asleep", suspend=True), sink("asleep")))
    assert [one.name for one in index.matching(alert())] == ["asleep"]


names = st.sampled_from("abcd")
values = st.sampled_from(["", "x", "y"])
matchers = st.builds(lambda n, o, v: f'{n}{o}"{v}"', names, st.sampled_from(["=", "!=", "=~", "!~"]), values)
matches = st.fixed_dictionaries({"matchers": st.lists(matchers, max_size=3).map(tuple)})
changes = st.lists(
    st.tuples(st.sampled_from(["1", "2", "3", "4", "5"]), st.sampled_from(["t", "u"]), st.none() | matches), max_size=25
)


@given(changes, st.dictionaries(names, values), st.sampled_from(["t", "u"]))
def test_the_index_finds_the_same_sinks_as_a_linear_search(
    history: list[tuple[str, str, dict[str, Any] | None]], labels: dict[str, str], tenant: str
) -> None:
    index, present = SinkIndex(), dict[str, Sink]()
    for name, of, match in history:
        before = present.pop(name, None)
        after = sink(name, tenant=of, match=match) if match is not None else None
        if after is not None:
            present[name] = after
        index.change(SinkChange(before, after))
    wanted = [
        one for one in present.values() if one.tenant == tenant and CompiledMatch(one.match).fulfilled(alert(tenant, **labels))
    ]
    assert index.matching(alert(tenant, **labels)) == sorted(wanted, key=lambda one: one.uid)
