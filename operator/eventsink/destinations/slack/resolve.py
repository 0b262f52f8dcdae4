"""Makes the target of a Slack sink: exchanges its OAuth code where it has one, then looks up its workspace and channel."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from eventsink.destinations.credentials import SecretValues, secret_text
from eventsink.destinations.problem import Problem
from eventsink.destinations.resolver import Before, Note, Resolved, ResolverContext
from eventsink.destinations.slack.api import check_hook_url
from eventsink.destinations.slack.codes import PATH, SlackCodes, no_app
from eventsink.destinations.slack.config import SlackAppSettings, SlackPlatform, SlackSettings
from eventsink.destinations.slack.lookup import SlackLookup
from eventsink.destinations.slack.spec import SlackSpec, SlackStatus
from eventsink.destinations.slack.target import SlackTarget
from eventsink.destinations.slack.tokens import SecretTokenStore, token_name
from eventsink.kube.api import Key
from eventsink.resources.eventsink import EventSink
from eventsink.resources.model import StatusModel, references
from eventsink.sinks.guarded import guarded_session
from eventsink.sinks.resolver import Resolver
from eventsink.sinks.sink import SecretVersion
from eventsink.sinks.target import Target

NO_UPDATES = (
    "an incoming webhook cannot edit messages or reply to them: each change is a message of its own; use a bot token, or say so with "
    "spec.slack.updates: message"
)


class SlackResolver:
    """A `Resolver` of Slack sinks. Create it in the event loop."""

    def __init__(self, context: ResolverContext) -> None:
        platform, app = context.settings_of(SlackPlatform), context.settings_of(SlackAppSettings)
        self._context = context
        self._exchanges_codes = bool(app.client_id)
        self._namespace = context.own_namespace or app.tokens_namespace
        self._names = Resolver()
        self._session = guarded_session(context.egress, self._names, timeout=platform.timeout, permit=context.check_leader)
        self._lookup = SlackLookup(platform, self._session)
        store = SecretTokenStore(context.api, self._namespace)
        self._codes = SlackCodes(app, platform, store, self._session, check_leader=context.check_leader)

    def policy_digest(self) -> str:
        return self._lookup.policy_digest()

    def own_namespaces(self) -> Collection[str]:
        return [self._namespace] if self._exchanges_codes else []

    def problems(self, sink: EventSink) -> Sequence[Problem]:
        if not self._exchanges_codes and _spec(sink).oauth_code_secret_ref is not None:
            return (no_app(),)
        return self._lookup.problems(sink)

    def tokens(self, sink: EventSink, secrets: SecretValues) -> Collection[Key]:
        code = _code(sink, secrets)
        return [(self._namespace, token_name(code))] if code is not None else []

    async def resolve(self, sink: EventSink, secrets: SecretValues, *, namespace_uid: str, before: Before) -> Resolved:
        code = _code(sink, secrets)
        granted = None
        tokens: tuple[SecretVersion, ...] = ()
        if code is not None:
            if not namespace_uid:
                raise Problem("SlackUnavailable", "spec.slack", "the namespace is not known yet", may_pass=True, again_after=1.0)
            stored = await self._codes.token(code, namespace_uid=namespace_uid, tenant=sink.spec.tenant)
            granted = stored.record
            tokens = (SecretVersion(namespace=self._namespace, name=stored.name, version=stored.version),)
        old = await before()
        target = await self._lookup.target(sink, secrets, old if isinstance(old, SlackTarget) else None, granted)
        return Resolved(target, tokens)

    def status(self, target: Target) -> SlackStatus | None:
        """The channel, where it is known: the URL of an incoming webhook does not say which one it posts to."""
        if not isinstance(target, SlackTarget):
            return None
        return SlackStatus(
            team_id=target.team_id or None,
            team_name=target.team_name or None,
            channel_id=target.channel_id or None,
            channel_name=target.channel_name or None,
            incoming_webhook=True if target.webhook_url is not None else None,
        )

    def remark(self, sink: EventSink, status: StatusModel | None) -> str:
        return remark_of(_spec(sink), status)

    async def run(self) -> None:
        """Renew tokens, and revoke those that no EventSink needs."""
        if self._exchanges_codes:
            await self._codes.keep(lambda: self._context.used_in(self._namespace))

    async def close(self, grace: float) -> None:
        """Wait for codes that are being exchanged: a response that is not stored is lost."""
        try:
            await self._codes.finish(grace)
        finally:
            await self._session.close()
            await self._names.close()


def open_resolver(context: ResolverContext) -> SlackResolver:
    """The resolver of Slack sinks."""
    return SlackResolver(context)


def check(sink: EventSink, secrets: SecretValues) -> Sequence[Note]:
    """Check what can be checked without Slack of the Secrets that are given."""
    slack = _spec(sink)
    for reference in references(slack, "spec.slack"):
        if reference.ref.name not in secrets:
            continue
        text = secret_text(reference.path, reference.ref, secrets, sink.namespace)
        if reference.ref is slack.incoming_webhook_secret_ref:
            try:
                check_hook_url(text.strip(), SlackSettings())
            except ValueError as error:
                raise Problem("InvalidSecretValue", reference.path, str(error)) from None
    if slack.incoming_webhook_secret_ref is not None:
        return ()
    return (Note("spec.slack", "not checked: whether Slack accepts the credential, and has the channel"),)


def remark_of(slack: SlackSpec, status: StatusModel | None) -> str:
    """What the status of an accepted sink adds."""
    by_webhook = isinstance(status, SlackStatus) and status.incoming_webhook
    return NO_UPDATES if by_webhook and slack.updates != "message" else ""


def _spec(sink: EventSink) -> SlackSpec:
    slack = sink.spec.destination
    assert isinstance(slack, SlackSpec)
    return slack


def _code(sink: EventSink, secrets: SecretValues) -> str | None:
    """The OAuth code of a sink that names one."""
    ref = _spec(sink).oauth_code_secret_ref
    return secret_text(PATH, ref, secrets, sink.namespace).strip() if ref is not None else None
