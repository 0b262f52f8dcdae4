"""An installation with Roles only, from manifests/scoped: the setting `namespaces` lists where each part works."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import yaml

from tests.controlplane import ControlPlane
from tests.support.cluster import Installed
from tests.support.kubectl import Kubectl
from tests.support.kustomize import build, copied, edit

PARTS = ("operator", "router", "rest")
PROGRAMS = ("Deployment", "StatefulSet")
NAMESPACE = """
apiVersion: kustomize.config.k8s.io/v1beta1
kind: Kustomization
namespace: {name}
resources: [../../parameters, ../namespace]
components: [../../components/namespace]
"""
"""A folder like manifests/scoped/acme, applied on its own."""


@dataclass(frozen=True)
class Scoped:
    """What is installed, and the manifests that it was installed with."""

    installed: Installed
    kubectl: Kubectl
    manifests: Path

    def give(self, namespace: str, parts: Iterable[str] = PARTS) -> None:
        """Make the Roles in a listed namespace that exists."""
        folder = self.manifests / "scoped" / namespace
        folder.mkdir(exist_ok=True)
        (folder / "kustomization.yaml").write_text(NAMESPACE.format(name=namespace))
        names = {f"eventsink-{part}" for part in parts}
        self.kubectl.apply([one for one in build(folder) if one["metadata"]["name"] in names])


def install_scoped(plane: ControlPlane, kubectl: Kubectl, system: str, folder: Path) -> Scoped:
    """Apply `manifests/namespaces` and `manifests/scoped` without any listed namespace; nothing cluster-wide."""
    sinks = f"{system}-sinks"
    manifests = copied(folder, namespace=system, sinksNamespace=sinks)
    edit(manifests / "scoped/kustomization.yaml", r"^resources: .*$", "resources: [../base, own.yaml]")
    for one in ("namespaces", "scoped"):
        # Without pods: the tests run the programs.
        kubectl.apply(yaml.safe_dump_all(made for made in build(manifests / one) if made["kind"] not in PROGRAMS))
    tokens = {part: plane.service_account_kubeconfig(system, f"eventsink-{part}") for part in PARTS}
    return Scoped(Installed(**tokens, namespace=system, sinks_namespace=sinks), kubectl, manifests)
