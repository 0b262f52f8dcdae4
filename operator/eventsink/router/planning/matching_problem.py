"""Why a sink is not given exactly the alerts that it asks for, as its status says it."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

REPORTED_SECONDS = 600.0
"""So long after an expression was last left out, or failed, the status of its sink says so."""


class MatchingReason(StrEnum):
    """Why a sink is not given exactly the alerts that it asks for."""

    UNREADABLE = "MatchUnreadable"
    LIMITED = "MatchingLimited"
    FAILED = "ExpressionFailed"


@dataclass(frozen=True, slots=True)
class MatchingProblem:
    """What the status of a sink says of its matching."""

    reason: MatchingReason
    message: str


UNREADABLE = MatchingProblem(
    MatchingReason.UNREADABLE,
    "the sink gets no alerts: this version of the router cannot read its match rules; upgrade the router",
)
TOO_LARGE = MatchingProblem(
    MatchingReason.LIMITED,
    "the expressions of the tenant's sinks are too many or too large: those of this sink are not evaluated, and it gets every alert "
    'that fulfils the rest of its match; write simpler expressions, or name the values (=~"a|b")',
)
TOO_SLOW = MatchingProblem(
    MatchingReason.LIMITED,
    "matching the expressions of the tenant's sinks takes too long: for some alerts those of this sink were not evaluated, and it got "
    'the alerts if they fulfilled the rest of its match; write simpler expressions, or name the values (=~"a|b")',
)


def failed(why: str) -> MatchingProblem:
    """Of a sink whose expression had no value for some alerts."""
    return MatchingProblem(
        MatchingReason.FAILED,
        f"spec.match.expression has no value for some alerts, and the sink got them if they fulfilled the rest of its match: {why}",
    )
