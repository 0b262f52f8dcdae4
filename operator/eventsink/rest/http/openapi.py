"""The OpenAPI 3.1 document, from the table of operations and the models."""

from __future__ import annotations

from importlib import metadata
from typing import Any

from pydantic.json_schema import models_json_schema

from eventsink.destinations.arguments import RestModel
from eventsink.rest.http.operations import OPERATIONS, Operation
from eventsink.rest.models import ErrorResponse

ERRORS = {
    400: "The request is invalid; the error names the field.",
    401: "Missing or invalid API key.",
    403: "The key has no access to this tenant.",
    404: "No such sink, or it is another tenant's.",
    409: "Others change the sink at the same time, or Helm, Argo CD, Flux or a file manages it.",
    412: "The sink does not match If-Match.",
    413: "The body is too large.",
    415: "The body is not application/json.",
    428: "The call removes what is at a position of a list: If-Match must say of which.",
    429: "Too many requests or invalid keys; Retry-After says when to try again.",
    503: "The API server or the router is unavailable; Retry-After says when to try again.",
}
_HEADERS = {
    "ETag": {"description": "Version of the sink's configuration, for If-Match.", "schema": {"type": "string"}},
    "Retry-After": {"description": "Seconds.", "schema": {"type": "integer", "minimum": 1}},
}


def document() -> dict[str, Any]:
    """The document."""
    models: set[type[RestModel]] = {
        ErrorResponse,
        *(one.response for one in OPERATIONS),
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
            "description": "Manages EventSinks, which say where the alerts of tenants go, without the Kubernetes API.",
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
        "responses": {"200": _response(one), **{str(status): _error(status) for status in one.errors}},
    }
    if one.parameters:
        result["parameters"] = [
            {
                "name": parameter.name,
                "in": parameter.location,
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


def _response(one: Operation) -> dict[str, Any]:
    content: dict[str, Any] = {"schema": _reference(one.response.__name__)}
    if one.response_example is not None:
        content["example"] = one.response_example
    result: dict[str, Any] = {"description": "Success.", "content": {"application/json": content}}
    if one.response_headers:
        result["headers"] = {name: _HEADERS[name] for name in one.response_headers}
    return result


def _error(status: int) -> dict[str, Any]:
    content = {"schema": _reference("ErrorResponse"), "example": {"error": ERRORS[status]}}
    result: dict[str, Any] = {"description": ERRORS[status], "content": {"application/json": content}}
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
