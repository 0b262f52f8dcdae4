"""The facade over an API server that loses answers, refuses and conflicts: nothing is made twice, and nothing is left half done."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeVar, cast

import pytest

from eventsink.kube.api import SECRETS, Api, ApiError, Conflict, Forbidden, Key, Object, Resource, Unavailable
from eventsink.resources.names import EVENTSINKS
from eventsink.rest.access.callers import KeyCaller
from eventsink.rest.access.keys import make_key
from eventsink.rest.calls import facade as module
from eventsink.rest.calls.catalog import Catalog
from eventsink.rest.calls.facade import SECRET_TYPE, Facade
from eventsink.rest.config import FacadeSettings
from eventsink.rest.errors import Away, Conflicting, InvalidRequest, NotPermitted, PreconditionFailed, Unknown
from eventsink.rest.models import CreateRequest, UpdateRequest
from eventsink.runtime.backoff import Backoff
from eventsink.standalone.made import MadeSinks
from eventsink.standalone.objects import LocalObjects

T = TypeVar("T")
LOST = "lost"
"""The request is carried out, and its answer does not come."""
DOWN = Unavailable(0, "Unavailable", "no answer")
CONFLICT = Conflict(409, "Conflict", "changed")
TIMED_OUT = Unavailable(504, "Timeout", "request did not complete")
DONE_AND_TIMED_OUT = "done, and answered 504"
REQUEST = CreateRequest.model_validate(
    {
        "tenant_id": "acme",
        "name": "Alerts",
        "event_sink_args": {"Webhook": {"url": "https://example.com/", "signing_secret": "whsec_" + "a" * 32}},
    }
)


class Troubled:
    """Plays troubles before it asks the objects of this process."""

    def __init__(self, objects: LocalObjects) -> None:
        self._objects = objects
        self.troubles: list[tuple[str, str, str | ApiError]] = []
        """Method, kind of objects, and what goes wrong: each once, in order."""
        self.asked: list[str] = []

    async def get(self, resource: Resource, key: Key) -> Object:
        return await self._trouble("GET", resource, lambda: self._objects.get(resource, key))

    async def create(self, resource: Resource, obj: Object, *, manager: str = "") -> Object:
        return await self._trouble("POST", resource, lambda: self._objects.create(resource, obj, manager=manager))

    async def replace(self, resource: Resource, obj: Object, *, manager: str = "") -> Object:
        return await self._trouble("PUT", resource, lambda: self._objects.replace(resource, obj, manager=manager))

    async def delete(self, resource: Resource, key: Key, *, uid: str = "", resource_version: str = "") -> None:
        await self._trouble("DELETE", resource, lambda: self._objects.delete(resource, key, uid=uid))

    async def _trouble(self, method: str, resource: Resource, call: Callable[[], Awaitable[T]]) -> T:
        self.asked.append(f"{method} {resource.plural}")
        for index, (verb, plural, trouble) in enumerate(self.troubles):
            if verb == method and plural == resource.plural:
                del self.troubles[index]
                if isinstance(trouble, ApiError):
                    raise trouble
                await call()
                raise TIMED_OUT if trouble == DONE_AND_TIMED_OUT else DOWN
        return await call()


READY = {"type": "Ready", "status": "True", "reason": "Accepted", "message": "", "lastTransitionTime": "2026-01-01T00:00:00Z"}


def refusal(reason: str) -> list[dict[str, str]]:
    """Conditions of a sink that cannot be in force."""
    told = {**READY, "reason": reason, "message": "spec.webhook.url: no"}
    return [{**told, "status": "False"}, {**told, "type": "Stalled"}]


class World:
    """A facade, and an operator that says of every sink that it is in force (or `verdict`)."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        for name in ("BACKOFF", "UPDATE_BACKOFF"):
            monkeypatch.setattr(module, name, Backoff(first=0.001, longest=0.01))
        self.secrets: dict[Key, Object] = {}
        self.verdict: str | None = "Ready"
        self.objects = LocalObjects(
            folder / "objects",
            MadeSinks(folder / "made"),
            secret_changed=self._secret,
            sink_changed=lambda obj: None,
            sink_made=lambda key, obj: None,
            told=lambda event: None,
        )
        self.api = Troubled(self.objects)
        self.catalog = Catalog()
        self.catalog.namespaces.changed(("", "acme"), {"metadata": {"name": "acme", "labels": {"eventsink.dev/tenant": "acme"}}})
        self.objects.watch_sinks(self.catalog.sinks.changed)
        self.objects.watch_sinks(self._judge)
        self.away: str | None = None
        settings = FacadeSettings(create_wait=1.0)
        self.facade = Facade(settings, cast(Api, self.api), self.catalog, away=lambda: self.away, tester=None)
        self.caller = KeyCaller(make_key("test", ("acme",), datetime.now(UTC))[1])
        self._tasks: set[asyncio.Task[Any]] = set()

    def _secret(self, key: Key, obj: Object | None) -> None:
        if obj is None:
            self.secrets.pop(key, None)
        elif obj["type"] == SECRET_TYPE:
            self.secrets[key] = obj

    def _judge(self, key: Key, obj: Object | None) -> None:
        """As the operator does, a moment later."""
        if obj is None or self.verdict is None:
            return
        generation = obj["metadata"]["generation"]
        if obj["status"].get("observedGeneration") == generation:
            return
        good = self.verdict == "Ready"
        ready = {
            "type": "Ready",
            "status": "True" if good else "False",
            "reason": self.verdict,
            "message": "spec.webhook.url: no",
        }
        stalled = {**ready, "type": "Stalled", "status": "False" if good else "True"}
        conditions = [{**one, "lastTransitionTime": "2026-01-01T00:00:00Z"} for one in (ready, stalled)]
        body = {
            "metadata": {"namespace": key[0], "name": key[1]},
            "status": {"observedGeneration": generation, "conditions": conditions},
        }

        async def tell() -> None:
            await self.objects.apply(EVENTSINKS, body, manager="operator", subresource="status")

        task = asyncio.get_running_loop().create_task(tell())
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    @property
    def left(self) -> tuple[int, int]:
        """How many EventSinks and Secrets there are."""
        return len(self.objects.sinks), len(self.secrets)

    async def make(self) -> str:
        """A sink that is in force; its id."""
        return (await self.facade.create(self.caller, REQUEST)).answer.event_sink.id

    async def update(self, uid: str, if_match: str = "", **changes: Any) -> Any:
        return await self.facade.update(self.caller, uid, UpdateRequest.model_validate({"id": uid, **changes}), if_match)


