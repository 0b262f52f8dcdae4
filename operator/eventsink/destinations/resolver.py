"""What a destination type's part `resolve` gives the operator: from an accepted spec and its credentials to the target.

The module has `open_resolver(context)`, which returns a `Resolver`, and `check(sink, secrets)`, which returns the notes of what
cannot be checked without the destination, or raises the `Problem` that the given Secrets show.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol, TypeVar

from eventsink.destinations.credentials import SecretValues
from eventsink.destinations.problem import Problem
from eventsink.kube.api import Api, Key
from eventsink.resources.model import StatusModel
from eventsink.runtime.settings import Settings
from eventsink.sinks.egress import EgressGuard
from eventsink.sinks.sink import SecretVersion
from eventsink.sinks.target import Target

if TYPE_CHECKING:  # the spec of an EventSink is made of the types, and a type may be one module with all parts
    from eventsink.resources.eventsink import EventSink

SettingsModel = TypeVar("SettingsModel", bound=Settings)

Before = Callable[[], Awaitable[Target | None]]
"""Reads the target that was compiled last; None: there is none."""


@dataclass(frozen=True, slots=True)
class ResolverContext:
    """What the operator gives all resolvers."""

    api: Api
    """For Secrets of their own. The EventSink's Secrets are read for them. It also writes where this replica leads no longer: what
    cannot be asked for a second time has to be stored. Call `check_leader` before everything else."""
    egress: EgressGuard
    """For outgoing HTTP."""
    used_in: Callable[[str], Collection[str]]
    """Names of the Secrets of a namespace that EventSinks need."""
    settings: Sequence[Settings] = ()
    """What the types declare as `OPERATOR_SETTINGS`."""
    check_leader: Callable[[], object] = lambda: None
    """Raises `NotLeading` where another replica may be leading: call it before what only one may do."""
    own_namespace: str | None = None
    """Where Secrets of their own are kept; None: where a type's settings say."""

    def settings_of(self, model: type[SettingsModel]) -> SettingsModel:
        """A type's own settings; their defaults where the process has none."""
        return next((one for one in self.settings if isinstance(one, model)), model())


@dataclass(frozen=True, slots=True)
class Resolved:
    """The target of a sink, and what it was made from beside the spec and its Secrets."""

    target: Target
    tokens: tuple[SecretVersion, ...] = ()
    """The operator's own Secrets that were used."""


@dataclass(frozen=True, slots=True)
class Note:
    """What of a sink was not checked."""

    path: str
    sentence: str


class Resolver(Protocol):
    """Makes the targets of one destination type."""

    def policy_digest(self) -> str:
        """Changes when a setting changes that decides about targets: all sinks of the type are then compiled again."""
        ...

    def own_namespaces(self) -> Collection[str]:
        """The namespaces in which it keeps Secrets of its own."""
        ...

    def problems(self, sink: EventSink) -> Sequence[Problem]:
        """All that the spec and the settings alone show: `resolve` would raise the first of them, whatever the Secrets hold.

        Asks nobody, and is quick: it is called while somebody waits to apply the spec, from any thread. What the platform has to fix,
        and not the spec, is left to `resolve`.
        """
        ...

    def tokens(self, sink: EventSink, secrets: SecretValues) -> Collection[Key]:
        """Namespace and name of the operator's own Secrets that the sink needs, whether they exist yet or not.

        Raises
        ------
        Problem
            A credential cannot be used.
        """
        ...

    async def resolve(self, sink: EventSink, secrets: SecretValues, *, namespace_uid: str, before: Before) -> Resolved:
        """The target of a sink whose claim was accepted.

        Parameters
        ----------
        sink, secrets
            The spec, and the Secrets that it refers to.
        namespace_uid
            Of the sink's namespace; empty: not known yet, or `tokens` names none that it is bound to.
        before
            What was compiled last.

        Raises
        ------
        Problem
            A credential, a value or a setting cannot be used, or the destination cannot be reached to ask. The sentence shows no
            credential.
        """
        ...

    def status(self, target: Target) -> StatusModel | None:
        """What the sink's status shows of a target: an instance of the type's `STATUS`, or nothing."""
        ...

    def remark(self, sink: EventSink, status: StatusModel | None) -> str:
        """What the status adds for the owner of an accepted sink, since it does not do all that the spec says; empty: nothing.

        Parameters
        ----------
        status
            What it shows of the sink's target.
        """
        ...

    async def run(self) -> None:
        """Maintain what the type keeps until cancelled; returns where there is nothing to do."""
        ...

    async def close(self, grace: float) -> None:
        """Finish what must not be interrupted, within `grace` seconds, and release everything."""
        ...
