"""What sinks' templates cost, and which of them fail: shared by all senders of a process, and reported in the sinks' statuses.

Where a template fails, or its tenant has used up its share of the event loop's time, the destination type decides what becomes of the message.
"""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from enum import StrEnum

from eventsink.runtime.cpu_budget import CpuBudget, CpuShare

TENANT_SECONDS = 0.1
"""What the templates of one tenant may take at once, and each second; the evaluation that exceeds it is the last."""
TOTAL_SECONDS = 0.25
"""The same of all tenants, but for what `TENANT_ASSURED_SECONDS` assures."""
TENANT_ASSURED_SECONDS = 0.05
MAX_TENANTS = 10_000
"""Whose shares are kept; of more, the one that was not used for the longest time is full again."""
MAX_PROBLEMS = 10_000
"""Sinks whose problems are kept; of more, the oldest is forgotten."""
REPORTED_SECONDS = 600.0
"""So long at least a status says that a template failed; after that, until a message shows that it works."""


class TemplateReason(StrEnum):
    """Why messages are not as the sink's templates say."""

    FAILED = "TemplateFailed"
    LIMITED = "TemplatesLimited"


@dataclass(frozen=True, slots=True)
class TemplateProblem:
    """What the status of a sink says of its templates."""

    reason: TemplateReason
    message: str


@dataclass(frozen=True, slots=True)
class _Kept:
    problem: TemplateProblem
    source: Hashable
    at: float


class TemplateUse:
    """Counts, and remembers what is to be reported.

    Parameters
    ----------
    on_not_used
        Called for each message that is not as the sink's templates say, or has to wait, with the reason.
    clock
        Seconds, monotonic.
    """

    def __init__(
        self, on_not_used: Callable[[str], None] = lambda _reason: None, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._on_not_used = on_not_used
        self._clock = clock
        self._budget = CpuBudget(tenant=TENANT_SECONDS, total=TOTAL_SECONDS, assured=TENANT_ASSURED_SECONDS, clock=clock)
        self._shares: OrderedDict[str, CpuShare] = OrderedDict()
        self._problems: OrderedDict[str, _Kept] = OrderedDict()

    def allows(self, tenant: str) -> bool:
        """Whether templates of a tenant may be evaluated."""
        return self._budget.allows(self._share(tenant))

    def spend(self, tenant: str, seconds: float) -> None:
        """Count what an evaluation took of a processor."""
        self._budget.spend(self._share(tenant), seconds)

    def opened(self, uid: str, source: Hashable) -> None:
        """A sink is active with these templates: a problem of others is over."""
        if (kept := self._problems.get(uid)) is not None and kept.source != source:
            del self._problems[uid]

    def failed(self, uid: str, source: Hashable, message: str) -> None:
        """A template failed; the message is a sentence for its owner about what became of the alerts, with nothing of any alert."""
        self._keep(uid, _Kept(TemplateProblem(TemplateReason.FAILED, message), source, self._clock()))

    def limited(self, uid: str, source: Hashable, message: str) -> None:
        """A template was not evaluated, since the tenant's share is spent; the message is as in `failed`."""
        self._keep(uid, _Kept(TemplateProblem(TemplateReason.LIMITED, message), source, self._clock()))

    def worked(self, uid: str) -> None:
        """A message is as the templates say."""
        if (kept := self._problems.get(uid)) is not None and self._clock() - kept.at >= REPORTED_SECONDS:
            del self._problems[uid]

    def problem(self, uid: str) -> TemplateProblem | None:
        """What the status of a sink says."""
        kept = self._problems.get(uid)
        return kept.problem if kept is not None else None

    def _keep(self, uid: str, kept: _Kept) -> None:
        self._on_not_used(kept.problem.reason.value)
        self._problems[uid] = kept
        self._problems.move_to_end(uid)
        if len(self._problems) > MAX_PROBLEMS:
            self._problems.popitem(last=False)

    def _share(self, tenant: str) -> CpuShare:
        share = self._shares.get(tenant)
        if share is None:
            share = self._shares[tenant] = self._budget.share()
            if len(self._shares) > MAX_TENANTS:
                self._shares.popitem(last=False)
        self._shares.move_to_end(tenant)
        return share
