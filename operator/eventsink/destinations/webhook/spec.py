"""What people write into an EventSink whose destination is a webhook, the rules for it, and what its status shows.

Rules about a URL (`urls.py`) or the value of a header belong to the object around it, since the API server repeats the value that a rule is
attached to.
"""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from eventsink.destinations.webhook.auth_spec import Auth
from eventsink.destinations.webhook.templated import DEFAULT_CONTENT_TYPE, check_template
from eventsink.destinations.webhook.urls import MAX_URL_LENGTH, url_rules
from eventsink.resources.model import SET, AtMost, Duration, SecretKeyRef, SpecModel, StatusModel, TlsSecretRef
from eventsink.resources.rule import Readable, Rule, broken, cel_list, cel_text, form, within
from eventsink.resources.rules import UNIQUE_ENTRIES
from eventsink.runtime.patterns import Pattern
from eventsink.templates.context import MAX_ALERTS
from eventsink.templates.errors import InvalidTemplate
from eventsink.templates.template import MAX_TEMPLATE, read_template

DEFAULT_FORMAT: Literal["cloudevents"] = "cloudevents"
DEFAULT_BATCH = 1
DEFAULT_TIMEOUT = "10s"
DEFAULT_METHOD: Literal["POST"] = "POST"

HEADER_NAME_PATTERN = r"^[!#$%&'*+.^_`|~0-9A-Za-z-]+$"
"""RFC 9110 section 5.6.2, token."""
HEADER_VALUE_PATTERN = r"^[\t -~]*$"
"""RFC 9110 section 5.5 without obs-text, which receivers decode as they please."""

CONTENT_TYPE_PATTERN = (
    r"^[!#$%&'*+.^_`|~0-9A-Za-z-]+/[!#$%&'*+.^_`|~0-9A-Za-z-]+"
    r"( ?; ?[!#$%&'*+.^_`|~0-9A-Za-z-]+=[!#$%&'*+.^_`|~0-9A-Za-z-]+)*$"
)
"""RFC 9110 section 8.3.1, with parameters that need no quotation marks."""

REFUSED_HEADERS = (
    "connection",
    "expect",
    "host",
    "keep-alive",
    "proxy-authenticate",
    "proxy-authorization",
    "proxy-connection",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
)
"""Lower case. Of the connection, not of the message (RFC 9110 section 7.6.1), or made by the sender."""
REFUSED_HEADER_PREFIXES = ("content-", "webhook-")
"""Lower case. What describes the body, and the headers of Standard Webhooks."""
CREDENTIAL_HEADERS = ("api-key", "authorization", "cookie", "private-token", "x-api-key", "x-auth-token")
"""Lower case. Headers whose value is a credential wherever they are used: only from a Secret."""


TIMEOUT = within("1s", "60s", "timeout must be from 1s to 60s")
ONE_URL = Rule(
    message="set exactly one of url and urlSecretRef",
    cel="has(self.url) != has(self.urlSecretRef)",
    holds=lambda webhook: (webhook.url is None) != (webhook.url_secret_ref is None),
)


