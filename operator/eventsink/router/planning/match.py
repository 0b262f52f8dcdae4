"""Which sinks want an alert: an index over all sinks, kept up to date as they change.

The first step is the tenant, and nothing crosses it: a sink is found under its own tenant only. Within a tenant, sinks with an equality matcher
are found by that label's value, so that a thousand sinks for a thousand teams cost as much as one.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

import re2

from eventsink.alerts.alert import Alert, Severity
from eventsink.alerts.matchers import InvalidMatcher, Matcher, Pattern, compile_expression, parse_matcher
from eventsink.router.directory import SinkChange
from eventsink.runtime.logs import get_logger
from eventsink.sinks.sink import Sink, SinkMatch

Key = tuple[str, str]
"""A label's name and value."""


class CompiledMatch:
    """The condition of one sink.

    Raises
    ------
    InvalidMatcher
        A matcher that the operator accepted and this version cannot read.
    """

    def __init__(self, match: SinkMatch) -> None:
        self.matchers: list[Matcher] = [parse_matcher(text) for text in match.matchers]
        self._minimum = Severity(match.min_severity) if match.min_severity is not None else None
        self._sources = frozenset(match.sources)
        self._namespaces = _patterns(match.namespaces) if match.namespaces else None

    def fulfilled(self, alert: Alert) -> bool:
        """Whether the alert fulfils every part of the condition."""
        return (
            alert.severity.passes(self._minimum)
            and (not self._sources or alert.source in self._sources)
            and (self._namespaces is None or _within(alert.namespace, self._namespaces))
            and all(matcher.matches(alert.labels) for matcher in self.matchers)
        )

    def key(self) -> Key | None:
        """An equality that every wanted alert fulfils, if there is one."""
        return next(((m.name, m.value) for m in self.matchers if m.operator == "=" and m.value), None)


@dataclass(slots=True)
class _Entry:
    sink: Sink
    match: CompiledMatch
    key: Key | None


@dataclass(slots=True)
class _Tenant:
    keyed: dict[Key, dict[str, _Entry]] = field(default_factory=dict)
    others: dict[str, _Entry] = field(default_factory=dict)

    def shelf(self, key: Key | None) -> dict[str, _Entry]:
        return self.others if key is None else self.keyed.setdefault(key, {})

    def candidates(self, labels: dict[str, str]) -> Iterator[_Entry]:
        yield from self.others.values()
        if self.keyed:
            for pair in labels.items():
                found = self.keyed.get(pair)
                if found is not None:
                    yield from found.values()


class SinkIndex:
    """The sinks that may be given alerts, by tenant. Suspended sinks are not in it: nothing is queued for them."""

    def __init__(self) -> None:
        self._tenants: dict[str, _Tenant] = {}
        self._entries: dict[str, _Entry] = {}

    def change(self, change: SinkChange) -> None:
        """Follow one change of the directory."""
        if change.before is not None:
            self._remove(change.before)
        if change.after is not None and not change.after.suspend:
            self._add(change.after)

    def matching(self, alert: Alert) -> list[Sink]:
        """The sinks that want the alert, in order of uid."""
        tenant = self._tenants.get(alert.tenant)
        if tenant is None:
            return []
        found = [entry.sink for entry in tenant.candidates(alert.labels) if entry.match.fulfilled(alert)]
        found.sort(key=_uid)
        return found

    def wants(self, uid: str, alert: Alert) -> bool:
        """Whether a sink wants an alert of its tenant."""
        entry = self._entries.get(uid)
        return entry is not None and entry.match.fulfilled(alert)

    def _add(self, sink: Sink) -> None:
        try:
            match = CompiledMatch(sink.match)
        except (InvalidMatcher, ValueError):
            get_logger().error(
                "a sink gets no alerts: this version cannot read its match rules; upgrade the router",
                sink=sink.uid,
                tenant=sink.tenant,
            )
            return
        entry = _Entry(sink, match, match.key())
        self._entries[sink.uid] = entry
        self._tenants.setdefault(sink.tenant, _Tenant()).shelf(entry.key)[sink.uid] = entry

    def _remove(self, sink: Sink) -> None:
        entry = self._entries.pop(sink.uid, None)
        if entry is None:
            return
        tenant = self._tenants[entry.sink.tenant]
        shelf = tenant.shelf(entry.key)
        del shelf[sink.uid]
        if entry.key is not None and not shelf:
            del tenant.keyed[entry.key]
        if not tenant.keyed and not tenant.others:
            del self._tenants[entry.sink.tenant]


def _uid(sink: Sink) -> str:
    return sink.uid


def _patterns(patterns: tuple[str, ...]) -> Pattern:
    """One expression for namespace patterns, in which * matches any characters.

    RE2, since the patterns are a tenant's and the namespace is whatever a label says: another engine could be kept busy with them.
    """
    return compile_expression("(?s)" + "|".join(".*".join(map(re2.escape, pattern.split("*"))) for pattern in patterns))


def _within(namespace: str, patterns: Pattern) -> bool:
    return bool(namespace) and patterns.fullmatch(namespace) is not None
