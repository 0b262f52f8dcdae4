"""Turns requests into EventSink specs, and the credentials in them into the values of one Secret. Pure."""

from __future__ import annotations

import base64
import copy
import re
import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

from eventsink.resources import rules
from eventsink.resources.eventsink import InvalidSpec, read_spec
from eventsink.rest.errors import Conflict, InvalidRequest
from eventsink.rest.models import CreateRequest, RestModel, SlackArgs, SlackChannelArgs, SlackCodeArgs, UpdateRequest, WebhookArgs

SIGNING_BYTES = 32
MAX_SIGNING_SECRETS = 2
"""The latest one, and the one before, with which receivers verify until they know the new one."""

_PATHS = (
    (r"^spec\.tenant\b", "tenant_id"),
    (r"^spec\.webhook\b", "event_sink_args.Webhook"),
    (r"^spec\.slack\b", "event_sink_args.Slack"),
    (r"^spec\.", ""),
    (r"\.urlSecretRef(\.\w+)?", ".secret_url"),
    (r"\.valueFrom(\.\w+)*", ".value"),
    (r"\.signingSecretRefs(\[\d+\])?(\.\w+)?", ".signing_secret"),
    (r"\.tls(\.caSecretRef(\.\w+)?)?", ".ca_certificate"),
    (r"\.oauthCodeSecretRef(\.\w+)?", ".slack_oauth_code"),
    (r"\.botTokenSecretRef(\.\w+)?", ".bot_token"),
    (r"\.incomingWebhookSecretRef(\.\w+)?", ".incoming_webhook_url"),
)
"""The field of a request that a field of the spec comes from, as replacements in its path."""
_SPEC_PATH = re.compile(r"spec(?:\.\w+|\[\d+\])+")


@dataclass(frozen=True)
class SpecChange:
    """The spec to write, and the credentials that belong to it."""

    spec: dict[str, Any]
    secret: str
    """Name of the Secret that the spec refers to, if there are values."""
    values: Mapping[str, str] = field(default_factory=dict, repr=False)
    """Key -> credential; empty: there is no Secret to create."""
    generates: bool = False
    """Whether the signing secret that was offered is used."""


def new_signing_secret() -> str:
    """A key for Standard Webhooks: `whsec_` and base64 of 32 random bytes."""
    return "whsec_" + base64.b64encode(secrets.token_bytes(SIGNING_BYTES)).decode()


def rest_path(path: str) -> str:
    """The field of a request that a field of the spec was made from: `spec.webhook.url` is `event_sink_args.Webhook.url`."""
    for pattern, replacement in _PATHS:
        path = re.sub(pattern, replacement, path)
    return re.sub(r"(?<=[a-z])[A-Z]", lambda found: f"_{found[0].lower()}", path)


def rest_sentence(message: str) -> str:
    """A message of the operator about a spec, with the paths of a request."""
    return _SPEC_PATH.sub(lambda found: rest_path(found[0]), message)


def new_spec(request: CreateRequest, secret: str, signing: str) -> SpecChange:
    """The spec of a new sink.

    Parameters
    ----------
    secret
        Name of the Secret for its credentials.
    signing
        The signing secret to use if one is to be generated.

    Raises
    ------
    InvalidRequest
        The spec would be rejected.
    """
    made = _Making(secret, signing)
    spec: dict[str, Any] = {"tenant": request.tenant_id, "name": request.name}
    if request.description:
        spec["description"] = request.description
    _common(spec, request)
    args = request.event_sink_args
    if args.webhook is not None:
        if (args.webhook.url is None) == (args.webhook.secret_url is None):
            raise InvalidRequest("event_sink_args.Webhook: write exactly one of url and secret_url")
        spec["webhook"] = made.webhook({}, args.webhook)
    elif args.slack is not None:
        spec["slack"] = made.slack(args.slack)
    return made.change(spec)