@pytest.fixture
async def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> World:
    one = World(tmp_path, monkeypatch)
    one.objects.load()
    return one


SIGNED = {"Webhook": {"signing_secret": "whsec_" + "b" * 32}}


@pytest.mark.parametrize("trouble", [LOST, DONE_AND_TIMED_OUT, DOWN, TIMED_OUT])
@pytest.mark.parametrize("where", ["eventsinks", "secrets"])
async def test_a_create_whose_answer_is_lost_makes_one_sink_with_its_secret(
    world: World, trouble: str | ApiError, where: str
) -> None:
    world.api.troubles = [("POST", where, trouble)]
    made = await world.facade.create(world.caller, REQUEST)
    assert (made.answer.event_sink.ready, made.answer.event_sink.reason) == (True, "")
    assert world.left == (1, 1)


async def test_a_sink_whose_secret_cannot_be_made_is_taken_back(world: World) -> None:
    world.api.troubles = [("POST", "secrets", DOWN)] * module.ATTEMPTS
    with pytest.raises(Away):
        await world.facade.create(world.caller, REQUEST)
    assert world.left == (0, 0)


@pytest.mark.parametrize(
    ("error", "kind", "sentence"),
    [
        (Forbidden(403, "Forbidden", "exceeded quota: sinks"), Conflicting, "quota"),
        (Forbidden(403, "Forbidden", "because it is being terminated"), Conflicting, "the namespace of the"),
        (Forbidden(403, "Forbidden", "no right"), Away, "lacks a right"),
        (
            Forbidden(403, "Forbidden", 'admission webhook "x" denied the request: no sinks on Fridays'),
            InvalidRequest,
            "on Fridays",
        ),
        (ApiError(418, "Teapot", "x"), Away, "does not answer"),
    ],
)
@pytest.mark.parametrize("where", ["eventsinks", "secrets"])
async def test_what_the_api_server_refuses_is_told_and_leaves_nothing(
    world: World, error: ApiError, kind: type[Exception], sentence: str, where: str
) -> None:
    world.api.troubles = [("POST", where, error)]
    with pytest.raises(kind, match=sentence):
        await world.facade.create(world.caller, REQUEST)
    assert world.left == (0, 0)


