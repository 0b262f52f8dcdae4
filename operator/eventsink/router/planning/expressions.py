"""What matching tenants' expressions may cost, regular ones and CEL: a share of the event loop's time for each tenant, and one for all.

An expression that was not evaluated, because a share is spent, counts as fulfilled: in doubt, a sink is notified. That is counted, and the
status of the sink says so. A tenant that has used little is always evaluated, however much others use.
"""

from __future__ import annotations

import time
from collections.abc import Callable

from eventsink.alerts.alert import Alert
from eventsink.alerts.matchers import Matcher
from eventsink.cel.condition import Condition
from eventsink.runtime.cpu_budget import CpuBudget, CpuShare

TENANT_SECONDS = 0.1
"""What the expressions of one tenant may take at once, and each second; evaluation ends with the expression that exceeds it."""
TOTAL_SECONDS = 0.25
"""What the expressions of all tenants may take at once, and each second, but for what `TENANT_ASSURED_SECONDS` assures."""
TENANT_ASSURED_SECONDS = 0.05
"""What a tenant may use whatever others have used."""
FREE_SECONDS = 5e-6
"""An evaluation that takes no longer is not counted: a usual one takes 1 us, and a delivery twenty times as long as this."""
MAX_VERDICTS = 32_768
"""Results that are kept: labels have the same values again and again."""
MAX_VERDICT_CHARACTERS = 128
"""Longest value of which the result is kept."""


class ExpressionBudget:
    """Evaluates expressions as long as the shares last.

    Parameters
    ----------
    clock
        Seconds, monotonic, in which shares are refilled.
    cpu
        Seconds of a processor that an evaluation takes: a busy machine is not charged to tenants.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic, cpu: Callable[[], float] = time.thread_time) -> None:
        self._cpu = cpu
        self._budget = CpuBudget(tenant=TENANT_SECONDS, total=TOTAL_SECONDS, assured=TENANT_ASSURED_SECONDS, clock=clock)
        self._verdicts: dict[tuple[str, str], bool] = {}

    def says(self, share: CpuShare, matcher: Matcher, value: str) -> bool | None:
        """What `Matcher.says` of a matcher with an expression; None: the tenant's share or that of all is spent."""
        key = (matcher.value, value)
        verdict = self._verdicts.get(key)
        if verdict is not None:
            return verdict
        if not self._budget.allows(share):
            return None
        began = self._cpu()
        verdict = matcher.says(value)
        taken = self._cpu() - began
        if taken > FREE_SECONDS:
            self._budget.spend(share, taken)
        if len(value) <= MAX_VERDICT_CHARACTERS:
            if len(self._verdicts) >= MAX_VERDICTS:
                self._verdicts.clear()
            self._verdicts[key] = verdict
        return verdict

    def holds(self, share: CpuShare, condition: Condition, alert: Alert) -> bool | None:
        """What `Condition.holds` of an alert; None: the tenant's share or that of all is spent.

        Raises
        ------
        EvaluationFailed
            The condition cannot be evaluated.
        """
        if not self._budget.allows(share):
            return None
        began = self._cpu()
        try:
            return condition.holds(alert)
        finally:
            taken = self._cpu() - began
            if taken > FREE_SECONDS:
                self._budget.spend(share, taken)
