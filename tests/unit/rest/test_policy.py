"""manifests/policies/rest.yaml limits the credentials that the REST API can refer to: it must know every one of every type."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args

import pytest
import yaml
from pydantic import BaseModel

from eventsink.destinations import registry
from eventsink.resources.model import SecretKeyRef

FILE = Path(__file__).parents[3] / "manifests" / "policies" / "rest.yaml"
POLICY = next(one for one in yaml.safe_load_all(FILE.read_text()) if one["metadata"]["name"] == "eventsink-rest-eventsinks")[
    "spec"
]
VARIABLES = {one["name"]: one["expression"] for one in POLICY["variables"]}


def models(annotation: Any) -> Iterator[type[BaseModel]]:
    """The models in a type, whatever is around them."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for inner in get_args(annotation):
        yield from models(inner)


def credentials(model: type[BaseModel]) -> Iterator[str]:
    """The fields of a spec's model that refer to a Secret, or contain such a field."""
    for name, info in model.model_fields.items():
        for inner in models(info.annotation):
            if inner is SecretKeyRef or any(credentials(inner)):
                yield info.alias or name


@pytest.mark.parametrize("name", registry.names())
def test_the_policy_covers_every_credential_of_a_destination_type(name: str) -> None:
    found = set(credentials(registry.load(name, "spec").SPEC))
    assert found
    for field in found:
        assert f"object.spec.{name}.{field}" in VARIABLES["refs"]
        assert f"oldObject.spec.{name}.{field}" in VARIABLES["before"]
    assert f"has(object.spec.{name})" in POLICY["validations"][-1]["expression"]