async def test_what_the_operator_refuses_leaves_nothing_and_says_why(world: World) -> None:
    world.verdict = "HostDenied"
    with pytest.raises(InvalidRequest, match=r"event_sink_args\.Webhook\.url: no"):
        await world.facade.create(world.caller, REQUEST)
    assert world.left == (0, 0)


async def test_without_a_verdict_the_sink_stays_and_says_so(world: World) -> None:
    world.verdict = None
    made = await world.facade.create(world.caller, REQUEST)
    assert made.answer.event_sink.ready is False
    assert "the operator has not looked at it yet" in made.answer.event_sink.reason
    assert world.left == (1, 1)


async def test_an_update_wins_over_others_that_change_the_sink_meanwhile(world: World) -> None:
    uid = await world.make()
    world.api.troubles = [("PUT", "eventsinks", CONFLICT)] * (module.UPDATE_ATTEMPTS - 1)
    changed = await world.update(uid, name="New", event_sink_args=SIGNED)
    assert changed.answer.event_sink.name == "New"
    assert world.left == (1, 2), "the old signing secret goes on signing"
    assert world.api.asked.count("POST secrets") == 2, "one for the sink, one for the change"


async def test_an_update_that_never_wins_is_told_and_leaves_no_secret(world: World) -> None:
    uid = await world.make()
    world.api.troubles = [("PUT", "eventsinks", CONFLICT)] * module.UPDATE_ATTEMPTS
    with pytest.raises(Conflicting, match="at the same time"):
        await world.update(uid, event_sink_args=SIGNED)
    assert world.left == (1, 1)


@pytest.mark.parametrize("trouble", [LOST, DONE_AND_TIMED_OUT])
async def test_an_update_without_an_answer_keeps_the_secret_that_the_spec_may_refer_to(world: World, trouble: str) -> None:
    uid = await world.make()
    world.api.troubles = [("PUT", "eventsinks", trouble)]
    with pytest.raises(Away):
        await world.update(uid, event_sink_args=SIGNED)
    spec = next(iter(world.objects.sinks.values()))["spec"]
    assert {("acme", one["name"]) for one in spec["webhook"]["signingSecretRefs"]} <= set(world.secrets)


async def test_an_update_that_is_refused_leaves_no_secret(world: World) -> None:
    uid = await world.make()
    world.api.troubles = [("PUT", "eventsinks", Forbidden(403, "Forbidden", "no right"))]
    with pytest.raises(Away):
        await world.update(uid, event_sink_args=SIGNED)
    with pytest.raises(PreconditionFailed):
        await world.update(uid, if_match='"another"', event_sink_args=SIGNED)
    assert world.left == (1, 1)


async def test_an_update_that_is_not_in_force_is_kept_and_told(world: World) -> None:
    uid = await world.make()
    world.verdict = "HostDenied"
    changed = await world.update(uid, name="New")
    assert (changed.answer.event_sink.name, changed.answer.event_sink.ready) == ("New", False)


async def test_an_update_that_changes_nothing_writes_nothing(world: World) -> None:
    uid = await world.make()
    before = list(world.api.asked)
    await world.update(uid, name="Alerts")
    assert world.api.asked[len(before) :] == ["GET eventsinks"]


