"""The table of the EventSink's rules: what may be written beyond shapes and bounds, and the sentence told where it is not.

Each is CEL and Python of the same meaning; a test holds the two together on every refused manifest. Rules about a URL or the
value of a header stand at the object around it, since the API server repeats the value that a rule is attached to.
"""

from __future__ import annotations

import re

from eventsink.runtime.durations import DURATION_FORM, DURATION_PATTERN

from .rule import Rule, cel_list, cel_text, form, unique, within

DNS_LABEL = r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$"
DNS_SUBDOMAIN = r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$"
DATA_KEY_PATTERN = r"^[-._a-zA-Z0-9]+$"
TENANT_PATTERN = r"^[A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?$"
"""A label value, since a namespace's label names the tenant; a UUID fits."""
TEXT_PATTERN = r"^[^\x00-\x1f\x7f]*[^\x00-\x20\x7f][^\x00-\x1f\x7f]*$"
"""One line without control characters that is not blank."""
NAMESPACE_GLOB_PATTERN = r"^[a-z0-9*]([-a-z0-9*]*[a-z0-9*])?$"
MATCHER_PATTERN = (
    r"^[ \t]*[a-zA-Z_:][a-zA-Z0-9_:]*[ \t]*(=~|!~|!=|=)"
    r'[ \t]*("([^"\\\r\n]|\\.)*"|[^"\r\n]*)[ \t]*$'
)
"""The form of an Alertmanager matcher; whether a pattern is one of RE2 only the operator can tell."""
CHANNEL_PATTERN = r"^(#?[^ \t\r\n#@A-Z,]{1,80}|[CG][A-Z0-9]{8,20})$"
HEADER_NAME_PATTERN = r"^[!#$%&'*+.^_`|~0-9A-Za-z-]+$"
"""RFC 9110 section 5.6.2, token."""
HEADER_VALUE_PATTERN = r"^[\t -~]*$"
"""RFC 9110 section 5.5 without obs-text, which receivers decode as they please."""

URL_SCHEME_PATTERN = r"^https?://"
URL_BAD_CHARACTER_PATTERN = r"[^!-~]"
URL_USERINFO_PATTERN = r"^[a-z]+://[^/?#]*@"
URL_AUTHORITY_PATTERN = (
    r"^https?://([A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?[.]?|\[[0-9A-Fa-f:.]+\])"
    r"(:([1-9][0-9]{0,3}|[1-5][0-9]{4}|6[0-4][0-9]{3}|65[0-4][0-9]{2}|655[0-2][0-9]|6553[0-5]))?([/?#]|$)"
)

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

SECRET_NAME = form(
    DNS_SUBDOMAIN,
    "the name of a Secret consists of lower-case letters, digits, - and ., and begins and ends with a letter or digit",
)
SECRET_KEY = form(DATA_KEY_PATTERN, "the key of a Secret consists of letters, digits, -, _ and .")

TENANT = form(
    TENANT_PATTERN,
    "a tenant consists of letters, digits, -, _ and ., and begins and ends with a letter or digit, as a UUID does",
)
TENANT_IMMUTABLE = Rule(
    message="the tenant of an EventSink cannot be changed; create another EventSink for the other tenant and delete this one",
    cel="self == oldSelf",
    reason="FieldValueForbidden",
)
DISPLAY_NAME = form(TEXT_PATTERN, "write one line of text that is not blank")
ONE_DESTINATION = Rule(
    message="set exactly one of slack and webhook; for a second destination create a second EventSink",
    cel="has(self.slack) != has(self.webhook)",
    holds=lambda spec: (spec.slack is None) != (spec.webhook is None),
)

SOURCE = form(DNS_LABEL, "the name of a source consists of lower-case letters, digits and -, such as alertmanager")
NAMESPACE_GLOB = form(
    NAMESPACE_GLOB_PATTERN,
    "write the name of a namespace, in lower case; * stands for any characters, as in shop-*",
)
MATCHER = form(
    MATCHER_PATTERN,
    'write one matcher as name="value", name!="value", name=~"pattern" or name!~"pattern", each in an entry of its own',
)
UNIQUE_ENTRIES = unique("the same entry stands there twice; remove one of them")

DURATION = form(DURATION_PATTERN, DURATION_FORM)
REPEAT_INTERVAL = within("1m", "30d", "repeatInterval must be from 1m to 30d")
MAX_AGE = within("1m", "30d", "maxAge must be from 1m to 30d")
TIMEOUT = within("1s", "60s", "timeout must be from 1s to 60s")

