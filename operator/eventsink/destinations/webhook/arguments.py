"""The REST arguments of a webhook, and how they become its field of the spec."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import Field, ValidationError
from pydantic.alias_generators import to_camel

from eventsink.destinations.arguments import (
    Credential,
    Credentials,
    DestinationArguments,
    Duration,
    InvalidArguments,
    RestModel,
    bounds,
    choices,
    stated,
)
from eventsink.destinations.credentials import ORIGIN_KEY, TOKEN_ORIGIN_KEY
from eventsink.destinations.webhook.auth_spec import Auth, BasicAuth, EndpointParam, OAuth2
from eventsink.destinations.webhook.spec import (
    HEADER_NAME_PATTERN,
    HEADER_VALUE,
    HEADER_VALUE_FORM,
    HEADER_VALUE_PATTERN,
    HeaderSpec,
    SuccessWhenSpec,
    Tls,
    WebhookSpec,
    WebhookStatus,
)
from eventsink.sinks.transport import Endpoint

MAX_CERTIFICATES = 64 * 1024
"""Characters."""
MAX_SIGNING_SECRETS = 2
"""The latest one, and the one before, with which receivers verify until they know the new one."""
_TLS_ARGUMENTS = {"caSecretRef": "ca_certificate", "clientCertSecretRef": "client_certificate", "serverName": "server_name"}


class HeaderArgs(RestModel):
    """One request header. Its value is kept in a Secret and never shown again."""

    name: Annotated[str, Field(min_length=1, **bounds(HeaderSpec, "name"), json_schema_extra=stated(HEADER_NAME_PATTERN))]
    value: Annotated[str, Field(**bounds(HeaderSpec, "value"), json_schema_extra=stated(HEADER_VALUE_PATTERN, writeOnly=True))]


class SuccessWhenArgs(RestModel):
    """What a response is that says that a message was taken: all that is given must be fulfilled."""

    statuses: Annotated[list[Annotated[int, Field(ge=200, le=599)]], Field(**bounds(SuccessWhenSpec, "statuses"))] | None = None
    """Statuses of success; default: every 2xx."""
    pointer: Annotated[str, Field(min_length=1, **bounds(SuccessWhenSpec, "pointer"))] | None = None
    """JSON pointer (RFC 6901) into the response, such as /ok."""
    equals: Annotated[str, Field(**bounds(SuccessWhenSpec, "equals"))] | None = None
    """What is there if the message was taken: a text, or "true", "0" and the like for other values."""


class BasicArgs(RestModel):
    """User name and password."""

    username: Annotated[str, Field(min_length=1, **bounds(BasicAuth, "username"))]
    password: Credential


class BearerArgs(RestModel):
    """A token that does not change by itself."""

    token: Credential


class EndpointParamArgs(RestModel):
    """A parameter of the request for a token."""

    name: Annotated[str, Field(min_length=1, **bounds(EndpointParam, "name"))]
    value: Annotated[str, Field(**bounds(EndpointParam, "value"))]


class OAuth2Args(RestModel):
    """Tokens of an authorization server (client credentials)."""

    token_url: Annotated[str, Field(min_length=1, **bounds(OAuth2, "token_url"))]
    """Where the router asks for tokens."""
    client_id: Annotated[str, Field(min_length=1, **bounds(OAuth2, "client_id"))]
    client_secret: Credential
    scopes: Annotated[list[str], Field(**bounds(OAuth2, "scopes"))] | None = None
    endpoint_params: Annotated[list[EndpointParamArgs], Field(**bounds(OAuth2, "endpoint_params"))] | None = None
    """More parameters of the request for a token, such as audience."""


class AuthArgs(RestModel):
    """The header Authorization of each message: exactly one of the fields. Credentials are kept in a Secret and never shown again."""

    basic: BasicArgs | None = None
    bearer: BearerArgs | None = None
    oauth2: OAuth2Args | None = None


class WebhookArgs(RestModel):
    """An HTTP endpoint that messages are posted to."""

    url: Annotated[str, Field(min_length=1, **bounds(WebhookSpec, "url"))] | None = None
    """Where to post; readable by everybody who may read the EventSink."""
    secret_url: (
        Annotated[str, Field(min_length=1, **bounds(WebhookSpec, "url"), json_schema_extra={"writeOnly": True})] | None
    ) = None
    """Instead of `url`, if the URL itself is a credential: kept in a Secret, shown as scheme and host."""
    headers: Annotated[list[HeaderArgs], Field(max_length=bounds(WebhookSpec, "headers")["max_length"])] | None = None
    """Headers sent with each message; in an update they replace all existing ones, and a URL in a Secret must be given again with them."""
    signing_secret: Credential | None = None
    """Signs messages (Standard Webhooks); after an update the previous one keeps signing beside it."""
    generate_signing_secret: bool | None = None
    """Generate a signing secret; this response alone shows it."""
    format: Annotated[str, Field(json_schema_extra={"enum": choices(WebhookSpec, "format")})] | None = None
    """cloudevents (default), or alertmanager: the group as Alertmanager's own webhook sends it."""
    batch: Annotated[int, Field(**bounds(WebhookSpec, "batch"))] | None = None
    """Most alerts in one message; not in the format alertmanager."""
    template: Annotated[str, Field(**bounds(WebhookSpec, "template"))] | None = None
    """Template of the body (Liquid), instead of a format."""
    content_type: Annotated[str, Field(min_length=1, **bounds(WebhookSpec, "content_type"))] | None = None
    """Of what the template writes; default: application/json, which is checked before it is sent."""
    method: Annotated[str, Field(json_schema_extra={"enum": choices(WebhookSpec, "method")})] | None = None
    """POST (default), PUT or PATCH."""
    success_when: SuccessWhenArgs | None = None
    """What a response is that says that a message was taken; default: every 2xx."""
    timeout: Duration | None = None
    """How long one attempt may take, 1s to 60s."""
    ca_certificate: Annotated[str, Field(min_length=1, max_length=MAX_CERTIFICATES)] | None = None
    """PEM certificates of the authority that signed the receiver's certificate, trusted instead of the public ones."""
    client_certificate: Annotated[str, Field(min_length=1, max_length=MAX_CERTIFICATES)] | None = None
    """PEM certificate that is presented to the receiver (mTLS), and its intermediates; together with `client_key`."""
    client_key: Annotated[str, Field(min_length=1, max_length=MAX_CERTIFICATES, json_schema_extra={"writeOnly": True})] | None = (
        None
    )
    """PEM private key of `client_certificate`."""
    server_name: Annotated[str, Field(min_length=1, **bounds(Tls, "server_name"))] | None = None
    """Name that the receiver is asked for (SNI) and that its certificate must be valid for, instead of the host of the URL."""
    auth: AuthArgs | None = None
    """The header Authorization; a new one replaces the one before, and a new URL of another host needs it again."""