@pytest.mark.parametrize("trouble", [LOST, DONE_AND_TIMED_OUT, DOWN])
async def test_a_deletion_that_is_answered_late_is_a_deletion(world: World, trouble: str | ApiError) -> None:
    uid = await world.make()
    world.api.troubles = [("DELETE", "eventsinks", trouble)]
    assert (await world.facade.delete(world.caller, uid)).id == uid
    assert world.left == (0, 0)
    with pytest.raises(Unknown):
        await world.facade.delete(world.caller, uid)


async def test_a_sink_that_was_made_anew_under_the_name_is_another_one(world: World) -> None:
    uid = await world.make()
    (key,) = world.objects.sinks
    known = world.objects.sinks[key]
    world.objects._listeners.clear()  # the watch is behind
    await world.objects.delete(EVENTSINKS, key)
    await world.objects.create(EVENTSINKS, {**known, "status": {}})
    for call in (world.facade.get(world.caller, uid), world.facade.delete(world.caller, uid), world.update(uid, name="x")):
        with pytest.raises(Unknown):
            await call
    assert len(world.objects.sinks) == 1


async def test_while_it_does_not_know_what_there_is_it_answers_nothing(world: World) -> None:
    uid = await world.make()
    world.away = "not everything was read"
    for call in (
        world.facade.list_sinks(world.caller, "acme"),
        world.facade.get(world.caller, uid),
        world.facade.create(world.caller, REQUEST),
        world.facade.delete(world.caller, uid),
        world.update(uid, name="x"),
        world.facade.test(world.caller, uid),
    ):
        with pytest.raises(Away, match="not everything was read"):
            await call
    world.away = None
    world.api.troubles = [("GET", "eventsinks", DOWN)] * module.ATTEMPTS
    with pytest.raises(Away, match="the API server does not answer"):
        await world.facade.get(world.caller, uid)


async def test_a_test_alert_where_no_router_is_set_up_is_refused(world: World) -> None:
    with pytest.raises(Conflicting, match=r"router\.url"):
        await world.facade.test(world.caller, await world.make())


async def test_a_key_of_another_tenant_finds_nothing(world: World) -> None:
    uid = await world.make()
    stranger = KeyCaller(make_key("stranger", ("globex",), datetime.now(UTC))[1])
    with pytest.raises(Unknown):
        await world.facade.get(stranger, uid)
    with pytest.raises(NotPermitted):
        await world.facade.list_sinks(stranger, "acme")


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


async def test_another_request_with_the_key_is_refused_also_when_an_answer_is_lost(world: World) -> None:
    await world.facade.create(world.caller, PLAIN, "k")
    world.api.troubles = [("POST", "eventsinks", DOWN)]
    with pytest.raises(Conflicting, match="another request"):
        await world.facade.create(world.caller, OTHER, "k")
    assert world.left == (1, 0)


