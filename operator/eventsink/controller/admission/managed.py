"""The certificate that the operator makes for its admission webhook: in a Secret that all replicas share, and trusted by the API server."""

from __future__ import annotations

import asyncio
import base64
import tempfile
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

from eventsink.controller.admission.certificates import Certificates, due, read_certificates, service_names
from eventsink.controller.config import AdmissionSettings
from eventsink.controller.metrics import OperatorMetrics
from eventsink.kube.api import SECRETS, Api, ApiError, Conflict, Forbidden, NotFound, Object, Resource
from eventsink.kube.secrets import encoded, secret_data
from eventsink.resources.names import OPERATOR_LABELS, OPERATOR_MANAGER
from eventsink.runtime.files import write_private
from eventsink.runtime.logs import Repeated, get_logger

LOOK_SECONDS = 15.0
"""Between two looks at the Secret and at the configuration: so soon an authority that somebody removed is published again."""
RETRY_SECONDS = 1.0
"""After a look that failed, or in which another replica was faster; doubled each time, up to LOOK_SECONDS."""

WEBHOOK_CONFIGURATIONS = Resource(
    "admissionregistration.k8s.io",
    "v1",
    "validatingwebhookconfigurations",
    "ValidatingWebhookConfiguration",
    namespaced=False,
)


class ManagedCertificate:
    """Makes and renews the certificate, keeps it in files, and publishes its authorities.

    Any replica may renew: of two that write at once, one gets a conflict and reads what the other stored.

    Parameters
    ----------
    settings
        Names of the Secret, the Service and the configuration.
    namespace
        The operator's.
    now
        The time.
    """

    def __init__(
        self,
        settings: AdmissionSettings,
        namespace: str,
        api: Api,
        metrics: OperatorMetrics,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._settings = settings
        self._key = (namespace, settings.secret_name)
        self._names = (*service_names(settings.service_name, namespace), *settings.extra_names)
        self._api = api
        self._metrics = metrics
        self._now = now
        self._folder = tempfile.TemporaryDirectory(prefix="eventsink-admission-")
        self._published = ""
        """The authorities that the configuration has."""
        self._served: str | None = None
        self._trouble = Repeated(60.0)

    @property
    def files(self) -> tuple[Path, Path]:
        """PEM files of the certificate and its key: they appear in `run`, and change when it is renewed."""
        folder = Path(self._folder.name)
        return folder / "tls.crt", folder / "tls.key"

    async def close(self) -> None:
        """Remove the files."""
        self._folder.cleanup()

    async def run(self) -> None:
        """Look after it until cancelled."""
        pause = RETRY_SECONDS
        while True:
            try:
                await self.look()
            except Conflict:
                await asyncio.sleep(RETRY_SECONDS)
                continue
            except ApiError as error:
                if self._trouble.due() is not None:
                    right = "; the operator lacks a right: apply its roles" if isinstance(error, Forbidden) else ""
                    get_logger().warning("the admission certificate cannot be looked after, retrying", reason=f"{error}{right}")
                await asyncio.sleep(pause)
                pause = min(2 * pause, LOOK_SECONDS)
                continue
            pause = RETRY_SECONDS
            await asyncio.sleep(LOOK_SECONDS)

    async def look(self) -> None:
        """Do what is due.

        Raises
        ------
        ApiError
            It was not done; a Conflict: another replica did it.
        """
        certificates = await self._stored()
        self._serve(certificates)
        await self._publish(certificates.bundle)

    async def _stored(self) -> Certificates:
        try:
            secret = await self._api.get(SECRETS, self._key)
        except NotFound:
            secret = None
        stored = read_certificates(secret_data(secret)) if secret is not None else None
        published = stored is not None and self._published == stored.bundle
        new = due(stored, self._names, self._now(), published=published)
        if new is not None:
            body = self._secret(new, secret)
            await (
                self._api.create(SECRETS, body) if secret is None else self._api.replace(SECRETS, body, manager=OPERATOR_MANAGER)
            )
            get_logger().info(
                "the admission certificate was stored", secret="/".join(self._key), expires=f"{new.current.expires():%Y-%m-%d}"
            )
        result = new or stored
        assert result is not None
        return result

    def _secret(self, certificates: Certificates, before: Object | None) -> Object:
        namespace, name = self._key
        metadata: Object = {"name": name, "namespace": namespace, "labels": OPERATOR_LABELS}
        if before is not None:  # whoever read an older state gets a conflict
            metadata = before["metadata"] | {"labels": (before["metadata"].get("labels") or {}) | OPERATOR_LABELS}
        kind = before.get("type", "") if before is not None else "kubernetes.io/tls"
        return {"apiVersion": "v1", "kind": "Secret", "metadata": metadata, "type": kind, "data": encoded(certificates.to_data())}

    def _serve(self, certificates: Certificates) -> None:
        """Have the files hold the current certificate."""
        current = certificates.current
        self._metrics.admission_expires.set(current.expires().timestamp())
        if current.certificate != self._served:
            certificate, key = self.files
            # The key first: there is none without a certificate, and a certificate that is there at the start has its key.
            write_private(key, current.key, sync=False)
            write_private(certificate, current.certificate, sync=False)
            self._served = current.certificate

    async def _publish(self, bundle: str) -> None:
        """Have the API server trust the authorities: each webhook of the configuration has them as its `caBundle`."""
        name = self._settings.configuration_name
        try:
            configuration = await self._api.get(WEBHOOK_CONFIGURATIONS, ("", name))
        except NotFound:
            self._published = ""
            if self._trouble.due() is not None:
                get_logger().warning("there is no ValidatingWebhookConfiguration, so nothing is checked at admission", name=name)
            return
        encoded_bundle = base64.b64encode(bundle.encode()).decode()
        webhooks = configuration.get("webhooks") or []
        if any((one.get("clientConfig") or {}).get("caBundle") != encoded_bundle for one in webhooks):
            body: Object = {
                "apiVersion": WEBHOOK_CONFIGURATIONS.api_version,
                "kind": WEBHOOK_CONFIGURATIONS.kind,
                # With the uid, one that was deleted meanwhile is not made new.
                "metadata": {"name": name, "uid": configuration["metadata"]["uid"]},
                "webhooks": [{"name": one["name"], "clientConfig": {"caBundle": encoded_bundle}} for one in webhooks],
            }
            await self._api.apply(WEBHOOK_CONFIGURATIONS, body, manager=OPERATOR_MANAGER)
            get_logger().info("the API server was given the authorities of the admission certificate", configuration=name)
        self._published = bundle
