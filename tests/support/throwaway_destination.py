"""A destination type that exists only in the tests, with all its parts in one module: a pager that is sent the name of each alert.

`tests.support.eventsink_with_pager` registers it with one line. Nothing of the package names it.
"""

from __future__ import annotations

import json
import time
from collections.abc import Collection, Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any, Literal

import click
from pydantic import Field

from eventsink.destinations.arguments import Credential, Credentials, DestinationArguments, RestModel
from eventsink.destinations.credentials import SecretValues, secret_text
from eventsink.destinations.options import SECRET_FILE, Argument, DestinationOptions
from eventsink.destinations.problem import Effect, Problem
from eventsink.destinations.resolver import Before, Note, Resolved, ResolverContext
from eventsink.resources.model import AtMost, SecretKeyRef, SpecModel, StatusModel
from eventsink.resources.rule import Rule, form
from eventsink.runtime.retry_after import parse_retry_after
from eventsink.runtime.settings import Settings
from eventsink.sinks.sender import Delivered, Failed, FailureClass, Message, Outcome, SenderContext
from eventsink.sinks.target import DispatchParameters, Target, destination_of
from eventsink.sinks.transport import Endpoint, Transport, TransportError, TransportErrorKind

if TYPE_CHECKING:  # the spec of an EventSink is made of this module
    from eventsink.kube.api import Key
    from eventsink.resources.eventsink import EventSink
    from eventsink.sinks.sink import Sink

KEY_PREFIX = "key-"
TEAM = form("^[a-z]+$", "the name of a team consists of lower-case letters")
NIGHT_NEEDS_TEAM = Rule(
    message="set team: at night a pager needs to know whom to wake",
    cel="!has(self.night) || has(self.team)",
    holds=lambda pager: pager.night is None or pager.team is not None,
    field="team",
    reason="FieldValueRequired",
)


class Pager(SpecModel):
    """Page somebody."""

    RULES = (NIGHT_NEEDS_TEAM,)

    service: str = Field(max_length=256, description="Address of the paging service.")
    key_secret_ref: SecretKeyRef = Field(description="Where to read the key of the paging service.")
    team: Annotated[str, Field(max_length=32), TEAM] | None = Field(default=None, description="Whom to page.")
    night: bool | None = Field(default=None, description="Also page at night.")


class PagerStatus(StatusModel):
    """The team that is paged."""

    team: Annotated[str, AtMost(32)] | None = Field(default=None, description="Name of the team.")


class PagerTarget(Target):
    """All that a page needs."""

    type: Literal["pager"] = "pager"
    service: str
    key: str
    team: str
    timeout: float = 5.0

    def destination(self) -> str:
        return destination_of("pager", self.service, self.team)

    def dispatch_parameters(self) -> DispatchParameters:
        return DispatchParameters(concurrency=1)


class PagerPolicy(Settings):
    """What the platform says about pagers."""

    denied_teams: tuple[str, ...] = ()
    """Teams that nobody may page."""


class PagerResolver:
    """Makes the target of a pager."""

    def __init__(self, policy: PagerPolicy) -> None:
        self._policy = policy

    def policy_digest(self) -> str:
        return ",".join(self._policy.denied_teams)

    def own_namespaces(self) -> Collection[str]:
        return ()

    def problems(self, sink: EventSink) -> Sequence[Problem]:
        return ()

    def tokens(self, sink: EventSink, secrets: SecretValues) -> Collection[Key]:
        return ()

    async def resolve(self, sink: EventSink, secrets: SecretValues, *, namespace_uid: str, before: Before) -> Resolved:
        pager = pager_of(sink)
        team = pager.team or "everybody"
        if team in self._policy.denied_teams:
            raise Problem("TeamNotAllowed", "spec.pager.team", f"nobody may page the team {team}", effect=Effect.WITHDRAW)
        return Resolved(PagerTarget(service=pager.service, key=key_of(sink, secrets), team=team))

    def remark(self, sink: EventSink, status: StatusModel | None) -> str:
        return ""

    def status(self, target: Target) -> PagerStatus | None:
        return PagerStatus(team=target.team) if isinstance(target, PagerTarget) else None

    async def run(self) -> None:
        pass

    async def close(self, grace: float) -> None:
        pass


def pager_of(sink: EventSink) -> Pager:
    pager = sink.spec.destination
    assert isinstance(pager, Pager)
    return pager


