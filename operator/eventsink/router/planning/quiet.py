"""Alerts of which sinks are not notified for a time: muted ones (`spec.mutes`), and those outside of a sink's times, where it drops them.

A sink that misses something is recorded as behind (`record_behind`), in the transaction that accepts the alert. When the time is over, the
sink is caught up with what still fires, also after a restart. A mute that cannot be evaluated mutes nothing: in doubt, a sink is notified.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

from eventsink.alerts.alert import Alert
from eventsink.alerts.matcher_syntax import InvalidMatcher
from eventsink.alerts.matchers import Matcher, parse_matchers
from eventsink.router.directory import SinkChange
from eventsink.router.planning.alert_states import AlertStates, StateChange
from eventsink.router.planning.expressions import TENANT_SECONDS, ExpressionBudget
from eventsink.router.planning.notify import Suppression
from eventsink.router.planning.quotas import record_behind
from eventsink.runtime.cpu_budget import CpuShare
from eventsink.runtime.logs import get_logger
from eventsink.runtime.time_intervals import OpeningTimes
from eventsink.runtime.times import format_time
from eventsink.sinks.sink import Sink
from eventsink.sinks.times import opening_times

MAX_TENANT_SIZE = 100_000
"""Instructions of the expressions in the mutes of one tenant's sinks together. The mutes of a sink beyond it mute nothing."""
ENDED_AT_ONCE = 100
"""Sinks of which it is found out until when they are quiet next, before others have their turn in the event loop."""
MAX_REPORTED = 5
"""Mutes that have ended and are named in a status."""


@dataclass(slots=True)
class _Mute:
    index: int
    since: float
    until: float
    matchers: tuple[Matcher, ...]

    def is_active(self, now: float) -> bool:
        return self.since <= now < self.until


@dataclass(slots=True)
class _Quiet:
    """What keeps one sink quiet."""

    sink: Sink
    times: OpeningTimes | None = None
    """Of one that drops what comes at other times."""
    mutes: list[_Mute] = field(default_factory=list)
    size: int = 0
    refused: int = 0
    """Instructions of its mutes that are not evaluated, and not kept, since they would be too many; 0: all are."""
    unreadable: list[int] = field(default_factory=list)
    """Indices of mutes that this version cannot read."""

    def next_change(self, now: float) -> float:
        """When something that keeps it quiet now or later is over, at the earliest."""
        ends = [mute.until for mute in self.mutes if mute.until > now]
        if self.times is not None:
            ends.append(self.times.when(now).again)
        return min(ends, default=math.inf)