async def test_a_sink_of_before_is_not_taken_away_by_the_request_that_made_it(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = await world.facade.create(world.caller, PLAIN, "k")
    (key,) = world.objects.sinks
    status = {"observedGeneration": 1, "conditions": refusal("HostDenied")}
    body = {"metadata": {"namespace": key[0], "name": key[1]}, "status": status}
    await world.objects.apply(EVENTSINKS, body, manager="operator", subresource="status")
    monkeypatch.setattr(module, "YOUNG_SECONDS", -1.0)  # it was made long ago
    for trouble in (None, DOWN):
        world.api.troubles = [("POST", "eventsinks", trouble)] if trouble else []
        again = await world.facade.create(world.caller, PLAIN, "k")
        assert (again.answer.event_sink.id, again.answer.event_sink.ready) == (made.answer.event_sink.id, False)
    assert world.left == (1, 0)


async def test_what_a_call_left_that_ended_before_its_verdict_is_decided_by_the_same_request(world: World) -> None:
    world.verdict = None
    await world.facade.create(world.caller, PLAIN, "k")
    world.verdict = "HostDenied"
    world._judge(*next(iter(world.objects.sinks.items())))
    with pytest.raises(InvalidRequest):
        await world.facade.create(world.caller, PLAIN, "k")
    assert world.left == (0, 0)


async def test_two_calls_at_once_that_are_refused_leave_nothing_and_answer_no_sink(world: World) -> None:
    world.verdict = "HostDenied"
    done = await asyncio.gather(*(world.facade.create(world.caller, PLAIN, "k") for _ in range(4)), return_exceptions=True)
    assert {type(one) for one in done} <= {InvalidRequest, Conflicting}
    assert world.left == (0, 0)


async def test_a_generated_secret_that_a_kill_kept_from_being_made_is_made_and_shown_by_the_same_request(world: World) -> None:
    first = await world.facade.create(world.caller, GENERATES, "k")
    assert first.answer.signing_secret is not None
    again = await world.facade.create(world.caller, GENERATES, "k")
    assert again.answer.signing_secret is None, "it is shown once"
    (key,) = world.secrets
    await world.objects.delete(SECRETS, key)
    healed = await world.facade.create(world.caller, GENERATES, "k")
    assert healed.answer.event_sink.id == first.answer.event_sink.id
    assert healed.answer.signing_secret not in (None, first.answer.signing_secret)
    assert world.left == (1, 1)


async def test_the_request_again_finds_its_sink_when_the_tenant_has_moved(world: World) -> None:
    first = await world.facade.create(world.caller, PLAIN, "k")
    world.catalog.namespaces.changed(
        ("", "new"), {"metadata": {"name": "new", "labels": {"eventsink.dev/tenant": "acme", "eventsink.dev/rest": "true"}}}
    )
    again = await world.facade.create(world.caller, PLAIN, "k")
    assert again.answer.event_sink.id == first.answer.event_sink.id
    elsewhere = await world.facade.create(world.caller, PLAIN, "k2")
    assert elsewhere.answer.event_sink.id != first.answer.event_sink.id
    assert {namespace for namespace, _ in world.objects.sinks} == {"acme", "new"}


async def test_a_sink_that_others_delete_at_this_moment_does_not_come_back(world: World) -> None:
    world.verdict = None
    making = asyncio.ensure_future(world.facade.create(world.caller, REQUEST))
    while not world.objects.sinks:
        await asyncio.sleep(0)
    (key,) = world.objects.sinks
    await world.objects.delete(EVENTSINKS, key)
    with pytest.raises(Conflicting, match="deleted"):
        await making
    assert (await world.facade.list_sinks(world.caller, "acme")).event_sinks == []


async def test_at_the_end_of_the_process_nothing_is_waited_for(world: World) -> None:
    world.verdict = None
    making = asyncio.ensure_future(world.facade.create(world.caller, PLAIN))
    while not world.catalog.of_tenant("acme"):
        await asyncio.sleep(0)
    world.facade.end_waits()
    async with asyncio.timeout(0.5):
        assert (await making).answer.event_sink.ready is False


async def test_an_update_that_cannot_read_the_sink_again_leaves_no_secret(world: World) -> None:
    uid = await world.make()
    world.api.troubles = [("PUT", "eventsinks", CONFLICT)]
    real = world.api.replace

    async def replace(resource: Resource, obj: Object, *, manager: str = "") -> Object:
        world.api.troubles += [("GET", "eventsinks", DOWN)] * module.ATTEMPTS
        return await real(resource, obj, manager=manager)

    world.api.replace = replace  # type: ignore[method-assign]
    with pytest.raises(Away):
        await world.update(uid, event_sink_args=SIGNED)
    assert world.left == (1, 1)


async def test_a_missing_right_is_told_as_one(world: World) -> None:
    uid = await world.make()
    world.api.troubles = [("GET", "eventsinks", Forbidden(403, "Forbidden", "cannot get"))]
    with pytest.raises(Away, match="lacks a right"):
        await world.facade.get(world.caller, uid)
