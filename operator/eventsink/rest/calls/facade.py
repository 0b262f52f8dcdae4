"""What the facade does, without HTTP: each call reads and writes EventSinks, and nothing else."""

from __future__ import annotations

import asyncio
import base64
import binascii
import hashlib
import hmac
import json
import re
import secrets
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Protocol, TypeVar

from eventsink.kube.api import SECRETS, Api, ApiError, Conflict, Forbidden, Invalid, NotFound, Object, key_of
from eventsink.resources.eventsink import read_object
from eventsink.resources.names import API_VERSION, EVENTSINKS, KIND, MANAGED_BY_LABEL, REST_MANAGER
from eventsink.rest.access.callers import Caller, Verb
from eventsink.rest.calls.catalog import Catalog, order, tenant_of
from eventsink.rest.calls.managers import managed_by
from eventsink.rest.calls.responses import answer_of, created_at, etag, judged, readiness, refused
from eventsink.rest.calls.specs import Change, changed_spec, kind_of, new_signing_secret, new_spec, rest_sentence, secrets_of
from eventsink.rest.config import FacadeSettings
from eventsink.rest.errors import (
    Away,
    Conflicting,
    InvalidRequest,
    NotPermitted,
    PreconditionFailed,
    Refused,
    Unknown,
)
from eventsink.rest.models import (
    ChangedSink,
    CreateRequest,
    DeletedSink,
    DeliveryTest,
    EventSinkAnswer,
    EventSinkChanges,
    ManySinks,
    Pagination,
    SlackCodeArgs,
    UpdateRequest,
)
from eventsink.runtime.backoff import Backoff
from eventsink.runtime.logs import get_logger
from eventsink.runtime.times import parse_time

FIELD_MANAGER = REST_MANAGER
SECRET_PREFIX = "eventsink-rest-"
SECRET_TYPE = "eventsink.dev/rest"
"""Of the Secrets that the facade makes; an admission policy holds it to them. A Secret's type never changes."""
REQUEST_ANNOTATION = "eventsink.dev/request"
"""On an EventSink made with an Idempotency-Key: digest of the request, a dot, and what tells one call from another."""
MANAGED_LABEL = {MANAGED_BY_LABEL: REST_MANAGER}
NAME_PREFIX = "rest-"
YOUNG_SECONDS = 60.0
"""So old at most is a sink that a call which ended before its verdict has left: the same request again decides about it."""
UPDATE_ATTEMPTS = 8
"""Of one update, when others write the same sink meanwhile."""
ATTEMPTS = 3
"""Of a request that the API server did not answer, where it may be sent again."""
BACKOFF = Backoff(first=0.2, longest=1.0)
UPDATE_BACKOFF = Backoff(first=0.2, longest=1.0, jitter=1.0)
GONE = "there is no sink with this id"

T = TypeVar("T")
_DENIED = re.compile(r"denied the request: (.*)", re.DOTALL)
"""What an admission webhook of somebody else says."""


class Tester(Protocol):
    """Sends a test alert through the router."""

    async def test(self, uid: str, wait: float) -> DeliveryTest:
        """Send it to that sink and wait for what becomes of it.

        Raises
        ------
        Refused
            It could not be sent.
        """
        ...


@dataclass(frozen=True)
class Written:
    """A sink that was made or changed."""

    answer: ChangedSink = field(repr=False)
    etag: str


