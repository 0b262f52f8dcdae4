"""Who may use how much of the event loop's time: a share for each tenant, and one for all.

A tenant that has used little may always go on, however much others use.
"""

from __future__ import annotations

import time
from collections.abc import Callable


class CpuShare:
    """Seconds that may be spent: refilled all the time, up to as many as each second brings.

    Parameters
    ----------
    seconds
        At once, and each second.
    """

    __slots__ = ("_at", "left", "seconds")

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self.left = seconds
        self._at = float("-inf")

    def refill(self, now: float) -> None:
        """Count the time since the last call."""
        self.left = min(self.seconds, self.left + (now - self._at) * self.seconds)
        self._at = now


class CpuBudget:
    """Shares of a tenant's size, within a total.

    Parameters
    ----------
    tenant, total
        Seconds of a processor, at once and each second.
    assured
        What a tenant may use of its share whatever others have used.
    clock
        Seconds, monotonic, in which shares are refilled.
    """

    def __init__(self, *, tenant: float, total: float, assured: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._tenant = tenant
        self._beyond = tenant - assured
        self._total = CpuShare(total)
        self._clock = clock

    def share(self) -> CpuShare:
        """A new tenant's."""
        return CpuShare(self._tenant)

    def allows(self, share: CpuShare) -> bool:
        """Whether the tenant may go on."""
        if share.left > self._beyond:
            return True
        now = self._clock()
        share.refill(now)
        self._total.refill(now)
        return share.left > 0 and (self._total.left > 0 or share.left > self._beyond)

    def spend(self, share: CpuShare, seconds: float) -> None:
        """Count what the tenant used."""
        now = self._clock()
        for one in (share, self._total):
            one.refill(now)
            one.left -= seconds
