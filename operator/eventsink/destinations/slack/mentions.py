"""Whom a message mentions: the people that the sink's owner named for a severity, while such an alert fires.

Nothing else mentions anybody. People are named by elements of their own in a block above the coloured part, where Slack notifies them; in a
message that is text alone, by Slack's sequences of control characters, which the text of alerts cannot have (`escaped`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from eventsink.alerts.alert import Alert, Severity
from eventsink.destinations.slack.blocks import rich, run
from eventsink.destinations.slack.form import MentionForm


@dataclass(frozen=True, slots=True)
class Mentioned:
    """Who is mentioned, each once."""

    users: tuple[str, ...] = ()
    """Ids."""
    groups: tuple[str, ...] = ()
    """Ids of user groups."""
    here: bool = False

    def blocks(self) -> list[dict[str, Any]]:
        """The block that mentions them; none, if there is nobody."""
        parts: list[dict[str, Any]] = [{"type": "user", "user_id": one} for one in self.users]
        parts += [{"type": "usergroup", "usergroup_id": one} for one in self.groups]
        parts += [{"type": "broadcast", "range": "here"}] * self.here
        return [rich([part for one in parts for part in (run(" "), one)][1:])] if parts else []

    def as_text(self) -> str:
        """The same in the text of a message without blocks."""
        users, groups = (f"<@{one}>" for one in self.users), (f"<!subteam^{one}>" for one in self.groups)
        return " ".join([*users, *groups, *["<!here>"] * self.here])


NOBODY = Mentioned()


def mentioned(firing: Sequence[Alert], mentions: Sequence[MentionForm]) -> Mentioned:
    """Whom a message about these alerts mentions.

    Parameters
    ----------
    firing
        Those of its alerts that have not ended.
    mentions
        What the sink's owner wrote; each holds if one of the alerts is severe enough.
    """
    severities = {alert.severity for alert in firing}
    held = [one for one in mentions if any(severity.passes(_lowest(one)) for severity in severities)]
    return Mentioned(
        tuple(dict.fromkeys(user for one in held for user in one.users)),
        tuple(dict.fromkeys(group for one in held for group in one.groups)),
        any(one.here for one in held),
    )


def _lowest(mention: MentionForm) -> Severity | None:
    return Severity(mention.min_severity) if mention.min_severity is not None else None
