"""What a reply in the thread of a message says: what has become of its alerts, in a line each. Pure."""

from __future__ import annotations

from collections.abc import Sequence

from eventsink.alerts.alert import Alert, Status
from eventsink.destinations.slack.blocks import listed
from eventsink.destinations.slack.message import SlackMessage, colour_of
from eventsink.destinations.slack.parts import WELL_EMOJI, sign_of, state_of, summary_of, title_of, where_of
from eventsink.destinations.slack.text import cut, escaped, with_links
from eventsink.sinks.post import Post

MAX_LINE = 280


def all_ended(post: Post) -> SlackMessage:
    """Everything that a digest announced has ended."""
    return _message(f"{WELL_EMOJI} All {post.total:,} alerts of this message are resolved", [], colour_of(None))


def what_changed(post: Post, changed: Sequence[Alert]) -> SlackMessage:
    """These alerts of a post have ended, or still fire.

    Parameters
    ----------
    post
        As it is from now on.
    """
    ordered = sorted(changed, key=lambda alert: alert.status is not Status.RESOLVED)
    # Of one name, the headline says it: a notification shows no more of a reply.
    name = title_of(ordered[0]) if len({alert.name for alert in ordered}) == 1 and post.total > 1 else ""
    lines = [_line(alert, named=not name) for alert in ordered]
    worst = max(
        (alert.severity for alert in changed if alert.status is not Status.RESOLVED), key=lambda one: one.rank, default=None
    )
    colour = colour_of(worst)
    if len(lines) == 1 and post.total == 1:
        return _message(lines[0], [], colour)
    over = post.total - len(post.open)
    again = "Happened again" if all(alert.count for alert in changed) else "Still firing"
    said = "All resolved" if not post.open else f"{over:,} of {post.total:,} resolved" if over else again
    return _message(f"{sign_of(ordered[0])} {said}" + (f" · {name}" if name else ""), lines, colour)


def _line(alert: Alert, *, named: bool) -> str:
    if alert.status is Status.RESOLVED:
        state = state_of(alert)
    else:
        state = f"{alert.count:,} times" if alert.count else f"Still firing ({state_of(alert).lower()})"
    parts = [state, title_of(alert) if named else "", where_of(alert), summary_of(alert)]
    return cut(f"{sign_of(alert)} " + " · ".join(part for part in parts if part), MAX_LINE)


def _message(headline: str, lines: Sequence[str], colour: str) -> SlackMessage:
    text = escaped(headline)
    blocks = [listed([list(with_links(line)) for line in lines], "more")] if lines else []
    return SlackMessage(text, headline, [{"color": colour, "fallback": text, "blocks": blocks}] if blocks else [])
