"""Settings of the admission webhook that contradict each other are rejected with what to do."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from prometheus_client import CollectorRegistry

from eventsink.controller.admission.assembly import Admission, open_admission
from eventsink.controller.assembly import Controller
from eventsink.controller.config import OperatorSettings
from eventsink.kube.api import SECRETS
from eventsink.kube.local import LocalApi
from eventsink.runtime.listener.metrics import ListenerMetrics
from eventsink.runtime.settings import ConfigurationError, load_settings


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("admission: {tlsKeyFile: /tls.key}", "set both tlsCertificateFile and tlsKeyFile, or none"),
        (
            "{admission: {enabled: true}, namespaces: [{name: acme, tenant: acme}]}",
            r"admission\.enabled: the API server knows webhooks for the whole cluster only; remove it, or namespaces",
        ),
    ],
)
def test_what_contradicts_itself_is_rejected(tmp_path: Path, text: str, sentence: str) -> None:
    file = tmp_path / "operator.yaml"
    file.write_text(text)
    with pytest.raises(ConfigurationError, match=sentence):
        load_settings(OperatorSettings, part="operator", path=file)


@asynccontextmanager
async def opened(**admission: Any) -> AsyncIterator[Admission | None]:
    settings, registry = OperatorSettings.model_validate({"admission": admission}), CollectorRegistry()
    api = LocalApi((SECRETS,))
    controller = Controller(settings, api, registry)
    try:
        made = open_admission(
            settings, api, controller.state, controller.resolvers, controller.metrics, ListenerMetrics(registry, "operator")
        )
        yield made
        if made is not None and made.certificate is not None:
            await made.certificate.close()
    finally:
        await controller.close()


async def test_without_files_the_operator_makes_the_certificate() -> None:
    async with opened(enabled=True) as made:
        assert made is not None
        assert made.certificate is not None


async def test_with_files_the_operator_makes_no_certificate_and_needs_no_namespace() -> None:
    async with opened(enabled=True, tlsCertificateFile="/tls.crt", tlsKeyFile="/tls.key") as made:
        assert made is not None
        assert made.certificate is None


async def test_by_default_no_webhook_is_served() -> None:
    async with opened() as made:
        assert made is None
