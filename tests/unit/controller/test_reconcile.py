"""Reconciling one EventSink over the local API, with a destination type whose credentials are scripted."""

from __future__ import annotations

import base64
from collections.abc import Awaitable, Callable, Collection, Sequence
from datetime import UTC, datetime
from typing import Any, cast

import pytest

from eventsink.controller.cluster_state import ClusterState
from eventsink.controller.config import OperatorSettings, TenancySettings
from eventsink.controller.reconcile import Reconciler
from eventsink.controller.resolvers import Resolvers
from eventsink.controller.scope import Scope
from eventsink.controller.status import StatusWriter
from eventsink.controller.store import CompiledStore
from eventsink.controller.tenancy import Namespace
from eventsink.destinations.credentials import SecretValues
from eventsink.destinations.problem import Problem
from eventsink.destinations.resolver import Before, Resolved
from eventsink.destinations.slack.target import SlackTarget
from eventsink.kube.api import EVENTS, NAMESPACES, SECRETS, Key, NotFound, Object
from eventsink.kube.local import LocalApi
from eventsink.resources.eventsink import EventSink
from eventsink.resources.names import API_VERSION, EVENTSINKS, KIND
from eventsink.resources.namespaces import NamespaceSettings
from eventsink.sinks.sink import SecretVersion, Sink

KEY = ("acme", "s")
TOKENS = "tokens"
REJECTED = "rejected"


class ScriptedCodes:
    """Replaces the resolver of Slack sinks: the token of a code is in the Secret of the same name; one code is rejected."""

    def __init__(self) -> None:
        self.meanwhile: Callable[[], Awaitable[None]] = _nothing
        """Called while a code is being exchanged."""

    def policy_digest(self) -> str:
        return ""

    def own_namespaces(self) -> Collection[str]:
        return ()

    def problems(self, sink: EventSink) -> Sequence[Problem]:
        return ()

    def tokens(self, sink: EventSink, secrets: SecretValues) -> Collection[Key]:
        return [(TOKENS, _code(secrets))]

    async def resolve(self, sink: EventSink, secrets: SecretValues, *, namespace_uid: str, before: Before) -> Resolved:
        code = _code(secrets)
        await self.meanwhile()
        if code == REJECTED:
            raise Problem("CodeRefused", "spec.slack.oauthCodeSecretRef", "Slack rejected the code")
        target = SlackTarget(token=f"xoxb-{code}", team_id="T", channel_id="C")
        return Resolved(target, (SecretVersion(namespace=TOKENS, name=code, version="1"),))

    def remark(self, sink: object, status: object) -> str:
        return ""

    def status(self, target: object) -> None:
        return None


async def _nothing() -> None:
    pass


def _code(secrets: SecretValues) -> str:
    (data,) = secrets.values()
    return data["code"].decode()


class ReconcilerUnderTest:
    """A reconciler over the local API."""

    def __init__(
        self, namespaces: Sequence[NamespaceSettings] = (), *, api: LocalApi | None = None, store: CompiledStore | None = None
    ) -> None:
        self.api = api or LocalApi((EVENTSINKS, SECRETS, NAMESPACES, EVENTS), passing=(EVENTS,))
        self.state = ClusterState(lambda key: None, lambda: None)
        if not namespaces:
            self.state.namespaces[KEY[0]] = Namespace("u1", "")
        settings = OperatorSettings(tenancy=TenancySettings(allow_unowned=True))
        self.codes = ScriptedCodes()
        self.store = store or CompiledStore(self.api, settings.sinks_namespace, lambda key: None)
        self._reconciler = Reconciler(
            settings,
            self.api,
            self.state,
            self.store,
            StatusWriter(self.api, lambda: datetime.now(UTC)),
            cast(Resolvers, {"slack": self.codes}),
            Scope(namespaces, self.api, self.state),
        )

    async def write(self, code: str) -> str:
        """Have the EventSink name a Secret with that code; returns the outcome."""
        stored = self.api.put(SECRETS, _secret(f"code-{code}", code))
        self.state.secret_handler.upsert((KEY[0], f"code-{code}"), stored)
        spec = {
            "tenant": "acme",
            "name": "S",
            "slack": {"channel": "#a", "oauthCodeSecretRef": {"name": f"code-{code}", "key": "code"}},
        }
        known: Any = next(self.api.objects(EVENTSINKS), None)
        sink: Object = {"apiVersion": API_VERSION, "kind": KIND, "metadata": {"namespace": KEY[0], "name": KEY[1]}, "spec": spec}
        written = await (self.api.replace(EVENTSINKS, sink) if known is not None else self.api.create(EVENTSINKS, sink))
        self.state.see(written)
        return await self.reconcile()

    async def reconcile(self) -> str:
        return (await self._reconciler.reconcile(KEY)).outcome

    async def compiled(self) -> Sink | None:
        """What was compiled last."""
        uids = list(self.store.compiled)
        return await self.store.read(uids[0]) if uids else None

    async def delete(self) -> None:
        """Delete the EventSink."""
        known = self.state.eventsinks[KEY]
        await self.api.delete(EVENTSINKS, KEY)
        self.state.lose(KEY, known.uid)


