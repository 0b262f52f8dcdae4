"""What can be wrong with an expression: when it is written, and when it is evaluated."""

from __future__ import annotations


class InvalidExpression(ValueError):
    """The text is no expression that may be used; the message is a sentence that says where and what to do."""


class EvaluationFailed(ValueError):
    """An expression has no value for what it was evaluated on; the message says why, and repeats nothing of that."""


class MemberAbsent(EvaluationFailed):
    """It reads a member that is not there."""
