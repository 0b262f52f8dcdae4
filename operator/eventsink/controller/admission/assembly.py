"""The admission webhook put together."""

from __future__ import annotations

import asyncio
from collections.abc import Collection
from dataclasses import dataclass

from eventsink.controller.admission.confirm import Confirmation
from eventsink.controller.admission.managed import ManagedCertificate
from eventsink.controller.admission.review import Reviewer
from eventsink.controller.admission.server import AdmissionServer
from eventsink.controller.cluster_state import ClusterState
from eventsink.controller.config import OperatorSettings
from eventsink.controller.metrics import OperatorMetrics
from eventsink.controller.resolvers import Resolvers
from eventsink.controller.tenancy import Namespace
from eventsink.kube.api import Api, Key
from eventsink.kube.lease import pod_namespace
from eventsink.runtime.listener.metrics import ListenerMetrics


@dataclass(frozen=True, slots=True)
class Admission:
    """The server and the reviewer are called in kopf's thread and loop; the certificate, in that of the operator."""

    server: AdmissionServer
    reviewer: Reviewer
    certificate: ManagedCertificate | None
    """None: it comes from files."""


def open_admission(
    settings: OperatorSettings,
    api: Api,
    state: ClusterState,
    resolvers: Resolvers,
    metrics: OperatorMetrics,
    listener_metrics: ListenerMetrics,
) -> Admission | None:
    """Make the webhook, in the operator's loop; None: it is not enabled."""
    own = settings.admission
    if not own.enabled:
        return None
    files, certificate = own.certificate(), None
    if files is None:
        certificate = ManagedCertificate(own, own.namespace or pod_namespace(), api, metrics)
        files = certificate.files
    confirm = Confirmation(api, asyncio.get_running_loop())
    return Admission(
        AdmissionServer(own.address, files, listener_metrics, metrics),
        Reviewer(resolvers, settings.tenancy.allow_unowned, SeenCluster(state), confirm),
        certificate,
    )


class SeenCluster:
    """What the operator has seen, for another thread: `Known`. Each call is one look-up in a dictionary, whose values never change, or
    (`quota_exceeded`) counts what may change meanwhile: the reconcile decides."""

    def __init__(self, state: ClusterState) -> None:
        self._state = state

    def namespace(self, name: str) -> Namespace | None:
        """A namespace."""
        return self._state.namespaces.get(name)

    def is_owned(self, tenant: str) -> bool:
        """Whether any namespace owns a tenant."""
        return tenant in self._state.owned_tenants

    def has_secret(self, key: Key) -> bool:
        """Whether there is a Secret."""
        return key in self._state.secrets

    def named(self, tenant: str, name: str) -> Collection[Key]:
        """The EventSinks that claim a tenant and have a display name."""
        return self._state.named(tenant, name)

    def quota_exceeded(self, key: Key, tenant: str) -> int:
        """How many sinks a tenant may have, where it has no place for this one; 0: it has."""
        return self._state.quota.exceeded(key, tenant)
