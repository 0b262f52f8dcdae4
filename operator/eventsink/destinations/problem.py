"""Why an EventSink cannot be in force as it stands: a reason for programs, a sentence for people, and what follows from it."""

from __future__ import annotations

from enum import Enum, auto


class Effect(Enum):
    """What a problem does to the sink that was accepted before."""

    KEEP = auto()
    """A bad edit: the last accepted configuration stays in force."""
    WITHDRAW = auto()
    """Authority is lost: nothing may be sent any more."""
    GRACE = auto()
    """A credential is gone: withdrawn if it is still gone after the grace."""


class Problem(Exception):
    """The spec cannot be put in force.

    Attributes
    ----------
    reason
        CamelCase, listed in docs/status.md.
    message
        What is the matter and what to do; holds no credential.
    effect
        What it does to the sink that was accepted before.
    may_pass
        Whether it may pass by itself (`Reconciling`), or a person has to act (`Stalled`).
    again_after
        Seconds after which it is looked at again although nothing in the cluster changes; None: not before something does.
    """

    def __init__(
        self,
        reason: str,
        message: str,
        *,
        effect: Effect = Effect.KEEP,
        may_pass: bool = False,
        again_after: float | None = None,
    ) -> None:
        super().__init__(message)
        self.reason = reason
        self.message = message
        self.effect = effect
        self.may_pass = may_pass
        self.again_after = again_after