class ShownHeader(RestModel):
    """A header, without its value."""

    name: str


class WebhookConfiguration(RestModel):
    """Where a webhook sink posts."""

    url: str
    """In full, or scheme and host if it is kept in a Secret; empty: not known yet."""
    headers: list[ShownHeader] | None = None
    format: str | None = None
    batch: int | None = None
    template: str | None = None
    content_type: str | None = None
    method: str | None = None
    timeout: str | None = None
    success_when: SuccessWhenArgs | None = None
    signed: bool | None = None
    """Whether messages are signed."""
    auth: str | None = None
    """basic, bearer or oauth2; without credentials."""
    server_name: str | None = None
    client_certificate_expires_at: str | None = None


def _new(args: WebhookArgs, credentials: Credentials) -> dict[str, Any]:
    if args.url is None and args.secret_url is None:
        raise InvalidArguments("write exactly one of url and secret_url")
    return _changed({}, args, credentials)


def _changed(before: Mapping[str, Any], args: WebhookArgs, credentials: Credentials) -> dict[str, Any]:
    spec, given = dict(before), args.model_fields_set
    _set_url(spec, before, args, credentials)
    if "headers" in given:
        _set_headers(spec, before, args, credentials)
    _set_signing(spec, args, credentials)
    for name in ("format", "batch", "template", "content_type", "method", "timeout"):
        if name in given:
            _put(spec, to_camel(name), getattr(args, name))
    if "success_when" in given:
        _put(spec, "successWhen", args.success_when.model_dump(exclude_none=True) if args.success_when is not None else None)
    if "auth" in given:
        _set_auth(spec, before, args, credentials)
    _set_tls(spec, args, credentials)
    return spec


