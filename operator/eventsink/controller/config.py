"""The operator's configuration."""

from __future__ import annotations

from pathlib import Path

from pydantic import Field, NonNegativeInt, model_validator

from eventsink.destinations.settings import with_destinations
from eventsink.kube.lease import LeaderElectionSettings
from eventsink.kube.settings import KubernetesSettings
from eventsink.resources.names import ALL_TENANTS
from eventsink.resources.namespaces import ListedNamespaces
from eventsink.runtime.address import Address
from eventsink.runtime.logs import LogSettings
from eventsink.runtime.monitor import MonitorSettings
from eventsink.runtime.settings import ProcessSettings, Seconds, Settings
from eventsink.sinks.egress import EgressSettings


class TenancySettings(Settings):
    """Who may claim a tenant."""

    allow_unowned: bool = False
    """Whether a sink may claim a tenant that no namespace owns (label eventsink.dev/tenant)."""
    max_sinks: int = Field(default=0, ge=0)
    """EventSinks of one tenant that are accepted, the oldest ones, whether Ready or not; 0: any number."""
    max_sinks_of: dict[str, NonNegativeInt] = Field(default={}, max_length=10_000)
    """Tenant -> the same where it is different, such as `acme: 50`; `*`: of the sinks that get the alerts of all tenants."""

    def sinks_of(self, tenant: str) -> int:
        """How many sinks a tenant may have; 0: any number. The platform's own are not bounded by `max_sinks`."""
        return self.max_sinks_of.get(tenant, self.max_sinks if tenant != ALL_TENANTS else 0)


class AdmissionSettings(Settings):
    """Whether EventSinks are reviewed while they are applied, by an admission webhook: what is wrong is then refused at once."""

    enabled: bool = False
    """Whether the webhook is served. The API server calls it once there is a ValidatingWebhookConfiguration. In manifests/: true."""
    address: Address = "0.0.0.0:9443"
    """`host:port`; port 0 takes a free one. The API server must reach it through the Service."""
    service_name: str = Field(default="eventsink-operator-webhook", min_length=1, max_length=63)
    """The Service by which the API server calls it: the certificate is made for its names."""
    extra_names: tuple[str, ...] = ()
    """More names and addresses of the certificate, where the configuration has a `url` instead of the Service: an operator outside of the
    cluster."""
    configuration_name: str = Field(default="eventsink-operator-webhook", min_length=1, max_length=253)
    """The ValidatingWebhookConfiguration: the operator keeps its `caBundle` current."""
    secret_name: str = Field(default="eventsink-operator-webhook", min_length=1, max_length=253)
    """The Secret with the certificate, which all replicas share."""
    namespace: str = Field(default="", max_length=63)
    """The namespace of that Service and Secret; empty: that of the pod, or eventsink-system outside of a cluster."""
    tls_certificate_file: Path | None = None
    """PEM, read again each minute; with tlsKeyFile, the operator makes no certificate, and leaves `caBundle` to whoever did (cert-manager)."""
    tls_key_file: Path | None = None
    """PEM, of tlsCertificateFile."""

    @model_validator(mode="after")
    def _both_or_none(self) -> AdmissionSettings:
        if (self.tls_certificate_file is None) != (self.tls_key_file is None):
            raise ValueError("set both tlsCertificateFile and tlsKeyFile, or none")
        return self

    def certificate(self) -> tuple[Path, Path] | None:
        """Files of certificate and key; None: the operator makes them."""
        if self.tls_certificate_file is None or self.tls_key_file is None:
            return None
        return self.tls_certificate_file, self.tls_key_file


class TokenSettings(Settings):
    """Tokens that the operator makes where they are missing, for senders and for the router's admin API. The Helm chart sets this."""

    namespace: str = Field(default="eventsink-system", min_length=1, max_length=63)
    """Namespace of the Secrets."""
    generate: dict[str, tuple[str, ...]] = Field(default={}, max_length=16)
    """Secret -> keys. A key without a value gets a random one at the start, or within sweepInterval; values are never changed."""


@with_destinations("OPERATOR_SETTINGS")
class OperatorSettings(ProcessSettings):
    """All settings of `eventsink operator`."""

    sinks_namespace: str = Field(default="eventsink-system-sinks", min_length=1, max_length=63)
    """The namespace for compiled sinks; it holds nothing else."""
    namespaces: ListedNamespaces = ()
    """The only namespaces to work in, with the tenant that owns each; Roles in them suffice then. None: all, as their labels say."""
    tenancy: TenancySettings = TenancySettings()
    admission: AdmissionSettings = AdmissionSettings()
    tokens: TokenSettings = TokenSettings()
    egress: EgressSettings = EgressSettings()
    credential_grace: Seconds = 600.0
    """How long a sink goes on with a credential whose Secret is gone: a GitOps tool may just be re-creating it."""
    workers: int = Field(default=8, ge=1, le=64)
    """EventSinks that are reconciled at once."""
    sweep_interval: Seconds = Field(default=60.0, gt=0)
    """Between two comparisons of everything compiled with everything that there is."""
    leader_election: LeaderElectionSettings = LeaderElectionSettings()
    monitor: MonitorSettings = MonitorSettings()
    log: LogSettings = LogSettings()
    kubernetes: KubernetesSettings = KubernetesSettings()

    @model_validator(mode="after")
    def _keeps_compiled_sinks_apart(self) -> OperatorSettings:
        if any(one.name == self.sinks_namespace for one in self.namespaces):
            raise ValueError("namespaces: the namespace of compiled sinks (sinksNamespace) cannot be a tenant's")
        return self

    @model_validator(mode="after")
    def _reviews_everywhere(self) -> OperatorSettings:
        if self.namespaces and self.admission.enabled:
            raise ValueError(
                "admission.enabled: the API server knows webhooks for the whole cluster only; remove it, or namespaces"
            )
        return self
