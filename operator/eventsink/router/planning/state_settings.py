"""How much the router remembers of alerts, and for how long."""

from __future__ import annotations

from pydantic import Field

from eventsink.runtime.settings import Seconds, Settings


class StateSettings(Settings):
    """What the router remembers of alerts and of what each sink was notified of."""

    ha_window: Seconds = 60.0
    """Within this after a sink was notified, the same from another sender is a duplicate of a highly available pair. Longer than the halves
    are apart (--cluster.peer-timeout), and shorter than Alertmanager's repeat_interval."""
    retention: Seconds = 120 * 3600.0
    """A firing alert that no notification has named for so long is forgotten, as Alertmanager does, and no end of it is sent: its source, or
    the replica in which it fired, is gone. Longer than any repeat_interval."""
    resolved_retention: Seconds = 3600.0
    """A resolved alert, and an event, is forgotten after this; one whose end a suspended sink has yet to be notified of, after `retention`."""
    resolve_timeout: Seconds = Field(default=300.0, gt=0)
    """Of sources that send what fires all the time (Prometheus): a firing alert that names no end (endsAt) has ended if it is not sent again
    within this. Longer than the interval in which they send it."""
    resolve_grace: Seconds = 300.0
    """After its start, and after it was stopped for a while, the router waits so long before it ends alerts that are not sent any more: their
    sources have to send again what fires. Longer than the interval in which they do: with less, alerts that still fire end and begin again."""
    max_alerts: int = Field(default=200_000, ge=1000)
    """Alerts that are remembered, about 500 bytes of memory each. Beyond it the tenant with the most forgets its oldest, resolved ones
    first, and of those that their source sends all the time (Prometheus) the latest. Of a firing one that is forgotten, sinks are notified
    again if its source repeats it, but not of its end if it ends before: keep this above the number of alerts that fire
    (eventsink_router_alerts_firing)."""
    max_groups: int = Field(default=100_000, ge=1000)
    """Groups that are remembered; beyond it the one that was received longest ago is forgotten."""