def _set_url(spec: dict[str, Any], before: Mapping[str, Any], args: WebhookArgs, credentials: Credentials) -> None:
    if args.url is not None and args.secret_url is not None:
        raise InvalidArguments("write exactly one of url and secret_url")
    url = args.url if args.url is not None else args.secret_url
    if url is None:
        for name in ("url", "secret_url"):
            if before and name in args.model_fields_set:
                raise InvalidArguments("required; write another url or secret_url", field=name)
        return
    kept = [name for name in ("headers", "auth") if before.get(name) and name not in args.model_fields_set]
    if kept and (_origin(before.get("url")) is None or _origin(before.get("url")) != _origin(url)):
        # Else whoever may change the sink could have a credential sent to a host of their own, and read it there.
        raise InvalidArguments(
            f"write {' and '.join(kept)} again together with the new URL: the values that are kept were given for the previous host",
            field=kept[0],
        )
    if args.url is not None:
        spec.pop("urlSecretRef", None)
        spec["url"] = url
    else:
        spec.pop("url", None)
        spec["urlSecretRef"] = credentials.keep("url", url)
        credentials.check_as("urlSecretRef", "url", url)


def _set_headers(spec: dict[str, Any], before: Mapping[str, Any], args: WebhookArgs, credentials: Credentials) -> None:
    headers = []
    if args.headers:
        _keep_origin("headers", before, args, credentials)
    for index, header in enumerate(args.headers or ()):
        if not HEADER_VALUE_FORM.search(header.value) or not header.value.strip():
            raise InvalidArguments(f"{HEADER_VALUE.message}, and not be blank", field=f"headers[{index}].value")
        reference = credentials.keep(f"header-{index}", header.value)
        headers.append({"name": header.name, "valueFrom": {"secretKeyRef": reference}})
    _put(spec, "headers", headers or None)


def _keep_origin(field: str, before: Mapping[str, Any], args: WebhookArgs, credentials: Credentials) -> None:
    """Keep, with values that are sent to the receiver, the host that they were given for."""
    url = args.url or args.secret_url or before.get("url")
    if url is None:
        raise InvalidArguments("write secret_url together with them: their values are kept for its host", field=field)
    credentials.keep(ORIGIN_KEY, _origin(url) or "")


def _set_auth(spec: dict[str, Any], before: Mapping[str, Any], args: WebhookArgs, credentials: Credentials) -> None:
    auth = args.auth
    if auth is None:
        spec.pop("auth", None)
        return
    _keep_origin("auth", before, args, credentials)
    made: dict[str, Any] = {}
    if (basic := auth.basic) is not None:
        password = credentials.keep("basic-password", basic.password)
        made["basic"] = {"username": basic.username, "passwordSecretRef": password}
    if (bearer := auth.bearer) is not None:
        made["bearer"] = {"tokenSecretRef": credentials.keep("bearer-token", bearer.token)}
    if (oauth2 := auth.oauth2) is not None:
        credentials.keep(TOKEN_ORIGIN_KEY, _origin(oauth2.token_url) or "")
        made["oauth2"] = {
            "tokenUrl": oauth2.token_url,
            "clientId": oauth2.client_id,
            "clientSecretRef": credentials.keep("oauth2-client-secret", oauth2.client_secret),
        }
        _put(made["oauth2"], "scopes", oauth2.scopes)
        parameters = [one.model_dump() for one in oauth2.endpoint_params or ()]
        _put(made["oauth2"], "endpointParams", parameters or None)
    spec["auth"] = made


def _set_tls(spec: dict[str, Any], args: WebhookArgs, credentials: Credentials) -> None:
    given, tls = args.model_fields_set, dict(spec.get("tls") or {})
    if "ca_certificate" in given:
        _put(tls, "caSecretRef", credentials.keep("ca.crt", args.ca_certificate) if args.ca_certificate is not None else None)
    for one, other in (("client_key", "client_certificate"), ("client_certificate", "client_key")):
        if getattr(args, one) is None and getattr(args, other) is not None:
            raise InvalidArguments(f"required with {other}; write both", field=one)
    if args.client_certificate is not None and args.client_key is not None:
        tls["clientCertSecretRef"] = {"name": credentials.keep("tls.crt", args.client_certificate)["name"]}
        credentials.keep("tls.key", args.client_key)
    elif "client_certificate" in given or "client_key" in given:
        tls.pop("clientCertSecretRef", None)
    if "server_name" in given:
        _put(tls, "serverName", args.server_name)
    if tls and (_text(spec, "url") or args.secret_url or "").startswith("http://"):
        useless = [argument for name, argument in _TLS_ARGUMENTS.items() if name in tls]
        raise InvalidArguments(
            f"omit {' and '.join(useless)}, or use an https URL; an http URL has no certificate to check", field=useless[0]
        )
    _put(spec, "tls", tls or None)


