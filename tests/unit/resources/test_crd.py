"""The CRD is generated from the models alone, and the API server accepts it."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import pytest
import yaml
from click.testing import CliRunner
from pydantic import BaseModel, Field

from eventsink.resources.crd import FILE_NAME, SchemaError, crd, crd_yaml, main, structural_schema
from tests.cluster.manifests import rejected
from tests.unit.resources.every_rule import RULES

COMMITTED = Path(__file__).parents[3] / "crds" / FILE_NAME
SCHEMA: dict[str, Any] = crd()["spec"]["versions"][0]["schema"]["openAPIV3Schema"]
SAID_OF_REJECTED = [line for case in rejected() for line in (*case.says, *(case.offline or ()))]


def nodes(schema: dict[str, Any], path: str = "") -> Iterator[tuple[str, dict[str, Any]]]:
    """Each schema within a schema, with its path."""
    yield path, schema
    for name, value in schema.get("properties", {}).items():
        yield from nodes(value, f"{path}.{name}")
    if "items" in schema:
        yield from nodes(schema["items"], f"{path}[]")


def test_the_committed_crd_is_up_to_date() -> None:
    assert COMMITTED.read_text(encoding="utf-8") == crd_yaml(), "run `make crds` and commit the result"


def test_the_yaml_of_the_crd_is_its_document() -> None:
    assert yaml.safe_load(crd_yaml()) == crd()


@pytest.mark.parametrize("path", ["spec", "status"])
def test_every_text_and_list_is_bounded_and_every_field_described(path: str) -> None:
    for name, schema in nodes(SCHEMA["properties"][path], path):
        if schema.get("type") == "string" or "x-kubernetes-int-or-string" in schema:
            assert "maxLength" in schema or "enum" in schema, name
        if schema.get("type") == "array":
            assert "maxItems" in schema, name
        assert name.endswith("[]") or schema.get("description"), name


def test_rules_of_durations_stay_cheap_for_an_api_server_that_does_not_know_how_long_the_text_is() -> None:
    # Before Kubernetes 1.34, maxLength does not count where numbers are allowed too: a CRD with a list made of the text is refused there
    # (`make older`), and a pattern costs by its length.
    durations = [schema for _, schema in nodes(SCHEMA) if "x-kubernetes-int-or-string" in schema]
    assert len(durations) >= 3
    for cel in (entry["rule"] for schema in durations for entry in schema["x-kubernetes-validations"]):
        assert not re.search(r"\.(findAll|split|map)\(", cel)
        assert sum(len(pattern) for pattern in re.findall(r"\.(?:matches|find)\('([^']*)'\)", cel)) < 100


def test_every_rule_is_in_the_crd() -> None:
    messages = {entry["message"] for _, schema in nodes(SCHEMA) for entry in schema.get("x-kubernetes-validations", [])}
    assert messages == {rule.message for rule in RULES.values() if rule.cel}


@pytest.mark.parametrize("name", sorted(RULES))
def test_every_rule_has_a_rejected_manifest_unless_it_is_about_a_change(name: str) -> None:
    rule = RULES[name]
    assert rule.holds is None or any(line.endswith(f": {rule.message}") for line in SAID_OF_REJECTED)


def test_nothing_has_a_default_since_defaults_are_policy_but_the_status_that_the_operator_has_not_written_yet() -> None:
    defaults = {name: schema["default"] for name, schema in nodes(SCHEMA) if "default" in schema}
    assert list(defaults.values()) == [{"observedGeneration": -1}]
    assert SCHEMA["properties"]["status"]["default"] == {"observedGeneration": -1}


def test_kubectl_get_shows_tenant_type_ready_delivering_and_age() -> None:
    columns = crd()["spec"]["versions"][0]["additionalPrinterColumns"]
    assert [column["name"] for column in columns if not column.get("priority")] == [
        "Tenant",
        "Type",
        "Ready",
        "Delivering",
        "Age",
    ]


def test_a_drifted_crd_fails_the_check_until_it_is_written_again(tmp_path: Path) -> None:
    runner = CliRunner()
    absent = runner.invoke(main, [str(tmp_path), "--check"])
    assert absent.exit_code == 1
    assert "run `make crds`" in absent.output
    assert runner.invoke(main, [str(tmp_path)]).exit_code == 0
    assert runner.invoke(main, [str(tmp_path), "--check"]).exit_code == 0
    file = tmp_path / FILE_NAME
    file.write_text(file.read_text().replace("maxLength: 63", "maxLength: 64"))
    assert runner.invoke(main, [str(tmp_path), "--check"]).exit_code == 1


class UnboundedText(BaseModel):
    text: str


class UnboundedList(BaseModel):
    numbers: list[int]


class TwoTypes(BaseModel):
    value: int | bool


class AnyMembers(BaseModel):
    members: dict[str, int]


class PatternOfItsOwn(BaseModel):
    text: Annotated[str, Field(max_length=3, pattern="a")]


@pytest.mark.parametrize(
    ("model", "says"),
    [
        (UnboundedText, r"UnboundedText\.text: give the text a greatest length"),
        (UnboundedList, r"UnboundedList\.numbers: give the list a greatest length"),
        (TwoTypes, r"TwoTypes\.value: a structural schema knows one type"),
        (AnyMembers, r"AnyMembers\.members: name the fields"),
        (PatternOfItsOwn, r"PatternOfItsOwn\.text: a structural schema does not know pattern"),
    ],
)
def test_a_model_without_a_structural_schema_fails_the_generation(model: type[BaseModel], says: str) -> None:
    with pytest.raises(SchemaError, match=says):
        structural_schema(model)