class Facade:
    """The calls.

    Parameters
    ----------
    api
        Where EventSinks are written.
    catalog
        Where they are read; it is fed by somebody else.
    away
        Why nothing can be answered at present; None: all is well.
    tester
        None: test alerts are not served.
    """

    def __init__(
        self, settings: FacadeSettings, api: Api, catalog: Catalog, *, away: Callable[[], str | None], tester: Tester | None
    ) -> None:
        self._settings = settings
        self._api = api
        self._catalog = catalog
        self._away = away
        self._tester = tester

    def end_waits(self) -> None:
        """Answer creates and updates under way with what is known: the process ends."""
        self._catalog.end_waits()

    # ---- reading

    async def list_sinks(self, caller: Caller, tenant: str, *, page_size: int | None = None, page_token: str = "") -> ManySinks:
        """The tenant's sinks, oldest first; with `page_size` so many, and where to go on.

        Raises
        ------
        Refused
            The caller may not touch the tenant, or the token of the page is none.
        """
        self._check_here()
        if not caller.may_touch(tenant):
            raise NotPermitted("tenant_id: this key may not touch this tenant")
        found = await self._permitted(caller, self._catalog.of_tenant(tenant))
        if page_token:
            after = _read_token(page_token, tenant)
            found = [one for one in found if order(one) > after]
        if page_size is None:
            return ManySinks(event_sinks=[answer_of(one) for one in found])
        page = found[:page_size]
        token = _page_token(order(page[-1]), tenant) if len(found) > page_size else ""
        return ManySinks(event_sinks=[answer_of(one) for one in page], pagination=Pagination(next_page_token=token))

    async def _permitted(self, caller: Caller, sinks: Iterable[Object]) -> list[Object]:
        verdicts: dict[str, bool] = {}
        found = []
        for one in sinks:
            namespace = one["metadata"]["namespace"]
            if namespace not in verdicts:
                verdicts[namespace] = await caller.may("list", namespace)
            if verdicts[namespace]:
                found.append(one)
        return found

    async def get(self, caller: Caller, uid: str) -> tuple[EventSinkAnswer, str]:
        """One sink and its ETag, as the API server has it now.

        Raises
        ------
        Refused
            There is none, as far as the caller may know.
        """
        obj = await self._read(caller, "get", uid)
        return answer_of(obj), etag(obj)

    async def _read(self, caller: Caller, verb: Verb, uid: str) -> Object:
        """The EventSink, if the caller may do that to it."""
        self._check_here()
        known = await self._known(caller, verb, uid)
        try:
            obj = await self._again(lambda: self._api.get(EVENTSINKS, key_of(known)))
        except ApiError as error:
            raise _refusal(error, GONE, Unknown) from None
        if obj["metadata"]["uid"] != uid or obj["metadata"].get("deletionTimestamp") or tenant_of(obj) != tenant_of(known):
            raise Unknown(GONE)
        return obj

    async def _known(self, caller: Caller, verb: Verb, uid: str) -> Object:
        known = self._catalog.get(uid)
        if known is None or not caller.may_touch(tenant_of(known)):
            raise Unknown(GONE)
        place = (known["metadata"]["namespace"], known["metadata"]["name"])
        if not await caller.may(verb, *place):
            if verb != "get" and await caller.may("get", *place):
                raise NotPermitted(f"this token may not {verb} the sink")
            raise Unknown(GONE)
        return known

    def _check_here(self) -> None:
        if (reason := self._away()) is not None:
            raise Away(reason)

    # ---- creating

    async def create(self, caller: Caller, request: CreateRequest, idempotency_key: str = "") -> Written:
        """Make a sink, and wait for the operator's first verdict.

        Parameters
        ----------
        idempotency_key
            The same key and request again answer the sink that was made.

        Raises
        ------
        Refused
            It was not made, or was taken back since it cannot be in force.
        """
        namespace = await self.check_create(caller, request)
        tenant, notes = request.tenant_id, {}
        name = NAME_PREFIX + secrets.token_hex(10)
        if idempotency_key:
            name = NAME_PREFIX + _digest(f"{tenant}\n{idempotency_key}")[:20]
            digest = await asyncio.to_thread(_digest_of, request, idempotency_key)
            notes = {REQUEST_ANNOTATION: f"{digest}.{secrets.token_hex(8)}"}
            # It may lie where the tenant's sinks were made before.
            made = [one for one in self._catalog.of_tenant(tenant) if one["metadata"]["name"] == name]
            namespace = made[0]["metadata"]["namespace"] if made else namespace
        signing = new_signing_secret()
        change = new_spec(request, secret_name(name), signing)
        obj, fresh = await self._make(namespace, name, change, notes)
        if not fresh:
            change = self._same(obj, request, notes, signing)
        self._catalog.put(obj)
        try:
            kept = await self._keep_values(obj, change)
        except Refused:
            if fresh:
                await self._remove(obj)
            raise
        uid = obj["metadata"]["uid"]
        latest = await self._catalog.until(uid, judged, self._settings.create_wait)
        if latest is None:
            raise Conflicting("the sink was refused by another call, or deleted, at this moment; send the request again")
        if refused(latest) and (fresh or _is_young(latest)):
            await self._remove(latest)
            _told("a sink was refused", caller, latest)
            raise InvalidRequest(readiness(read_object(latest))[1].partition(": ")[2])
        if fresh:
            _told("a sink was made", caller, latest)
        return _written(latest, signing if change.generates and (fresh or kept) else None)

    async def check_create(self, caller: Caller, request: CreateRequest) -> str:
        """Whether the request could be carried out, as far as the facade can tell; returns the namespace that the sink will lie in.

        Raises
        ------
        Refused
            It could not.
        """
        self._check_here()
        if not caller.may_touch(request.tenant_id):
            raise NotPermitted("tenant_id: this key may not touch this tenant")
        new_spec(request, "secret", "")
        foreign = NotPermitted("tenant_id: this token may not create sinks of this tenant")
        try:
            namespace = self._catalog.home(request.tenant_id, self._settings.default_namespace)
        except Refused:
            if caller.knows_tenants:
                raise
            raise foreign from None
        if not await caller.may("create", namespace):
            raise foreign
        return namespace

    async def _make(self, namespace: str, name: str, change: Change, notes: dict[str, str]) -> tuple[Object, bool]:
        """The EventSink, and whether it was made just now."""
        body: Object = {
            "apiVersion": API_VERSION,
            "kind": KIND,
            "metadata": {"name": name, "namespace": namespace, "labels": MANAGED_LABEL, "annotations": notes},
            "spec": change.spec,
        }
        gone = "tenant_id: the namespace of the tenant is gone"
        for attempt in range(ATTEMPTS):
            try:
                return await self._api.create(EVENTSINKS, body, manager=FIELD_MANAGER), True
            except ApiError as error:
                failed = error
            if isinstance(failed, Conflict):
                try:
                    made = await self._again(lambda: self._api.get(EVENTSINKS, (namespace, name)))
                except NotFound:
                    pass  # deleted meanwhile
                except ApiError as error:
                    raise _refusal(error, gone) from None
                else:
                    # After an attempt whose answer was lost, what is there may be what this call made.
                    known = made["metadata"].get("annotations") or {}
                    return made, not notes or known.get(REQUEST_ANNOTATION) == notes[REQUEST_ANNOTATION]
            elif not _perhaps_done(failed) or attempt == ATTEMPTS - 1:
                raise _refusal(failed, gone) from None
            await asyncio.sleep(BACKOFF.wait(attempt + 1))
        raise Conflicting("a sink of this name comes and goes; send the request again")

    def _same(self, obj: Object, request: CreateRequest, notes: dict[str, str], signing: str) -> Change:
        """What the request that made it wanted, if it was the same one."""
        known = str((obj["metadata"].get("annotations") or {}).get(REQUEST_ANNOTATION, ""))
        if not notes or not hmac.compare_digest(_of_request(known).encode(), _of_request(notes[REQUEST_ANNOTATION]).encode()):
            raise Conflicting("Idempotency-Key: was used with another request; send a new key")
        if obj["metadata"].get("deletionTimestamp"):
            raise Conflicting("Idempotency-Key: the sink that it made is being deleted; send a new key")
        names = sorted(_own(obj))
        again = new_spec(request, names[0] if names else "", signing)
        # A sink that was changed since has its Secrets.
        whole = len(names) == 1 and obj["metadata"].get("generation") == 1
        return Change(obj.get("spec") or {}, again.secret, again.values if whole else {}, again.generates)

    async def _keep_values(self, obj: Object, change: Change) -> bool:
        """Make the Secret that the spec refers to, if there is one to be made; whether it was made now."""
        if not change.values:
            return False
        metadata = obj["metadata"]
        owner = {"apiVersion": API_VERSION, "kind": KIND, "name": metadata["name"], "uid": metadata["uid"]}
        body: Object = {
            "apiVersion": "v1",
            "kind": "Secret",
            "metadata": {
                "name": change.secret,
                "namespace": metadata["namespace"],
                "labels": MANAGED_LABEL,
                "ownerReferences": [owner],
            },
            "type": SECRET_TYPE,
            "immutable": True,
            "data": {key: base64.b64encode(value.encode()).decode() for key, value in change.values.items()},
        }
        try:
            await self._again(lambda: self._api.create(SECRETS, body, manager=FIELD_MANAGER))
        except Conflict:
            return False  # made by the attempt before, or by the request before with the same Idempotency-Key
        except ApiError as error:
            raise _refusal(error, "the namespace of the sink is gone") from None
        return True

    # ---- changing

    async def update(self, caller: Caller, uid: str, request: UpdateRequest, if_match: str = "") -> Written:
        """Change a sink, and wait for the operator's verdict. What is not in force stays as it is told: `ready` is false.

        Raises
        ------
        Refused
            Nothing was changed.
        """
        if request.id != uid:
            raise InvalidRequest("id: differs from the id in the path; write the same")
        signing, secret = new_signing_secret(), ""
        obj: Object = {}
        for attempt in range(UPDATE_ATTEMPTS):
            try:
                obj = await self._read(caller, "update", uid)
                if (sentence := managed_by(obj)) is not None:
                    raise Conflicting(sentence)
                change = changed_spec(obj.get("spec") or {}, request, secret or secret_name(obj["metadata"]["name"]), signing)
                if not matches(if_match, etag(obj)):
                    raise PreconditionFailed("If-Match: the sink was changed since; read it again")
                if change.spec == obj.get("spec"):
                    return _written(obj, None)
                if not secret:
                    await self._keep_values(obj, change)
                    secret = change.secret
                new = {**obj, "spec": change.spec}
                written = await self._api.replace(EVENTSINKS, new, manager=FIELD_MANAGER)
            except Conflict:
                await asyncio.sleep(UPDATE_BACKOFF.wait(attempt + 1))
                continue
            except Refused:
                await self._drop_secrets(obj, {secret} - {""})
                raise
            except ApiError as error:
                if not _perhaps_done(error):  # else the spec may refer to it by now
                    await self._drop_secrets(obj, {secret} - {""})
                raise _refusal(error, GONE, Unknown) from None
            self._catalog.put(written)
            await self._drop_secrets(obj, _own(obj) - secrets_of(change.spec))
            latest = await self._catalog.until(uid, _observed(written), self._settings.create_wait) or written
            _told("a sink was changed", caller, latest)
            return _written(latest, signing if change.generates else None)
        await self._drop_secrets(obj, {secret} - {""})
        raise Conflicting("others change this sink at the same time; try again")

    async def check_reconnect(self, caller: Caller, uid: str) -> Object:
        """Whether a new code could be given to that sink; returns it.

        Raises
        ------
        Refused
            It could not.
        """
        obj = await self._read(caller, "update", uid)
        if (sentence := managed_by(obj)) is not None:
            raise Conflicting(sentence)
        if kind_of(obj.get("spec") or {}) != "Slack":
            raise InvalidRequest("id: this sink is no Slack sink")
        return obj

    async def reconnect(self, caller: Caller, uid: str, code: str, channel: str | None, if_match: str) -> Written:
        """Give a Slack sink a new OAuth code.

        Parameters
        ----------
        channel
            None: that of before.
        if_match
            ETag of the sink that was meant.

        Raises
        ------
        Refused
            Nothing was changed.
        """
        obj = await self.check_reconnect(caller, uid)
        wanted = channel or (obj.get("spec") or {}).get("slack", {}).get("channel")
        if not wanted:
            raise InvalidRequest("channel: this field is required; the sink has none yet")
        args = SlackCodeArgs(channel=wanted, slack_oauth_code=code)
        return await self.update(caller, uid, UpdateRequest(id=uid, event_sink_args=EventSinkChanges(slack=args)), if_match)

    # ---- deleting

    async def delete(self, caller: Caller, uid: str) -> DeletedSink:
        """Delete a sink, and the Secrets that were made for it.

        Raises
        ------
        Refused
            It is still there, or was not.
        """
        obj = await self._read(caller, "delete", uid)
        if (sentence := managed_by(obj)) is not None:
            raise Conflicting(sentence)
        if not await self._remove(obj):
            raise Unknown(GONE)
        _told("a sink was deleted", caller, obj)
        return DeletedSink(id=uid, tenant_id=tenant_of(obj))

    async def _remove(self, obj: Object) -> bool:
        """Delete the EventSink, if it is still the same, and its Secrets; whether it was there."""
        lost = False

        async def ask() -> None:
            nonlocal lost
            try:
                await self._api.delete(EVENTSINKS, key_of(obj), uid=obj["metadata"]["uid"])
            except ApiError as error:
                lost = lost or _perhaps_done(error)
                raise

        there = True
        try:
            await self._again(ask)
        except (NotFound, Conflict):
            there = lost  # gone by an attempt whose answer was lost
        except ApiError as error:
            raise _refusal(error, GONE, Unknown) from None
        self._catalog.drop(obj)
        await self._drop_secrets(obj, _own(obj))
        return there

    async def _drop_secrets(self, obj: Object, names: Iterable[str]) -> None:
        """Delete Secrets of the sink; those that could not be deleted go with the sink, which owns them."""
        for name in names:
            try:
                await self._api.delete(SECRETS, (obj["metadata"]["namespace"], name))
            except NotFound:
                pass
            except ApiError as error:
                get_logger().warning(
                    "a Secret of a sink could not be deleted; it goes when the sink goes", secret=name, reason=error.reason
                )

    # ---- testing

    async def test(self, caller: Caller, uid: str) -> DeliveryTest:
        """Send a test alert through the router.

        Raises
        ------
        Refused
            It could not be sent.
        """
        obj = await self._read(caller, "update", uid)
        if self._tester is None:
            raise Conflicting("test alerts are not set up here; the platform team sets router.url and router.tokenFile")
        result = await self._tester.test(uid, self._settings.test_wait)
        _told("a test alert was sent", caller, obj, delivered=result.delivered)
        return result

    async def _again(self, ask: Callable[[], Awaitable[T]]) -> T:
        """An answer to a request that may be sent again.

        Raises
        ------
        Away
            There is none.
        ApiError
            One of its classes but Unavailable.
        """
        for attempt in range(ATTEMPTS):
            try:
                return await ask()
            except ApiError as error:
                if error.reason != "Unavailable" and error.status not in (0, 429) and error.status < 500:
                    raise
                if attempt == ATTEMPTS - 1:
                    raise Away("the API server does not answer; try again") from None
                await asyncio.sleep(BACKOFF.wait(attempt + 1))
        raise AssertionError