def changed_spec(before: Mapping[str, Any], request: UpdateRequest, secret: str, signing: str) -> SpecChange:
    """The spec after an update. Parameters as of `new_spec`.

    Raises
    ------
    InvalidRequest
        The spec would be rejected, or would send credentials to another host than the one they were given for.
    Conflict
        The sink was written for a newer version of EventSink.
    """
    made = _Making(secret, signing)
    spec = copy.deepcopy(dict(before))
    if request.name is not None:
        spec["name"] = request.name
    elif "name" in request.model_fields_set:
        raise InvalidRequest("name: required; write a text")
    if "description" in request.model_fields_set:
        _put(spec, "description", request.description or None)
    _common(spec, request)
    args = request.event_sink_args
    if args is not None:
        old, new = kind_of(before), "Webhook" if args.webhook is not None else "Slack"
        if old != new:
            raise InvalidRequest(f"event_sink_args: the type cannot change, and this sink is a {old}; create another one")
        if args.webhook is not None:
            spec["webhook"] = made.webhook(spec["webhook"], args.webhook)
        elif isinstance(args.slack, SlackChannelArgs):
            spec["slack"] = made.slack_again(spec["slack"], args.slack)
    return made.change(spec)


def kind_of(spec: Mapping[str, Any]) -> str:
    """`Slack` or `Webhook`."""
    return "Slack" if isinstance(spec.get("slack"), dict) else "Webhook"


def _put(target: dict[str, Any], name: str, value: Any) -> None:
    if value is None:
        target.pop(name, None)
    else:
        target[name] = value


def _common(spec: dict[str, Any], request: CreateRequest | UpdateRequest) -> None:
    given = request.model_fields_set
    if "suspend" in given:
        _put(spec, "suspend", request.suspend)
    for name in ("match", "delivery"):
        if name in given:
            _put(spec, name, _members(spec.get(name), getattr(request, name)))


def _members(before: Any, model: RestModel | None) -> dict[str, Any] | None:
    """What was there with what is given over it; null takes away."""
    if model is None:
        return None
    after = dict(before) if isinstance(before, dict) else {}
    for name in model.model_fields_set:
        _put(after, camel(name), getattr(model, name))
    return after or None


def camel(name: str) -> str:
    """`min_severity` -> `minSeverity`."""
    head, *rest = name.split("_")
    return head + "".join(part.capitalize() for part in rest)


def snake(name: str) -> str:
    """`minSeverity` -> `min_severity`."""
    return re.sub(r"[A-Z]", lambda found: f"_{found[0].lower()}", name)