def key_of(sink: EventSink, secrets: SecretValues) -> str:
    path = "spec.pager.keySecretRef"
    key = secret_text(path, pager_of(sink).key_secret_ref, secrets, sink.namespace)
    if not key.startswith(KEY_PREFIX):
        raise Problem("InvalidSecretValue", path, f"a key of the paging service begins with {KEY_PREFIX}")
    return key


def open_resolver(context: ResolverContext) -> PagerResolver:
    return PagerResolver(context.settings_of(PagerPolicy))


def check(sink: EventSink, secrets: SecretValues) -> Sequence[Note]:
    if pager_of(sink).key_secret_ref.name in secrets:
        key_of(sink, secrets)
    return (Note("spec.pager.team", "not checked: whether the team exists"),)


class PagerSender:
    """Sends the names of the alerts, with the key in a header."""

    def __init__(self, target: PagerTarget, transport: Transport, tenant: str) -> None:
        self._headers = f"Pager-Key: {target.key}\r\nContent-Type: application/json\r\n".encode()
        self._team = target.team
        self._timeout = target.timeout
        self._client = transport.client(Endpoint.parse(target.service), tenant=tenant)

    async def send(self, message: Message) -> Outcome:
        try:
            alerts = [json.loads(alert) for alert in message.alerts]
            page = {"team": self._team, "alerts": [{"name": one["name"], "status": one["status"]} for one in alerts]}
        except (ValueError, KeyError):
            return Failed(FailureClass.MESSAGE, "InvalidMessage", "an alert of the message cannot be read")
        body = json.dumps(page).encode()
        try:
            response = await self._client.post(self._headers, body, timeout=self._timeout)
        except TransportError as error:
            hopeless = error.kind in (TransportErrorKind.TLS, TransportErrorKind.WRONG_PROTOCOL, TransportErrorKind.EGRESS)
            return Failed(FailureClass.SINK if hopeless else FailureClass.TRANSIENT, error.kind.value, str(error))
        if 200 <= response.status < 300:
            return Delivered(response.status)
        failure = FailureClass.SINK if 300 <= response.status < 400 else FailureClass.TRANSIENT
        wait = parse_retry_after(response.retry_after, time.time())
        return Failed(failure, f"HTTP{response.status}", "the paging service did not take it", response.status, wait)

    async def close(self) -> None:
        pass


def open_sender(sink: Sink, target: PagerTarget, context: SenderContext) -> PagerSender:
    return PagerSender(target, context.transport, sink.tenant)


class PagerArgs(RestModel):
    """Where to page, and with which key."""

    service: str | None = None
    key: Credential | None = None
    team: str | None = None


class PagerConfiguration(RestModel):
    """Whom a sink pages."""

    service: str
    team: str | None = None


def changed_spec(before: Mapping[str, Any], args: PagerArgs, credentials: Credentials) -> dict[str, Any]:
    given = {name: getattr(args, name) for name in ("service", "team") if getattr(args, name) is not None}
    key = {"keySecretRef": credentials.keep("key", args.key)} if args.key is not None else {}
    return {**before, **given, **key}


SPEC = Pager
STATUS = PagerStatus
TARGET = PagerTarget
OPERATOR_SETTINGS: dict[str, type[Settings]] = {"pagers": PagerPolicy}
ROUTER_SETTINGS: dict[str, type[Settings]] = {}
ARGUMENTS: DestinationArguments[PagerArgs, PagerArgs, PagerStatus] = DestinationArguments(
    display_name="Pager",
    create=PagerArgs,
    change=PagerArgs,
    configuration=PagerConfiguration,
    new_spec=lambda args, credentials: changed_spec({}, args, credentials),
    changed_spec=changed_spec,
    shown=lambda spec, status: PagerConfiguration(
        service=str(spec.get("service", "")), team=status.team if status is not None else None
    ),
    fields={"keySecretRef": "key"},
)
OPTIONS = DestinationOptions(
    (
        Argument("service", click.Option(["--pager-service"], metavar="URL", help="Pager: the paging service.")),
        Argument("key", click.Option(["--pager-key-file"], type=SECRET_FILE, help="Pager: file with the key.")),
        Argument("team", click.Option(["--pager-team"], help="Pager: whom to page.")),
    ),
    summary=("team",),
)
