"""Who calls, and what they may touch: API keys bound to tenants, and ServiceAccounts that the API server vouches for."""

from __future__ import annotations

import hashlib
import json
import time
from collections import Counter, OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Literal, Protocol

from eventsink.kube.api import Api, ApiError, Object, Resource
from eventsink.resources.names import GROUP, PLURAL
from eventsink.rest.access.keys import PREFIX, KeyRecord, find
from eventsink.rest.config import FailureSettings, KubernetesTokenSettings
from eventsink.rest.errors import Away, TooMany, Unauthenticated

Verb = Literal["get", "list", "create", "update", "delete"]
MAX_ADDRESSES = 10_000
"""Addresses whose failures are remembered."""
MAX_LET_IN = 10_000
LET_IN_SECONDS = 3600.0
"""How long a caller that was let in is answered although others fail from the same address."""
MAX_REVIEWS = 10_000
"""Verdicts of the API server that are remembered."""
MAX_REVIEWS_UNDER_WAY = 16
MAX_REVIEWS_OF_AN_ADDRESS = 4
"""Tokens that the API server is asked about at once, for callers that nobody knows yet."""
MAX_TOKEN = 8192


class Caller(Protocol):
    """Somebody who was let in."""

    @property
    def name(self) -> str:
        """For the log."""
        ...

    @property
    def knows_tenants(self) -> bool:
        """Whether they may learn how a tenant that they may touch is set up."""
        ...

    def may_touch(self, tenant: str) -> bool:
        """Whether anything of the tenant can be theirs."""
        ...

    async def may(self, verb: Verb, namespace: str, name: str = "") -> bool:
        """Whether they may do that to EventSinks in the namespace."""
        ...


@dataclass(frozen=True)
class KeyCaller:
    """Has an API key: may do everything to its tenants' sinks."""

    record: KeyRecord

    @property
    def name(self) -> str:
        return f"key {self.record.id}"

    @property
    def knows_tenants(self) -> bool:
        return True

    def may_touch(self, tenant: str) -> bool:
        return self.record.tenants is None or tenant in self.record.tenants

    async def may(self, verb: Verb, namespace: str, name: str = "") -> bool:
        return True


@dataclass(frozen=True)
class KubernetesCaller:
    """Has a token that the API server knows: may do what RBAC allows."""

    name: str
    user: Mapping[str, object] = field(repr=False)
    """As TokenReview told it: username, uid, groups, extra."""
    reviews: KubernetesReviews = field(repr=False)

    @property
    def knows_tenants(self) -> bool:
        return False

    def may_touch(self, tenant: str) -> bool:
        return True

    async def may(self, verb: Verb, namespace: str, name: str = "") -> bool:
        return await self.reviews.may(self, verb, namespace, name)