class _Making:
    """Collects the credentials of one request."""

    def __init__(self, secret: str, signing: str) -> None:
        self._secret = secret
        self._signing_secret = signing
        self._values: dict[str, str] = {}
        self._generates = False
        self._url = ""

    def change(self, spec: dict[str, Any]) -> SpecChange:
        self._check(spec)
        return SpecChange(spec, self._secret, self._values, self._generates)

    def _keep(self, key: str, value: str) -> dict[str, str]:
        self._values[key] = value
        return {"name": self._secret, "key": key}

    def slack(self, args: SlackArgs) -> dict[str, Any]:
        given = [name for name in ("slack_oauth_code", "bot_token", "incoming_webhook_url") if getattr(args, name) is not None]
        if len(given) > 1:
            raise InvalidRequest(f"event_sink_args.Slack: write at most one of {' and '.join(given)}")
        slack: dict[str, Any] = {}
        _put(slack, "channel", args.channel)
        if args.slack_oauth_code is not None:
            slack["oauthCodeSecretRef"] = self._keep("code", args.slack_oauth_code)
        if args.bot_token is not None:
            slack["botTokenSecretRef"] = self._keep("token", args.bot_token)
        if args.incoming_webhook_url is not None:
            slack["incomingWebhookSecretRef"] = self._keep("url", args.incoming_webhook_url)
        return slack

    def slack_again(self, before: Mapping[str, Any], args: SlackChannelArgs) -> dict[str, Any]:
        slack = dict(before)
        slack["channel"] = args.channel
        if isinstance(args, SlackCodeArgs):
            for name in ("botTokenSecretRef", "incomingWebhookSecretRef"):
                slack.pop(name, None)
            slack["oauthCodeSecretRef"] = self._keep("code", args.slack_oauth_code)
        return slack

    def webhook(self, before: Mapping[str, Any], args: WebhookArgs) -> dict[str, Any]:
        webhook, given = dict(before), args.model_fields_set
        self._address(webhook, before, args)
        if "headers" in given:
            headers = [
                {"name": one.name, "valueFrom": {"secretKeyRef": self._keep(f"header-{index}", self._header(index, one.value))}}
                for index, one in enumerate(args.headers or ())
            ]
            _put(webhook, "headers", headers or None)
        self._signing(webhook, args)
        for name in ("format", "batch", "timeout"):
            if name in given:
                _put(webhook, name, getattr(args, name))
        if args.ca_certificate is not None:
            webhook["tls"] = {"caSecretRef": self._keep("ca.crt", args.ca_certificate)}
        elif "ca_certificate" in given:
            webhook.pop("tls", None)
        return webhook

    def _address(self, webhook: dict[str, Any], before: Mapping[str, Any], args: WebhookArgs) -> None:
        if args.url is not None and args.secret_url is not None:
            raise InvalidRequest("event_sink_args.Webhook: write exactly one of url and secret_url")
        url = args.url if args.url is not None else args.secret_url
        if url is None:
            for name in ("url", "secret_url"):
                if before and name in args.model_fields_set:
                    raise InvalidRequest(f"event_sink_args.Webhook.{name}: required; write another url or secret_url")
            return
        kept = before.get("headers") and "headers" not in args.model_fields_set
        if kept and (origin(before.get("url")) is None or origin(before.get("url")) != origin(url)):
            # Else whoever may change the sink could have a credential sent to a host of their own, and read it there.
            raise InvalidRequest(
                "event_sink_args.Webhook.headers: write them again together with the new address: the values that are kept "
                "were given for the host before"
            )
        if args.url is not None:
            webhook.pop("urlSecretRef", None)
            webhook["url"] = url
        else:
            webhook.pop("url", None)
            webhook["urlSecretRef"] = self._keep("url", url)
            self._url = url

    def _header(self, index: int, value: str) -> str:
        if not re.fullmatch(rules.HEADER_VALUE_PATTERN, value) or not value.strip():
            raise InvalidRequest(
                f"event_sink_args.Webhook.headers[{index}].value: {rules.HEADER_VALUE.message}, and not be blank"
            )
        return value

    def _signing(self, webhook: dict[str, Any], args: WebhookArgs) -> None:
        if args.generate_signing_secret and args.signing_secret is not None:
            raise InvalidRequest("event_sink_args.Webhook: write one of signing_secret and generate_signing_secret")
        new = args.signing_secret
        if args.generate_signing_secret:
            new, self._generates = self._signing_secret, True
        if new is not None:
            refs = [self._keep("signing-secret", new), *webhook.get("signingSecretRefs", [])]
            webhook["signingSecretRefs"] = refs[:MAX_SIGNING_SECRETS]
        elif "signing_secret" in args.model_fields_set:
            webhook.pop("signingSecretRefs", None)

    def _check(self, spec: dict[str, Any]) -> None:
        """Check the spec; a URL that goes into the Secret must keep the rules for one in the spec."""
        looked = spec
        if self._url:
            webhook = {**spec["webhook"], "url": self._url}
            del webhook["urlSecretRef"]
            looked = {**spec, "webhook": webhook}
        try:
            read_spec(looked)
            return
        except InvalidSpec as invalid:
            errors = invalid.errors
        if any(error.unknown_field for error in errors):
            raise Conflict("the sink has fields that this version of EventSink does not know; change it with a newer version")
        sentences = []
        for error in errors:
            path = rest_path(error.path)
            if self._url:
                path = path.replace("Webhook.url", "Webhook.secret_url")
            sentences.append(f"{path}: {error.message}")
        raise InvalidRequest("; ".join(sentences))


def origin(url: Any) -> tuple[str, str, int | None] | None:
    """Scheme, host and port; None: there is no such URL."""
    if not isinstance(url, str):
        return None
    try:
        parts = urlsplit(url)
        return (parts.scheme, (parts.hostname or "").lower(), parts.port) if parts.hostname else None
    except ValueError:
        return None
