"""The samples of manifests/gitops: known to the tools, and of this chart."""

from __future__ import annotations

from typing import Any

import pytest

from tests.support.gitops import FOLDER, NotUnderstood, decode, documents
from tests.support.helm import CHART, ROOT, Helm, find

FLUX = sorted(file.name for file in (FOLDER / "flux").iterdir())
REPOSITORY = "https://git.example.com/platform/eventsink.git"


def application() -> dict[str, Any]:
    [found] = documents("argocd/eventsink.yaml")
    return dict(found["spec"])


def release() -> dict[str, Any]:
    [found] = [one for one in documents("flux/eventsink.yaml") if one["kind"] == "HelmRelease"]
    return dict(found["spec"])


@pytest.mark.parametrize("name", FLUX)
def test_flux_knows_each_field_of_its_samples(name: str) -> None:
    decode(documents(f"flux/{name}"))


def test_a_field_that_flux_does_not_know_would_be_noticed() -> None:
    objects = documents("flux/sinks.yaml")
    objects[-1]["spec"]["healthChecksExprs"] = []
    with pytest.raises(NotUnderstood, match="healthChecksExprs"):
        decode(objects)


def test_both_tools_install_the_chart_of_this_repository_in_its_default_place() -> None:
    source, destination = application()["source"], application()["destination"]
    assert ROOT / source["path"] == ROOT / release()["chart"]["spec"]["chart"] == CHART
    assert (source["helm"]["releaseName"], destination["namespace"]) == ("eventsink", "eventsink-system")
    assert (release()["releaseName"], release()["targetNamespace"]) == ("eventsink", "eventsink-system")
    [git] = [one for one in documents("flux/eventsink.yaml") if one["kind"] == "GitRepository"]
    assert source["repoURL"] == git["spec"]["url"] == REPOSITORY


def test_the_chart_takes_the_values_of_the_samples(helm: Helm) -> None:
    values = application()["source"]["helm"]["valuesObject"]
    assert values == release()["values"]
    operator = find(helm.render(values), "Deployment", "eventsink-operator")
    [container] = operator["spec"]["template"]["spec"]["containers"]
    assert container["image"].startswith("registry.example.com/eventsink:")


def test_the_chart_renders_the_same_each_time(helm: Helm) -> None:
    assert helm.text() == helm.text()