URL_RULES = url_rules(
    "url",
    no_userinfo="remove user and password from the URL; send them as an Authorization header whose valueFrom.secretKeyRef names a Secret",
)
SOME_TLS = Rule(
    message="set at least one of caSecretRef, clientCertSecretRef and serverName, or remove tls",
    cel="has(self.caSecretRef) || has(self.clientCertSecretRef) || has(self.serverName)",
    holds=lambda tls: bool(tls.ca_secret_ref or tls.client_cert_secret_ref or tls.server_name),
    reason="FieldValueRequired",
)
SERVER_NAME = form(
    r"^[A-Za-z0-9]([-A-Za-z0-9]{0,61}[A-Za-z0-9])?([.][A-Za-z0-9]([-A-Za-z0-9]{0,61}[A-Za-z0-9])?)*$",
    "a server name consists of parts of 1 to 63 letters, digits and - (not at an end), with . between them, such as hooks.example.com",
)
TLS_NEEDS_HTTPS = Rule(
    message="remove tls, or use an https URL; an http URL has no certificate to check",
    cel="!has(self.tls) || !has(self.url) || !self.url.startsWith('http://')",
    holds=lambda webhook: webhook.tls is None or webhook.url is None or not webhook.url.startswith("http://"),
    field="tls",
    reason="FieldValueForbidden",
)
BATCH_NEEDS_CLOUDEVENTS = Rule(
    message="remove batch; in the format alertmanager each group of Alertmanager is one message",
    cel="!has(self.batch) || !has(self.format) || self.format == 'cloudevents'",
    holds=lambda webhook: webhook.batch is None or webhook.format in (None, "cloudevents"),
    field="batch",
    reason="FieldValueForbidden",
)
BATCH_OF_TEMPLATE = Rule(
    message=f"a template is given at most {MAX_ALERTS} alerts: set batch to {MAX_ALERTS} or less",
    cel=f"!has(self.batch) || !has(self.template) || self.batch <= {MAX_ALERTS}",
    holds=lambda webhook: webhook.batch is None or webhook.template is None or webhook.batch <= MAX_ALERTS,
    field="batch",
)
TEMPLATE_OR_FORMAT = Rule(
    message="remove format; the template says what is sent",
    cel="!has(self.template) || !has(self.format)",
    holds=lambda webhook: webhook.template is None or webhook.format is None,
    field="format",
    reason="FieldValueForbidden",
)
CONTENT_TYPE_OF_TEMPLATE = Rule(
    message="remove contentType; it is for bodies of a template, and each format has its own",
    cel="!has(self.contentType) || has(self.template)",
    holds=lambda webhook: webhook.content_type is None or webhook.template is not None,
    field="contentType",
    reason="FieldValueForbidden",
)
CONTENT_TYPE = form(CONTENT_TYPE_PATTERN, "write a media type, such as application/json or text/plain; charset=utf-8")
UNIQUE_HEADERS = Rule(
    message="duplicate header, remove one (upper and lower case do not differ)",
    cel="!has(self.headers) || self.headers.all(h, "
    "self.headers.exists_one(other, other.name.lowerAscii() == h.name.lowerAscii()))",
    holds=lambda webhook: (
        webhook.headers is None or len({header.name.lower() for header in webhook.headers}) == len(webhook.headers)
    ),
    field="headers",
)

ONE_AUTHORIZATION = Rule(
    message="remove the header Authorization, or auth, which writes this header",
    cel="!has(self.auth) || !has(self.headers) || !self.headers.exists(h, h.name.lowerAscii() == 'authorization')",
    holds=lambda webhook: webhook.auth is None or all(header.name.lower() != "authorization" for header in webhook.headers or ()),
    field="headers",
    reason="FieldValueForbidden",
)

HEADER_NAME = form(HEADER_NAME_PATTERN, "the name of a header consists of letters, digits and !#$%&'*+-.^_`|~")
HEADER_REFUSED = Rule(
    message="remove this header: Host, Content-*, webhook-*, Expect and the headers of the connection are set by the sender",
    cel=f"!(self.name.lowerAscii() in {cel_list(REFUSED_HEADERS)}) && "
    + " && ".join(f"!self.name.lowerAscii().startsWith({cel_text(prefix)})" for prefix in REFUSED_HEADER_PREFIXES),
    holds=lambda header: (
        header.name.lower() not in REFUSED_HEADERS and not header.name.lower().startswith(REFUSED_HEADER_PREFIXES)
    ),
    field="name",
    reason="FieldValueForbidden",
)
HEADER_ONE_VALUE = Rule(
    message="set exactly one of value and valueFrom",
    cel="has(self.value) != has(self.valueFrom)",
    holds=lambda header: (header.value is None) != (header.value_from is None),
)
HEADER_VALUE_FORM = Pattern(HEADER_VALUE_PATTERN)
HEADER_VALUE = Rule(
    message="the value of a header must be one line of ASCII text without control characters",
    cel=f"!has(self.value) || self.value.matches({cel_text(HEADER_VALUE_PATTERN)})",
    holds=lambda header: header.value is None or HEADER_VALUE_FORM.search(header.value),
    field="value",
)
HEADER_CREDENTIAL = Rule(
    message="credentials belong in a Secret; name it in valueFrom.secretKeyRef",
    cel=f"!has(self.value) || !(self.name.lowerAscii() in {cel_list(CREDENTIAL_HEADERS)})",
    holds=lambda header: header.value is None or header.name.lower() not in CREDENTIAL_HEADERS,
    field="value",
    reason="FieldValueForbidden",
)


