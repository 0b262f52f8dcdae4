"""The calls over an API server that loses responses, rejects and conflicts: nothing is created twice, and nothing is left half done."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import UTC, datetime
from typing import Any, TypeVar, cast

import pytest

from eventsink.kube import api as kube
from eventsink.kube.api import SECRETS, Api, ApiError, Collection, Key, Object, Resource, Unavailable, key_of
from eventsink.kube.local import LocalApi
from eventsink.kube.reflector import Reflector
from eventsink.resources.names import EVENTSINKS
from eventsink.rest.access.callers import KeyCaller
from eventsink.rest.access.keys import make_key
from eventsink.rest.calls import facade as module
from eventsink.rest.calls import idempotency, repository
from eventsink.rest.calls.catalog import Catalog
from eventsink.rest.calls.facade import Facade
from eventsink.rest.calls.secrets import SECRET_TYPE
from eventsink.rest.config import FacadeSettings
from eventsink.rest.errors import (
    Conflict,
    Forbidden,
    InvalidRequest,
    NotFound,
    PreconditionFailed,
    PreconditionRequired,
    ServiceUnavailable,
)
from eventsink.rest.models import CreateRequest, MuteRequest, UpdateRequest
from eventsink.runtime.backoff import Backoff

T = TypeVar("T")
LOST = "lost"
"""The request is carried out, and its response is lost."""
DOWN = Unavailable(0, "Unavailable", "no response")
CONFLICT = kube.Conflict(409, "Conflict", "changed")
TIMED_OUT = Unavailable(504, "Timeout", "request did not complete")
DONE_AND_TIMED_OUT = "carried out, with the response 504"
REQUEST = CreateRequest.model_validate(
    {
        "tenant_id": "acme",
        "name": "Alerts",
        "event_sink_args": {"Webhook": {"url": "https://example.com/", "signing_secret": "whsec_" + "a" * 32}},
    }
)


class FaultyApi:
    """Fails as a test says before it passes requests on."""

    def __init__(self, objects: LocalApi) -> None:
        self._objects = objects
        self.faults: list[tuple[str, str, str | ApiError]] = []
        """Method, kind of objects, and what goes wrong: each once, in order."""
        self.asked: list[str] = []

    async def get(self, resource: Resource, key: Key) -> Object:
        return await self._fail_or_call("GET", resource, lambda: self._objects.get(resource, key))

    async def create(self, resource: Resource, obj: Object, *, manager: str = "") -> Object:
        return await self._fail_or_call("POST", resource, lambda: self._objects.create(resource, obj, manager=manager))

    async def replace(self, resource: Resource, obj: Object, *, manager: str = "") -> Object:
        return await self._fail_or_call("PUT", resource, lambda: self._objects.replace(resource, obj, manager=manager))

    async def delete(self, resource: Resource, key: Key, *, uid: str = "", resource_version: str = "") -> None:
        await self._fail_or_call("DELETE", resource, lambda: self._objects.delete(resource, key, uid=uid))

    async def _fail_or_call(self, method: str, resource: Resource, call: Callable[[], Awaitable[T]]) -> T:
        self.asked.append(f"{method} {resource.plural}")
        for index, (verb, plural, fault) in enumerate(self.faults):
            if verb == method and plural == resource.plural:
                del self.faults[index]
                if isinstance(fault, ApiError):
                    raise fault
                await call()
                raise TIMED_OUT if fault == DONE_AND_TIMED_OUT else DOWN
        return await call()


READY = {"type": "Ready", "status": "True", "reason": "Accepted", "message": "", "lastTransitionTime": "2026-01-01T00:00:00Z"}


def rejected(reason: str) -> list[dict[str, str]]:
    """Conditions of a rejected sink."""
    ready = {**READY, "reason": reason, "message": "spec.webhook.url: no"}
    return [{**ready, "status": "False"}, {**ready, "type": "Stalled"}]


class RestUnderTest:
    """The calls, and an operator that accepts every sink, or rejects it for `operator_reason`; None: it processes none."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        for where, name in ((repository, "BACKOFF"), (module, "UPDATE_BACKOFF")):
            monkeypatch.setattr(where, name, Backoff(first=0.001, longest=0.01))
        self.operator_reason: str | None = "Ready"
        self.objects = LocalApi((EVENTSINKS, SECRETS))
        self.api = FaultyApi(self.objects)
        self.catalog = Catalog()
        self.catalog.namespaces.upsert(("", "acme"), {"metadata": {"name": "acme", "labels": {"eventsink.dev/tenant": "acme"}}})
        self.unavailable: str | None = None
        settings = FacadeSettings(create_wait=1.0)
        self.unavailable_tenant = ""
        """The only one that `unavailable` concerns; empty: all."""
        self.facade = Facade(settings, cast(Api, self.api), self.catalog, unavailable=self._unavailable, tester=None)
        self.caller = KeyCaller(make_key("test", ("acme",), datetime.now(UTC))[1])
        self._tasks: set[asyncio.Task[Any]] = set()
        handlers = (self.catalog.sinks, self)
        reflectors = [Reflector(self.objects, "eventsinks", Collection(EVENTSINKS), one) for one in handlers]
        self._watches = [asyncio.ensure_future(one.run()) for one in reflectors]

    def _unavailable(self, concerns: Callable[[str], bool]) -> str | None:
        return self.unavailable if not self.unavailable_tenant or concerns(self.unavailable_tenant) else None

    async def end_watches(self) -> None:
        """Stop the watches: changes are not seen from now on."""
        for one in self._watches:
            one.cancel()
        await asyncio.gather(*self._watches, return_exceptions=True)

    def delete(self, key: Key) -> None:
        """An EventSink was deleted."""

    def upsert(self, key: Key, obj: Object) -> None:
        """The operator decides on an EventSink a moment later."""
        if self.operator_reason is None:
            return
        generation = obj["metadata"]["generation"]
        if obj.get("status", {}).get("observedGeneration") == generation:
            return
        good = self.operator_reason == "Ready"
        ready = {
            "type": "Ready",
            "status": "True" if good else "False",
            "reason": self.operator_reason,
            "message": "spec.webhook.url: no",
        }
        stalled = {**ready, "type": "Stalled", "status": "False" if good else "True"}
        conditions = [{**one, "lastTransitionTime": "2026-01-01T00:00:00Z"} for one in (ready, stalled)]
        body = {
            "metadata": {"namespace": key[0], "name": key[1]},
            "status": {"observedGeneration": generation, "conditions": conditions},
        }

        async def write_status() -> None:
            await self.objects.apply(EVENTSINKS, body, manager="operator", subresource="status")

        task = asyncio.get_running_loop().create_task(write_status())
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    @property
    def left(self) -> tuple[int, int]:
        """How many EventSinks and Secrets there are."""
        return len(self.sinks), len(self.secrets)

    @property
    def sinks(self) -> dict[Key, Object]:
        """The EventSinks there are."""
        return {key_of(one): one for one in self.objects.objects(EVENTSINKS)}

    @property
    def secrets(self) -> dict[Key, Object]:
        """The Secrets of sinks."""
        return {key_of(one): one for one in self.objects.objects(SECRETS) if one["type"] == SECRET_TYPE}

    async def make(self) -> str:
        """Create a sink that is accepted; returns its id."""
        return (await self.facade.create(self.caller, REQUEST)).response.event_sink.id

    async def update(self, uid: str, if_match: str = "", **changes: Any) -> Any:
        return await self.facade.update(self.caller, uid, UpdateRequest.model_validate({"id": uid, **changes}), if_match)


