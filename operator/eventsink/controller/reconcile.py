"""Brings one EventSink into force: read, validate, claim, credentials, compile, Secret, status. May run at any time, any number of times."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime

from eventsink.controller.cluster_state import World
from eventsink.controller.compile import compile_sink, policy_digest, references
from eventsink.controller.config import OperatorSettings
from eventsink.controller.status import StatusWriter, Verdict
from eventsink.controller.store import Compiled, CompiledStore
from eventsink.controller.tenancy import check_claim
from eventsink.destinations.credentials import SecretValues, secret_missing, secret_text
from eventsink.destinations.problem import Effect, Problem
from eventsink.destinations.slack.codes import SlackCodes
from eventsink.destinations.slack.resolve import SlackTargets
from eventsink.destinations.slack.target import SlackTarget
from eventsink.destinations.webhook.target import WebhookTarget
from eventsink.kube.api import SECRETS, Api, Key, NotFound
from eventsink.kube.secrets import secret_data
from eventsink.resources.eventsink import EventSink, EventSinkObject, InvalidSpec, read_eventsink, read_object
from eventsink.resources.status import READY, SlackStatus, WebhookStatus
from eventsink.runtime.logs import get_logger
from eventsink.runtime.times import format_time, parse_time
from eventsink.sinks.sink import CompiledFrom, Sink, Withdrawn
from eventsink.sinks.transport import Endpoint


@dataclass(frozen=True, slots=True)
class Result:
    """What a reconcile did."""

    outcome: str
    """A metric label: `ready`, `problem`, `withdrawn`, `deleted`, `absent`."""
    again_after: float | None = None
    """Seconds after which it must run again although nothing changes."""


class Reconciler:
    """Reconciles by key; shared by all workers."""

    def __init__(
        self,
        settings: OperatorSettings,
        api: Api,
        world: World,
        store: CompiledStore,
        writer: StatusWriter,
        slack: SlackTargets,
        codes: SlackCodes,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._settings = settings
        self._api = api
        self._world = world
        self._store = store
        self._writer = writer
        self._now = now
        self._slack = slack
        self._codes = codes
        self._tokens_namespace = settings.slack_app.tokens_namespace
        self._policy = policy_digest(settings.webhooks)

    async def reconcile(self, key: Key) -> Result:
        """Bring one EventSink into force.

        Raises
        ------
        ApiError
            The API server refused or was away: run again later.
        """
        obj = self._world.eventsinks.get(key)
        living = read_object(obj) if obj is not None else None
        if living is not None and living.deleting:
            living = None
        removed = await self._remove_others(key, living.uid if living is not None else "")
        if living is None:
            return Result("deleted" if removed else "absent")
        assert obj is not None
        compiled = self._store.compiled.get(living.uid)
        verdict, again = await self._bring_into_force(living, compiled)
        await self._writer.write(living, verdict)
        if verdict.problem is None:
            return Result("ready")
        return Result("withdrawn" if verdict.withdrawn else "problem", again)

    async def _remove_others(self, key: Key, uid: str) -> int:
        """Delete what was compiled for EventSinks of that name that are no more."""
        others = [compiled for compiled in self._store.of(key) if compiled.uid != uid]
        for compiled in others:
            await self._store.remove(compiled)
            get_logger().info("a compiled sink was removed", sink="/".join(key), uid=compiled.uid)
        return len(others)

    async def _bring_into_force(self, living: EventSinkObject, compiled: Compiled | None) -> tuple[Verdict, float | None]:
        try:
            sink = self._accept(living)
        except Problem as problem:
            return await self._react(living, compiled, problem)
        kind = "webhook" if sink.spec.webhook is not None else "slack"
        try:
            wanted = self._made_from(sink, compiled)
            if compiled is None or compiled.withdrawn or compiled.made_from != wanted:
                target = target_status(await self._compile(sink, wanted, compiled))
            else:
                target = await self._target_in_force(living, compiled)
        except Problem as problem:
            return await self._react(living, compiled, problem, kind)
        return Verdict(None, suspended=bool(sink.spec.suspend), type=kind, slack=target[0], webhook=target[1]), None

    async def _target_in_force(
        self, living: EventSinkObject, compiled: Compiled
    ) -> tuple[SlackStatus | None, WebhookStatus | None]:
        """As the status says already, or else as it was compiled."""
        if living.status.slack is not None or living.status.webhook is not None:
            return living.status.slack, living.status.webhook
        return target_status(await self._store.read(compiled.uid))

    def _accept(self, living: EventSinkObject) -> EventSink:
        """Validate the spec and the claim; note which Secrets matter."""
        key = (living.namespace, living.name)
        try:
            sink = read_eventsink(living.raw)
        except InvalidSpec as invalid:
            unknown = any(error.unknown_field for error in invalid.errors)
            raise Problem("UnknownField" if unknown else "InvalidSpec", str(invalid)) from None
        compiled = self._store.compiled.get(sink.uid)
        tokens = tokens_of(compiled.made_from) if compiled is not None else []
        self._world.uses(key, {reference.ref.name for reference in references(sink.spec)}, tokens)
        allow = self._settings.tenancy.allow_unowned
        check_claim(sink.spec.tenant, sink.namespace, self._world.namespaces, allow_unowned=allow)
        return sink

    def _made_from(self, sink: EventSink, compiled: Compiled | None) -> CompiledFrom:
        """What the sink would be compiled from now.

        Raises
        ------
        Problem
            A Secret that it refers to is not there.
        """
        versions = {}
        for reference in references(sink.spec):
            version = self._world.secrets.get((sink.namespace, reference.ref.name))
            if version is None:
                raise secret_missing(reference.path, reference.ref, sink.namespace)
            versions[reference.ref.name] = version
        if sink.spec.slack is not None and sink.spec.slack.oauth_code_secret_ref is not None and compiled is not None:
            # The token of the code: known by its name since the code was exchanged, so that a restart reads no Secret.
            for token in tokens_of(compiled.made_from):
                versions["/".join(token)] = self._world.secrets.get(token, "")
        policy = self._policy if sink.spec.slack is None else self._slack.policy_digest()
        return CompiledFrom(generation=sink.generation, secrets=versions, policy=policy)

    async def _compile(self, sink: EventSink, wanted: CompiledFrom, before: Compiled | None) -> Sink:
        """Read the Secrets, compile and store. The values live no longer than this call."""
        values: dict[str, Mapping[str, bytes]] = {}
        versions = {}
        for name in wanted.secrets:
            if "/" in name:
                continue  # a token of the operator's own
            try:
                secret = await self._api.get(SECRETS, (sink.namespace, name))
            except NotFound:
                continue
            values[name] = secret_data(secret)
            versions[name] = secret["metadata"]["resourceVersion"]
        target = None
        if sink.spec.slack is not None:
            granted = await self._granted(sink, values, versions)
            old = await self._store.read(sink.uid) if before is not None else None
            before_target = old.target if old is not None and isinstance(old.target, SlackTarget) else None
            target = await self._slack.target(sink, values, before_target, granted)
        made_from = wanted.model_copy(update={"secrets": versions})
        new = compile_sink(sink, values, made_from, self._settings.webhooks, target)
        await self._store.write(new)
        get_logger().info(
            "a sink is in force", sink=f"{sink.namespace}/{sink.name}", tenant=sink.spec.tenant, generation=sink.generation
        )
        return new

    async def _granted(self, sink: EventSink, values: SecretValues, versions: dict[str, str]) -> str | None:
        """The token of the sink's OAuth code, if it has one; its version is noted in `versions`."""
        ref = sink.spec.slack.oauth_code_secret_ref if sink.spec.slack is not None else None
        if ref is None:
            return None
        code = secret_text("spec.slack.oauthCodeSecretRef", ref, values, sink.namespace).strip()
        namespace = self._world.namespaces.get(sink.namespace)
        if namespace is None:
            raise Problem("SlackUnavailable", "spec.slack: the namespace is not known yet", may_pass=True, again_after=1.0)
        stored = await self._codes.token(code, namespace_uid=namespace.uid, tenant=sink.spec.tenant)
        versions[f"{self._tokens_namespace}/{stored.name}"] = stored.version
        own = {reference.ref.name for reference in references(sink.spec)}
        self._world.uses((sink.namespace, sink.name), own, [(self._tokens_namespace, stored.name)])
        return stored.record.token

    async def _react(
        self, living: EventSinkObject, compiled: Compiled | None, problem: Problem, kind: str | None = None
    ) -> tuple[Verdict, float | None]:
        """Keep what was accepted before, or withdraw it."""
        if compiled is None:
            return Verdict(problem, type=kind), problem.again_after
        effect, again = problem.effect, problem.again_after
        if effect is Effect.KEEP or effect is Effect.GRACE:
            # Also behind a bad edit, the sink in force may have lost a credential of its own.
            lost = self._lost_credential(living.namespace, compiled) or effect is Effect.GRACE
            waited = self._waited(living, problem)
            effect = Effect.WITHDRAW if lost and waited >= self._settings.credential_grace else Effect.KEEP
            if lost and effect is Effect.KEEP:
                again = min(again or waited + self._settings.credential_grace, self._settings.credential_grace - waited)
                again = max(0.0, again) + 0.1
        if effect is Effect.WITHDRAW and not compiled.withdrawn:
            await self._withdraw(living, problem)
        withdrawn = effect is Effect.WITHDRAW or bool(compiled.withdrawn)
        kept = compiled.made_from.generation if compiled.made_from is not None and not withdrawn else None
        slack, webhook = (None, None) if withdrawn else (living.status.slack, living.status.webhook)
        return Verdict(problem, kept, withdrawn, type=kind, slack=slack, webhook=webhook), again

    def _lost_credential(self, namespace: str, compiled: Compiled) -> bool:
        used = compiled.made_from.secrets if compiled.made_from is not None else {}
        return any((namespace, name) not in self._world.secrets for name in used if "/" not in name)

    def _waited(self, living: EventSinkObject, problem: Problem) -> float:
        """For how many seconds the status has told of this problem."""
        told = living.status.condition(READY)
        if told is None or told.status != "False" or told.reason != problem.reason:
            return 0.0
        return (self._now() - parse_time(told.last_transition_time)).total_seconds()

    async def _withdraw(self, living: EventSinkObject, problem: Problem) -> None:
        before = await self._store.read(living.uid)
        if before is None:
            return
        withdrawn = Withdrawn(reason=problem.reason, since=format_time(self._now()))
        sink = before.model_copy(update={"withdrawn": withdrawn, "target": None})
        await self._store.write(sink)
        get_logger().warning("a sink was withdrawn", sink=f"{living.namespace}/{living.name}", reason=problem.reason)


def target_status(sink: Sink | None) -> tuple[SlackStatus | None, WebhookStatus | None]:
    """What the status shows of a compiled sink's destination."""
    if sink is None:
        return None, None
    target = sink.target
    if isinstance(target, WebhookTarget):
        return None, WebhookStatus(origin=Endpoint.parse(target.url).origin[:512])
    return slack_status(target if isinstance(target, SlackTarget) else None), None


def slack_status(target: SlackTarget | None) -> SlackStatus | None:
    """What the status shows of a channel; an incoming webhook tells of none."""
    if target is None or not target.channel_id:
        return None
    return SlackStatus(
        team_id=target.team_id[:64],
        team_name=target.team_name[:256],
        channel_id=target.channel_id[:64],
        channel_name=target.channel_name[:256],
    )


def tokens_of(made_from: CompiledFrom | None) -> list[Key]:
    """The Secrets of the operator's own among what a sink was made from: noted as `namespace/name`."""
    found = []
    for one in made_from.secrets if made_from is not None else ():
        namespace, slash, name = one.partition("/")
        if slash:
            found.append((namespace, name))
    return found
