"""The calls of the REST API, without HTTP: each reads and writes EventSinks, and keeps no state of its own."""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Protocol

from eventsink.kube.api import Api, Object
from eventsink.resources.eventsink import read_object
from eventsink.rest.access.authorization import NO_SUCH_SINK, Authorizer
from eventsink.rest.access.callers import Caller, Verb
from eventsink.rest.calls import paging
from eventsink.rest.calls.catalog import Catalog, tenant_of
from eventsink.rest.calls.idempotency import REQUEST_ANNOTATION, check_same_request, is_young, request_mark, sink_name
from eventsink.rest.calls.messages import rest_sentence
from eventsink.rest.calls.preconditions import check_if_match, check_unmanaged, require_etag
from eventsink.rest.calls.repository import CHANGED_MEANWHILE, ChangedMeanwhile, EventSinkRepository, Unconfirmed
from eventsink.rest.calls.responses import etag, is_decided, is_rejected, readiness, response_of
from eventsink.rest.calls.secrets import new_secret_name, own_secrets, referenced_secrets
from eventsink.rest.calls.specs import SpecChange, changed_spec, muted_spec, new_signing_secret, new_spec, unmuted_spec
from eventsink.rest.config import FacadeSettings
from eventsink.rest.errors import Conflict, Forbidden, InvalidRequest, NotFound, RestError, ServiceUnavailable
from eventsink.rest.models import (
    ChangedSink,
    CreateRequest,
    DeletedSink,
    DeliveryTest,
    EventSinkResponse,
    ManySinks,
    MuteRequest,
    Pagination,
    UpdateRequest,
)
from eventsink.runtime.backoff import Backoff
from eventsink.runtime.logs import get_logger

UPDATE_ATTEMPTS = 8
"""Of one update, when others write the same sink meanwhile."""
UPDATE_BACKOFF = Backoff(first=0.2, longest=1.0, jitter=1.0)
ChangeOf = Callable[[Mapping[str, Any], str], SpecChange]
"""Makes a change of a spec and the name of a Secret for its credentials."""


Unavailable = Callable[[Callable[[str], bool]], str | None]
"""Why sinks cannot be served of the tenants for which something holds; None: they can."""


class Tester(Protocol):
    """Sends test alerts through the router."""

    async def test(self, uid: str, wait: float) -> DeliveryTest:
        """Send one to that sink and wait for the outcome.

        Raises
        ------
        RestError
            It was not sent.
        """
        ...


@dataclass(frozen=True)
class ChangeResult:
    """A sink that was created or changed."""

    response: ChangedSink = field(repr=False)
    etag: str