def _set_signing(spec: dict[str, Any], args: WebhookArgs, credentials: Credentials) -> None:
    if args.generate_signing_secret and args.signing_secret is not None:
        raise InvalidArguments("write one of signing_secret and generate_signing_secret")
    if args.generate_signing_secret:
        new = credentials.generate("signing-secret")
    elif args.signing_secret is not None:
        new = credentials.keep("signing-secret", args.signing_secret)
    else:
        if "signing_secret" in args.model_fields_set:
            spec.pop("signingSecretRefs", None)
        return
    spec["signingSecretRefs"] = [new, *spec.get("signingSecretRefs", [])][:MAX_SIGNING_SECRETS]


def _shown(spec: Mapping[str, Any], status: WebhookStatus | None) -> WebhookConfiguration:
    url = _text(spec, "url") or ""
    if "urlSecretRef" in spec:
        url = (status.origin if status is not None else None) or ""
    headers, batch = spec.get("headers"), spec.get("batch")
    shown = (
        [ShownHeader(name=_text(one, "name") or "") for one in headers if isinstance(one, Mapping)]
        if isinstance(headers, list)
        else []
    )
    return WebhookConfiguration(
        url=url,
        headers=shown or None,
        format=_text(spec, "format"),
        batch=batch if isinstance(batch, int) and not isinstance(batch, bool) else None,
        template=_text(spec, "template"),
        content_type=_text(spec, "contentType"),
        method=_text(spec, "method"),
        timeout=_text(spec, "timeout"),
        success_when=_success_when(spec.get("successWhen")),
        signed=True if spec.get("signingSecretRefs") else None,
        auth=_auth_kind(spec.get("auth")),
        server_name=_text(tls, "serverName") if isinstance(tls := spec.get("tls"), Mapping) else None,
        client_certificate_expires_at=status.client_cert_expires if status is not None else None,
    )


def _auth_kind(auth: Any) -> str | None:
    return next((kind for kind in Auth.model_fields if isinstance(auth, Mapping) and auth.get(kind)), None)


def _put(spec: dict[str, Any], name: str, value: object) -> None:
    if value is None:
        spec.pop(name, None)
    else:
        spec[name] = value


def _success_when(value: object) -> SuccessWhenArgs | None:
    try:
        return SuccessWhenArgs.model_validate(value) if isinstance(value, Mapping) else None
    except ValidationError:
        return None  # of a spec that is not valid


def _text(spec: Mapping[str, Any], name: str) -> str | None:
    value = spec.get(name)
    return value if isinstance(value, str) and value else None


def _origin(url: Any) -> str | None:
    """Scheme, host and an unusual port; None: there is no such URL."""
    try:
        return Endpoint.parse(url).origin if isinstance(url, str) else None
    except ValueError:
        return None


ARGUMENTS = DestinationArguments(
    display_name="Webhook",
    create=WebhookArgs,
    change=WebhookArgs,
    configuration=WebhookConfiguration,
    new_spec=_new,
    changed_spec=_changed,
    shown=_shown,
    fields={
        "urlSecretRef": "secret_url",
        "valueFrom": "value",
        "signingSecretRefs": "signing_secret",
        "tls": "ca_certificate",
        "tls.clientCertSecretRef": "client_certificate",
        "tls.serverName": "server_name",
        "passwordSecretRef": "password",
        "tokenSecretRef": "token",
        "clientSecretRef": "client_secret",
        "clientIdSecretRef": "client_id",
        "usernameSecretRef": "username",
    },
    sentences={
        "send them as an Authorization header whose valueFrom.secretKeyRef names a Secret": "send them as an Authorization header",
        "remove tls, or use an https URL": "omit ca_certificate, client_certificate and server_name, or use an https URL",
    },
)