class HeaderValueFrom(SpecModel):
    """Where the value of a header is read."""

    secret_key_ref: SecretKeyRef = Field(
        description="Key of a Secret whose value is the header's; one newline at its end is dropped."
    )


class HeaderSpec(SpecModel):
    """One request header; its value is given or read from a Secret."""

    RULES = (HEADER_REFUSED, HEADER_ONE_VALUE, HEADER_VALUE, HEADER_CREDENTIAL)

    name: Annotated[str, Field(max_length=64), HEADER_NAME] = Field(
        description="Name of the header; upper and lower case do not differ."
    )
    value: str | None = Field(
        default=None,
        max_length=4096,
        repr=False,
        description="The value, for everybody to read. Credentials belong in a Secret: use valueFrom.",
    )
    value_from: HeaderValueFrom | None = Field(default=None, description="Where the value is read.")


class Tls(SpecModel):
    """Whom the router trusts, and as whom it presents itself."""

    RULES = (SOME_TLS,)

    ca_secret_ref: SecretKeyRef | None = Field(
        default=None,
        description="PEM certificates of the authority that signed the receiver's certificate, trusted instead of the "
        "public ones.",
    )
    client_cert_secret_ref: TlsSecretRef | None = Field(
        default=None,
        description="Secret of the type kubernetes.io/tls whose certificate is presented to the receiver (mTLS).",
    )
    server_name: Annotated[str, Field(max_length=253), SERVER_NAME] | None = Field(
        default=None,
        description="Name that the receiver is asked for (SNI) and that its certificate has to be valid for. Default: the host of the URL.",
    )


NO_REDIRECT = Rule(
    message="redirects are not followed, and deliver nothing: list statuses from 200 to 299 and from 400 to 599",
    cel="self < 300 || self >= 400",
    holds=lambda status: not 300 <= status < 400,
)
SUCCESS_GIVEN = Rule(
    message="set statuses, or pointer and equals, or all three",
    cel="has(self.statuses) || has(self.pointer) || has(self.equals)",
    holds=lambda success: success.statuses is not None or success.pointer is not None or success.equals is not None,
)
POINTER_AND_EQUALS = Rule(
    message="set pointer and equals together: where to look in the response, and what is there if the message was taken",
    cel="has(self.pointer) == has(self.equals)",
    holds=lambda success: (success.pointer is None) == (success.equals is None),
)
POINTER = form(r"^(/([^~/]|~[01])*)+$", "write a JSON pointer (RFC 6901) into the response, such as /ok or /errors/0/code")


class SuccessWhenSpec(SpecModel):
    """What a response is that says that a message was taken."""

    RULES = (SUCCESS_GIVEN, POINTER_AND_EQUALS)

    statuses: (
        Annotated[
            list[Annotated[int, Field(ge=200, le=599, json_schema_extra={"format": "int32"}), NO_REDIRECT]],
            Field(min_length=1, max_length=16, json_schema_extra=SET),
            UNIQUE_ENTRIES,
        ]
        | None
    ) = Field(default=None, description="Statuses of success. Default: every 2xx.")
    pointer: Annotated[str, Field(max_length=256), POINTER] | None = Field(
        default=None, description="JSON pointer (RFC 6901) into the response, such as /ok."
    )
    equals: Annotated[str, Field(max_length=256)] | None = Field(
        default=None, description='What is there if the message was taken: a text, or "true", "0" and the like for other values.'
    )


