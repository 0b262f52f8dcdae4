"""The OpenAPI 3.1 document of the facade, from the table of operations and the models."""

from __future__ import annotations

from importlib import metadata
from typing import Any

from pydantic.json_schema import models_json_schema

from eventsink.rest.http.operations import OPERATIONS, Operation
from eventsink.rest.models import ErrorAnswer, RestModel

REFUSALS = {
    400: "The request is invalid; the sentence names the field.",
    401: "No API key, or a wrong one.",
    403: "The key may not touch this tenant.",
    404: "There is no such sink, or it is another tenant's.",
    409: "Somebody else changed it, or Helm, Argo CD, Flux or a file is in charge of it.",
    412: "The sink is not as If-Match says.",
    413: "The body is too large.",
    415: "The body is not application/json.",
    429: "Too many requests or wrong keys; Retry-After says when to come again.",
    503: "The API server or the router is away; Retry-After says when to come again.",
}
_HEADERS = {
    "ETag": {"description": "Of the sink's configuration, for If-Match.", "schema": {"type": "string"}},
    "Retry-After": {"description": "Seconds.", "schema": {"type": "integer", "minimum": 1}},
}


def document() -> dict[str, Any]:
    """The document."""
    models: set[type[RestModel]] = {
        ErrorAnswer,
        *(one.answer for one in OPERATIONS),
        *(one.request for one in OPERATIONS if one.request is not None),
    }
    ordered = sorted(models, key=lambda model: model.__name__)
    _, schemas = models_json_schema(
        [(model, "validation") for model in ordered], by_alias=True, ref_template="#/components/schemas/{model}"
    )
    paths: dict[str, dict[str, Any]] = {}
    for one in OPERATIONS:
        paths.setdefault(one.path, {})[one.method.lower()] = _operation(one)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "EventSink",
            "version": metadata.version("eventsink"),
            "description": "Manages where the alerts of tenants go: EventSinks, for programs that do not speak Kubernetes.",
        },
        "paths": paths,
        "components": {
            "schemas": {name: _clean(schema) for name, schema in schemas["$defs"].items()},
            "securitySchemes": {
                "key": {"type": "http", "scheme": "bearer", "description": "An API key, made with `eventsink keys create`."}
            },
        },
        "security": [{"key": []}],
    }


def _operation(one: Operation) -> dict[str, Any]:
    result: dict[str, Any] = {
        "operationId": one.name,
        "summary": one.summary,
        "description": one.description,
        "responses": {"200": _answer(one), **{str(status): _refusal(status) for status in one.refusals}},
    }
    if one.parameters:
        result["parameters"] = [
            {
                "name": parameter.name,
                "in": parameter.place,
                "required": parameter.required,
                "description": parameter.description,
                "schema": parameter.schema,
                **({"example": parameter.example} if parameter.example is not None else {}),
            }
            for parameter in one.parameters
        ]
    if one.request is not None:
        content: dict[str, Any] = {"schema": _reference(one.request.__name__)}
        if one.example is not None:
            content["example"] = one.example
        result["requestBody"] = {"required": one.body_required, "content": {"application/json": content}}
    return result


def _answer(one: Operation) -> dict[str, Any]:
    content: dict[str, Any] = {"schema": _reference(one.answer.__name__)}
    if one.answer_example is not None:
        content["example"] = one.answer_example
    result: dict[str, Any] = {"description": "Done.", "content": {"application/json": content}}
    if one.answer_headers:
        result["headers"] = {name: _HEADERS[name] for name in one.answer_headers}
    return result


def _refusal(status: int) -> dict[str, Any]:
    content = {"schema": _reference("ErrorAnswer"), "example": {"error": REFUSALS[status]}}
    result: dict[str, Any] = {"description": REFUSALS[status], "content": {"application/json": content}}
    if status in (429, 503):
        result["headers"] = {"Retry-After": _HEADERS["Retry-After"]}
    return result


def _reference(name: str) -> dict[str, str]:
    return {"$ref": f"#/components/schemas/{name}"}


def _clean(value: Any) -> Any:
    """Without titles, which repeat the names of fields."""
    if isinstance(value, dict):
        return {
            name: _clean(inner)
            for name, inner in value.items()
            if not (name == "title" and isinstance(inner, str)) and not (name == "default" and inner is None)
        }
    if isinstance(value, list):
        return [_clean(inner) for inner in value]
    return value