def matches(if_match: str, tag: str) -> bool:
    """Whether an If-Match (RFC 9110 section 13.1.1) allows the change; an empty one does."""
    wanted = [one.strip() for one in if_match.split(",") if one.strip()]
    return not wanted or "*" in wanted or tag in wanted


def secret_name(sink: str) -> str:
    """A new name for a Secret of the sink of that name; an admission policy holds the facade to such names."""
    return f"{SECRET_PREFIX}{sink}-{secrets.token_hex(4)}"


def _own(obj: Object) -> set[str]:
    """The Secrets that the facade made for it, as far as the spec still refers to them."""
    made = re.compile(rf"{SECRET_PREFIX}{re.escape(obj['metadata']['name'])}-[0-9a-f]{{8}}")
    return {name for name in secrets_of(obj.get("spec")) if made.fullmatch(name)}


def _perhaps_done(error: ApiError) -> bool:
    """Whether the write may have been carried out although it failed: no answer, or one of a proxy or of an API server in trouble."""
    return error.status == 0 or error.status >= 500


def _is_young(obj: Object) -> bool:
    """Whether the sink was made a moment ago and is as it was made."""
    made = parse_time(created_at(obj))
    return obj["metadata"].get("generation") == 1 and (datetime.now(UTC) - made).total_seconds() < YOUNG_SECONDS


