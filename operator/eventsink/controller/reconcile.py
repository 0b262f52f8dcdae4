"""Reconciles one EventSink: read, validate, claim, credentials, compile, Secret, status. May run at any time, any number of times."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime

from eventsink.controller.cluster_state import ClusterState
from eventsink.controller.compile import COMPILER_VERSION, compile_sink, spec_problem
from eventsink.controller.config import OperatorSettings
from eventsink.controller.resolvers import Resolvers
from eventsink.controller.scope import Scope
from eventsink.controller.sink_quota import quota_exceeded
from eventsink.controller.status import SpecState, StatusWriter
from eventsink.controller.store import Compiled, CompiledStore
from eventsink.controller.tenancy import check_claim
from eventsink.destinations.credentials import secret_missing
from eventsink.destinations.problem import Effect, Problem
from eventsink.kube.api import NAMESPACES, Api, Key
from eventsink.kube.secret_reads import SecretReads
from eventsink.resources.eventsink import EventSink, EventSinkObject, InvalidSpec, destination_type, read_object, read_spec
from eventsink.resources.model import StatusModel, references
from eventsink.resources.status import READY
from eventsink.runtime.logs import get_logger
from eventsink.runtime.times import format_time, parse_time
from eventsink.sinks.sink import CompiledFrom, Sink, Withdrawn
from eventsink.sinks.target import Target

NAMESPACE_NOT_LISTED = "NamespaceNotListed"
"""Why a sink is withdrawn whose namespace was taken from the setting `namespaces`."""


@dataclass(frozen=True, slots=True)
class Result:
    """What a reconcile did."""

    outcome: str
    """A metric label: `ready`, `problem`, `withdrawn`, `deleted`, `deleting` (with its namespace), `absent`, `unknown` (its namespace was
    not seen yet)."""
    again_after: float | None = None
    """Seconds after which it must run again although nothing changes."""


class Reconciler:
    """Reconciles by key; shared by all workers."""

    def __init__(
        self,
        settings: OperatorSettings,
        api: Api,
        state: ClusterState,
        store: CompiledStore,
        writer: StatusWriter,
        resolvers: Resolvers,
        scope: Scope,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._settings = settings
        self._api = api
        self._state = state
        self._store = store
        self._writer = writer
        self._now = now
        self._resolvers = resolvers
        self._scope = scope
        self._secrets = SecretReads(api)

    async def reconcile(self, key: Key) -> Result:
        """Reconcile one EventSink.

        Raises
        ------
        ApiError
            The API server rejected a request or was unavailable: run again later.
        """
        if not self._scope.covers(key[0]):
            return await self._withdraw_uncovered(key)
        known = self._state.eventsinks.get(key)
        if known is None and not self._scope.knows(key[0]):
            return Result("unknown")
        living = read_object(known.read()) if known is not None else None
        if living is not None and living.deleting:
            living = None
        removed = await self._remove_others(key, living.uid if living is not None else "")
        if living is None:
            self._writer.forget(key)
            if known is None:
                self._state.uses(key, ())  # it may have been deleted while it was compiled
            return Result("deleted" if removed else "absent")
        namespace = self._state.namespaces.get(key[0])
        if namespace is None:
            return Result("unknown")  # its namespace is new, or gone, and the watch will show it soon
        if namespace.deleting:
            # What it needs vanishes before it does. Nothing is reported or withdrawn: it stays active until it is gone.
            return Result("deleting")
        compiled = self._store.compiled.get(living.uid)
        state, again = await self._accept_and_compile(living, compiled)
        with self._state.writing_status(key) as wrote:
            if (written := await self._writer.write(living, state)) is not None:
                wrote(living.resource_version, written)
        if (wait := await self._writer.announce(living)) is not None:
            again = wait if again is None else min(wait, again)
        outcome = "ready" if state.problem is None else "withdrawn" if state.withdrawn else "problem"
        return Result(outcome, again)

    async def _remove_others(self, key: Key, uid: str) -> int:
        """Delete what was compiled for EventSinks of that name that are no more."""
        others = [compiled for compiled in self._store.of(key) if compiled.uid != uid]
        for compiled in others:
            await self._store.remove(compiled)
            get_logger().info("compiled sink removed", sink="/".join(key), uid=compiled.uid)
        return len(others)

    async def _withdraw_uncovered(self, key: Key) -> Result:
        """Its namespace is not among those of the setting any more: whether its EventSink exists cannot be seen."""
        active = [compiled for compiled in self._store.of(key) if not compiled.withdrawn]
        for compiled in active:
            await self._withdraw(compiled, NAMESPACE_NOT_LISTED)
        return Result("withdrawn" if active else "absent")

    async def _accept_and_compile(self, living: EventSinkObject, compiled: Compiled | None) -> tuple[SpecState, float | None]:
        try:
            sink = self._accept(living)
        except Problem as problem:
            return await self._react(living, compiled, problem, destination_type(living.raw.get("spec")))
        kind = sink.spec.type
        try:
            wanted = self._made_from(sink, compiled)
            if compiled is None or compiled.withdrawn or compiled.made_from != wanted:
                destinations: Mapping[str, StatusModel] = self._status_of(await self._compile(sink, wanted, compiled))
            else:
                # As the status says already, or else as it was compiled.
                destinations = living.status.destinations or self._status_of(await self._store.read(compiled.uid))
        except Problem as problem:
            return await self._react(living, compiled, problem, kind)
        key = (living.namespace, living.name)
        shares_name = any(self._state.namesakes(key, sink.spec.tenant, sink.spec.name))
        suspended = bool(sink.spec.suspend)
        remark = self._resolvers[kind].remark(sink, destinations.get(kind))
        return SpecState(
            None, suspended=suspended, type=kind, destinations=destinations, shares_name=shares_name, remark=remark
        ), None

    def _status_of(self, sink: Sink | None) -> dict[str, StatusModel]:
        """What the status shows of a compiled sink's destination."""
        target = sink.target if sink is not None else None
        found = self._resolvers[target.type].status(target) if target is not None else None
        return {target.type: found} if target is not None and found is not None else {}

    def _accept(self, living: EventSinkObject) -> EventSink:
        """Validate the spec and the claim; note which Secrets matter."""
        key = (living.namespace, living.name)
        try:
            sink = EventSink(**vars(living), spec=read_spec(living.raw.get("spec")))
        except InvalidSpec as invalid:
            raise spec_problem(invalid) from None
        compiled = self._store.compiled.get(sink.uid)
        tokens = tokens_of(compiled)
        self._state.uses(key, {reference.ref.name for reference in references(sink.spec)}, tokens)
        allow = self._settings.tenancy.allow_unowned
        check_claim(sink.spec.tenant, sink.namespace, self._state.namespaces, self._state.owned_tenants, allow_unowned=allow)
        if limit := self._state.quota.exceeded(key, sink.spec.tenant):
            raise quota_exceeded(sink.spec.tenant, limit)
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
            version = self._state.secrets.get((sink.namespace, reference.ref.name))
            if version is None:
                raise secret_missing(reference.path, reference.ref, sink.namespace)
            versions[reference.ref.name] = version
        # Tokens are known since the sink was compiled, so that a restart reads no Secret.
        known = compiled.made_from.tokens if compiled is not None and compiled.made_from is not None else ()
        tokens = [one.model_copy(update={"version": self._state.secrets.get((one.namespace, one.name), "")}) for one in known]
        return CompiledFrom(
            compiler=COMPILER_VERSION,
            generation=sink.generation,
            secrets=versions,
            tokens=tuple(tokens),
            policy=self._resolvers[sink.spec.type].policy_digest(),
        )

    async def _compile(self, sink: EventSink, wanted: CompiledFrom, before: Compiled | None) -> Sink:
        """Read the Secrets, compile and store. The values live no longer than this call, and a few seconds in `SecretReads`."""
        values: dict[str, Mapping[str, bytes]] = {}
        versions = {}
        for name, version in wanted.secrets.items():
            if (read := await self._secrets.read((sink.namespace, name), version)) is not None:
                values[name], versions[name] = read

        async def target_before() -> Target | None:
            old = await self._store.read(sink.uid) if before is not None else None
            return old.target if old is not None else None

        resolver = self._resolvers[sink.spec.type]
        key, own = (sink.namespace, sink.name), {reference.ref.name for reference in references(sink.spec)}
        # Those of before, too: without the new ones, the sink stays active with them.
        needed = resolver.tokens(sink, values)
        self._state.uses(key, own, [*tokens_of(before), *needed])
        # Only the operator's own Secrets are bound to it.
        namespace_uid = await self._namespace_uid(sink.namespace) if needed else ""
        resolved = await resolver.resolve(sink, values, namespace_uid=namespace_uid, before=target_before)
        made_from = wanted.model_copy(update={"secrets": versions, "tokens": resolved.tokens})
        new = compile_sink(sink, resolved.target, made_from)
        await self._store.write(new, before)
        self._state.uses(key, own, [(one.namespace, one.name) for one in resolved.tokens])
        get_logger().info(
            "sink accepted and active", sink=f"{sink.namespace}/{sink.name}", tenant=sink.spec.tenant, generation=sink.generation
        )
        return new

    async def _react(
        self, living: EventSinkObject, compiled: Compiled | None, problem: Problem, kind: str | None
    ) -> tuple[SpecState, float | None]:
        """Keep what was accepted before, or withdraw it."""
        if compiled is None:
            return SpecState(problem, type=kind), problem.again_after
        effect, again = problem.effect, problem.again_after
        if effect is Effect.KEEP or effect is Effect.GRACE:
            # Also behind a bad edit, the active sink may have lost a credential of its own.
            lost = self._lost_credential(living.namespace, compiled) or effect is Effect.GRACE
            waited = self._waited(living, problem)
            effect = Effect.WITHDRAW if lost and waited >= self._settings.credential_grace else Effect.KEEP
            if lost and effect is Effect.KEEP:
                again = min(again or waited + self._settings.credential_grace, self._settings.credential_grace - waited)
                again = max(0.0, again) + 0.1
        if effect is Effect.WITHDRAW and not compiled.withdrawn:
            await self._withdraw(compiled, problem.reason)
        withdrawn = effect is Effect.WITHDRAW or bool(compiled.withdrawn)
        kept = compiled.made_from.generation if compiled.made_from is not None and not withdrawn else None
        destinations = {} if withdrawn else living.status.destinations
        return SpecState(problem, kept, withdrawn, type=kind, destinations=destinations), again

    def _lost_credential(self, namespace: str, compiled: Compiled) -> bool:
        used = compiled.made_from.secrets if compiled.made_from is not None else {}
        return any((namespace, name) not in self._state.secrets for name in used)

    def _waited(self, living: EventSinkObject, problem: Problem) -> float:
        """For how many seconds the status has reported this problem."""
        ready = living.status.condition(READY)
        if ready is None or ready.status != "False" or ready.reason != problem.reason:
            return 0.0
        return (self._now() - parse_time(ready.last_transition_time)).total_seconds()

    async def _withdraw(self, compiled: Compiled, reason: str) -> None:
        before = await self._store.read(compiled.uid)
        if before is None:
            return
        withdrawn = Withdrawn(reason=reason, since=format_time(self._now()))
        await self._store.write(before.model_copy(update={"withdrawn": withdrawn, "target": None}), compiled)
        get_logger().warning("sink withdrawn", sink="/".join(compiled.sink), reason=reason)

    async def _namespace_uid(self, namespace: str) -> str:
        """The namespace's uid; empty: it is not known yet. Namespaces of the setting are not watched, so they are asked for."""
        known = self._state.namespaces.get(namespace)
        if known is None or known.uid or self._scope.everywhere:
            return known.uid if known is not None else ""
        return str((await self._api.get(NAMESPACES, ("", namespace)))["metadata"]["uid"])


def tokens_of(compiled: Compiled | None) -> list[Key]:
    """The operator's own Secrets that a sink was compiled from."""
    made_from = compiled.made_from if compiled is not None else None
    return [(one.namespace, one.name) for one in made_from.tokens] if made_from is not None else []