class Facade:
    """The calls.

    Parameters
    ----------
    api
        Where EventSinks are written.
    catalog
        Where they are read from; somebody else feeds it.
    unavailable
        Returns why no call about those tenants can be served now; None: all is well.
    tester
        None: test alerts are not configured.
    """

    def __init__(
        self,
        settings: FacadeSettings,
        api: Api,
        catalog: Catalog,
        *,
        unavailable: Unavailable,
        tester: Tester | None,
    ) -> None:
        self._settings = settings
        self._catalog = catalog
        self._repository = EventSinkRepository(api, catalog)
        self._unavailable = unavailable
        self._tester = tester

    def end_waits(self) -> None:
        """Respond to creates and updates under way with what is known: the process is stopping."""
        self._catalog.end_waits()

    # ---- reading

    async def list_sinks(self, caller: Caller, tenant: str, *, page_size: int | None = None, page_token: str = "") -> ManySinks:
        """The tenant's sinks, oldest first; with `page_size` one page of them.

        Raises
        ------
        RestError
            The caller has no access to the tenant, or the page token is invalid.
        """
        access = Authorizer(caller)
        access.check_tenant(tenant)
        self._check_available(lambda one: one == tenant)
        sinks = self._catalog.of_tenant(tenant)
        listable = await access.listable(one["metadata"]["namespace"] for one in sinks)
        sinks = [one for one in sinks if one["metadata"]["namespace"] in listable]
        if page_size is None:
            return ManySinks(event_sinks=[response_of(one) for one in paging.after(sinks, tenant, page_token)])
        page, token = paging.cut(sinks, tenant, page_size, page_token)
        return ManySinks(event_sinks=[response_of(one) for one in page], pagination=Pagination(next_page_token=token))

    async def get(self, caller: Caller, uid: str) -> tuple[EventSinkResponse, str]:
        """One sink and its ETag, as the API server has it now.

        Raises
        ------
        RestError
            There is none that the caller may read.
        """
        obj = await self._read(caller, "get", uid)
        return response_of(obj), etag(obj)

    async def _read(self, caller: Caller, verb: Verb, uid: str) -> Object:
        """The EventSink, if the caller may do that to it."""
        known = self._catalog.get(uid)
        if known is not None and not caller.may_touch(tenant_of(known)):
            known = None  # in the response, too, it is like one that does not exist
        tenant = tenant_of(known) if known is not None else None
        self._check_available(lambda one: one == tenant if tenant is not None else caller.may_touch(one))
        if known is None:
            raise NotFound(NO_SUCH_SINK)
        metadata = known["metadata"]
        await Authorizer(caller).check_sink(verb, tenant_of(known), metadata["namespace"], metadata["name"])
        return await self._repository.read(known)

    def _check_available(self, concerns: Callable[[str], bool]) -> None:
        if (reason := self._unavailable(concerns)) is not None:
            raise ServiceUnavailable(reason)

    # ---- creating

    async def create(self, caller: Caller, request: CreateRequest, idempotency_key: str = "") -> ChangeResult:
        """Create a sink, and wait for the operator's first verdict.

        Parameters
        ----------
        idempotency_key
            The same key with the same request again returns the sink that was created.

        Raises
        ------
        RestError
            It was not created, or was deleted again since its spec was rejected.
        """
        name, signing = sink_name(request.tenant_id, idempotency_key), new_signing_secret()
        namespace, change = await self._planned(caller, request, new_secret_name(name), signing)
        mark = ""
        if idempotency_key:
            mark = await asyncio.to_thread(request_mark, request, idempotency_key)
            # It may be where the tenant's sinks were created before.
            earlier = [one for one in self._catalog.of_tenant(request.tenant_id) if one["metadata"]["name"] == name]
            namespace = earlier[0]["metadata"]["namespace"] if earlier else namespace
        annotations = {REQUEST_ANNOTATION: mark} if mark else {}
        obj, fresh = await self._repository.create(namespace, name, change.spec, annotations)
        if not fresh:
            check_same_request(obj, mark)
            change = _repeated(change, obj)
        try:
            stored = await self._repository.create_secret(obj, change.secret, change.values)
        except RestError:
            if fresh:
                await self._repository.delete(obj)
            raise
        latest = await self._catalog.until(obj["metadata"]["uid"], is_decided, self._settings.create_wait)
        if latest is None:
            raise Conflict("the sink was deleted, or rejected in another call, at the same time; send the request again")
        if is_rejected(latest) and (fresh or is_young(latest)):
            await self._repository.delete(latest)
            _log("sink rejected", caller, latest)
            raise InvalidRequest(readiness(read_object(latest))[1].partition(": ")[2])
        if fresh:
            _log("sink created", caller, latest)
        return _result(latest, signing if change.generates and (fresh or stored) else None)

    async def check_create(self, caller: Caller, request: CreateRequest) -> None:
        """Check as much of a create as can be checked without writing.

        Raises
        ------
        RestError
            It would fail.
        """
        await self._planned(caller, request, "secret", "")

    async def _planned(self, caller: Caller, request: CreateRequest, secret: str, signing: str) -> tuple[str, SpecChange]:
        """The namespace of a new sink, and its spec."""
        Authorizer(caller).check_tenant(request.tenant_id)
        self._check_available(lambda one: one == request.tenant_id)
        change = new_spec(request, secret, signing)
        forbidden = Forbidden("tenant_id: this token may not create sinks of this tenant")
        try:
            namespace = self._catalog.home(request.tenant_id, self._settings.default_namespace)
        except RestError:
            if caller.knows_tenants:
                raise
            raise forbidden from None
        if not await caller.may("create", namespace):
            raise forbidden
        return namespace, change

    # ---- changing

    async def update(self, caller: Caller, uid: str, request: UpdateRequest, if_match: str = "") -> ChangeResult:
        """Change a sink, and wait for the operator's verdict. A rejected change stays, and the response says `ready: false`.

        Raises
        ------
        RestError
            Nothing was changed.
        """
        if request.id.lower() != uid:
            raise InvalidRequest("id: differs from the id in the path; write the same")
        signing = new_signing_secret()
        return await self._change(
            caller, uid, lambda spec, secret: changed_spec(spec, request, secret, signing), if_match, signing=signing
        )

    async def mute(self, caller: Caller, uid: str, request: MuteRequest, if_match: str = "") -> ChangeResult:
        """Add a mute, or replace the one with the same matchers and start; mutes that have ended are removed.

        Raises
        ------
        RestError
            Nothing was changed.
        """
        return await self._change(caller, uid, lambda spec, _: muted_spec(spec, request, datetime.now(UTC)), if_match)

    async def unmute(self, caller: Caller, uid: str, index: int | None, if_match: str = "") -> ChangeResult:
        """Remove a mute by its index in the list that the caller has seen, which is that of `if_match`; or all of them.

        Raises
        ------
        RestError
            Nothing was changed.
        """
        if index is not None:
            require_etag(if_match, "index: send If-Match with it, the ETag of the response with the list that you have seen")
        return await self._change(caller, uid, lambda spec, _: unmuted_spec(spec, index), if_match)

    async def _change(self, caller: Caller, uid: str, change_of: ChangeOf, if_match: str, *, signing: str = "") -> ChangeResult:
        """Change the spec of a sink, again and again while others write it too, and wait for the operator's verdict."""
        secret = ""
        obj: Object = {}
        for attempt in range(UPDATE_ATTEMPTS):
            try:
                obj = await self.read_for_update(caller, uid)
                change = change_of(obj.get("spec") or {}, secret or new_secret_name(obj["metadata"]["name"]))
                check_if_match(if_match, obj)
                if change.spec == obj.get("spec"):
                    return _result(obj, None)
                if not secret:
                    await self._repository.create_secret(obj, change.secret, change.values)
                    secret = change.secret
                written = await self._repository.replace(obj, change.spec)
            except ChangedMeanwhile:
                await asyncio.sleep(UPDATE_BACKOFF.wait(attempt + 1))
                continue
            except Unconfirmed:
                raise  # the spec may refer to the Secret by now
            except RestError:
                await self._repository.delete_secrets(obj, {secret} - {""})
                raise
            await self._repository.delete_secrets(obj, own_secrets(obj) - referenced_secrets(change.spec))
            latest = await self._catalog.until(uid, _decided_since(written), self._settings.create_wait) or written
            _log("sink changed", caller, latest)
            return _result(latest, signing if change.generates else None)
        await self._repository.delete_secrets(obj, {secret} - {""})
        raise Conflict(CHANGED_MEANWHILE)

    async def read_for_update(self, caller: Caller, uid: str) -> Object:
        """The EventSink, if the caller may change it.

        Raises
        ------
        RestError
            They may not, or something else manages it.
        """
        obj = await self._read(caller, "update", uid)
        check_unmanaged(obj)
        return obj

    # ---- deleting

    async def delete(self, caller: Caller, uid: str) -> DeletedSink:
        """Delete a sink, and the Secrets that were created for it.

        Raises
        ------
        RestError
            It still exists, or did not exist.
        """
        obj = await self._read(caller, "delete", uid)
        check_unmanaged(obj)
        if not await self._repository.delete(obj):
            raise NotFound(NO_SUCH_SINK)
        _log("sink deleted", caller, obj)
        return DeletedSink(id=uid, tenant_id=tenant_of(obj))

    # ---- testing

    async def test(self, caller: Caller, uid: str) -> DeliveryTest:
        """Send a test alert through the router.

        Raises
        ------
        RestError
            It was not sent.
        """
        obj = await self._read(caller, "update", uid)
        if self._tester is None:
            raise Conflict("test alerts are not configured; the platform team sets router.url and router.tokenFile")
        outcome = await self._tester.test(uid, self._settings.test_wait)
        outcome = outcome.model_copy(update={"message": rest_sentence(outcome.message)})
        _log("test alert sent", caller, obj, delivered=outcome.delivered)
        return outcome


