"""Which sinks want an alert: an index over all sinks, kept up to date as they change.

The first step is the tenant, and nothing crosses it: a sink is found under its own tenant only, and those that receive the alerts of all
tenants under one of their own (`ALL_TENANTS`), which no alert has and which is looked at after that of each alert. Within a tenant, a sink
that names the values of a label, or its namespaces, is found by them, so that a thousand sinks for a thousand teams cost as much as one.

What a tenant's regular expressions may cost is bounded twice: in size (here, as sinks appear) and in time (`expressions`). An expression
that is beyond a bound is not evaluated and counts as fulfilled; `problem` says so.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field

from pydantic.alias_generators import to_camel

from eventsink.alerts.alert import Alert, Severity
from eventsink.alerts.matchers import ExpressionTooLarge, Matcher, parse_matchers
from eventsink.cel.condition import Condition, read_condition
from eventsink.cel.errors import EvaluationFailed
from eventsink.resources.names import ALL_TENANTS
from eventsink.router.directory import SinkChange
from eventsink.router.planning.expressions import TENANT_SECONDS, ExpressionBudget
from eventsink.router.planning.matching_problem import REPORTED_SECONDS, TOO_LARGE, TOO_SLOW, UNREADABLE, MatchingProblem, failed
from eventsink.router.planning.quiet import QuietSinks
from eventsink.runtime.cpu_budget import CpuShare
from eventsink.runtime.logs import Repeated, get_logger
from eventsink.runtime.patterns import Wildcards
from eventsink.sinks.sink import Sink, SinkMatch

MAX_TENANT_SIZE = 200_000
"""Instructions of all different expressions of one tenant together, each counted as at least `LEAST_SIZE`: 2,000 usual ones."""
MAX_TOTAL_SIZE = 1_000_000
"""The same of all tenants: together their compiled forms take at most 320 MiB, and 40 MiB as measured."""
ASSURED_TENANT_SIZE = 2000
"""What each tenant may have, however much the others have: 20 usual expressions."""
TOKEN_SIZE = 2
"""What each token of an expression in CEL counts as."""
LEAST_SIZE = 100
MAX_NAMESPACE_CHARACTERS = 253
"""Patterns see so many characters of what an alert calls its namespace; the name of a namespace is shorter."""
MAX_KEYS = 64
"""A sink that names more values of a label than this is not found by them."""

Key = tuple[str | None, frozenset[str]]
"""A label, or None for the namespace that an alert is about, and the values of which every wanted alert has one."""


class CompiledMatch:
    """The condition of one sink.

    Raises
    ------
    ValueError
        A matcher (InvalidMatcher) or an expression (InvalidExpression) that the operator accepted and this version cannot read.
    """

    __slots__ = (
        "_expression",
        "_minimum",
        "_namespaces",
        "_sizes",
        "_sources",
        "_values",
        "complete",
        "condition",
        "expressions",
        "simple",
    )

    def __init__(self, match: SinkMatch) -> None:
        matchers: list[Matcher] = []
        self.complete = True
        """Whether every expression is small enough to be evaluated."""
        for text in match.matchers:
            try:
                matchers.extend(parse_matchers(text))
            except ExpressionTooLarge:
                self.complete = False
        self._minimum = Severity(match.min_severity) if match.min_severity is not None else None
        self._sources = frozenset(match.sources)
        self._namespaces = Wildcards(match.namespaces) if match.namespaces else None
        self._values = tuple((m.name, m.values, m.positive) for m in matchers if m.values is not None)
        self.expressions = tuple(m for m in matchers if m.values is None)
        self.condition: Condition | None = read_condition(match.expression) if match.expression is not None else None
        self._expression = match.expression
        self._sizes = self._measured()
        self.simple = self.complete and not self.expressions and self.condition is None
        """Whether there is nothing but `fulfilled_simply`."""

    def fulfilled(self, alert: Alert) -> bool:
        """Whether the alert fulfils every part of the condition, whatever it takes to evaluate that; what fails counts as fulfilled."""
        return (
            self.fulfilled_simply(alert)
            and all(matcher.matches(alert.labels) for matcher in self.expressions)
            and self._condition_fulfilled(alert)
        )

    def _condition_fulfilled(self, alert: Alert) -> bool:
        try:
            return self.condition is None or self.condition.holds(alert)
        except EvaluationFailed:
            return True

    def fulfilled_simply(self, alert: Alert) -> bool:
        """Whether the alert fulfils every part of the condition but the expressions."""
        labels = alert.labels
        for name, values, positive in self._values:
            if (labels.get(name, "") in values) is not positive:
                return False
        return (
            (self._minimum is None or alert.severity.passes(self._minimum))
            and (not self._sources or alert.source in self._sources)
            and (
                self._namespaces is None
                or (bool(alert.namespace) and self._namespaces.match(alert.namespace[:MAX_NAMESPACE_CHARACTERS]))
            )
        )

    def sizes(self) -> dict[str, int]:
        """Instructions of each expression that is not simple, by its text."""
        return self._sizes

    def _measured(self) -> dict[str, int]:
        found = {matcher.value: max(matcher.size, LEAST_SIZE) for matcher in self.expressions}
        if self.condition is not None:
            found[self.condition.text] = max(self.condition.size + TOKEN_SIZE * self.condition.tokens, LEAST_SIZE)
        return found

    def keep(self, *, is_evaluated: bool) -> None:
        """Keep the compiled form of the expression in CEL only where it is evaluated: it is large."""
        self.condition = read_condition(self._expression) if is_evaluated and self._expression is not None else None

    def keys(self) -> Iterator[Key]:
        """By what the sink can be found."""
        for name, values, positive in self._values:
            if positive and "" not in values and len(values) <= MAX_KEYS:
                yield name, values
        if self._namespaces is not None and (names := self._namespaces.names) is not None:
            yield None, names


def unfulfilled(match: SinkMatch, alert: Alert) -> Iterator[str]:
    """Each part of a condition that an alert does not fulfil, as `spec.match.<field>: <what it asks for>`."""
    for name, value in match:
        # Every matcher has to be fulfilled, of any other list one member.
        parts = {f"[{index}]": (one,) for index, one in enumerate(value)} if name == "matchers" else {"": value}
        for place, part in parts.items():
            if not CompiledMatch(SinkMatch.model_validate({name: part})).fulfilled(alert):
                yield f"spec.match.{to_camel(name)}{place}: {part if isinstance(part, str) else ', '.join(part)}"


@dataclass(slots=True)
class _Entry:
    sink: Sink
    match: CompiledMatch
    key: Key | None
    admitted: bool = True
    """Whether its expressions are evaluated."""
    left_out_at: float = float("-inf")
    """When one was last left out for the time that it takes."""
    failed_at: float = float("-inf")
    """When its condition last had no value ..."""
    failure: str = ""
    """... and why."""


@dataclass(slots=True)
class _Tenant:
    keyed: dict[str | None, dict[str, dict[str, _Entry]]] = field(default_factory=dict)
    """Label, or None for the namespace -> value -> uid -> entry."""
    others: dict[str, _Entry] = field(default_factory=dict)
    share: CpuShare = field(default_factory=lambda: CpuShare(TENANT_SECONDS))
    uses: Counter[str] = field(default_factory=Counter)
    """How many sinks have each expression."""
    size: int = 0
    refused: dict[str, _Entry] = field(default_factory=dict)
    """Sinks whose expressions are not evaluated, since they would be too large together."""

    def candidates(self, alert: Alert) -> Iterator[Mapping[str, _Entry]]:
        """Those that may want the alert, by uid."""
        if self.others:
            yield self.others
        labels = alert.labels
        # The smaller of the two is gone through, so that neither many labels nor many keys cost much.
        for name in self.keyed if len(self.keyed) <= len(labels) + 1 else (None, *labels):
            value = alert.namespace if name is None else labels.get(name)
            if (
                value is not None
                and (of_label := self.keyed.get(name)) is not None
                and (found := of_label.get(value)) is not None
            ):
                yield found

    def best_key(self, keys: Iterable[Key]) -> Key | None:
        """The one by which the fewest other sinks would be met."""

        def others(key: Key) -> int:
            of_label = self.keyed.get(key[0], {})
            return sum(len(of_label.get(value, _NONE)) for value in key[1])

        return min(keys, key=others, default=None)

    def put(self, entry: _Entry) -> None:
        uid = entry.sink.uid
        if entry.key is None:
            self.others[uid] = entry
            return
        name, values = entry.key
        of_label = self.keyed.setdefault(name, {})
        for value in values:
            of_label.setdefault(value, {})[uid] = entry

    def remove(self, entry: _Entry) -> None:
        uid = entry.sink.uid
        self.refused.pop(uid, None)
        if entry.key is None:
            del self.others[uid]
            return
        name, values = entry.key
        of_label = self.keyed[name]
        for value in values:
            of_value = of_label[value]
            del of_value[uid]
            if not of_value:
                del of_label[value]
        if not of_label:
            del self.keyed[name]

    @property
    def empty(self) -> bool:
        return not self.keyed and not self.others


_NONE: dict[str, _Entry] = {}


class SinkIndex:
    """The sinks that may be given alerts, by tenant. Suspended sinks are not in it: nothing is queued for them."""

    def __init__(
        self,
        budget: ExpressionBudget | None = None,
        *,
        clock: Callable[[], float] = time.monotonic,
        wall: Callable[[], float] = time.time,
    ) -> None:
        self._budget = budget or ExpressionBudget()
        self._clock = clock
        self.quiet = QuietSinks(self._budget, wall)
        """What keeps sinks from being notified of alerts that they want."""
        self._tenants: dict[str, _Tenant] = {}
        self._of_all: _Tenant | None = None
        """The sinks that receive the alerts of all tenants; None: there is none, and nobody looks for any."""
        self._entries: dict[str, _Entry] = {}
        self._unreadable: set[str] = set()
        self._size = 0
        self._short: dict[str, _Tenant] = {}
        """Tenants of which expressions are refused, by name."""
        self._left_out_log = Repeated()
        self.left_out = 0
        """How often a sink was given an alert without that its expressions were evaluated."""
        self.failed = 0
        """How often a sink was given an alert because its condition had no value for it."""

    def change(self, change: SinkChange) -> None:
        """Follow one change of the directory."""
        if change.before is not None:
            self._remove(change.before)
        if change.after is not None and not change.after.suspend:
            self._add(change.after)
        self.quiet.change(change)

    def matching(self, alert: Alert) -> list[Sink]:
        """The sinks that want the alert, in order of uid."""
        tenant = self._tenants.get(alert.tenant)
        found = self._matching(tenant, alert) if tenant is not None else []
        if self._of_all is not None:
            found += self._matching(self._of_all, alert)
        if len(found) > 1:
            found.sort(key=_uid)
        return found

    def _matching(self, tenant: _Tenant, alert: Alert) -> list[Sink]:
        return [
            entry.sink
            for some in (tenant.candidates(alert) if tenant.keyed else (tenant.others,))
            for entry in some.values()
            if entry.match.fulfilled_simply(alert)
            and (entry.match.simple or self._fulfils_expressions(entry, tenant.share, alert))
        ]

    def __len__(self) -> int:
        return len(self._entries)

    def candidates(self, alert: Alert) -> int:
        """How many sinks are asked whether they want an alert."""
        tenants = [one for one in (self._tenants.get(alert.tenant), self._of_all) if one is not None]
        return sum([len(some) for tenant in tenants for some in tenant.candidates(alert)])

    def wants(self, uid: str, alert: Alert) -> bool:
        """Whether a sink wants an alert that it may receive; False for a sink that is not in the index."""
        entry = self._entries.get(uid)
        return (
            entry is not None
            and entry.sink.may_receive(alert.tenant)
            and entry.match.fulfilled_simply(alert)
            and (entry.match.simple or self._fulfils_expressions(entry, self._tenants[entry.sink.tenant].share, alert))
        )

    def problem(self, uid: str) -> MatchingProblem | None:
        """What keeps a sink from getting exactly the alerts that it asks for."""
        if uid in self._unreadable:
            return UNREADABLE
        entry = self._entries.get(uid)
        if entry is None:
            return None
        if not (entry.admitted and entry.match.complete):
            return TOO_LARGE
        now = self._clock()
        if now - entry.left_out_at < REPORTED_SECONDS:
            return TOO_SLOW
        return failed(entry.failure) if now - entry.failed_at < REPORTED_SECONDS else None

    def _fulfils_expressions(self, entry: _Entry, share: CpuShare, alert: Alert) -> bool:
        left_out = not (entry.admitted and entry.match.complete)
        if entry.admitted:
            labels = alert.labels
            for matcher in entry.match.expressions:
                verdict = self._budget.says(share, matcher, labels.get(matcher.name, ""))
                if verdict is None:
                    left_out = True
                    entry.left_out_at = self._clock()
                elif verdict is not matcher.positive:
                    return False
            if (condition := entry.match.condition) is not None:
                try:
                    verdict = self._budget.holds(share, condition, alert)
                except EvaluationFailed as error:
                    self.failed += 1
                    entry.failed_at, entry.failure = self._clock(), str(error)
                else:
                    if verdict is None:
                        left_out = True
                        entry.left_out_at = self._clock()
                    elif not verdict:
                        return False
        if left_out:
            self.left_out += 1
            if (more := self._left_out_log.due()) is not None:
                sink = entry.sink
                get_logger().warning(
                    "a sink is given alerts without its expressions being evaluated",
                    sink=sink.uid,
                    tenant=sink.tenant,
                    more=more,
                )
        return True

    def _add(self, sink: Sink) -> None:
        try:
            match = CompiledMatch(sink.match)
        except ValueError:
            self._unreadable.add(sink.uid)
            get_logger().error(
                "a sink gets no alerts: this version cannot read its match rules; upgrade the router",
                sink=sink.uid,
                tenant=sink.tenant,
            )
            return
        tenant = self._tenants.setdefault(sink.tenant, _Tenant())
        if sink.tenant == ALL_TENANTS:
            self._of_all = tenant
        entry = _Entry(sink, match, tenant.best_key(match.keys()))
        self._entries[sink.uid] = entry
        tenant.put(entry)
        self._admit(tenant, entry)

    def _admit(self, tenant: _Tenant, entry: _Entry) -> None:
        """Count the size of an entry's expressions, or refuse to evaluate them."""
        sizes = entry.match.sizes()
        size = sum(size for text, size in sizes.items() if not tenant.uses[text])
        of_tenant = tenant.size + size
        entry.admitted = not size or (
            of_tenant <= MAX_TENANT_SIZE and (self._size + size <= MAX_TOTAL_SIZE or of_tenant <= ASSURED_TENANT_SIZE)
        )
        entry.match.keep(is_evaluated=entry.admitted)
        if not entry.admitted:
            tenant.refused[entry.sink.uid] = entry
            self._short[entry.sink.tenant] = tenant
            return
        tenant.refused.pop(entry.sink.uid, None)
        tenant.uses.update(sizes.keys())
        tenant.size += size
        self._size += size

    def _remove(self, sink: Sink) -> None:
        self._unreadable.discard(sink.uid)
        entry = self._entries.pop(sink.uid, None)
        if entry is None:
            return
        tenant = self._tenants[entry.sink.tenant]
        tenant.remove(entry)
        if entry.admitted:
            for text, size in entry.match.sizes().items():
                tenant.uses[text] -= 1
                if not tenant.uses[text]:
                    del tenant.uses[text]
                    tenant.size -= size
                    self._size -= size
        for name, short in list(self._short.items()):
            while short.refused:
                one = next(iter(short.refused.values()))
                self._admit(short, one)
                if not one.admitted:
                    break
            if not short.refused:
                del self._short[name]
        if tenant.empty:
            del self._tenants[entry.sink.tenant]
            if tenant is self._of_all:
                self._of_all = None


def _uid(sink: Sink) -> str:
    return sink.uid
