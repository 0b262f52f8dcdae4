"""A Secret that kustomize renames is renamed in every field of an EventSink that refers to it."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml

from eventsink.resources.crd import crd
from tests.support.cluster import ROOT
from tests.support.kustomize import build

COMPONENT = ROOT / "manifests" / "components" / "secret-names"
HASHED = re.compile(r"hook-[a-z0-9]{10}")


def references(schema: Mapping[str, Any], path: str = "") -> Iterator[str]:
    """The paths of the CRD's schema that hold the name of a Secret, as kustomize writes them: a list adds nothing."""
    properties = schema.get("properties", {})
    if properties.keys() == {"name", "key"} or path.endswith("SecretRef"):
        yield f"{path}/name"
    for name, inner in properties.items():
        yield from references(inner, f"{path}/{name}".lstrip("/"))
    if "items" in schema:
        yield from references(schema["items"], path)


@pytest.fixture(scope="module")
def paths() -> list[str]:
    [version] = crd()["spec"]["versions"]
    return list(references(version["schema"]["openAPIV3Schema"]))


def test_the_configuration_has_each_field_of_the_crd_that_refers_to_a_secret(paths: list[str]) -> None:
    [secrets] = yaml.safe_load((COMPONENT / "name-references.yaml").read_text())["nameReference"]
    assert (secrets["kind"], secrets["version"]) == ("Secret", "v1")
    assert secrets["fieldSpecs"] == [{"group": "eventsink.dev", "kind": "EventSink", "path": path} for path in paths]


def test_kustomize_puts_the_name_with_its_hash_into_each_of_them(paths: list[str], tmp_path: Path) -> None:
    sinks = [
        {
            "apiVersion": "eventsink.dev/v1alpha1",
            "kind": "EventSink",
            "metadata": {"name": f"sink-{index:02}"},
            "spec": _nested(path.removeprefix("spec/").split("/")),
        }
        for index, path in enumerate(paths)
    ]
    (tmp_path / "sinks.yaml").write_text(yaml.safe_dump_all(sinks))
    (tmp_path / "component").symlink_to(COMPONENT)
    (tmp_path / "kustomization.yaml").write_text(
        "namespace: acme\nresources: [sinks.yaml]\nsecretGenerator: [{name: hook, literals: [token=a]}]\ncomponents: [component]\n"
    )
    built = build(tmp_path)
    [name] = [one["metadata"]["name"] for one in built if one["kind"] == "Secret"]
    assert HASHED.fullmatch(name)
    found = [list(_names(one["spec"])) for one in built if one["kind"] == "EventSink"]
    assert found == [[name, name] if path in LISTS else [name] for path in paths]


def test_the_sample_refers_to_the_secret_that_it_makes() -> None:
    built = build(ROOT / "manifests" / "gitops" / "kustomize")
    [secret] = [one for one in built if one["kind"] == "Secret"]
    [sink] = [one for one in built if one["kind"] == "EventSink"]
    assert sink["spec"]["slack"]["botTokenSecretRef"]["name"] == secret["metadata"]["name"] != "slack"


LISTS = {
    "spec/webhook/headers/valueFrom/secretKeyRef/name": "headers",
    "spec/webhook/signingSecretRefs/name": "signingSecretRefs",
}
"""Path -> the list on its way."""


def _nested(steps: list[str]) -> Any:
    """An object with these fields within each other, the last of which names the Secret; lists have two entries."""
    if not steps:
        return "hook"
    inner = _nested(steps[1:])
    return {steps[0]: [inner, inner] if steps[0] in LISTS.values() else inner}


def _names(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    for inner in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
        yield from _names(inner)
