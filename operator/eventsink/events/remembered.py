"""Which results of which reports were posted as failing, so that it can be posted that they pass when they are gone. Bounded."""

from __future__ import annotations

from collections import Counter, OrderedDict
from collections.abc import Hashable
from typing import NamedTuple

from eventsink.events.report import Report, Result

MAX_BYTES = 32 * 1024**2
"""Of what is remembered, about: some 100,000 results. The report that changed longest ago makes room: what goes from it ends with the next
round."""
RESULT_BYTES = 200
"""What a result takes beside its texts, about."""


class _Posted(NamedTuple):
    failing: dict[Result, str]
    digest: bytes
    size: int


class Remembered:
    """The failing results of each report, as they were posted last."""

    def __init__(self, max_bytes: int = MAX_BYTES) -> None:
        self._max_bytes = max_bytes
        self._reports: OrderedDict[Hashable, _Posted] = OrderedDict()
        self._failing: Counter[Result] = Counter()
        self._bytes = 0

    def __len__(self) -> int:
        """Results."""
        return len(self._failing)

    def is_same(self, key: Hashable, report: Report) -> bool:
        """Whether this was posted already."""
        posted = self._reports.get(key)
        return posted.digest == report.digest if posted is not None else not report.failing

    def replace(self, key: Hashable, report: Report | None) -> dict[Result, str]:
        """What a report is from now on, None: it is gone; returns what fails in no report any more, with the severities."""
        before = self._reports.pop(key, None)
        if before is not None:
            self._drop(before)
        if report is not None and report.failing:
            size = sum([RESULT_BYTES + sum(map(len, one)) for one in report.failing])
            self._reports[key] = _Posted(report.failing, report.digest, size)
            self._failing.update(report.failing.keys())
            self._bytes += size
            while self._bytes > self._max_bytes:
                self._drop(self._reports.popitem(last=False)[1])
        now = report.failing if report is not None else {}
        gone = before.failing if before is not None else {}
        return {one: severity for one, severity in gone.items() if one not in now and one not in self._failing}

    def _drop(self, posted: _Posted) -> None:
        self._bytes -= posted.size
        for one in posted.failing:
            self._failing[one] -= 1
            if not self._failing[one]:
                del self._failing[one]
