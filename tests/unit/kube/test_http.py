"""Credentials as they are passed to another library's client, and responses as errors."""

from __future__ import annotations

from pathlib import Path

import pytest
import trustme
import yaml
from kubernetes.aio.config import incluster_config

from eventsink.kube import http
from eventsink.kube.api import Forbidden, Gone, Invalid, NotFound, Unavailable
from eventsink.kube.http import KubernetesSettings, api_error, connect


async def test_the_scheme_is_removed_from_a_pods_token(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "token").write_text("a.b.c")
    trustme.CA().cert_pem.write_to_path(str(tmp_path / "ca.crt"))
    monkeypatch.setenv("KUBERNETES_SERVICE_HOST", "10.96.0.1")
    monkeypatch.setenv("KUBERNETES_SERVICE_PORT", "443")
    monkeypatch.setattr(http, "IN_CLUSTER_TOKEN", tmp_path / "token")
    monkeypatch.setattr(incluster_config, "SERVICE_TOKEN_FILENAME", str(tmp_path / "token"))
    monkeypatch.setattr(incluster_config, "SERVICE_CERT_FILENAME", str(tmp_path / "ca.crt"))
    api = await connect(KubernetesSettings(), "test")
    try:
        access = await api.access()
    finally:
        await api.close()
    assert (access.server, access.token) == ("https://10.96.0.1:443", "a.b.c")


async def test_the_scheme_is_removed_from_a_kubeconfigs_token(tmp_path: Path) -> None:
    config = {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": "c",
        "contexts": [{"name": "c", "context": {"cluster": "c", "user": "u"}}],
        "clusters": [{"name": "c", "cluster": {"server": "https://127.0.0.1:1"}}],
        "users": [{"name": "u", "user": {"token": "a.b.c"}}],
    }
    (tmp_path / "config").write_text(yaml.safe_dump(config))
    api = await connect(KubernetesSettings(kubeconfig=tmp_path / "config"), "test")
    try:
        access = await api.access()
    finally:
        await api.close()
    assert (access.server, access.token) == ("https://127.0.0.1:1", "a.b.c")


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (404, NotFound),
        (403, Forbidden),
        (401, Forbidden),
        (410, Gone),
        (422, Invalid),
        (429, Unavailable),
        (500, Unavailable),
        (503, Unavailable),
    ],
)
def test_responses_become_errors_by_their_status(status: int, kind: type[Exception]) -> None:
    for body in (b'{"reason":"R","message":"M"}', b"<html>", b"[]", b""):
        error = api_error(status, body)
        assert type(error) is kind
        assert str(error)
