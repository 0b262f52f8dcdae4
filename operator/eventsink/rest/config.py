"""The configuration of the REST API."""

from __future__ import annotations

from ipaddress import IPv4Network, IPv6Network, ip_network
from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator, Field, model_validator

from eventsink.kube.settings import KubernetesSettings
from eventsink.resources.namespaces import ListedNamespaces
from eventsink.runtime.address import Address
from eventsink.runtime.listener.settings import ListenerLimits
from eventsink.runtime.logs import LogSettings
from eventsink.runtime.monitor import MonitorSettings
from eventsink.runtime.settings import ProcessSettings, Seconds, Settings


def _network(text: str) -> str:
    ip_network(text)
    return text


Network = Annotated[str, AfterValidator(_network)]


class FailureSettings(Settings):
    """How many invalid keys are tolerated."""

    allowed: int = Field(default=10, ge=1, le=10_000)
    """Invalid keys from one address; beyond that, only callers authenticated from there within the last hour are served (others: 429)."""
    every: Seconds = Field(default=6.0, gt=0)
    """After this time, one of them no longer counts."""
    trusted_proxies: tuple[Network, ...] = ()
    """Networks of proxies whose X-Forwarded-For is trusted for the address of the caller, such as those of the ingress."""

    def networks(self) -> tuple[IPv4Network | IPv6Network, ...]:
        """The trusted networks."""
        return tuple(ip_network(one) for one in self.trusted_proxies)


class LimitSettings(Settings):
    """Limits of the REST API."""

    max_body_bytes: int = Field(default=1024**2, ge=1024, le=16 * 1024**2)
    """Size of one request; larger ones get 413."""
    max_requests: int = Field(default=128, ge=1, le=10_000)
    """Requests at the same time; more get 429. Creates and updates wait for the operator meanwhile."""
    max_requests_per_key: int = Field(default=64, ge=1, le=10_000)
    """Requests of one key at the same time, so that none takes all."""
    max_connections: int = Field(default=512, ge=2, le=100_000)
    """Open at once; more get 503 and are closed. One address has at most as many as it leaves to others, so half of them if it is alone."""
    max_held_bytes: int = Field(default=64 * 1024**2, ge=2048)
    """Of all requests in memory at once; more get 503. One address has at most as many as it leaves to others."""
    read_timeout: Seconds = Field(default=15.0, gt=0)
    """From the first byte of a request to its last."""
    write_timeout: Seconds = Field(default=30.0, gt=0)
    """How long a client may leave its responses unread."""
    idle_timeout: Seconds = Field(default=120.0, gt=0)
    """How long a connection without a request is kept."""
    failures: FailureSettings = FailureSettings()

    @model_validator(mode="after")
    def _holds_two_requests(self) -> LimitSettings:
        if self.max_held_bytes < 2 * self.max_body_bytes:
            raise ValueError("maxHeldBytes must be at least twice maxBodyBytes: one address has at most half of it")
        return self

    def listener(self, prefix: str, max_connections: int) -> ListenerLimits:
        """The limits of the listener, with so many connections; `prefix` is what its settings begin with."""
        return ListenerLimits(
            prefix,
            max_connections=max_connections,
            max_body_bytes=self.max_body_bytes,
            max_held_bytes=self.max_held_bytes,
            read_timeout=self.read_timeout,
            write_timeout=self.write_timeout,
            idle_timeout=self.idle_timeout,
        )


class SlackInstallSettings(Settings):
    """Slack's browser flow; served where clientId and redirectUrl are set."""

    client_id: str = Field(default="", max_length=64)
    """Client id of the Slack app: the same as the operator's slackApp.clientId."""
    redirect_url: str = Field(default="", max_length=2048, pattern=r"^(https?://[^\s?#]+/v1/slack/callback)?$")
    """The public address of the REST API and /v1/slack/callback, where Slack sends the browser back to. The same as the operator's
    slackApp.redirectUrl, and one of the redirect URLs of the app at Slack."""
    scopes: tuple[str, ...] = ("chat:write", "chat:write.public", "channels:read", "groups:read")
    """Scopes that the app requests at Slack."""
    authorize_url: str = Field(default="https://slack.com/oauth/v2/authorize", pattern=r"^https?://[^\s?#]+$")
    """Slack's authorize page."""
    lasts: Seconds = Field(default=600.0, ge=30, le=3600)
    """How long a link is valid."""
    state_key_file: Path | None = None
    """File with the key that signs states (32 characters or more), for several replicas. Default: a new key at each start."""


class FacadeSettings(Settings):
    """Settings that cluster and standalone mode share."""

    address: Address = "127.0.0.1:8082"
    """`host:port`. In manifests/: 0.0.0.0:8082."""
    default_namespace: str = Field(default="", max_length=63, pattern=r"^([a-z0-9]([-a-z0-9]*[a-z0-9])?)?$")
    """Namespace for sinks of tenants that own none; empty: such sinks are rejected."""
    create_wait: Seconds = Field(default=10.0, ge=0, le=60)
    """How long a create or an update waits for the operator's verdict."""
    test_wait: Seconds = Field(default=10.0, ge=0, le=30)
    """How long to wait for the outcome of a test alert."""
    limits: LimitSettings = LimitSettings()
    slack_install: SlackInstallSettings = SlackInstallSettings()


class KeySettings(Settings):
    """Where the records of API keys are kept."""

    namespace: str = Field(default="eventsink-system", min_length=1, max_length=63)
    """Namespace of their Secret."""
    secret: str = Field(default="eventsink-rest-keys", min_length=1, max_length=253)
    """Name of their Secret, which `eventsink keys create` creates."""


class KubernetesTokenSettings(Settings):
    """Tokens of ServiceAccounts beside API keys: the API server authenticates them, and RBAC on EventSinks authorizes them."""

    enabled: bool = False
    """Whether they are accepted."""
    audiences: tuple[str, ...] = ("eventsink-rest",)
    """A token must have one of these audiences."""
    cache: Seconds = Field(default=10.0, ge=0, le=300)
    """How long a result of the API server is cached."""


class RouterAccess(Settings):
    """The router's admin API, for test alerts."""

    url: str = Field(default="", max_length=2048, pattern=r"^(https?://[^\s?#]+)?$")
    """Such as http://eventsink-router-admin:8081. Default: test alerts are not served."""
    token_file: Path | None = None
    """File with its bearer token."""


class RestSettings(ProcessSettings, FacadeSettings):
    """All settings of `eventsink rest`."""

    namespaces: ListedNamespaces = ()
    """The only namespaces to serve, as the operator's setting has them; a tenant's new sinks are created in its first one. None: all."""
    keys: KeySettings = KeySettings()
    kubernetes_tokens: KubernetesTokenSettings = KubernetesTokenSettings()
    router: RouterAccess = RouterAccess()
    monitor: MonitorSettings = MonitorSettings()
    log: LogSettings = LogSettings()
    kubernetes: KubernetesSettings = KubernetesSettings()

    @model_validator(mode="after")
    def _has_no_default_beside_a_list(self) -> RestSettings:
        if self.namespaces and self.default_namespace:
            raise ValueError("defaultNamespace: has no meaning beside namespaces, each of which belongs to a tenant; remove it")
        return self
