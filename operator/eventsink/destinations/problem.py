"""Why the spec of an EventSink is not accepted: a reason for programs, a sentence for people, and what follows from it."""

from __future__ import annotations

from enum import Enum, auto


class Effect(Enum):
    """What a problem does to the sink that was accepted before."""

    KEEP = auto()
    """A bad edit: the last accepted configuration stays active."""
    WITHDRAW = auto()
    """Authority is lost: nothing may be sent any more."""
    GRACE = auto()
    """A credential is missing: withdrawn if it is still missing after the grace period."""


class Problem(Exception):
    """The spec cannot be accepted.

    Attributes
    ----------
    reason
        CamelCase, listed in docs/status.md.
    path
        The field that it is about, as in `spec.webhook.url`.
    sentence
        What is wrong and what to do; holds no credential.
    effect
        What it does to the sink that was accepted before.
    may_pass
        Whether it may pass by itself (`Reconciling`), or a person has to act (`Stalled`).
    again_after
        Seconds after which to try again although nothing in the cluster changes; None: not before something does.
    """

    def __init__(
        self,
        reason: str,
        path: str,
        sentence: str,
        *,
        effect: Effect = Effect.KEEP,
        may_pass: bool = False,
        again_after: float | None = None,
    ) -> None:
        super().__init__(f"{path}: {sentence}")
        self.reason = reason
        self.path = path
        self.sentence = sentence
        self.effect = effect
        self.may_pass = may_pass
        self.again_after = again_after

    @property
    def message(self) -> str:
        """The sentence behind the field that it is about."""
        return str(self)
