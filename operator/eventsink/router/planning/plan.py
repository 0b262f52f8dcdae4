"""What one notification changes: for each alert its state, for each sink what it is notified of."""

from __future__ import annotations

import itertools
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence

import msgspec

from eventsink.alerts.alert import Alert, IncomingNotification, Status, alert_id, epoch_micros, from_epoch_micros
from eventsink.alerts.formats.format import Repeats
from eventsink.router.directory import SinkDirectory
from eventsink.router.planning import notify
from eventsink.router.planning.alert_states import AlertStates, StateChange, group_digest
from eventsink.router.planning.assign import Assignment, Merged
from eventsink.router.planning.batch import BatchBuilder, Owned, takes_groups
from eventsink.router.planning.entries import updated
from eventsink.router.planning.episodes import Effect, step
from eventsink.router.planning.match import SinkIndex
from eventsink.router.planning.notify import Received, Suppression
from eventsink.router.planning.parts import (
    ALERT_MICROSECONDS,
    SINK_MICROSECONDS,
    TURN_MICROSECONDS,
    Part,
    PartSize,
)
from eventsink.router.planning.planned import Begun, OfSink, Planned
from eventsink.router.planning.quotas import Quotas, record_behind
from eventsink.router.planning.received_group import RECEIVED_WITHIN_SECONDS, ReceivedGroup
from eventsink.router.queue.protocol import Batch
from eventsink.router.queue.states import KEEP_BODY, NO_BODY, AlertState, Notified
from eventsink.router.sources import Source
from eventsink.runtime.turns import Steps, at_once
from eventsink.sinks.sink import Sink

GROWTH_SECONDS = 300.0
"""So much longer than a sink waits is it remembered that an event has grown."""


_NO_ENTRIES: Mapping[str, Notified] = {}
_FIRING = Status.FIRING.value