def _observed(written: Object) -> Callable[[Object], bool]:
    """Whether the operator has given its verdict on what was written, or on something newer."""
    generation = written["metadata"].get("generation", 0)

    def holds(obj: Object) -> bool:
        return bool(obj["metadata"].get("generation", 0) >= generation and judged(obj))

    return holds


def _written(obj: Object, signing: str | None) -> Written:
    return Written(ChangedSink(event_sink=answer_of(obj), signing_secret=signing), etag(obj))


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


def _digest_of(request: CreateRequest, key: str) -> str:
    """Of the request, credentials included. Everybody who may read the EventSink sees it: it is slow to make, so that none is guessed."""
    text = json.dumps(request.model_dump(by_alias=True, exclude_unset=True), sort_keys=True)
    return hashlib.scrypt(text.encode(), salt=key.encode(), n=2**14, r=8, p=1, dklen=32).hex()


def _of_request(note: str) -> str:
    """The part of REQUEST_ANNOTATION that is the same for the same request."""
    return note.partition(".")[0]


def _page_token(last: tuple[str, str], tenant: str) -> str:
    return base64.urlsafe_b64encode(json.dumps([*last, _digest(tenant)[:8]]).encode()).decode()


def _read_token(token: str, tenant: str) -> tuple[str, str]:
    try:
        created, uid, whose = json.loads(base64.urlsafe_b64decode(token.encode()))
        if isinstance(created, str) and isinstance(uid, str) and whose == _digest(tenant)[:8]:
            return created, uid
    except (ValueError, TypeError, binascii.Error):
        pass
    raise InvalidRequest("pagination[page_token]: is none that was answered for this tenant; begin again without it")


