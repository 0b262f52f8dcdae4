"""What a compiled sink of the type webhook holds."""

from __future__ import annotations

from typing import Literal

from eventsink.destinations.webhook.spec import DEFAULT_BATCH, DEFAULT_FORMAT, DEFAULT_METHOD, DEFAULT_TIMEOUT
from eventsink.destinations.webhook.success import SuccessWhen
from eventsink.destinations.webhook.templated import DEFAULT_CONTENT_TYPE
from eventsink.runtime.durations import parse_duration
from eventsink.sinks.target import DispatchParameters, PayloadKind, SecretDocument, Target, destination_of


class Header(SecretDocument):
    """One request header with its resolved value."""

    name: str
    value: str


class OAuth2Client(SecretDocument):
    """A client of an authorization server, which gives it tokens (RFC 6749 section 4.4)."""

    token_url: str
    client_id: str
    client_secret: str
    scopes: tuple[str, ...] = ()
    endpoint_params: tuple[tuple[str, str], ...] = ()
    """Name and value of more parameters of the request for a token."""


class WebhookTarget(Target):
    """All that a POST to a webhook needs."""

    type: Literal["webhook"] = "webhook"
    url: str
    headers: tuple[Header, ...] = ()
    signing_secrets: tuple[str, ...] = ()
    """As in Standard Webhooks: `whsec_` and base64, or the text itself as key."""
    format: Literal["cloudevents", "alertmanager"] = DEFAULT_FORMAT
    batch: int = DEFAULT_BATCH
    """Most alerts in one message, 1-1000; the alertmanager format sends groups instead."""
    template: str | None = None
    """Writes the bodies, instead of the format."""
    content_type: str = DEFAULT_CONTENT_TYPE
    """Of what the template writes."""
    method: Literal["POST", "PUT", "PATCH"] = DEFAULT_METHOD
    timeout: float = parse_duration(DEFAULT_TIMEOUT)
    ca: str | None = None
    """PEM certificates that the receiver's certificate must chain to; None: the system's."""
    client_certificate: str | None = None
    """PEM certificate, its intermediates and its private key, which are presented to the receiver; None: nothing is."""
    server_name: str | None = None
    """What the receiver's certificate must be valid for; None: the host of the URL."""
    oauth2: OAuth2Client | None = None
    """Gives the tokens that messages carry. Other ways to authenticate are headers."""
    success_when: SuccessWhen | None = None
    """None: every 2xx is success, whatever the rest of the response is."""

    def can_be_misread(self) -> bool:
        """A router that ignores these members would send something else, or take for delivered what is not."""
        return (
            self.template is not None
            or self.method != DEFAULT_METHOD
            or self.success_when is not None
            or self.oauth2 is not None
            or self.client_certificate is not None
            or self.server_name is not None
        )

    def destination(self) -> str:
        """Digest of the URL."""
        return destination_of("webhook", self.url)

    def dispatch_parameters(self) -> DispatchParameters:
        """As the spec says; how many messages at once is the router's setting."""
        groups = self.format == "alertmanager"
        return DispatchParameters(batch=self.batch, payload=PayloadKind.GROUP if groups else PayloadKind.ALERT)


TARGET = WebhookTarget
