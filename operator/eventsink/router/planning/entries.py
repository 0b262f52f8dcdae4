"""The entries of the notification log that an alert has."""

from __future__ import annotations

from eventsink.router.queue.states import Notified


def updated(
    entries: tuple[Notified, ...],
    notified: dict[str, str],
    starts_at: int,
    at: float,
    sender: str,
    count: int = 0,
    *,
    replaced: int | None = None,
) -> tuple[Notified, ...]:
    """The entries of an alert after sinks were notified: uid -> status.

    Parameters
    ----------
    replaced
        How many of the entries are of these sinks, if that is known: it is not looked for more.
    """
    new = [Notified(uid, status, starts_at, at, sender, count) for uid, status in notified.items()]
    left = len(entries) if replaced is None else replaced
    kept: list[Notified] = []
    for number, entry in enumerate(entries):
        if left == 0:
            return (*kept, *entries[number:], *new)
        if entry.sink in notified:
            left -= 1
        else:
            kept.append(entry)
    return (*kept, *new)