def _repeated(change: SpecChange, obj: Object) -> SpecChange:
    """The change for a sink that an earlier call created: the Secret that it perhaps did not get to create is created now."""
    names = sorted(own_secrets(obj))
    # A sink that was changed since has its Secrets.
    untouched = len(names) == 1 and obj["metadata"].get("generation") == 1
    return dataclasses.replace(
        change, spec=obj.get("spec") or {}, secret=names[0] if names else "", values=change.values if untouched else {}
    )


def _decided_since(written: Object) -> Callable[[Object], bool]:
    """Whether the operator has given its verdict on what was written, or on something newer."""
    generation = written["metadata"].get("generation", 0)

    def holds(obj: Object) -> bool:
        return bool(obj["metadata"].get("generation", 0) >= generation and is_decided(obj))

    return holds


def _result(obj: Object, signing: str | None) -> ChangeResult:
    return ChangeResult(ChangedSink(event_sink=response_of(obj), signing_secret=signing), etag(obj))


def _log(event: str, caller: Caller, obj: Object, **more: object) -> None:
    metadata = obj["metadata"]
    sink = f"{metadata['namespace']}/{metadata['name']}"
    get_logger().info(event, caller=caller.name, tenant=tenant_of(obj), sink=sink, uid=metadata["uid"], **more)
