"""A real Kubernetes control plane for tests: etcd, kube-apiserver and kube-controller-manager on loopback, without nodes."""

from tests.controlplane.binaries import Binaries, find_or_build
from tests.controlplane.cluster import ControlPlane

__all__ = ["Binaries", "ControlPlane", "find_or_build"]
