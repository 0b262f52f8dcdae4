"""The index finds exactly the sinks that want an alert, and never one of another tenant."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable
from datetime import UTC, datetime
from itertools import count
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from eventsink.alerts.alert import Alert, Links, Severity, Status
from eventsink.cel.condition import MAX_CONDITIONS, read_condition
from eventsink.router.directory import SinkChange
from eventsink.router.planning.expressions import TENANT_SECONDS, ExpressionBudget
from eventsink.router.planning.match import CompiledMatch, SinkIndex
from eventsink.router.planning.matching_problem import REPORTED_SECONDS, MatchingReason
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
        ({"expression": 'alert.labels.team in ["a", "b"] && alert.severity.atLeast("high")'}, True),
        ({"expression": 'alert.labels.team != "a"'}, False),
        ({"expression": 'alert.labels.team == "a"', "matchers": ('team="b"',)}, False),
        ({"expression": "int(alert.labels.team) > 1"}, True),
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


@pytest.mark.parametrize("match", [{}, {"matchers": ('team="a"',)}, {"matchers": ('team=~"a.*"',)}])
def test_a_sink_of_all_tenants_is_found_for_each_and_only_while_it_is_there(match: dict[str, Any]) -> None:
    index = SinkIndex()
    own, of_all = sink("own"), sink("all", tenant="*", match=match)
    for one in (own, of_all):
        index.change(SinkChange(None, one))
    both = sorted([own, of_all], key=lambda one: one.uid)
    assert index.matching(alert("acme", team="a")) == both
    assert index.matching(alert("globex", team="a")) == [of_all]
    assert index.matching(alert("globex", team="b")) == ([] if match else [of_all])
    assert [index.wants(one.uid, alert("globex", team="a")) for one in (own, of_all)] == [False, True]
    assert (index.candidates(alert("acme", team="a")), index.candidates(alert("globex", team="a"))) == (2, 1)
    index.change(SinkChange(of_all, None))
    assert index.matching(alert("globex", team="a")) == []


def test_suspended_and_unreadable_sinks_get_nothing() -> None:
    index = SinkIndex()
    index.change(SinkChange(None, sink("asleep", suspend=True)))
    index.change(SinkChange(None, sink("newer", match={"matchers": ("a=~(",)})))
    assert index.matching(alert()) == []
    index.change(SinkChange(sink("asleep", suspend=True), sink("asleep")))
    assert [one.name for one in index.matching(alert())] == ["asleep"]


def clocked(seconds: float, clock: Callable[[], float] = lambda: 0.0) -> ExpressionBudget:
    """A budget for which each expression takes so long."""
    cpu = count(0.0, seconds)
    return ExpressionBudget(clock, lambda: next(cpu))


def index_of(*sinks: Sink, budget: ExpressionBudget | None = None) -> SinkIndex:
    index = SinkIndex(budget)
    for one in sinks:
        index.change(SinkChange(None, one))
    return index


@pytest.mark.parametrize("size", [1000, 180], ids=["beyond the bound of an expression", "within it"])
def test_sinks_that_are_expensive_to_match_do_not_block_the_router(size: int) -> None:
    """Five sinks with 32 expressions each, and a notification of 20 alerts with a label of 16,384 characters: 1,340 s before."""
    hostile = [sink(f"h{n}", match={"matchers": tuple(f'x=~"{n}?(.*.{{{size - m}}})+"' for m in range(32))}) for n in range(5)]
    index = index_of(*hostile, sink("cheap", match={"matchers": ('team="a"',)}), sink("other", tenant="globex"))
    began = time.process_time()
    for n in range(20):
        index.matching(alert(x=f"{n}" + "a" * 16_384))
    assert time.process_time() - began < 30.0  # 0.5 on a machine that does nothing else
    assert [one.name for one in index.matching(alert("globex"))] == ["other"]
    assert all(index.problem(one.uid) is not None for one in hostile)
    assert index.problem(sink("cheap").uid) is None
    assert index.left_out > 0


def test_what_cannot_be_evaluated_within_the_budget_counts_as_fulfilled() -> None:
    now = [0.0]
    index = SinkIndex(clocked(TENANT_SECONDS * 2, lambda: now[0]), clock=lambda: now[0])
    one = sink("slow", match={"matchers": ('team=~"x+"', 'level="high"')})
    index.change(SinkChange(None, one))
    assert index.matching(alert(team="a", level="high")) == []
    assert index.problem(one.uid) is None
    assert index.matching(alert(team="b", level="high")) == [one]
    assert index.matching(alert(team="c", level="low")) == []
    assert index.left_out == 1
    problem = index.problem(one.uid)
    assert problem is not None
    assert (problem.reason, "takes too long" in problem.message) == (MatchingReason.LIMITED, True)
    now[0] = 1.5
    assert index.matching(alert(team="d", level="high")) == []
    now[0] = REPORTED_SECONDS
    assert index.problem(one.uid) is None


def test_an_expression_that_has_no_value_counts_as_fulfilled_and_is_reported_for_a_while() -> None:
    now = [0.0]
    index = SinkIndex(clock=lambda: now[0])
    one = sink("count", match={"expression": "int(alert.labels.count) > 5", "matchers": ('team="a"',)})
    index.change(SinkChange(None, one))
    assert index.matching(alert(team="a", count="3")) == []
    assert index.matching(alert(team="b", count="many")) == []
    assert (index.failed, index.problem(one.uid)) == (0, None)
    assert index.matching(alert(team="a", count="many")) == [one]
    assert index.wants(one.uid, alert(team="a", count="many"))
    problem = index.problem(one.uid)
    assert problem is not None
    assert (index.failed, problem.reason) == (2, MatchingReason.FAILED)
    assert problem.message.endswith("the rest of its match: a text is not what it is converted to")
    now[0] = REPORTED_SECONDS
    assert index.problem(one.uid) is None


def test_an_expression_is_evaluated_within_the_budget_of_its_tenant() -> None:
    index = index_of(sink("one", match={"expression": 'alert.labels.team == "x"'}), budget=clocked(TENANT_SECONDS * 2))
    assert index.matching(alert(team="a")) == []
    assert len(index.matching(alert(team="a"))) == 1
    assert index.left_out == 1


def test_an_expression_that_this_version_cannot_read_gets_nothing() -> None:
    newer = sink("newer", match={"expression": "alert.invention == 1"})
    index = index_of(newer)
    problem = index.problem(newer.uid)
    assert index.matching(alert()) == []
    assert problem is not None
    assert problem.reason is MatchingReason.UNREADABLE


def test_a_tenant_that_used_little_is_evaluated_however_much_others_use() -> None:
    index = index_of(
        *(sink(f"hostile-{n}", tenant=f"t{n}", match={"matchers": ('team=~"x+"',)}) for n in range(8)),
        sink("mine", match={"matchers": ('team=~"x+"',)}),
        budget=clocked(0.06),
    )
    for n in range(8):
        for value in range(4):
            index.matching(alert(f"t{n}", team=f"{n}-{value}"))
    assert index.left_out > 8
    assert index.matching(alert(team="a")) == []


def test_a_result_is_kept_for_the_next_alert_with_that_value() -> None:
    index = index_of(sink("one", match={"matchers": ('team=~"x+"',)}), budget=clocked(TENANT_SECONDS * 2))
    for _ in range(3):
        assert index.matching(alert(team="a")) == []
    assert index.left_out == 0


def test_expressions_beyond_the_size_of_a_tenant_are_not_evaluated_until_there_is_room() -> None:
    matchers = [tuple(f'x=~"s{n}m{m}.{{150}}.*"' for m in range(4)) for n in range(60)]
    sinks = [sink(f"s{n:02}", match={"matchers": of_sink}) for n, of_sink in enumerate(matchers)]
    index = index_of(*sinks, budget=clocked(0.0))  # however slow the machine is
    refused = [one for one in sinks if index.problem(one.uid) is not None]
    assert 0 < len(refused) < 30
    assert refused == sinks[-len(refused) :]
    assert refused[0] in index.matching(alert(x="no"))
    assert sinks[0] not in index.matching(alert(x="no"))
    index.change(SinkChange(sinks[0], None))
    assert index.problem(refused[0].uid) is None
    assert refused[0] not in index.matching(alert(x="no"))


def test_long_conditions_count_for_the_size_of_a_tenant_and_are_not_kept_where_they_are_not_evaluated() -> None:
    sinks = [sink(f"s{n:02}", match={"expression": f'alert.name == "{n}"' + "||1>2" * 400}) for n in range(60)]
    index = index_of(*sinks, budget=clocked(0.0))  # however slow the machine is
    refused = [one for one in sinks if index.problem(one.uid) is not None]
    assert 0 < len(refused) < 30
    assert refused[0] in index.matching(alert())
    assert sinks[0] not in index.matching(alert())
    index.change(SinkChange(sinks[0], None))
    assert index.problem(refused[0].uid) is None
    assert refused[0] not in index.matching(alert())


def test_a_condition_that_many_sinks_have_is_compiled_once() -> None:
    first = CompiledMatch(SinkMatch(expression='alert.name == "the first"'))
    for number in range(2 * MAX_CONDITIONS):
        read_condition(f"alert.name == '{number}'")
    assert CompiledMatch(SinkMatch(expression='alert.name == "the first"')).condition is first.condition
    first.keep(is_evaluated=False)
    assert first.condition is None


def test_a_tenant_has_its_usual_expressions_evaluated_however_many_the_others_have() -> None:
    others = [
        sink(f"{tenant}{n:02}", tenant=tenant, match={"matchers": tuple(f'x=~"{n}m{m}.{{150}}.*"' for m in range(4))})
        for tenant in ("a", "b", "c", "d", "e", "f")
        for n in range(40)
    ]
    index = index_of(*others)
    refused = [one for one in others if index.problem(one.uid) is not None]
    assert {one.tenant for one in refused} == {"f"}
    mine = sink("mine", match={"matchers": ('x=~"y+"',)})
    large = sink("large", match={"matchers": tuple(f'x=~"99m{m}.{{150}}.*"' for m in range(4))})
    plain = sink("plain")
    for one in (mine, large, plain):
        index.change(SinkChange(None, one))
    assert [one.name for one in (mine, large, plain) if index.problem(one.uid) is not None] == ["large"]
    for one in others[:40]:
        index.change(SinkChange(one, None))
    assert index.problem(large.uid) is None
    assert index.problem(refused[0].uid) is None


def test_the_same_expression_in_many_sinks_counts_once() -> None:
    sinks = [sink(str(n), match={"matchers": ('team=~"x.{150}"',)}) for n in range(200)]
    index = index_of(*sinks)
    assert [one.name for one in sinks if index.problem(one.uid) is not None] == []
    for one in sinks:
        index.change(SinkChange(one, None))
    assert index.matching(alert()) == []


def test_a_sink_whose_rules_cannot_be_read_says_so_until_it_changes() -> None:
    newer = sink("newer", match={"matchers": ("a=~(",)})
    index = index_of(newer)
    problem = index.problem(newer.uid)
    assert problem is not None
    assert problem.reason is MatchingReason.UNREADABLE
    index.change(SinkChange(newer, sink("newer")))
    assert index.problem(newer.uid) is None


@pytest.mark.parametrize(
    "match",
    [
        lambda n: {"matchers": ('severity="high"', f'team="t{n}"')},
        lambda n: {"matchers": (f'team=~"t{n}|u{n}"',)},
        lambda n: {"namespaces": (f"t{n}", f"u{n}")},
    ],
    ids=["an equality of their own", "alternatives", "namespaces"],
)
def test_an_alert_meets_only_the_sinks_that_name_its_values(match: Callable[[int], dict[str, Any]]) -> None:
    """Measured by what is looked at: a label that only candidates are asked for."""
    asked = Counter[str]()

    class Labels(dict[str, str]):
        def get(self, name: str, default: Any = None) -> Any:
            asked[name] += 1
            return super().get(name, default)

    index = index_of(*(sink(str(n), match=match(n) | {"min_severity": "low"}) for n in range(500)))
    one = msgspec.structs.replace(alert(namespace="t7"), labels=Labels(team="t7", severity="high"))
    assert [found.name for found in index.matching(one)] == ["7"]
    assert asked.total() < 10


@pytest.mark.parametrize("sink_of", ["present", "of another tenant", "absent"])
def test_one_sink_can_be_asked_about(sink_of: str) -> None:
    one = sink("one", match={"matchers": ('team=~"a+"',)})
    index = index_of(*([] if sink_of == "absent" else [one]))
    tenant = "globex" if sink_of == "of another tenant" else "acme"
    assert index.wants(one.uid, alert(tenant, team="aa")) is (sink_of == "present")
    assert not index.wants(one.uid, alert(tenant, team="b"))


names = st.sampled_from("abcd")
values = st.sampled_from(["", "x", "y"])
expressions = st.sampled_from(["", "x", "y", "x|y", "x|", ".*", "x+", "[xy]"])
matchers = st.builds(lambda n, o, v: f'{n}{o}"{v}"', names, st.sampled_from(["=", "!="]), values) | st.builds(
    lambda n, o, v: f'{n}{o}"{v}"', names, st.sampled_from(["=~", "!~"]), expressions
)
matches = st.fixed_dictionaries(
    {
        "matchers": st.lists(matchers, max_size=3).map(tuple),
        "namespaces": st.lists(st.sampled_from(["shop", "s*", "other"]), max_size=2).map(tuple),
    }
)
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
