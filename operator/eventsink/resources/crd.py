"""Generates the CustomResourceDefinition of the EventSink from its models: `python -m eventsink.resources.crd DIR`.

Pydantic writes JSON Schema; the API server takes only structural schemas (Kubernetes' documentation, "Extend the Kubernetes
API with CustomResourceDefinitions", section "Specifying a structural schema"). The difference is rewritten here: references
are inlined, `anyOf` with null becomes the other half, titles and null defaults go. What a structural schema cannot say is a
`SchemaError` at generation rather than an error of the API server at installation.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import click
import yaml
from pydantic import BaseModel

from .model import INT_OR_STRING
from .names import API_VERSION, CATEGORY, GROUP, KIND, PLURAL, SHORT_NAME, SINGULAR, VERSION
from .spec import EventSinkSpec
from .status import DELIVERING, NOT_SEEN, READY, EventSinkStatus

FILE_NAME = f"{GROUP}_{PLURAL}.yaml"
HEADER = "# Generated from the models by `python -m eventsink.resources.crd`; change those, then run `make crds`.\n"

KEYWORDS = (
    "description",
    "type",
    "format",
    "enum",
    "minLength",
    "maxLength",
    "minimum",
    "maximum",
    "minItems",
    "maxItems",
    "required",
    "properties",
    "items",
    "x-kubernetes-int-or-string",
    "x-kubernetes-list-type",
    "x-kubernetes-list-map-keys",
    "x-kubernetes-validations",
)
"""All that may remain, in the order in which it is written."""
DROPPED = ("title", "default", "additionalProperties", "anyOf", "$ref", "$defs", "const", "prefixItems")


class SchemaError(Exception):
    """A model says something that cannot be said, or was not bounded, in a structural schema."""


def crd() -> dict[str, Any]:
    """The CustomResourceDefinition."""
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {
            "name": f"{PLURAL}.{GROUP}",
            "labels": {"app.kubernetes.io/name": "eventsink", "app.kubernetes.io/part-of": "eventsink"},
        },
        "spec": {
            "group": GROUP,
            "scope": "Namespaced",
            "names": {
                "kind": KIND,
                "listKind": f"{KIND}List",
                "plural": PLURAL,
                "singular": SINGULAR,
                "shortNames": [SHORT_NAME],
                "categories": [CATEGORY],
            },
            "versions": [
                {
                    "name": VERSION,
                    "served": True,
                    "storage": True,
                    "subresources": {"status": {}},
                    "additionalPrinterColumns": PRINTER_COLUMNS,
                    "schema": {"openAPIV3Schema": _root_schema()},
                }
            ],
        },
    }


def _condition(kind: str, member: str) -> str:
    return f'.status.conditions[?(@.type=="{kind}")].{member}'


PRINTER_COLUMNS: list[dict[str, Any]] = [
    {"name": "Tenant", "type": "string", "jsonPath": ".spec.tenant"},
    {"name": "Type", "type": "string", "jsonPath": ".status.type"},
    {"name": "Ready", "type": "string", "jsonPath": _condition(READY, "status")},
    {"name": "Delivering", "type": "string", "jsonPath": _condition(DELIVERING, "status")},
    {"name": "Age", "type": "date", "jsonPath": ".metadata.creationTimestamp"},
    {"name": "Suspended", "type": "boolean", "jsonPath": ".spec.suspend", "priority": 1},
    {"name": "Reason", "type": "string", "jsonPath": '.status.conditions[?(@.status=="False")].reason', "priority": 1},
]
"""As `kubectl get` shows them; those with a priority only with `-o wide`. The reason is that of the first condition that is False: `Ready`,
which is written first, or else `Delivering`; nothing where both are well."""


def _root_schema() -> dict[str, Any]:
    return {
        "description": "An EventSink delivers the alerts of a tenant that match to one destination.",
        "type": "object",
        "required": ["spec"],
        "properties": {
            "apiVersion": {"description": f"{API_VERSION} for this version of the schema.", "type": "string"},
            "kind": {"description": f"{KIND}.", "type": "string"},
            "metadata": {"type": "object"},
            "spec": structural_schema(EventSinkSpec),
            # So that kstatus waits for the operator: it takes an object without `observedGeneration` for finished.
            "status": {**structural_schema(EventSinkStatus), "default": {"observedGeneration": NOT_SEEN}},
        },
    }


def structural_schema(model: type[BaseModel]) -> dict[str, Any]:
    """The structural schema of a model.

    Raises
    ------
    SchemaError
        The model uses something that a structural schema cannot say, or has a text or list without a bound (without bounds
        the API server rejects CEL rules as too expensive, and people can fill its memory).
    """
    schema = model.model_json_schema(by_alias=True)
    return _rewritten(schema, schema.get("$defs", {}), model.__name__)


def _rewritten(schema: dict[str, Any], definitions: dict[str, Any], path: str) -> dict[str, Any]:
    if "$ref" in schema:
        schema = {**definitions[schema["$ref"].rpartition("/")[2]], **schema}
    if "anyOf" in schema:
        others = [option for option in schema["anyOf"] if option != {"type": "null"}]
        if len(others) != 1:
            raise SchemaError(f"{path}: a structural schema knows one type for each field")
        # The field's own members (its description) override those of its type.
        outer = {key: value for key, value in schema.items() if key not in DROPPED}
        return _rewritten({**_resolved(others[0], definitions), **outer}, definitions, path)
    if "const" in schema:
        schema = {**schema, "enum": [schema["const"]]}
    unknown = set(schema) - set(KEYWORDS) - set(DROPPED)
    if unknown:
        raise SchemaError(f"{path}: a structural schema does not know {', '.join(sorted(unknown))}")
    _check_bounds(schema, path)
    result = {key: schema[key] for key in KEYWORDS if key in schema}
    if "properties" in result:
        result["properties"] = {
            name: _rewritten(value, definitions, f"{path}.{name}") for name, value in result["properties"].items()
        }
    if INT_OR_STRING in result:
        del result["type"]
    if "items" in result:
        result["items"] = _rewritten(result["items"], definitions, f"{path}[]")
    return result


def _resolved(schema: dict[str, Any], definitions: dict[str, Any]) -> dict[str, Any]:
    return definitions[schema["$ref"].rpartition("/")[2]] if "$ref" in schema else schema


def _check_bounds(schema: dict[str, Any], path: str) -> None:
    kind = schema.get("type")
    if kind is None:
        raise SchemaError(f"{path}: a structural schema needs a type")
    if kind == "string" and "maxLength" not in schema and "enum" not in schema:
        raise SchemaError(f"{path}: give the text a greatest length")
    if kind == "array" and "maxItems" not in schema:
        raise SchemaError(f"{path}: give the list a greatest length")
    if kind == "object" and "properties" not in schema:
        raise SchemaError(f"{path}: name the fields of the object")


class _Text(yaml.SafeDumper):
    """Writes no anchors, since one SecretKeyRef occurs in many fields and each has to be readable by itself."""

    def ignore_aliases(self, data: Any) -> bool:
        return True


def crd_yaml() -> str:
    """The text of the file in `crds/`; the same for the same models."""
    return HEADER + yaml.dump(crd(), Dumper=_Text, sort_keys=False, allow_unicode=True, width=120)


@click.command()
@click.argument("directory", type=click.Path(file_okay=False, path_type=Path))
@click.option("--check", is_flag=True, help="Write nothing; fail when the file is not what the models say.")
def main(directory: Path, check: bool) -> None:
    """Write the CRD into DIRECTORY."""
    file = directory / FILE_NAME
    text = crd_yaml()
    if not check:
        directory.mkdir(parents=True, exist_ok=True)
        file.write_text(text, encoding="utf-8")
    elif not file.exists() or file.read_text(encoding="utf-8") != text:
        click.echo(f"{file} is not what the models say: run `make crds` and commit the result", err=True)
        sys.exit(1)


if __name__ == "__main__":
    main()