@pytest.fixture
async def rest(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[RestUnderTest]:
    one = RestUnderTest(monkeypatch)
    yield one
    await one.end_watches()


SIGNED = {"Webhook": {"signing_secret": "whsec_" + "b" * 32}}


@pytest.mark.parametrize("fault", [LOST, DONE_AND_TIMED_OUT, DOWN, TIMED_OUT])
@pytest.mark.parametrize("where", ["eventsinks", "secrets"])
async def test_a_create_whose_response_is_lost_creates_one_sink_with_its_secret(
    rest: RestUnderTest, fault: str | ApiError, where: str
) -> None:
    rest.api.faults = [("POST", where, fault)]
    made = await rest.facade.create(rest.caller, REQUEST)
    assert (made.response.event_sink.ready, made.response.event_sink.reason) == (True, "")
    assert rest.left == (1, 1)


async def test_a_sink_whose_secret_cannot_be_created_is_deleted_again(rest: RestUnderTest) -> None:
    rest.api.faults = [("POST", "secrets", DOWN)] * repository.ATTEMPTS
    with pytest.raises(ServiceUnavailable):
        await rest.facade.create(rest.caller, REQUEST)
    assert rest.left == (0, 0)


@pytest.mark.parametrize(
    ("error", "kind", "sentence"),
    [
        (kube.Forbidden(403, "Forbidden", "exceeded quota: sinks"), Conflict, "quota"),
        (kube.Forbidden(403, "Forbidden", "because it is being terminated"), Conflict, "the namespace of the"),
        (kube.Forbidden(403, "Forbidden", "no right"), ServiceUnavailable, "lacks a permission"),
        (
            kube.Invalid(
                422,
                "",
                'admission webhook "eventsinks.eventsink.dev" denied the request: spec.webhook.url: the platform allows https:// only',
            ),
            InvalidRequest,
            r"^event_sink_args\.Webhook\.url: the platform allows https:// only$",
        ),
        (
            kube.Forbidden(403, "Forbidden", 'admission webhook "x" denied the request: no sinks on Fridays'),
            InvalidRequest,
            "on Fridays",
        ),
        (
            kube.Invalid(422, "Invalid", "ValidatingAdmissionPolicy 'x' with binding 'x' denied request: no sinks on Mondays"),
            InvalidRequest,
            "^rejected by a policy of the cluster: no sinks on Mondays$",
        ),
        (ApiError(418, "Teapot", "x"), ServiceUnavailable, "does not respond"),
    ],
)
@pytest.mark.parametrize("where", ["eventsinks", "secrets"])
async def test_a_rejection_of_the_api_server_is_explained_and_leaves_nothing(
    rest: RestUnderTest, error: ApiError, kind: type[Exception], sentence: str, where: str
) -> None:
    rest.api.faults = [("POST", where, error)]
    with pytest.raises(kind, match=sentence):
        await rest.facade.create(rest.caller, REQUEST)
    assert rest.left == (0, 0)


async def test_a_rejection_of_the_operator_is_explained_and_leaves_nothing(rest: RestUnderTest) -> None:
    rest.operator_reason = "HostDenied"
    with pytest.raises(InvalidRequest, match=r"event_sink_args\.Webhook\.url: no"):
        await rest.facade.create(rest.caller, REQUEST)
    assert rest.left == (0, 0)


async def test_a_sink_that_the_operator_has_not_processed_is_kept_and_not_ready(rest: RestUnderTest) -> None:
    rest.operator_reason = None
    made = await rest.facade.create(rest.caller, REQUEST)
    assert made.response.event_sink.ready is False
    assert "the operator has not processed it yet" in made.response.event_sink.reason
    assert rest.left == (1, 1)


async def test_an_update_is_retried_when_the_sink_changes_meanwhile(rest: RestUnderTest) -> None:
    uid = await rest.make()
    rest.api.faults = [("PUT", "eventsinks", CONFLICT)] * (module.UPDATE_ATTEMPTS - 1)
    changed = await rest.update(uid, name="New", event_sink_args=SIGNED)
    assert changed.response.event_sink.name == "New"
    assert rest.left == (1, 2), "the old signing secret goes on signing"
    assert rest.api.asked.count("POST secrets") == 2, "one for the sink, one for the change"


async def test_an_update_that_always_conflicts_fails_and_leaves_no_secret(rest: RestUnderTest) -> None:
    uid = await rest.make()
    rest.api.faults = [("PUT", "eventsinks", CONFLICT)] * module.UPDATE_ATTEMPTS
    with pytest.raises(Conflict, match="at the same time"):
        await rest.update(uid, event_sink_args=SIGNED)
    assert rest.left == (1, 1)


@pytest.mark.parametrize("fault", [LOST, DONE_AND_TIMED_OUT])
async def test_an_update_without_a_response_keeps_the_secret_that_the_spec_may_refer_to(rest: RestUnderTest, fault: str) -> None:
    uid = await rest.make()
    rest.api.faults = [("PUT", "eventsinks", fault)]
    with pytest.raises(ServiceUnavailable):
        await rest.update(uid, event_sink_args=SIGNED)
    spec = next(iter(rest.sinks.values()))["spec"]
    assert {("acme", one["name"]) for one in spec["webhook"]["signingSecretRefs"]} <= set(rest.secrets)


async def test_an_update_that_fails_leaves_no_secret(rest: RestUnderTest) -> None:
    uid = await rest.make()
    rest.api.faults = [("PUT", "eventsinks", kube.Forbidden(403, "Forbidden", "no right"))]
    with pytest.raises(ServiceUnavailable):
        await rest.update(uid, event_sink_args=SIGNED)
    with pytest.raises(PreconditionFailed):
        await rest.update(uid, if_match='"another"', event_sink_args=SIGNED)
    assert rest.left == (1, 1)


async def test_a_mute_that_is_sent_twice_or_whose_response_was_lost_is_there_once(rest: RestUnderTest) -> None:
    uid = await rest.make()
    request = MuteRequest(matchers=['a="1"'], duration="1h")
    rest.api.faults = [("PUT", "eventsinks", LOST)]
    with pytest.raises(ServiceUnavailable):
        await rest.facade.mute(rest.caller, uid, request)
    rest.api.faults = [("PUT", "eventsinks", CONFLICT)]
    changed = await rest.facade.mute(rest.caller, uid, request)
    assert [one.model_dump()["matchers"] for one in changed.response.event_sink.mutes or ()] == [['a="1"']]
    assert rest.left == (1, 1), "its Secret stays"
    with pytest.raises(PreconditionFailed):
        await rest.facade.unmute(rest.caller, uid, 0, '"another"')
    assert (await rest.facade.unmute(rest.caller, uid, 0, changed.etag)).response.event_sink.mutes is None


async def test_the_mute_at_a_position_is_removed_only_from_the_list_that_was_seen(rest: RestUnderTest) -> None:
    uid = await rest.make()
    seen = await rest.facade.mute(rest.caller, uid, MuteRequest(matchers=['seen="1"'], duration="1h"))
    await rest.facade.unmute(rest.caller, uid, None)
    other = await rest.facade.mute(rest.caller, uid, MuteRequest(matchers=['other="1"'], duration="1h"))
    for named in ("", "*", " , *", f"{seen.etag}, *"):
        with pytest.raises(PreconditionRequired, match="index: send If-Match"):
            await rest.facade.unmute(rest.caller, uid, 0, named)
    with pytest.raises(PreconditionFailed):
        await rest.facade.unmute(rest.caller, uid, 0, seen.etag)
    left, _ = await rest.facade.get(rest.caller, uid)
    assert left.mutes == other.response.event_sink.mutes
    assert (await rest.facade.unmute(rest.caller, uid, 0, f"W/{other.etag}")).response.event_sink.mutes is None


async def test_a_rejected_update_is_kept_and_not_ready(rest: RestUnderTest) -> None:
    uid = await rest.make()
    rest.operator_reason = "HostDenied"
    changed = await rest.update(uid, name="New")
    assert (changed.response.event_sink.name, changed.response.event_sink.ready) == ("New", False)


async def test_an_update_that_changes_nothing_writes_nothing(rest: RestUnderTest) -> None:
    uid = await rest.make()
    before = list(rest.api.asked)
    await rest.update(uid, name="Alerts")
    assert rest.api.asked[len(before) :] == ["GET eventsinks"]


@pytest.mark.parametrize("fault", [LOST, DONE_AND_TIMED_OUT, DOWN])
async def test_a_deletion_whose_response_is_lost_succeeds(rest: RestUnderTest, fault: str | ApiError) -> None:
    uid = await rest.make()
    rest.api.faults = [("DELETE", "eventsinks", fault)]
    assert (await rest.facade.delete(rest.caller, uid)).id == uid
    assert rest.left == (0, 0)
    with pytest.raises(NotFound):
        await rest.facade.delete(rest.caller, uid)


async def test_a_sink_that_was_re_created_under_the_same_name_is_another_one(rest: RestUnderTest) -> None:
    uid = await rest.make()
    (key,) = rest.sinks
    known = rest.sinks[key]
    await rest.end_watches()
    await rest.objects.delete(EVENTSINKS, key)
    await rest.objects.create(EVENTSINKS, {**known, "status": {}})
    for call in (rest.facade.get(rest.caller, uid), rest.facade.delete(rest.caller, uid), rest.update(uid, name="x")):
        with pytest.raises(NotFound):
            await call
    assert len(rest.sinks) == 1


async def test_no_call_is_served_before_everything_has_been_read(rest: RestUnderTest) -> None:
    uid = await rest.make()
    rest.unavailable = "not everything was read"
    for call in (
        rest.facade.list_sinks(rest.caller, "acme"),
        rest.facade.get(rest.caller, uid),
        rest.facade.create(rest.caller, REQUEST),
        rest.facade.delete(rest.caller, uid),
        rest.update(uid, name="x"),
        rest.facade.test(rest.caller, uid),
    ):
        with pytest.raises(ServiceUnavailable, match="not everything was read"):
            await call
    rest.unavailable = None
    rest.api.faults = [("GET", "eventsinks", DOWN)] * repository.ATTEMPTS
    with pytest.raises(ServiceUnavailable, match="the API server does not respond"):
        await rest.facade.get(rest.caller, uid)


async def test_whoever_has_no_access_to_a_tenant_does_not_learn_that_its_namespace_cannot_be_read(rest: RestUnderTest) -> None:
    uid = await rest.make()
    rest.unavailable, rest.unavailable_tenant = "its namespace is missing", "acme"
    other = KeyCaller(make_key("other", ("globex",), datetime.now(UTC))[1])
    with pytest.raises(Forbidden):
        await rest.facade.list_sinks(other, "acme")
    with pytest.raises(Forbidden):
        await rest.facade.create(other, REQUEST)
    change = UpdateRequest(id=uid, name="x")
    for call in (
        rest.facade.get(other, uid),
        rest.facade.update(other, uid, change),
        rest.facade.delete(other, uid),
        rest.facade.test(other, uid),
    ):
        with pytest.raises(NotFound):
            await call
    with pytest.raises(ServiceUnavailable):
        await rest.facade.get(rest.caller, uid)


async def test_a_test_alert_without_a_configured_router_is_an_error(rest: RestUnderTest) -> None:
    with pytest.raises(Conflict, match=r"router\.url"):
        await rest.facade.test(rest.caller, await rest.make())


async def test_a_key_of_another_tenant_finds_nothing(rest: RestUnderTest) -> None:
    uid = await rest.make()
    stranger = KeyCaller(make_key("stranger", ("globex",), datetime.now(UTC))[1])
    with pytest.raises(NotFound):
        await rest.facade.get(stranger, uid)
    with pytest.raises(Forbidden):
        await rest.facade.list_sinks(stranger, "acme")


async def test_only_a_key_for_all_tenants_reaches_the_sinks_of_the_platform(rest: RestUnderTest) -> None:
    rest.catalog.namespaces.upsert(("", "ops"), {"metadata": {"name": "ops", "labels": {"eventsink.dev/platform": "true"}}})
    of_all = REQUEST.model_copy(update={"tenant_id": "*"})
    of_everything = KeyCaller(make_key("all", None, datetime.now(UTC))[1])
    uid = (await rest.facade.create(of_everything, of_all)).response.event_sink.id
    assert [one.id for one in (await rest.facade.list_sinks(of_everything, "*")).event_sinks] == [uid]
    of_tenants = KeyCaller(make_key("some", ("acme", "ops"), datetime.now(UTC))[1])
    with pytest.raises(NotFound):
        await rest.facade.get(of_tenants, uid)
    with pytest.raises(Forbidden):
        await rest.facade.list_sinks(of_tenants, "*")
    with pytest.raises(Forbidden):
        await rest.facade.create(of_tenants, of_all)
    assert (await rest.facade.list_sinks(of_tenants, "acme")).event_sinks == []
    with pytest.raises(ValueError, match="a tenant consists of"):
        make_key("some", ("*",), datetime.now(UTC))


# ---- the same request again

PLAIN = CreateRequest.model_validate(
    {"tenant_id": "acme", "name": "A", "event_sink_args": {"Webhook": {"url": "https://example.com/"}}}
)
OTHER = PLAIN.model_copy(update={"name": "Another"})
GENERATES = CreateRequest.model_validate(
    {
        "tenant_id": "acme",
        "name": "A",
        "event_sink_args": {"Webhook": {"url": "https://example.com/", "generate_signing_secret": True}},
    }
)


async def test_another_request_with_the_same_idempotency_key_is_rejected_also_when_a_response_is_lost(
    rest: RestUnderTest,
) -> None:
    await rest.facade.create(rest.caller, PLAIN, "k")
    rest.api.faults = [("POST", "eventsinks", DOWN)]
    with pytest.raises(Conflict, match="another request"):
        await rest.facade.create(rest.caller, OTHER, "k")
    assert rest.left == (1, 0)


async def test_an_older_sink_is_not_deleted_by_a_repetition_of_its_request(
    rest: RestUnderTest, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = await rest.facade.create(rest.caller, PLAIN, "k")
    (key,) = rest.sinks
    status = {"observedGeneration": 1, "conditions": rejected("HostDenied")}
    body = {"metadata": {"namespace": key[0], "name": key[1]}, "status": status}
    await rest.objects.apply(EVENTSINKS, body, manager="operator", subresource="status")
    monkeypatch.setattr(idempotency, "YOUNG_SECONDS", -1.0)  # it was made long ago
    for fault in (None, DOWN):
        rest.api.faults = [("POST", "eventsinks", fault)] if fault else []
        again = await rest.facade.create(rest.caller, PLAIN, "k")
        assert (again.response.event_sink.id, again.response.event_sink.ready) == (made.response.event_sink.id, False)
    assert rest.left == (1, 0)


async def test_a_repeated_request_deletes_the_rejected_sink_of_an_interrupted_one(rest: RestUnderTest) -> None:
    rest.operator_reason = None
    await rest.facade.create(rest.caller, PLAIN, "k")
    rest.operator_reason = "HostDenied"
    rest.upsert(*next(iter(rest.sinks.items())))
    with pytest.raises(InvalidRequest):
        await rest.facade.create(rest.caller, PLAIN, "k")
    assert rest.left == (0, 0)


async def test_concurrent_calls_that_are_rejected_leave_nothing_and_return_no_sink(rest: RestUnderTest) -> None:
    rest.operator_reason = "HostDenied"
    done = await asyncio.gather(*(rest.facade.create(rest.caller, PLAIN, "k") for _ in range(4)), return_exceptions=True)
    assert {type(one) for one in done} <= {InvalidRequest, Conflict}
    assert rest.left == (0, 0)


async def test_a_repeated_request_creates_and_shows_a_missing_generated_secret(rest: RestUnderTest) -> None:
    first = await rest.facade.create(rest.caller, GENERATES, "k")
    assert first.response.signing_secret is not None
    again = await rest.facade.create(rest.caller, GENERATES, "k")
    assert again.response.signing_secret is None, "it is shown once"
    (key,) = rest.secrets
    await rest.objects.delete(SECRETS, key)
    healed = await rest.facade.create(rest.caller, GENERATES, "k")
    assert healed.response.event_sink.id == first.response.event_sink.id
    assert healed.response.signing_secret not in (None, first.response.signing_secret)
    assert rest.left == (1, 1)


async def test_a_repeated_request_finds_its_sink_when_the_tenant_has_another_namespace(rest: RestUnderTest) -> None:
    first = await rest.facade.create(rest.caller, PLAIN, "k")
    rest.catalog.namespaces.upsert(
        ("", "new"), {"metadata": {"name": "new", "labels": {"eventsink.dev/tenant": "acme", "eventsink.dev/rest": "true"}}}
    )
    again = await rest.facade.create(rest.caller, PLAIN, "k")
    assert again.response.event_sink.id == first.response.event_sink.id
    elsewhere = await rest.facade.create(rest.caller, PLAIN, "k2")
    assert elsewhere.response.event_sink.id != first.response.event_sink.id
    assert {namespace for namespace, _ in rest.sinks} == {"acme", "new"}


async def test_a_sink_deleted_while_it_is_created_does_not_reappear(rest: RestUnderTest) -> None:
    rest.operator_reason = None
    making = asyncio.ensure_future(rest.facade.create(rest.caller, REQUEST))
    while not rest.sinks:
        await asyncio.sleep(0)
    (key,) = rest.sinks
    await rest.objects.delete(EVENTSINKS, key)
    with pytest.raises(Conflict, match="deleted"):
        await making
    assert (await rest.facade.list_sinks(rest.caller, "acme")).event_sinks == []


async def test_waiting_calls_return_when_the_process_stops(rest: RestUnderTest) -> None:
    rest.operator_reason = None
    making = asyncio.ensure_future(rest.facade.create(rest.caller, PLAIN))
    while not rest.catalog.of_tenant("acme"):
        await asyncio.sleep(0)
    rest.facade.end_waits()
    async with asyncio.timeout(0.5):
        assert (await making).response.event_sink.ready is False


async def test_an_update_that_cannot_read_the_sink_again_leaves_no_secret(rest: RestUnderTest) -> None:
    uid = await rest.make()
    rest.api.faults = [("PUT", "eventsinks", CONFLICT)]
    real = rest.api.replace

    async def replace(resource: Resource, obj: Object, *, manager: str = "") -> Object:
        rest.api.faults += [("GET", "eventsinks", DOWN)] * repository.ATTEMPTS
        return await real(resource, obj, manager=manager)

    rest.api.replace = replace  # type: ignore[method-assign]
    with pytest.raises(ServiceUnavailable):
        await rest.update(uid, event_sink_args=SIGNED)
    assert rest.left == (1, 1)


async def test_a_missing_permission_is_named(rest: RestUnderTest) -> None:
    uid = await rest.make()
    rest.api.faults = [("GET", "eventsinks", kube.Forbidden(403, "Forbidden", "cannot get"))]
    with pytest.raises(ServiceUnavailable, match="lacks a permission"):
        await rest.facade.get(rest.caller, uid)