class Plan:
    """The plan of one notification, made in parts of a bounded size, each for one commit.

    Parameters
    ----------
    assignment
        Of all its alerts.
    sender
        As in `Acceptor.accept_bytes`.
    """

    def __init__(
        self,
        source: Source,
        notification: IncomingNotification,
        assignment: Assignment,
        sender: str,
        directory: SinkDirectory,
        index: SinkIndex,
        states: AlertStates,
        quotas: Quotas | None = None,
    ) -> None:
        self._source = source
        self._notification = notification
        self._sender = sender
        self._directory = directory
        self._index = index
        self._quiet = index.quiet
        self._states = states
        self._quotas = quotas
        self._merged = assignment.merged()
        group = notification.group
        key = group_digest(source.name, group.key) if group is not None else None
        self._group = ReceivedGroup(key, sender, self._merged, assignment.others, states)
        self.rest: Sequence[Merged] = self._merged
        """What is in no part yet; the first one may be in part."""
        self._begun: Begun | None = None
        """The first of `rest`, if some sinks are notified of it already."""
        self._something_new: bool | None = None
        """Whether the notification differs from the last one of its group in what fires, or in an alert of a part that was made; None: not
        looked at yet."""
        self._heartbeat = source.format.repeats is Repeats.HEARTBEAT
        self._much = len(self._merged) * (ALERT_MICROSECONDS + SINK_MICROSECONDS * len(index)) > TURN_MICROSECONDS

    def __len__(self) -> int:
        """How many alerts the notification has."""
        return len(self._merged)

    def make(self, *, now: float, size: PartSize) -> tuple[Batch, StateChange, dict[Suppression, int]]:
        """Plan the next part: what to store, what it changed in the alert states (they are changed already), and what was suppressed."""
        change = StateChange()
        try:
            return self._make(change, now, size)
        except BaseException:
            self._states.undo(change)
            raise

    def looking(self, now: float) -> Steps[None]:
        """Look whether the notification says anything new, which is why it may have been sent, with a step for each alert."""
        self._group.look()
        self._something_new = self._group.differs()
        if len(self._merged) == 1:
            return  # it is looked at when it is planned
        for merged in self._merged:
            if self._something_new:
                return
            yield
            self._something_new = self._says_new(self._plan_alert(merged, now))

    def _make(self, change: StateChange, now: float, size: PartSize) -> tuple[Batch, StateChange, dict[Suppression, int]]:
        if self._something_new is None:
            at_once(self.looking(now))
        else:
            self._group.look()  # again: others may have changed it
        received = self._received(now)
        builder = BatchBuilder(self._notification)
        suppressed: dict[Suppression, int] = defaultdict(int)
        sinks: dict[str, OfSink] = {}
        planned: list[Planned] = []
        part, end = Part(size, len(self.rest)), 0
        for merged in self.rest:
            candidates = self._index.candidates(merged.one.alert) if self._much else 0
            if not part.takes(candidates, lambda: self._sends_group(one.sink for one in sinks.values())):
                break
            one, begun = self._plan_alert(merged, now), self._begun
            if begun is not None:
                one.go_on(begun)
            planned.append(one)
            if not self._something_new and self._says_new(one):  # the only one, or changed since it was looked at
                self._something_new = True
                received = self._received(now)
            if one.merged.one.alert.status is Status.RESOLVED:
                due, self._begun = self._plan_end(one, begun, part, sinks, suppressed)
            else:
                appeared = self._group.appeared(one.after.identity)
                due, self._begun = self._plan_firing(one, begun, received, appeared, part, sinks, suppressed, change)
            part.deliveries += due
            if self._begun is not None:
                break
            end += 1
        by_index = {one.merged.one.index: one for one in planned}
        if self._quotas is not None:
            self._defer_over_quota(self._quotas, sinks.values(), by_index, builder, change)
        for of_sink in sinks.values():
            self._add_deliveries(of_sink, by_index, builder)
        for one in planned:
            self._record(one, builder, change, now)
        if self._begun is not None:
            merged = self._begun.planned.merged
            self._begun.state = self._states.get(merged.one.alert.tenant, merged.identity)
        self.rest = self.rest[end:]
        if not self.rest:
            self._group.record(change, now, duplicate=received.duplicate)
        elif not received.duplicate:
            self._group.record_part(change, now, [one.merged for one in planned if not one.continues])
        return builder.build(change), change, suppressed

    def _received(self, now: float) -> Received:
        """How the notification came."""
        window, new = self._states.settings.ha_window, bool(self._something_new)
        duplicate = not new and self._group.was_notified_by_another(now, window)
        return Received(self._sender, now, self._source.format.repeats, window, repeat=not new, duplicate=duplicate)

    def _plan_alert(self, merged: Merged, now: float) -> Planned:
        """What the notification says of an alert, and its state then; nothing is changed yet."""
        alert = merged.one.alert
        before = self._states.get(alert.tenant, merged.identity)
        if before is not None and not merged.one.start_given and before.status == Status.FIRING:
            alert = _with_start_of(before, merged)
        effect, after = step(
            before,
            alert,
            firing=merged.firing,
            ended=merged.ended,
            sender=self._sender,
            now=now,
            ha_window=self._states.settings.ha_window,
            repeats=self._source.format.repeats,
            overdue=self._heartbeat and self._states.heartbeats.until(alert.tenant, merged.identity) <= now,
        )
        if effect is Effect.HELD and not (before is not None and before.held_until) and not self._states.room.may_hold():
            effect, after = Effect.STARTED, msgspec.structs.replace(after, held_until=0.0)
        return Planned(merged, before, after, effect)

    @staticmethod
    def _says_new(one: Planned) -> bool:
        """Whether what it says of an alert is a reason to have sent the notification."""
        return notify.is_new(one.effect) or (one.before is not None and one.before.replicas != one.after.replicas)

    def _sends_group(self, sinks: Iterable[Sink]) -> bool:
        """Whether one of these sinks gets what it wants of the notification as one group."""
        return self._notification.group is not None and any(map(takes_groups, sinks))

    def _most_sinks(self, of_alert: Sequence[Sink], part: Part, of_part: Mapping[str, OfSink]) -> int | None:
        """How many of the sinks that get an alert are notified of it in a part, which notifies those of `of_part` of others; None: all."""
        if part.sinks is None or part.sinks >= len(of_alert):
            return None
        in_group = len(self._merged) > 1 and self._sends_group(itertools.chain(of_alert, (one.sink for one in of_part.values())))
        return None if in_group else part.sinks

    def _hear(self, merged: Merged, effect: Effect, after: AlertState, now: float) -> None:
        """Remember until when the alert is taken to fire. What has ended is forgotten when its time comes: the commit may fail."""
        states, alert = self._states, merged.one.alert
        if after.status != Status.FIRING:
            return
        if merged.ended:
            states.heartbeats.end(alert.tenant, merged.identity, merged.ended)
        if alert.status is Status.FIRING:
            given = merged.one.valid_for
            valid_for = min(states.settings.resolve_timeout if given is None else given, states.settings.retention)
            alone = effect is Effect.STARTED
            states.heartbeats.hear(alert.tenant, merged.identity, merged.firing, now + valid_for, at=now, alone=alone)

    def _plan_firing(
        self,
        one: Planned,
        begun: Begun | None,
        received: Received,
        appeared: bool,
        part: Part,
        sinks: dict[str, OfSink],
        suppressed: dict[Suppression, int],
        change: StateChange,
    ) -> tuple[int, Begun | None]:
        """Returns how many sinks are notified, and what to go on with if others are left to the next part."""
        effect, due = one.effect, 0
        if not one.untouched:
            one.last_of = {entry.sink: entry for entry in one.before.notified} if one.before is not None else _NO_ENTRIES
        last_of = last_before = one.last_of
        if begun is not None and effect in (Effect.FIRING, Effect.EVENT):  # else it has ended in between
            effect, appeared, matching, most = begun.effect, begun.appeared, begun.matching, part.sinks
            last_before = begun.last_of
        else:
            begun, matching = None, self._matching(one.merged)
            most = self._most_sinks(matching, part, sinks)
        owned = one.merged.one
        some_quiet = len(self._quiet) > 0
        for number, sink in enumerate(matching):
            if due == most:
                return due, Begun(one, effect, appeared, matching[number:], last_before)
            if begun is not None:
                if last_of.get(sink.uid) != last_before.get(sink.uid):
                    continue  # others have notified it meanwhile
                current = self._current(sink, one)
                if current is None:
                    continue
                sink = current
            of_sink = sinks.get(sink.uid)
            if of_sink is None:
                of_sink = sinks[sink.uid] = OfSink(sink)
            reason = notify.of_firing(
                effect,
                last_of.get(sink.uid),
                received,
                starts_at=one.after.starts_at,
                appeared=appeared,
                repeat_interval=sink.delivery.repeat_interval,
                count=owned.alert.count,
            )
            quiet = self._quiet.suppression(sink.uid, one.merged.variants) if some_quiet else None
            if quiet is not None and reason is not Suppression.HELD:
                suppressed[reason or quiet] += 1
                if reason is None and effect is not Effect.EVENT:
                    self._miss(one, sink, change)
                continue
            if reason is None:
                of_sink.due.append(owned)
                due += 1
            else:
                suppressed[reason] += 1
                if effect is Effect.EVENT and reason is Suppression.UNCHANGED and sink.delivery.repeat_interval is not None:
                    one.due_again.append(last_of[sink.uid].at + sink.delivery.repeat_interval)
            if reason is not Suppression.HELD:
                of_sink.wanted.append(owned)
        return due, None

    def _miss(self, one: Planned, sink: Sink, change: StateChange) -> None:
        """The sink is not notified now: it is caught up later, with what still fires then."""
        one.deferred = True
        self._quiet.miss(sink, self._states, change)

    def _plan_end(
        self,
        one: Planned,
        begun: Begun | None,
        part: Part,
        sinks: dict[str, OfSink],
        suppressed: dict[Suppression, int],
    ) -> tuple[int, Begun | None]:
        """An end goes to those that were notified of the alert, whatever they ask for now. Returns as `_plan_firing`.

        One that was stored in part is known when it is sent again, or goes on: it goes to those that have not been notified of it.
        """
        reason = notify.of_end(one.effect)
        if reason is not None and begun is None:
            suppressed[reason] += 1
        if reason is Suppression.KNOWN_END and begun is None:
            self._plan_known_end(one, sinks)
        elif reason not in (None, Suppression.HELD_ENDED, Suppression.KNOWN_END):
            return 0, None
        owned, due = one.merged.one, 0
        awaiting: Iterable[Sink] = self._awaiting_end(one)
        if begun is not None:
            most = part.sinks
        else:
            awaiting = all_awaiting = list(awaiting)
            most = self._most_sinks(all_awaiting, part, sinks)
        for sink in awaiting:
            if due == most:
                return due, Begun(one, one.effect)
            one.notified[sink.uid] = Status.RESOLVED.value
            if not sink.delivery.send_resolved:
                suppressed[Suppression.NOT_WANTED] += 1
                continue
            of_sink = sinks.get(sink.uid)
            if of_sink is None:
                of_sink = sinks[sink.uid] = OfSink(sink)
            of_sink.due.append(owned)
            of_sink.wanted.append(owned)
            due += 1
        return due, None

    def _awaiting_end(self, one: Planned) -> Iterator[Sink]:
        """The sinks that are to be notified now of the end of an alert: those left to this part come first."""
        sinks, withheld = self._directory.sinks, self._directory.withheld
        deferred, tenant = one.end_deferred, one.merged.one.alert.tenant
        for entry in one.after.notified:
            if entry.status != _FIRING or entry.sink in deferred:
                continue
            sink = sinks.get(entry.sink)
            if entry.sink in withheld or (sink is not None and sink.suspend):
                one.body = True  # it is notified of the end when it is resumed, or can be read again
            elif sink is not None and sink.may_receive(tenant):
                yield sink

    def _plan_known_end(self, one: Planned, sinks: dict[str, OfSink]) -> None:
        """A group that is sent to those that have been notified of this end contains it again, as Alertmanager wrote it."""
        for entry in one.after.notified:
            sink = self._directory.sinks.get(entry.sink)
            if entry.status != Status.RESOLVED or sink is None or sink.suspend:
                continue
            if not sink.may_receive(one.merged.one.alert.tenant):
                continue
            if takes_groups(sink) and sink.delivery.send_resolved:
                sinks.setdefault(sink.uid, OfSink(sink)).known.append(one.merged.one)

    def _defer_over_quota(
        self,
        quotas: Quotas,
        sinks: Iterable[OfSink],
        planned: Mapping[int, Planned],
        builder: BatchBuilder,
        change: StateChange,
    ) -> None:
        """Leave to each sink what its tenant's quota allows; it is caught up with the rest, as if it had been suspended."""
        taken: dict[str, int] = defaultdict(int)
        for of_sink in sinks:
            sink, whole = of_sink.sink, builder.sends_received_group(of_sink.sink)
            of_sink.due, deferred = quotas.divide(sink, of_sink.due, whole=whole, taken=taken[sink.tenant])
            taken[sink.tenant] += min(1, len(of_sink.due)) if whole else len(of_sink.due)
            for owned in deferred:
                one = planned[owned.index]
                if owned.alert.status is Status.RESOLVED:
                    del one.notified[sink.uid]
                    one.body = True
                    one.end_deferred.add(sink.uid)
                else:
                    one.deferred = True
            if deferred:
                record_behind(sink.uid, self._states, change)

    def _add_deliveries(self, of_sink: OfSink, planned: dict[int, Planned], builder: BatchBuilder) -> None:
        chosen = of_sink.due
        if not chosen:
            return
        if builder.sends_received_group(of_sink.sink):
            # The group goes as it came once anything in it has to be sent.
            chosen = of_sink.wanted
            builder.add_received_group(of_sink.sink, sorted([*chosen, *of_sink.known], key=_index))
        else:
            builder.add_alerts(of_sink.sink, chosen)
        for owned in chosen:
            planned[owned.index].notified[of_sink.sink.uid] = owned.alert.status.value

    def _record(self, one: Planned, builder: BatchBuilder, change: StateChange, now: float) -> None:
        """Put the state of an alert into the change, if there is anything to record."""
        owned, after, effect = one.merged.one, one.after, one.effect
        alert = owned.alert
        if effect is Effect.EVENT:
            self._record_event(one, builder, change, now)
            return
        if self._heartbeat:
            self._hear(one.merged, effect, after, now)
        changed: dict[str, object] = {}
        if one.notified:
            changed["received_at"] = now
        elif (
            after is one.before
            and not (one.deferred or one.body)
            and (after.status != Status.FIRING or now - after.received_at < RECEIVED_WITHIN_SECONDS)
        ):
            return
        if after.tenant != alert.tenant:
            after = msgspec.structs.replace(after, tenant=alert.tenant, source=alert.source)
        if after.status == Status.FIRING:
            changed["received_at"] = now
            if self._heartbeat:
                changed["expires_at"] = self._states.heartbeats.until(alert.tenant, alert.identity)
        if one.body:
            # Where there is no room, the firing one's body stays.
            payload = builder.body(owned) if self._states.room.keeps_end() else KEEP_BODY
        elif effect is Effect.HELD:
            held_before = one.before is not None and one.before.held_until > 0
            payload = builder.body(owned) if not held_before or self._states.room.has_needed_room() else KEEP_BODY
        elif after.status == Status.FIRING and alert.status is Status.FIRING and self._heartbeat:
            # Its end may have to be made of it. Where there is no room, an earlier one stays.
            payload = builder.body(owned) if self._states.room.keeps_body_for_end() else KEEP_BODY
        elif after.status == Status.FIRING and alert.status is Status.FIRING:
            room = self._states.room
            keeps = room.keeps_body_for_end() if one.deferred else room.keeps_body()
            known = one.deferred and one.before is not None and one.before.status == Status.FIRING
            payload = builder.body(owned) if keeps else KEEP_BODY if known else NO_BODY
        elif after.status == Status.FIRING:
            payload = KEEP_BODY
        else:
            payload = KEEP_BODY if effect is Effect.KNOWN_END else NO_BODY
        self._put(one, change, after, payload, now, changed)

    def _record_event(self, one: Planned, builder: BatchBuilder, change: StateChange, now: float) -> None:
        """Put the state of an event into the change: if it has grown, too, since it is remembered for as long as it may grow again."""
        owned, after = one.merged.one, one.after
        alert = owned.alert
        has_grown = one.before is not None and alert.count > one.before.count
        if not (one.notified or has_grown or (one.continues and one.due_again)):
            return
        changed: dict[str, object] = {"received_at": now}
        if alert.count > after.count:
            changed["count"] = alert.count
        if after.tenant != alert.tenant:
            after = msgspec.structs.replace(after, tenant=alert.tenant, source=alert.source)
        payload = NO_BODY
        if alert.count < after.count:
            payload = KEEP_BODY  # a later one waits
        elif one.due_again and self._states.room.keeps_body():
            payload = builder.body(owned)
            changed["expires_at"] = max(one.due_again) + GROWTH_SECONDS
            self._states.when_grown(min(one.due_again), alert.tenant, one.merged.identity)
        self._put(one, change, after, payload, now, changed)

    def _put(
        self, one: Planned, change: StateChange, after: AlertState, payload: int, now: float, changed: dict[str, object]
    ) -> None:
        """Record the state of an alert; of what an earlier part recorded, only what is new."""
        if one.untouched and min(payload, 0) == min(one.recorded, 0):
            payload = KEEP_BODY
        else:
            one.recorded = payload
        added: Sequence[Notified] = ()
        if one.notified:
            changed["notified"] = notified = self._updated(one, now)
            others_follow = self._begun is not None and self._begun.planned is one
            unchanged = one.untouched and after is one.before and payload == KEEP_BODY and not one.due_again
            if others_follow and unchanged:  # the last part that notifies anybody writes all of it
                added = notified[-len(one.notified) :]
        self._states.put(change, after, payload, added, **changed)

    def _updated(self, one: Planned, now: float) -> tuple[Notified, ...]:
        """The entries of an alert after the sinks of this part were notified; theirs are the last."""
        alert, replaced = one.merged.one.alert, None
        if one.untouched:
            replaced = len(one.notified if alert.status is Status.RESOLVED else one.notified.keys() & one.last_of.keys())
        count = alert.count if one.effect is Effect.EVENT else 0
        return updated(
            one.after.notified, one.notified, epoch_micros(alert.starts_at), now, self._sender, count, replaced=replaced
        )

    def _current(self, sink: Sink, one: Planned) -> Sink | None:
        """A sink that was left to this part, as it is now; None: it is gone, or does not want the alert any more."""
        current = self._directory.sinks.get(sink.uid)
        if current is None or current is sink or any(self._index.wants(sink.uid, alert) for alert in one.merged.variants):
            return current
        return None

    def _matching(self, merged: Merged) -> list[Sink]:
        if len(merged.variants) == 1:
            return self._index.matching(merged.variants[0])
        found = {sink.uid: sink for alert in merged.variants for sink in self._index.matching(alert)}
        return list(found.values())


def _with_start_of(state: AlertState, merged: Merged) -> Alert:
    """The alert, of which the source did not say since when it fires, with the start of the episode that goes on."""
    starts_at = from_epoch_micros(state.starts_at)

    def changed(alert: Alert) -> Alert:
        return msgspec.structs.replace(alert, starts_at=starts_at, id=alert_id(alert.fingerprint, starts_at, alert.status))

    merged.one = msgspec.structs.replace(merged.one, alert=changed(merged.one.alert))
    merged.variants = [changed(one) for one in merged.variants]
    return merged.one.alert


def _index(one: Owned) -> int:
    return one.index