class KubernetesReviews:
    """Asks the API server who has a token, and what they may do. Verdicts count for a few seconds."""

    def __init__(self, api: Api, settings: KubernetesTokenSettings, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._api = api
        self._settings = settings
        self._clock = clock
        self._known: OrderedDict[tuple[str, ...], tuple[float, object]] = OrderedDict()

    async def caller(self, token: str) -> KubernetesCaller | None:
        """Whose token that is; None: nobody's.

        Raises
        ------
        Away
            The API server does not answer.
        """
        digest = hashlib.sha256(token.encode("utf-8", "surrogatepass")).hexdigest()
        known, user = self._remembered(("token", digest))
        if not known:
            spec = {"token": token, "audiences": list(self._settings.audiences)}
            status = await self._ask("authentication.k8s.io", "TokenReview", spec)
            wanted, granted = set(self._settings.audiences), set(status.get("audiences") or ())
            user = status.get("user") if status.get("authenticated") is True and wanted & granted else None
            self._remember(("token", digest), user)
        if not isinstance(user, dict):
            return None
        return KubernetesCaller(str(user.get("username")), user, self)

    async def may(self, caller: KubernetesCaller, verb: Verb, namespace: str, name: str) -> bool:
        """Whether RBAC allows it.

        Raises
        ------
        Away
            The API server does not answer.
        """
        question = ("access", json.dumps(caller.user, sort_keys=True), verb, namespace, name)
        known, allowed = self._remembered(question)
        if not known:
            attributes = {"verb": verb, "namespace": namespace, "name": name, "group": GROUP, "resource": PLURAL}
            spec: Object = {"user": caller.name, "resourceAttributes": attributes}
            spec |= {key: caller.user[key] for key in ("uid", "groups", "extra") if caller.user.get(key)}
            status = await self._ask("authorization.k8s.io", "SubjectAccessReview", spec)
            allowed = status.get("allowed") is True
            self._remember(question, allowed)
        return bool(allowed)

    async def _ask(self, group: str, kind: str, spec: Object) -> Object:
        resource = Resource(group, "v1", f"{kind.lower()}s", kind, namespaced=False)
        try:
            answer = await self._api.create(
                resource, {"apiVersion": resource.api_version, "kind": kind, "metadata": {}, "spec": spec}
            )
        except ApiError:
            raise Away("the API server, which knows this token, cannot be asked") from None
        return answer.get("status") or {}

    def _remembered(self, question: tuple[str, ...]) -> tuple[bool, object]:
        until, answer = self._known.get(question, (0.0, None))
        return self._clock() < until, answer

    def _remember(self, question: tuple[str, ...], answer: object) -> None:
        self._known[question] = (self._clock() + self._settings.cache, answer)
        self._known.move_to_end(question)
        while len(self._known) > MAX_REVIEWS:
            self._known.popitem(last=False)


class Failures:
    """Counts wrong keys by address: a bucket that fills with failures and empties with time."""

    def __init__(self, settings: FailureSettings, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._settings = settings
        self._clock = clock
        self._levels: OrderedDict[str, tuple[float, float]] = OrderedDict()
        """Address -> failures that count, and when that was."""
        self._let_in: OrderedDict[tuple[str, str], float] = OrderedDict()
        """Address and caller -> until when."""

    def wait(self, address: str) -> float:
        """Seconds until another failure from there is borne; 0: now."""
        return max(0.0, (self._level(address) + 1 - self._settings.allowed) * self._settings.every)

    def failed(self, address: str) -> None:
        """A wrong key came from there."""
        self._levels[address] = (min(self._level(address) + 1, self._settings.allowed), self._clock())
        self._levels.move_to_end(address)
        while len(self._levels) > MAX_ADDRESSES:
            self._levels.popitem(last=False)

    def let_in(self, address: str, caller: str) -> None:
        """This caller had the right key from there."""
        self._let_in[(address, caller)] = self._clock() + LET_IN_SECONDS
        self._let_in.move_to_end((address, caller))
        while len(self._let_in) > MAX_LET_IN:
            self._let_in.popitem(last=False)

    def knows(self, address: str, caller: str) -> bool:
        """Whether this caller was let in from there lately."""
        return self._let_in.get((address, caller), 0.0) > self._clock()

    def _level(self, address: str) -> float:
        level, since = self._levels.get(address, (0.0, 0.0))
        return max(0.0, level - (self._clock() - since) / self._settings.every)


class Doorkeeper:
    """Lets callers in.

    Parameters
    ----------
    records
        The records of API keys as they are now.
    reviews
        None: only API keys count.
    """

    def __init__(
        self,
        settings: FailureSettings,
        records: Callable[[], Mapping[str, KeyRecord]],
        reviews: KubernetesReviews | None = None,
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._failures = Failures(settings, clock=clock)
        self._records = records
        self._reviews = reviews
        self._under_review: Counter[str] = Counter()

    async def let_in(self, header: str, address: str) -> Caller:
        """The caller of a request.

        Parameters
        ----------
        header
            Its Authorization.
        address
            Where it comes from.

        Raises
        ------
        Unauthenticated
            No key, or a wrong one.
        TooMany
            Too many wrong ones came from there: a right one counts only of a caller that was let in from there before.
        Away
            Whether the token is right cannot be found out.
        """
        scheme, _, token = header.partition(" ")
        token = token.strip()
        wait = self._failures.wait(address)
        caller: Caller | None = None
        if scheme.lower() == "bearer" and token and len(token) <= MAX_TOKEN:
            record = find(self._records(), token, datetime.now(UTC))
            if record is not None:
                caller = KeyCaller(record)
            elif self._reviews is not None and not token.startswith(PREFIX) and not wait:
                caller = await self._review(self._reviews, token, address)
        if caller is not None and (not wait or self._failures.knows(address, caller.name)):
            self._failures.let_in(address, caller.name)
            return caller
        if wait:
            raise TooMany("too many wrong keys came from this address; try again later", retry_after=wait)
        if header:
            self._failures.failed(address)
        raise Unauthenticated

    async def _review(self, reviews: KubernetesReviews, token: str, address: str) -> Caller | None:
        under_way = self._under_review
        if under_way[address] >= MAX_REVIEWS_OF_AN_ADDRESS or under_way.total() >= MAX_REVIEWS_UNDER_WAY:
            raise TooMany("too many tokens are being looked at; try again in a moment")
        under_way[address] += 1
        try:
            return await reviews.caller(token)
        finally:
            under_way[address] -= 1
            if not under_way[address]:
                del under_way[address]