def _refusal(error: ApiError, gone: str, gone_class: type[Conflicting | Unknown] = Conflicting) -> Exception:
    """What an answer of the API server means to the caller."""
    if isinstance(error, NotFound):
        return gone_class(gone)
    if isinstance(error, Invalid):
        return InvalidRequest(rest_sentence(str(error)))
    if isinstance(error, Forbidden):
        if (denied := _DENIED.search(str(error))) is not None:
            return InvalidRequest(f"a policy of the cluster refuses it: {denied[1]}")
        if "exceeded quota" in str(error):
            return Conflicting("the quota of the tenant's namespace is used up; delete a sink, or ask the platform team")
        if "being terminated" in str(error):
            return Conflicting(gone)
        get_logger().error("the facade lacks a right", reason=str(error))
        return Away("the facade lacks a right in the cluster; the platform team finds it in its log")
    if isinstance(error, Conflict):
        return Conflicting("others change this sink at the same time; try again")
    return Away("the API server does not answer; try again")


def _told(event: str, caller: Caller, obj: Object, **more: object) -> None:
    metadata = obj["metadata"]
    place = f"{metadata['namespace']}/{metadata['name']}"
    get_logger().info(event, caller=caller.name, tenant=tenant_of(obj), sink=place, uid=metadata["uid"], **more)
