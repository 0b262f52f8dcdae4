"""ServiceAccounts as callers: the API server authenticates their tokens (TokenReview) and authorizes them (SubjectAccessReview)."""

from __future__ import annotations

import hashlib
import json
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from eventsink.kube.api import Api, ApiError, Forbidden, Object, Resource
from eventsink.resources.names import GROUP, PLURAL
from eventsink.rest.access.callers import Verb
from eventsink.rest.config import KubernetesTokenSettings
from eventsink.rest.errors import ServiceUnavailable
from eventsink.runtime.logs import Repeated, get_logger

MAX_REVIEWS = 10_000
"""Results that are cached."""


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
            The API server does not respond.
        """
        digest = hashlib.sha256(token.encode("utf-8", "surrogatepass")).hexdigest()
        cached, user = self._cached(("token", digest))
        if not cached:
            spec = {"token": token, "audiences": list(self._settings.audiences)}
            status = await self._review("authentication.k8s.io", "TokenReview", spec)
            wanted, granted = set(self._settings.audiences), set(status.get("audiences") or ())
            user = status.get("user") if status.get("authenticated") is True and wanted & granted else None
            self._keep(("token", digest), user)
        if not isinstance(user, dict):
            return None
        return KubernetesCaller(str(user.get("username")), user, self)

    async def may(self, caller: KubernetesCaller, verb: Verb, namespace: str, name: str) -> bool:
        """Whether RBAC allows it.

        Raises
        ------
        ServiceUnavailable
            The API server does not respond.
        """
        question = ("access", json.dumps(caller.user, sort_keys=True), verb, namespace, name)
        cached, allowed = self._cached(question)
        if not cached:
            attributes = {"verb": verb, "namespace": namespace, "name": name, "group": GROUP, "resource": PLURAL}
            spec: Object = {"user": caller.name, "resourceAttributes": attributes}
            spec |= {key: caller.user[key] for key in ("uid", "groups", "extra") if caller.user.get(key)}
            status = await self._review("authorization.k8s.io", "SubjectAccessReview", spec)
            allowed = status.get("allowed") is True
            self._keep(question, allowed)
        return bool(allowed)

    async def _review(self, group: str, kind: str, spec: Object) -> Object:
        resource = Resource(group, "v1", f"{kind.lower()}s", kind, namespaced=False)
        try:
            review = await self._api.create(
                resource, {"apiVersion": resource.api_version, "kind": kind, "metadata": {}, "spec": spec}
            )
        except ApiError as error:
            if isinstance(error, Forbidden) and (more := self._denied.due()) is not None:
                get_logger().error("missing permission", reason=str(error), more=more)
            raise ServiceUnavailable("the API server, which checks this token, is not available; try again") from None
        return review.get("status") or {}

    def _cached(self, question: tuple[str, ...]) -> tuple[bool, object]:
        until, result = self._cache.get(question, (0.0, None))
        return self._clock() < until, result

    def _keep(self, question: tuple[str, ...], result: object) -> None:
        self._cache[question] = (self._clock() + self._settings.cache, result)
        self._cache.move_to_end(question)
        while len(self._cache) > MAX_REVIEWS:
            self._cache.popitem(last=False)