class QuietSinks:
    """Follows the sinks, as their index does.

    Parameters
    ----------
    wall
        Seconds since the epoch.
    """

    def __init__(self, budget: ExpressionBudget, wall: Callable[[], float] = time.time) -> None:
        self._budget = budget
        self._wall = wall
        self._sinks: dict[str, _Quiet] = {}
        self._shares: dict[str, CpuShare] = {}
        self._sizes: dict[str, int] = {}
        """Tenant -> instructions of the mutes that are evaluated."""
        self._refused: dict[str, dict[str, None]] = {}
        """Tenant -> uids of sinks of which they are not, in the order in which they came."""
        self._looked_at = -math.inf
        self._changes: dict[str, float] = {}
        """uid -> `_Quiet.next_change`."""
        self._next = math.inf
        self.missing: set[str] = set()
        """uids of sinks that may have missed something since they were last caught up; only a hint, for what is recorded may be older."""

    def __len__(self) -> int:
        return len(self._sinks)

    def change(self, change: SinkChange) -> None:
        """Follow one change of the directory."""
        if change.before is not None:
            self._remove(change.before.uid)
        if change.after is None:
            self.missing.discard(change.before.uid if change.before is not None else "")
        else:
            self._add(change.after)
        if change.before is not None and change.before.tenant in self._refused:  # a new sink makes no room for others
            self._admit_refused(change.before.tenant)

    def suppression(self, uid: str, alerts: Sequence[Alert]) -> Suppression | None:
        """Why a sink is not notified now of an alert, given in each of the forms in which it was received; None: nothing keeps it quiet."""
        quiet = self._sinks.get(uid)
        if quiet is None:
            return None
        now = self._wall()
        if quiet.times is not None and not quiet.times.when(now).open:
            return Suppression.OUTSIDE_TIMES
        active = [mute for mute in quiet.mutes if mute.is_active(now)]
        share = self._shares.get(quiet.sink.tenant)
        if active and share is not None and all(any(self._matches(mute, share, one) for mute in active) for one in alerts):
            return Suppression.MUTED
        return None

    def miss(self, sink: Sink, states: AlertStates, change: StateChange) -> None:
        """A sink is not notified of an alert that it wants: it is behind from now on."""
        self.missing.add(sink.uid)
        record_behind(sink.uid, states, change)

    def ended(self) -> list[str]:
        """uids of sinks of which something that kept them quiet is over since the last calls, some at a time; none: that is all."""
        now = self._wall()
        if now < self._looked_at:  # somebody has set the clock
            self._changes = {uid: quiet.next_change(now) for uid, quiet in self._sinks.items()}
        self._looked_at = now
        found = [uid for uid, at in self._changes.items() if at <= now][:ENDED_AT_ONCE] if now >= self._next else []
        for uid in found:
            self._changes[uid] = self._sinks[uid].next_change(now)
        self._next = min(self._changes.values(), default=math.inf)
        return found

    def ends_in(self) -> float | None:
        """Seconds until `ended` has something to return; None: never."""
        return max(0.0, self._next - self._wall()) if self._next < math.inf else None

    def note(self, uid: str) -> str:
        """What the status of a sink says of its mutes; empty: nothing."""
        quiet = self._sinks.get(uid)
        return "; ".join(_notes(quiet, self._wall())) if quiet is not None else ""

    def _matches(self, mute: _Mute, share: CpuShare, alert: Alert) -> bool:
        for matcher in mute.matchers:
            if matcher.values is not None:
                if not matcher.matches(alert.labels):
                    return False
            elif self._budget.says(share, matcher, alert.labels.get(matcher.name, "")) is not matcher.positive:
                return False  # also where it was not evaluated
        return True

    def _add(self, sink: Sink) -> None:
        quiet = _Quiet(sink)
        try:
            if sink.times is not None and sink.times.drop:
                quiet.times = opening_times(sink.times)
        except ValueError:
            pass  # dispatch says so
        for index, one in enumerate(sink.mutes):
            try:
                matchers = tuple(matcher for text in one.matchers for matcher in parse_matchers(text))
            except InvalidMatcher:
                quiet.unreadable.append(index)
            else:
                quiet.mutes.append(_Mute(index, one.since, one.until, matchers))
        if quiet.unreadable:
            get_logger().error("mutes of a sink cannot be read, and mute nothing; upgrade the router", sink=sink.uid)
        if quiet.times is None and not sink.mutes:
            return
        quiet.size = sum({matcher.value: matcher.size for mute in quiet.mutes for matcher in mute.matchers}.values())
        if (of_tenant := self._sizes.get(sink.tenant, 0) + quiet.size) > MAX_TENANT_SIZE:
            quiet.mutes, quiet.size, quiet.refused = [], 0, quiet.size
            self._refused.setdefault(sink.tenant, {})[sink.uid] = None
        else:
            self._sizes[sink.tenant] = of_tenant
        self._shares.setdefault(sink.tenant, CpuShare(TENANT_SECONDS))
        self._sinks[sink.uid] = quiet
        self._changes[sink.uid] = at = quiet.next_change(self._wall())
        self._next = min(self._next, at)

    def _admit_refused(self, tenant: str) -> None:
        """Evaluate the mutes for which there is room now, those that came first before others."""
        for uid in list(self._refused[tenant]):
            quiet = self._sinks[uid]
            if self._sizes.get(tenant, 0) + quiet.refused <= MAX_TENANT_SIZE:
                self._remove(uid)
                self._add(quiet.sink)

    def _remove(self, uid: str) -> None:
        quiet = self._sinks.pop(uid, None)
        if quiet is None:
            return
        del self._changes[uid]
        tenant = quiet.sink.tenant
        if quiet.refused:
            del self._refused[tenant][uid]
            if not self._refused[tenant]:
                del self._refused[tenant]
        self._sizes[tenant] = self._sizes.get(tenant, 0) - quiet.size
        if not self._sizes[tenant] and not any(one.sink.tenant == tenant for one in self._sinks.values()):
            del self._sizes[tenant]
            self._shares.pop(tenant, None)


def _notes(quiet: _Quiet, now: float) -> Iterator[str]:
    if quiet.unreadable:
        yield f"{_named(quiet.unreadable)} mute nothing: this version of the router cannot read them; upgrade the router"
    if quiet.refused:
        yield (
            "spec.mutes mute nothing: the regular expressions in the mutes of this tenant's sinks are too large together; remove mutes "
            "that have ended, or name the values"
        )
    if active := [mute for mute in quiet.mutes if mute.is_active(now)]:
        first = min(active, key=lambda mute: mute.until)
        others = f", and {len(active) - 1} more of spec.mutes" if len(active) > 1 else ""
        yield f"alerts that match spec.mutes[{first.index}] are muted until {format_time(first.until)}{others}"
    if ended := [mute.index for mute in quiet.mutes if mute.until <= now]:
        yield f"ended and to be removed: {_named(ended)}"


def _named(mutes: Sequence[int]) -> str:
    named = ", ".join(f"spec.mutes[{index}]" for index in mutes[:MAX_REPORTED])
    return f"{named} and {len(mutes) - MAX_REPORTED} more" if len(mutes) > MAX_REPORTED else named
