"""What is to be said of an EventSink that somebody applies: refused, or accepted with warnings, in the words of the status."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any, Protocol

from eventsink.controller.compile import UNKNOWN_FIELD, match_problems, mute_problems, spec_problems
from eventsink.controller.sink_quota import QUOTA_EXCEEDED, quota_exceeded
from eventsink.controller.tenancy import Namespace, check_claim, is_of_tenant
from eventsink.destinations.credentials import secret_missing
from eventsink.destinations.problem import Problem
from eventsink.destinations.resolver import Resolver
from eventsink.kube.api import Key, Object
from eventsink.resources.eventsink import EventSink, InvalidSpec, read_eventsink
from eventsink.resources.model import Reference, references

MAX_REPORTED = 16
"""Problems and warnings of one review that are reported; of the others, their number."""
MAX_CHARACTERS = 1024
"""Of one of them: the name of a field that nobody knows may be as long as a spec."""
MAX_NAMED = 3
"""Other EventSinks of the same name that a warning names."""
MAX_NAMESAKES = 100
"""EventSinks of the same name and claim that are looked at for them."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """What is said."""

    refusals: tuple[str, ...] = ()
    """Why it is refused; none: it is accepted."""
    warnings: tuple[str, ...] = ()
    """What whoever applies it is told all the same."""

    @property
    def message(self) -> str:
        """Why it is refused, in one text."""
        return "; ".join(_limited(self.refusals))


@dataclass(frozen=True, slots=True)
class Facts:
    """What the cluster says that an EventSink is judged by."""

    namespace: Namespace | None
    """Its own."""
    tenant_is_owned: bool
    """Whether any namespace owns the tenant that it claims."""
    missing: frozenset[str] = frozenset()
    """Names of Secrets that it refers to and that are not there."""
    quota: int = 0
    """How many sinks the tenant may have, where it has no place for this one; 0: it has."""
    namesakes: tuple[Key, ...] = ()
    """Other EventSinks of its tenant with the same display name, a few of them."""


class ByType(Protocol):
    """The resolvers by destination type."""

    def __getitem__(self, name: str, /) -> Resolver: ...


class Known(Protocol):
    """What the operator has seen of the cluster. It is read from another thread than it is changed in: each call is one look-up."""

    def namespace(self, name: str) -> Namespace | None:
        """A namespace."""
        ...

    def is_owned(self, tenant: str) -> bool:
        """Whether any namespace owns a tenant."""
        ...

    def has_secret(self, key: Key) -> bool:
        """Whether there is a Secret."""
        ...

    def named(self, tenant: str, name: str) -> Collection[Key]:
        """The EventSinks that claim a tenant and have a display name."""
        ...

    def quota_exceeded(self, key: Key, tenant: str) -> int:
        """How many sinks a tenant may have, where it has no place for this one; 0: it has."""
        ...


@dataclass(frozen=True, slots=True)
class Fresh:
    """What the API server says now."""

    namespace: Namespace | None
    """None: there is none, or it was not asked about it."""
    secrets: frozenset[str]
    """Those asked for that exist."""


class Confirm(Protocol):
    """Asks the API server."""

    async def __call__(self, namespace: str, secrets: Collection[str], *, owner: bool) -> Fresh | None:
        """About Secrets in a namespace, and, with `owner`, about the namespace itself; None: it cannot be asked now."""
        ...


class Reviewer:
    """Reviews what is applied. It asks nobody unless it would refuse or warn because of something that may just have been created.

    Parameters
    ----------
    resolvers
        By destination type.
    allow_unowned
        Whether a tenant that no namespace owns may be claimed.
    known
        What the watches have shown.
    confirm
        Asks about what they may not have shown yet: `kubectl apply -f` of one file creates a Secret and its EventSink in the same moment.
    """

    def __init__(self, resolvers: ByType, allow_unowned: bool, known: Known, confirm: Confirm) -> None:
        self._resolvers = resolvers
        self._allow_unowned = allow_unowned
        self._known = known
        self._confirm = confirm

    async def review(self, new: Object, old: Object | None) -> Verdict:
        """Judge a new EventSink, or a change of one (`old`: as it was before).

        A change that leaves the spec alone is never refused, and a change of the spec not for what was wrong with it before: whoever
        suspends a sink, or removes its finalizer, need not fix it first.
        """
        if old is not None and (new.get("spec") == old.get("spec") or new["metadata"].get("deletionTimestamp")):
            return Verdict()
        try:
            sink = read_eventsink(new)
        except InvalidSpec as invalid:
            return judge(spec_problems(invalid), new, old, self._invalid_before(old))
        facts, unconfirmed = self._facts(sink), list[Problem]()
        found = self._problems(sink, facts)
        claims = any(map(_is_claim, found))
        if facts.missing or claims:
            fresh = await self._confirm(sink.namespace, facts.missing, owner=claims)
            if fresh is None:
                # Whoever has just labelled the namespace must not be refused; of a claim that is wrong indeed, the status says so.
                unconfirmed = [one for one in found if _is_claim(one)]
                found = [one for one in found if not _is_claim(one)]
            else:
                namespace = fresh.namespace if claims else facts.namespace
                facts = Facts(namespace, facts.tenant_is_owned, facts.missing - fresh.secrets, facts.quota, facts.namesakes)
                found = self._problems(sink, facts)
        warnings = [*(f"not confirmed, see the status later: {one.message}" for one in unconfirmed), *_warnings(sink, facts)]
        return judge(found, new, old, self._before(old, facts) if found else (), warnings)

    def _facts(self, sink: EventSink) -> Facts:
        known, tenant = self._known, sink.spec.tenant
        named = known.named(tenant, sink.spec.name)
        return Facts(
            namespace=known.namespace(sink.namespace),
            tenant_is_owned=known.is_owned(tenant),
            quota=known.quota_exceeded((sink.namespace, sink.name), tenant),
            missing=frozenset(
                one.ref.name for one in references(sink.spec) if not known.has_secret((sink.namespace, one.ref.name))
            ),
            namesakes=tuple(islice((key for key in islice(named, MAX_NAMESAKES) if self._is_namesake(key, sink)), MAX_NAMED)),
        )

    def _is_namesake(self, key: Key, sink: EventSink) -> bool:
        """Whether another EventSink with the same name and claim is of the same tenant, and not of somebody who only claims it."""
        tenant, namespace = sink.spec.tenant, self._known.namespace(key[0])
        is_its = is_of_tenant(tenant, namespace, is_owned=self._known.is_owned(tenant))
        return is_its and key != (sink.namespace, sink.name)

    def _problems(self, sink: EventSink, facts: Facts) -> list[Problem]:
        """All that is wrong with it, as far as that can be seen without the values of Secrets."""
        found: list[Problem] = []
        tenant = sink.spec.tenant
        own = {sink.namespace: facts.namespace} if facts.namespace is not None else {}
        owned = {tenant} if facts.tenant_is_owned else set[str]()
        try:
            check_claim(tenant, sink.namespace, own, owned, allow_unowned=self._allow_unowned)
        except Problem as problem:
            found.append(problem)
        if facts.quota:
            found.append(quota_exceeded(tenant, facts.quota))
        return [*found, *match_problems(sink.spec), *mute_problems(sink.spec), *self._resolvers[sink.spec.type].problems(sink)]

    def _before(self, old: Object | None, facts: Facts) -> Sequence[Problem]:
        """What was wrong before with an EventSink that is changed."""
        if old is None:
            return ()
        try:
            return self._problems(read_eventsink(old), facts)
        except InvalidSpec:
            return ()

    def _invalid_before(self, old: Object | None) -> Sequence[Problem]:
        try:
            if old is not None:
                read_eventsink(old)
        except InvalidSpec as invalid:
            return spec_problems(invalid)
        return ()


def judge(
    found: Sequence[Problem], new: Object, old: Object | None, before: Sequence[Problem], warnings: Sequence[str] = ()
) -> Verdict:
    """The verdict on an EventSink with the problems `found`, where `before` were those of `old`.

    A problem is refused unless the same field had it before with the same value. What a newer operator would accept is only warned of:
    the CRD may be upgraded before the operator.
    """
    same = [(one.reason, value_at(old, one.path)) for one in before] if old is not None else []
    refusals, tolerated = [], []
    for one in found:
        if one.reason == UNKNOWN_FIELD or (one.reason, value_at(new, one.path)) in same:
            tolerated.append(one.message)
        else:
            refusals.append(one.message)
    if refusals:
        return Verdict(tuple(refusals))
    return Verdict(warnings=_limited((*(f"not accepted: {message}" for message in tolerated), *warnings)))


def value_at(obj: Any, path: str) -> Any:
    """The value of a field such as `spec.match.matchers[2]`; None where there is none."""
    for part in path.replace("[", ".").replace("]", "").split("."):
        if isinstance(obj, dict):
            obj = obj.get(part)
        elif isinstance(obj, list) and part.isdecimal() and int(part) < len(obj):
            obj = obj[int(part)]
        else:
            return None
    return obj


def _is_claim(problem: Problem) -> bool:
    return problem.path == "spec.tenant" and problem.reason != QUOTA_EXCEEDED


def _warnings(sink: EventSink, facts: Facts) -> list[str]:
    first: dict[str, Reference] = {}
    for one in references(sink.spec):
        if one.ref.name in facts.missing:
            first.setdefault(one.ref.name, one)
    found = [secret_missing(one.path, one.ref, sink.namespace).message for one in first.values()]
    if facts.namesakes:
        others = ", ".join("/".join(key) for key in facts.namesakes)
        found.append(
            f"spec.name: the tenant has another EventSink of the name {sink.spec.name} ({others}); give each a name of its own"
        )
    return found


def _limited(messages: Sequence[str]) -> tuple[str, ...]:
    first = [one[:MAX_CHARACTERS] for one in messages[:MAX_REPORTED]]
    return (*first, f"and {len(messages) - MAX_REPORTED} more") if len(messages) > MAX_REPORTED else tuple(first)
