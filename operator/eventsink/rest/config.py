"""The configuration of the facade."""

from __future__ import annotations

from ipaddress import IPv4Network, IPv6Network, ip_network
from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator, Field

from eventsink.kube.http import KubernetesSettings
from eventsink.runtime.address import Address
from eventsink.runtime.logs import LogSettings
from eventsink.runtime.monitor import MonitorSettings
from eventsink.runtime.settings import ProcessSettings, Seconds, Settings


def _network(text: str) -> str:
    ip_network(text)
    return text


Network = Annotated[str, AfterValidator(_network)]


class FailureSettings(Settings):
    """How many wrong keys are borne."""

    allowed: int = Field(default=10, ge=1, le=10_000)
    """Wrong keys from one address; beyond them, only who was let in from there within the last hour is answered, all others 429."""
    every: Seconds = Field(default=6.0, gt=0)
    """After so long, one of them is forgiven."""
    trusted_proxies: tuple[Network, ...] = ()
    """Networks of proxies whose X-Forwarded-For tells the address of the caller, such as those of the ingress."""

    def networks(self) -> tuple[IPv4Network | IPv6Network, ...]:
        """The trusted ones."""
        return tuple(ip_network(one) for one in self.trusted_proxies)


class LimitSettings(Settings):
    """What the facade bears."""

    max_body_bytes: int = Field(default=1024**2, ge=1024, le=16 * 1024**2)
    """Of one request; larger ones are answered 413."""
    max_requests: int = Field(default=128, ge=1, le=10_000)
    """Under way at once; more are answered 429. Creates and updates wait for the operator meanwhile."""
    max_requests_per_key: int = Field(default=64, ge=1, le=10_000)
    """Of one key under way at once, so that none takes all."""
    failures: FailureSettings = FailureSettings()


class SlackInstallSettings(Settings):
    """Slack's browser flow; served where clientId and redirectUrl are set."""

    client_id: str = Field(default="", max_length=64)
    """Of the Slack app: the same as the operator's slackApp.clientId."""
    redirect_url: str = Field(default="", max_length=2048, pattern=r"^(https?://[^\s?#]+/v1/slack/callback)?$")
    """The outer address of the facade and /v1/slack/callback, where Slack sends the browser back to. The same as the operator's
    slackApp.redirectUrl, and named in the settings of the app at Slack."""
    scopes: tuple[str, ...] = ("chat:write", "chat:write.public", "channels:read", "groups:read")
    """What the app asks for at Slack."""
    authorize_url: str = Field(default="https://slack.com/oauth/v2/authorize", pattern=r"^https?://[^\s?#]+$")
    """Slack's page."""
    lasts: Seconds = Field(default=600.0, ge=30, le=3600)
    """How long a link can be used."""
    state_key_file: Path | None = None
    """File with the key that states are signed with (32 characters or more), for several replicas; absent: made at each start."""


class FacadeSettings(Settings):
    """What is set in a cluster and in standalone alike."""

    address: Address = "127.0.0.1:8082"
    """`host:port`. In manifests/: 0.0.0.0:8082."""
    default_namespace: str = Field(default="", max_length=63, pattern=r"^([a-z0-9]([-a-z0-9]*[a-z0-9])?)?$")
    """Where sinks of tenants are made that own no namespace; empty: they are refused."""
    create_wait: Seconds = Field(default=10.0, ge=0, le=60)
    """How long a create or an update waits for the operator's verdict."""
    test_wait: Seconds = Field(default=10.0, ge=0, le=30)
    """How long a test alert is waited for."""
    limits: LimitSettings = LimitSettings()
    slack_install: SlackInstallSettings = SlackInstallSettings()


class KeySettings(Settings):
    """Where the records of API keys lie."""

    namespace: str = Field(default="eventsink-system", min_length=1, max_length=63)
    """The namespace of that Secret."""
    secret: str = Field(default="eventsink-rest-keys", min_length=1, max_length=253)
    """Its name; made by `eventsink keys create`."""


class KubernetesTokenSettings(Settings):
    """Tokens of ServiceAccounts beside API keys: judged by the API server, allowed what RBAC allows them on EventSinks."""

    enabled: bool = False
    """Whether they count."""
    audiences: tuple[str, ...] = ("eventsink-rest",)
    """One of them has to be an audience of the token."""
    cache: Seconds = Field(default=10.0, ge=0, le=300)
    """How long a verdict counts."""


class RouterAccess(Settings):
    """The router's admin API, for test alerts."""

    url: str = Field(default="", max_length=2048, pattern=r"^(https?://[^\s?#]+)?$")
    """Such as http://eventsink-router:8081; absent: test alerts are not served."""
    token_file: Path | None = None
    """File with its bearer token."""


class RestSettings(ProcessSettings, FacadeSettings):
    """All settings of `eventsink rest`."""

    keys: KeySettings = KeySettings()
    kubernetes_tokens: KubernetesTokenSettings = KubernetesTokenSettings()
    router: RouterAccess = RouterAccess()
    monitor: MonitorSettings = MonitorSettings()
    log: LogSettings = LogSettings()
    kubernetes: KubernetesSettings = KubernetesSettings()
