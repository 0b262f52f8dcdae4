"""The settings of how the API server is reached, without the client: a program without a cluster starts sooner."""

from __future__ import annotations

from pathlib import Path

from pydantic import Field

from eventsink.runtime.settings import Seconds, Settings


class KubernetesSettings(Settings):
    """How the API server is reached."""

    kubeconfig: Path | None = None
    """A kubeconfig file; absent: the pod's own ServiceAccount, else the user's kubeconfig."""
    request_timeout: Seconds = Field(default=10.0, gt=0)
    """For one request."""
    connections: int = Field(default=16, ge=4)
    """Open at once; those of the watches of the setting `namespaces` come on top."""
