"""What is planned of one notification: for each of its alerts, and for each sink."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import msgspec

from eventsink.router.planning.assign import Merged
from eventsink.router.planning.batch import Owned
from eventsink.router.planning.episodes import Effect
from eventsink.router.queue.states import KEEP_BODY, AlertState, Notified
from eventsink.sinks.sink import Sink


class OfSink(msgspec.Struct):
    """What one sink gets of a notification."""

    sink: Sink
    due: list[Owned] = []
    wanted: list[Owned] = []
    """All of which it is notified where it takes groups, once there is a reason to send the group."""
    known: list[Owned] = []
    """Ends that it was notified of before: they are in the group that Alertmanager sends, too."""


class Planned(msgspec.Struct):
    """An alert that is being planned."""

    merged: Merged
    before: AlertState | None
    after: AlertState
    effect: Effect
    """What the notification means for it."""
    notified: dict[str, str] = {}
    """uid of a sink -> the status that it is notified of, or would be if it wanted it."""
    body: bool = False
    """Whether the latest body has to be stored."""
    due_again: list[float] = []
    """Of an event that has grown: when sinks that wait for their repeatInterval are notified, on the queue clock."""
    deferred: bool = False
    """Whether it fires, and a sink is caught up with it later: its tenant is over its quota, or the sink is quiet for a time."""
    end_deferred: set[str] = set()
    """uids of sinks that are notified of its end later, since their tenant is over its quota."""
    last_of: Mapping[str, Notified] = {}
    """If it fires, or is an event: what sinks were notified of before, by uid."""
    recorded: int = KEEP_BODY
    """The body that was recorded with it, or `KEEP_BODY` or `NO_BODY`."""
    continues: bool = False
    """Whether other sinks are notified of it in an earlier part ..."""
    untouched: bool = False
    """... and nothing else has changed what is known of it since."""

    def go_on(self, begun: Begun) -> None:
        """Go on with what was planned in an earlier part."""
        self.continues = True
        self.untouched = self.before is begun.state
        before = begun.planned
        self.deferred, self.due_again, self.end_deferred = before.deferred, before.due_again, before.end_deferred
        if self.untouched:
            self.last_of, self.recorded = before.last_of, before.recorded


class Begun(msgspec.Struct):
    """An alert of which some sinks are notified in the part that was made last, and others in the next one."""

    planned: Planned
    effect: Effect
    """What the notification meant for it at first."""
    appeared: bool = False
    matching: Sequence[Sink] = ()
    """If it fires, or is an event: the sinks that are left, ..."""
    last_of: Mapping[str, Notified] = {}
    """... and what had been notified before the first part, by uid."""
    state: AlertState | None = None
    """What was known of it after that part: every change makes another object."""