class WebhookSpec(SpecModel):
    """Post messages to an HTTP endpoint."""

    RULES = (
        ONE_URL,
        *URL_RULES,
        UNIQUE_HEADERS,
        ONE_AUTHORIZATION,
        BATCH_NEEDS_CLOUDEVENTS,
        TLS_NEEDS_HTTPS,
        BATCH_OF_TEMPLATE,
        TEMPLATE_OR_FORMAT,
        CONTENT_TYPE_OF_TEMPLATE,
    )

    url: str | None = Field(
        default=None,
        max_length=MAX_URL_LENGTH,
        repr=False,
        description="Where to post; http or https. Use urlSecretRef where the URL itself is secret.",
    )
    url_secret_ref: SecretKeyRef | None = Field(default=None, description="Where to read the URL, instead of url.")
    headers: (
        Annotated[
            list[HeaderSpec],
            Field(
                min_length=1,
                max_length=32,
                json_schema_extra={"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["name"]},
            ),
        ]
        | None
    ) = Field(default=None, description="Headers sent with each message.")
    signing_secret_refs: (
        Annotated[
            list[SecretKeyRef],
            Field(
                min_length=1,
                max_length=4,
                json_schema_extra={"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["name", "key"]},
            ),
            UNIQUE_ENTRIES,
        ]
        | None
    ) = Field(
        default=None,
        description="Secrets to sign messages with (Standard Webhooks); two while one replaces the other.",
    )
    format: Literal["cloudevents", "alertmanager"] | None = Field(
        default=None,
        description="cloudevents: each alert as CloudEvents 1.0 JSON. alertmanager: a group as "
        "Alertmanager's own webhook sends it. Default: " + DEFAULT_FORMAT + ".",
    )
    batch: Annotated[int, Field(ge=1, le=1000, json_schema_extra={"format": "int32"})] | None = Field(
        default=None,
        description=f"Most alerts in one message, 1 to 1000; not in the format alertmanager. Default: {DEFAULT_BATCH}.",
    )
    template: Annotated[str, Field(min_length=1, max_length=MAX_TEMPLATE), Readable(read_template)] | None = Field(
        default=None,
        description="Template of the body (Liquid), instead of a format. In JSON, write values with the filter json.",
    )
    content_type: Annotated[str, Field(max_length=127), CONTENT_TYPE] | None = Field(
        default=None,
        description="Content type of what the template writes; JSON is checked before it is sent. "
        f"Default: {DEFAULT_CONTENT_TYPE}.",
    )
    method: Literal["POST", "PUT", "PATCH"] | None = Field(
        default=None, description=f"Method of the requests. Default: {DEFAULT_METHOD}."
    )
    timeout: Annotated[Duration, TIMEOUT] | None = Field(
        default=None, description=f"How long one attempt may take, 1s to 60s. Default: {DEFAULT_TIMEOUT}."
    )
    success_when: SuccessWhenSpec | None = Field(
        default=None,
        description="What a response is that says that a message was taken. Default: every 2xx, whatever the rest of it is.",
    )
    auth: Auth | None = Field(default=None, description="How the router authenticates: the header Authorization of each message.")
    tls: Tls | None = Field(default=None, description="Whom the router trusts, and as whom it presents itself.")

    @model_validator(mode="after")
    def _writes_what_can_be_sent(self) -> Self:
        if self.template is not None:
            try:
                check_template(self.template, self.content_type or DEFAULT_CONTENT_TYPE, batch=self.batch or DEFAULT_BATCH)
            except InvalidTemplate as error:
                broken([Rule(str(error), field="template")])
        return self


class WebhookStatus(StatusModel):
    """The endpoint that the sink posts to."""

    origin: Annotated[str, AtMost(512)] | None = Field(
        default=None, description="Scheme and host, and an unusual port: the most of its URL that is shown."
    )
    client_cert_expires: Annotated[str, AtMost(64), Field(json_schema_extra={"format": "date-time"})] | None = Field(
        default=None, description="When the client certificate expires, of spec.webhook.tls.clientCertSecretRef."
    )


SPEC = WebhookSpec
STATUS = WebhookStatus
