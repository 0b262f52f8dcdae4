"""The API over HTTP passes the contract against a real API server."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from eventsink.kube.http import HttpApi, connect
from eventsink.kube.settings import KubernetesSettings
from tests.controlplane import ControlPlane
from tests.unit.kube.api_contract import ApiContract


class TestHttpApi(ApiContract):
    @pytest.fixture
    async def api(self, control_plane: ControlPlane) -> AsyncIterator[HttpApi]:
        api = await connect(KubernetesSettings(kubeconfig=control_plane.admin_kubeconfig), "test")
        yield api
        await api.close()