def _secret(name: str, code: str) -> Object:
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"namespace": KEY[0], "name": name},
        "data": {"code": base64.b64encode(code.encode()).decode()},
    }


async def test_the_token_of_the_active_sink_stays_in_use_while_a_new_code_is_rejected() -> None:
    operator = ReconcilerUnderTest()
    assert await operator.write("first") == "ready"
    assert operator.state.used_in(TOKENS) == {"first"}
    assert await operator.write(REJECTED) == "problem"
    assert "first" in operator.state.used_in(TOKENS), "it would not be renewed any more, and be revoked after some time"
    assert await operator.write("second") == "ready"
    assert operator.state.used_in(TOKENS) == {"second"}


async def test_a_sink_deleted_while_it_is_compiled_uses_no_token() -> None:
    operator = ReconcilerUnderTest()
    operator.codes.meanwhile = operator.delete
    with pytest.raises(NotFound):
        await operator.write("first")
    assert await operator.reconcile() == "deleted"
    assert operator.state.used_in(TOKENS) == set()


async def test_a_sink_in_a_namespace_that_is_not_listed_any_more_is_withdrawn_and_active_again_once_it_is_listed() -> None:
    before = ReconcilerUnderTest()
    assert await before.write("first") == "ready"
    sink = before.state.eventsinks[KEY].read()
    without = ReconcilerUnderTest([NamespaceSettings(name="other", tenant="acme")], api=before.api, store=before.store)
    assert await without.reconcile() == "withdrawn"
    assert await without.reconcile() == "absent"
    withdrawn = await without.compiled()
    assert withdrawn is not None
    assert withdrawn.withdrawn is not None
    assert withdrawn.withdrawn.reason == "NamespaceNotListed"
    assert withdrawn.target is None
    again = ReconcilerUnderTest([NamespaceSettings(name="acme", tenant="acme")], api=before.api, store=before.store)
    before.api.put(NAMESPACES, {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "acme", "uid": "u2"}})
    again.state.secret_handler.upsert((KEY[0], "code-first"), await before.api.get(SECRETS, (KEY[0], "code-first")))
    again.state.see(sink)
    assert await again.reconcile() == "ready"
    active = await again.compiled()
    assert active is not None
    assert active.withdrawn is None


async def test_what_was_compiled_in_a_namespace_that_cannot_be_read_stays() -> None:
    before = ReconcilerUnderTest()
    assert await before.write("first") == "ready"
    unread = ReconcilerUnderTest([NamespaceSettings(name="acme", tenant="acme")], api=before.api, store=before.store)
    assert await unread.reconcile() == "unknown"
    kept = await unread.compiled()
    assert kept is not None
    assert kept.withdrawn is None


async def test_the_status_names_the_type_of_a_sink_whose_claim_or_spec_is_rejected() -> None:
    operator = ReconcilerUnderTest()
    for wrong in ({"tenant": "not a tenant"}, {"slack": {"channel": 5}}):
        sink: Object = {"apiVersion": API_VERSION, "kind": KIND, "metadata": {"namespace": KEY[0], "name": KEY[1]}}
        sink["spec"] = {"tenant": "acme", "name": "S", "slack": {"channel": "#a"}, **wrong}
        operator.state.see(await operator.api.create(EVENTSINKS, sink))
        assert await operator.reconcile() == "problem"
        written = next(iter(operator.api.objects(EVENTSINKS)))
        assert written["status"]["type"] == "slack"
        operator.state.see(written)
        await operator.delete()


async def test_nothing_is_written_of_a_sink_whose_namespace_is_being_deleted_until_it_is_gone() -> None:
    operator = ReconcilerUnderTest()
    assert await operator.write("first") == "ready"
    before = [one["metadata"]["resourceVersion"] for one in operator.api.objects(SECRETS)]
    operator.state.namespaces[KEY[0]] = Namespace("u1", "", deleting=True)
    operator.state.secret_handler.delete((KEY[0], "code-first"))
    assert await operator.reconcile() == "deleting"
    assert [one["metadata"]["resourceVersion"] for one in operator.api.objects(SECRETS)] == before
    await operator.delete()
    assert await operator.reconcile() == "deleted"
    assert [one["metadata"]["name"] for one in operator.api.objects(SECRETS)] == ["code-first"]


async def test_a_sink_whose_namespace_was_not_seen_yet_or_is_gone_already_is_left_alone() -> None:
    operator = ReconcilerUnderTest()
    assert await operator.write("first") == "ready"
    before = [one["metadata"]["resourceVersion"] for one in operator.api.objects(SECRETS)]
    del operator.state.namespaces[KEY[0]]
    assert await operator.reconcile() == "unknown"
    assert [one["metadata"]["resourceVersion"] for one in operator.api.objects(SECRETS)] == before
