"""ServiceAccounts as callers: the API server authenticates their tokens (TokenReview) and authorizes them (SubjectAccessReview)."""

from __future__ import annotations

import hashlib
import json
import time
from collections import OrderedDict
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from typing import TypedDict, TypeVar

import msgspec

from eventsink.kube.api import Api, ApiError, Forbidden, Object, Resource
from eventsink.resources.names import GROUP, PLURAL
from eventsink.rest.access.callers import Verb
from eventsink.rest.config import KubernetesTokenSettings
from eventsink.rest.errors import ServiceUnavailable
from eventsink.runtime.logs import Repeated, get_logger

MAX_REVIEWS = 10_000
"""Results that are cached."""


class _User(TypedDict, total=False):
    username: str | None
    uid: str | None
    groups: list[str] | None
    extra: dict[str, list[str] | None] | None


class _TokenStatus(msgspec.Struct):
    authenticated: bool | None = None
    user: _User | None = None
    audiences: list[str] | None = None


class _AccessStatus(msgspec.Struct):
    allowed: bool | None = None


S = TypeVar("S", _TokenStatus, _AccessStatus)


@dataclass(frozen=True)
class KubernetesCaller:
    """Has a token that the API server accepts: may do what RBAC allows."""

    name: str
    user: Mapping[str, object] = field(repr=False)
    """From TokenReview: username, uid, groups, extra."""
    reviews: KubernetesReviews = field(repr=False)

    @property
    def knows_tenants(self) -> bool:
        return False

    def may_touch(self, tenant: str) -> bool:
        return True

    async def may(self, verb: Verb, namespace: str, name: str = "") -> bool:
        return await self.reviews.may(self, verb, namespace, name)


class KubernetesReviews:
    """Asks the API server who has a token, and what they may do. Results are cached for a few seconds."""

    def __init__(self, api: Api, settings: KubernetesTokenSettings, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._api = api
        self._settings = settings
        self._clock = clock
        self._denied = Repeated(60.0)
        self._cache: OrderedDict[tuple[str, ...], tuple[float, object]] = OrderedDict()

    async def caller(self, token: str) -> KubernetesCaller | None:
        """Whose token it is; None: it is not valid.

        Raises
        ------
        ServiceUnavailable
            The API server does not respond, or not with a review.
        """
        digest = hashlib.sha256(token.encode("utf-8", "surrogatepass")).hexdigest()
        cached, user = self._cached(("token", digest))
        if not cached:
            spec = {"token": token, "audiences": list(self._settings.audiences)}
            user = user_of(await self._review("authentication.k8s.io", "TokenReview", spec), self._settings.audiences)
            self._keep(("token", digest), user)
        if not isinstance(user, dict):
            return None
        return KubernetesCaller(str(user.get("username")), user, self)

    async def may(self, caller: KubernetesCaller, verb: Verb, namespace: str, name: str) -> bool:
        """Whether RBAC allows it.

        Raises
        ------
        ServiceUnavailable
            The API server does not respond, or not with a review.
        """
        question = ("access", json.dumps(caller.user, sort_keys=True), verb, namespace, name)
        cached, allowed = self._cached(question)
        if not cached:
            attributes = {"verb": verb, "namespace": namespace, "name": name, "group": GROUP, "resource": PLURAL}
            spec: Object = {"user": caller.name, "resourceAttributes": attributes}
            spec |= {key: caller.user[key] for key in ("uid", "groups", "extra") if caller.user.get(key)}
            allowed = is_allowed(await self._review("authorization.k8s.io", "SubjectAccessReview", spec))
            self._keep(question, allowed)
        return bool(allowed)

    async def _review(self, group: str, kind: str, spec: Object) -> Object:
        resource = Resource(group, "v1", f"{kind.lower()}s", kind, namespaced=False)
        try:
            return await self._api.create(
                resource, {"apiVersion": resource.api_version, "kind": kind, "metadata": {}, "spec": spec}
            )
        except ApiError as error:
            if isinstance(error, Forbidden) and (more := self._denied.due()) is not None:
                get_logger().error("missing permission", reason=str(error), more=more)
            raise _unavailable() from None

    def _cached(self, question: tuple[str, ...]) -> tuple[bool, object]:
        until, result = self._cache.get(question, (0.0, None))
        return self._clock() < until, result

    def _keep(self, question: tuple[str, ...], result: object) -> None:
        self._cache[question] = (self._clock() + self._settings.cache, result)
        self._cache.move_to_end(question)
        while len(self._cache) > MAX_REVIEWS:
            self._cache.popitem(last=False)


def user_of(review: Object, audiences: Collection[str]) -> Mapping[str, object] | None:
    """Username, uid, groups and extra of a TokenReview; None: the token is not valid for one of the audiences.

    Raises
    ------
    ServiceUnavailable
        It is not a review.
    """
    status = _status(review, _TokenStatus)
    if not status.authenticated or set(audiences).isdisjoint(status.audiences or ()):
        return None
    if not status.user or not status.user.get("username"):
        raise _unavailable()
    return status.user


def is_allowed(review: Object) -> bool:
    """What a SubjectAccessReview says. Errors as of `user_of`."""
    return _status(review, _AccessStatus).allowed is True


def _status(review: Object, kind: type[S]) -> S:
    try:
        return msgspec.convert(review.get("status") or {}, kind)
    except (msgspec.ValidationError, RecursionError):
        raise _unavailable() from None


def _unavailable() -> ServiceUnavailable:
    return ServiceUnavailable("the API server, which checks this token, is not available; try again")
