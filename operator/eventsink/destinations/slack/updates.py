"""What follows a message that announced alerts, when something becomes of them: it is edited, or replied to. Pure.

A post is edited to show the newest state of each of its alerts, and a reply in its thread says what changed. A digest, which shows no alert by
itself, is not edited; a reply says when everything in it has ended. A repeat of what still fires is a reply too.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from msgspec import structs

from eventsink.alerts.alert import Alert, Status, epoch_micros
from eventsink.destinations.slack.blocks import MAX_LINES
from eventsink.destinations.slack.several import MAX_LISTED
from eventsink.sinks.post import Post

Updates = Literal["edit", "thread", "message"]
Repeats = Literal["thread", "channel"]

MAX_SHOWN_BYTES = 128 * 1024
"""Of the alerts that are recorded as shown by one post; one with more is not edited, and its thread says what changes."""

NOT_EDITABLE = frozenset({"message_not_found", "cant_update_message", "edit_window_closed", "block_mismatch"})
"""Errors of chat.update after which the message is posted again: it was deleted, is too old, or is another app's."""
NO_THREAD = frozenset(
    {"thread_not_found", "message_not_found", "cannot_reply_to_message", "restricted_action_non_threadable_channel"}
)
"""Errors of a reply after which it is posted as a message of its own: there is no thread (any more)."""

Known = Mapping[str, tuple[Alert, bytes]]
"""Identity -> the alert and its JSON."""


@dataclass(frozen=True, slots=True)
class Reply:
    """A message in the thread of a post."""

    changed: Known
    """What it is about, as it is now; none: everything that the post announced has ended."""
    to_channel: bool = False
    """Whether the channel is to see it too."""


@dataclass(frozen=True, slots=True)
class FollowUp:
    """What follows a post."""

    post: Post
    """As it is from then on."""
    before: Known
    after: Known
    """What it showed, and is edited to show if that differs; none: it is not edited."""
    reply: Reply | None


def latest(alerts: Sequence[Alert], bodies: Sequence[bytes]) -> dict[str, tuple[Alert, bytes]]:
    """Of each alert what it was last, in the order in which they came first."""
    return {alert.identity: (alert, body) for alert, body in zip(alerts, bodies, strict=True)}


def announced(known: Known, message: str, reference: str, updates: Updates) -> Post | None:
    """The record of a new message about alerts; None: nothing will follow it.

    Parameters
    ----------
    message, reference
        Its id, and Slack's name for it.
    """
    firing = {
        name: epoch_micros(alert.starts_at) for name, (alert, _) in known.items() if alert.status is Status.FIRING or alert.count
    }
    if not firing:
        return None
    one_name = len({alert.name for alert, _ in known.values()}) == 1
    digest = len(known) > (MAX_LINES if one_name else MAX_LISTED)
    shown = () if digest or updates != "edit" else _bounded([body for _, body in known.values()])
    return Post(reference, message, firing, len(known), digest, shown)


def follow(post: Post, shown: Known, changed: Known, repeats: Repeats) -> FollowUp:
    """What follows a post when this became of some of its alerts.

    Parameters
    ----------
    shown
        What the post shows (`Post.alerts`); empty: it is not edited.
    changed
        Alerts of the post, as they are now.
    """
    ended = {name for name, (alert, _) in changed.items() if alert.status is Status.RESOLVED}
    starts = {name: epoch_micros(alert.starts_at) for name, (alert, _) in changed.items() if name not in ended}
    open_alerts = {name: start for name, start in {**post.open, **starts}.items() if name not in ended}
    merged = {name: changed.get(name, one) for name, one in shown.items()}
    # One that fires since a later time may have ended in between, unseen: it is a page, and not only a repeat.
    again = any(start > post.open.get(name, start) for name, start in starts.items())
    reply: Reply | None = Reply(changed, to_channel=again or (bool(starts) and repeats == "channel"))
    if post.digest and not starts:
        reply = Reply({}) if not open_alerts else None
    return FollowUp(
        structs.replace(post, open=open_alerts, alerts=_bounded([body for _, body in merged.values()])),
        shown,
        merged,
        reply,
    )


def _bounded(bodies: Sequence[bytes]) -> tuple[bytes, ...]:
    return tuple(bodies) if sum(len(body) for body in bodies) <= MAX_SHOWN_BYTES else ()