CHANNEL = form(
    CHANNEL_PATTERN,
    "write the name of a channel in lower case, such as #security-alerts, or its id, such as C0123456789",
)
ONE_SLACK_CREDENTIAL = Rule(
    message="set at most one of oauthCodeSecretRef, botTokenSecretRef and incomingWebhookSecretRef",
    cel="[has(self.oauthCodeSecretRef), has(self.botTokenSecretRef), has(self.incomingWebhookSecretRef)]"
    ".filter(given, given).size() <= 1",
    holds=lambda slack: (
        [slack.oauth_code_secret_ref, slack.bot_token_secret_ref, slack.incoming_webhook_secret_ref].count(None) >= 2
    ),
)
CHANNEL_NEEDED = Rule(
    message="set channel to the name or id of a Slack channel; only an incoming webhook needs none",
    cel="has(self.channel) || has(self.incomingWebhookSecretRef)",
    holds=lambda slack: slack.channel is not None or slack.incoming_webhook_secret_ref is not None,
    field="channel",
    reason="FieldValueRequired",
)
CHANNEL_FIXED = Rule(
    message="remove channel: an incoming webhook posts to the channel that its URL was made for",
    cel="!has(self.channel) || !has(self.incomingWebhookSecretRef)",
    holds=lambda slack: slack.channel is None or slack.incoming_webhook_secret_ref is None,
    field="channel",
    reason="FieldValueForbidden",
)

ONE_URL = Rule(
    message="set exactly one of url and urlSecretRef",
    cel="has(self.url) != has(self.urlSecretRef)",
    holds=lambda webhook: (webhook.url is None) != (webhook.url_secret_ref is None),
)


def _url(message: str, *ways: tuple[str, bool]) -> Rule:
    """A rule about the URL, where there is one: one of the ways holds, each a pattern and whether it has to be found."""
    return Rule(
        message=message,
        cel=" || ".join(
            ["!has(self.url)"] + [f"{'' if found else '!'}self.url.matches({cel_text(pattern)})" for pattern, found in ways]
        ),
        holds=lambda webhook: (
            webhook.url is None or any((re.search(pattern, webhook.url) is not None) == found for pattern, found in ways)
        ),
        field="url",
    )


URL_SCHEME = _url("the URL must begin with http:// or https://, in lower case", (URL_SCHEME_PATTERN, True))
URL_CHARACTERS = _url(
    "the URL must not contain spaces, control characters or characters beyond ASCII; percent-encode them, "
    "and write such a host name in punycode (xn--...)",
    (URL_BAD_CHARACTER_PATTERN, False),
)
URL_FRAGMENT = _url("remove the fragment (# and what follows it) from the URL; it is never sent", ("#", False))
URL_USERINFO = _url(
    "remove user and password from the URL; send them as an Authorization header whose valueFrom.secretKeyRef names a Secret",
    (URL_USERINFO_PATTERN, False),
)
URL_AUTHORITY = _url(
    "the URL needs a host name or an IP address behind its scheme, and a port from 1 to 65535 if it names one",
    (URL_AUTHORITY_PATTERN, True),
    (URL_SCHEME_PATTERN, False),
    (URL_USERINFO_PATTERN, True),
    (URL_BAD_CHARACTER_PATTERN, True),
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
UNIQUE_HEADERS = Rule(
    message="the same header stands there twice (upper and lower case do not differ); remove one of them",
    cel="!has(self.headers) || self.headers.all(h, "
    "self.headers.exists_one(other, other.name.lowerAscii() == h.name.lowerAscii()))",
    holds=lambda webhook: (
        webhook.headers is None or len({header.name.lower() for header in webhook.headers}) == len(webhook.headers)
    ),
    field="headers",
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
HEADER_VALUE = Rule(
    message="the value of a header must be one line of ASCII text without control characters",
    cel=f"!has(self.value) || self.value.matches({cel_text(HEADER_VALUE_PATTERN)})",
    holds=lambda header: header.value is None or re.fullmatch(HEADER_VALUE_PATTERN, header.value) is not None,
    field="value",
)
HEADER_CREDENTIAL = Rule(
    message="this header carries a credential, which must not stand in a spec; put it into a Secret and name it in "
    "valueFrom.secretKeyRef",
    cel=f"!has(self.value) || !(self.name.lowerAscii() in {cel_list(CREDENTIAL_HEADERS)})",
    holds=lambda header: header.value is None or header.name.lower() not in CREDENTIAL_HEADERS,
    field="value",
    reason="FieldValueForbidden",
)
