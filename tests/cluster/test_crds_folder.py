"""`crds/` can be applied as a folder of files and as a kustomization."""

from __future__ import annotations

from tests.support.cluster import CRD, CRDS, MakeControlPlane
from tests.support.kubectl import Kubectl
from tests.support.waiting import wait_until


def test_the_crd_is_installed_from_its_folder_with_f_and_with_k(fresh_control_plane: MakeControlPlane) -> None:
    kubectl = Kubectl(fresh_control_plane().admin_kubeconfig)
    for option in ("-f", "-k"):
        assert kubectl.find("crd", CRD) is None
        printed = kubectl.run("apply", option, str(CRDS.parent)).stdout
        assert printed.splitlines() == [f"customresourcedefinition.apiextensions.k8s.io/{CRD} created"]
        kubectl.wait_established(CRD)
        # Deleted before its kind is served, a CRD may stay: the API server reports "storage is (re)initializing" and does not go on.
        wait_until("EventSinks", lambda: kubectl.run("get", CRD, "--all-namespaces", check=False).returncode == 0)
        kubectl.delete("crd", CRD)
