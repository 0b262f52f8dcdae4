"""What the statuses say, as the router wrote them: kept in the queue, so that a restart writes none of them again."""

from __future__ import annotations

from collections.abc import Collection
from itertools import islice
from sys import intern

from msgspec.structs import replace

from eventsink.router.queue.states import SinkReport, SinkReports

STORED_AT_ONCE = 1000


class ReportLog:
    """The last report of each sink, by uid."""

    def __init__(self, queue: SinkReports) -> None:
        self._queue = queue
        self._reports: dict[str, SinkReport] = {}
        self._unsaved: dict[str, None] = {}
        """uids of reports that are to be stored, or removed."""
        self._lost: set[str] = set()
        """uids of those of which the statuses are gone."""

    async def load(self) -> None:
        """Read what an earlier process wrote.

        Raises
        ------
        QueueError
        """
        async for report in self._queue.sink_reports():
            self._reports[report.uid] = replace(
                report, state=intern(report.state), reason=intern(report.reason), message=intern(report.message)
            )

    def last(self, uid: str) -> SinkReport | None:
        """What was last written of a sink; None: nothing yet."""
        return self._reports.get(uid)

    def written(self, uid: str) -> SinkReport | None:
        """What the status of a sink says; None: nothing."""
        return self._reports.get(uid) if uid not in self._lost else None

    def put(self, report: SinkReport) -> None:
        """A status was written."""
        self._lost.discard(report.uid)
        self._reports[report.uid] = report
        self._unsaved[report.uid] = None

    def lose_statuses(self) -> None:
        """The statuses are gone, all of them; what they said is known still."""
        self._lost = set(self._reports)

    def forget(self) -> None:
        """The statuses may say something else by now: nothing is known of any."""
        self._unsaved |= dict.fromkeys(self._reports)
        self._reports.clear()

    async def save(self) -> None:
        """Store what is new.

        Raises
        ------
        QueueError
            The rest is stored the next time.
        """
        while uids := list(islice(self._unsaved, STORED_AT_ONCE)):
            reports = [report for uid in uids if (report := self._reports.get(uid)) is not None]
            removed = [uid for uid in uids if uid not in self._reports]
            for uid in uids:
                del self._unsaved[uid]
            try:
                await self._queue.report(reports, removed=removed)
            except BaseException:
                self._unsaved |= dict.fromkeys(uids)
                raise

    async def prune(self, sinks: Collection[str]) -> None:
        """Drop what is recorded of sinks that are gone.

        Raises
        ------
        QueueError
        """
        for uid in [uid for uid in self._reports if uid not in sinks]:
            del self._reports[uid]
            self._lost.discard(uid)
            self._unsaved[uid] = None
        await self.save()
