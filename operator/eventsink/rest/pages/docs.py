"""Pages for people: the reference of the API, from the OpenAPI document, and short messages. No script, no external resource."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from html import escape
from typing import Any

SECURITY_POLICY = "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
"""Content-Security-Policy of the pages."""

_STYLE = """
body{font:16px/1.5 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem;color:#1b1f24;background:#fff}
code,pre{font:14px/1.45 ui-monospace,monospace}pre{background:#f4f6f8;padding:.8rem;overflow:auto;border-radius:6px}
h2{margin-top:2.5rem;border-top:1px solid #d7dde3;padding-top:1.5rem}
h2 b{display:inline-block;min-width:4.5rem;color:#0550ae}
table{border-collapse:collapse;width:100%}td,th{text-align:left;vertical-align:top;padding:.3rem .8rem .3rem 0;border-bottom:1px solid #eaeef2}
.small{color:#57606a;font-size:14px}a{color:#0550ae}
@media(prefers-color-scheme:dark){body{background:#0d1117;color:#e6edf3}pre{background:#161b22}td,th{border-color:#21262d}
h2{border-color:#30363d}a,h2 b{color:#6cb6ff}.small{color:#9da7b3}}
"""


def page(title: str, body: str) -> str:
    """A complete page; `body` is HTML."""
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{escape(title)}</title><style>{_STYLE}</style></head><body>{body}</body></html>\n"
    )


def message_page(title: str, sentence: str) -> str:
    """A page with one message."""
    return page(title, f"<h1>{escape(title)}</h1><p>{escape(sentence)}</p>")


def reference_page(document: Mapping[str, Any]) -> str:
    """The reference of the API.

    Parameters
    ----------
    document
        OpenAPI 3.1.
    """
    return page(f"{document['info']['title']} API", "".join(_reference(document)))


def _reference(document: Mapping[str, Any]) -> Iterator[str]:
    info = document["info"]
    yield f'<h1>{escape(info["title"])} API <span class="small">{escape(info["version"])}</span></h1>'
    yield f"<p>{_prose(info['description'])}</p>"
    yield "<p>Each call carries <code>Authorization: Bearer &lt;key&gt;</code>; JSON in and out; times are RFC 3339, UTC. "
    yield 'For generators: <a href="openapi.json">openapi.json</a> (OpenAPI 3.1).</p>'
    schemas = document["components"]["schemas"]
    for path, operations in document["paths"].items():
        for method, one in operations.items():
            yield from _operation(method, path, one)
    yield "<h1>Objects</h1>"
    for name, schema in sorted(schemas.items()):
        yield from _schema(name, schema)


def _operation(method: str, path: str, one: Mapping[str, Any]) -> Iterator[str]:
    yield f'<h2 id="{escape(one["operationId"])}"><b>{method.upper()}</b> <code>{escape(path)}</code></h2>'
    yield f"<p><strong>{escape(one['summary'])}.</strong> {_prose(one['description'])}</p>"
    if one.get("parameters"):
        yield "<table><tr><th>parameter</th><th>in</th><th></th></tr>"
        for parameter in one["parameters"]:
            need = "" if parameter["required"] else " Optional."
            yield f"<tr><td><code>{escape(parameter['name'])}</code></td><td>{parameter['in']}</td>"
            yield f"<td>{_prose(parameter['description'])}{need}</td></tr>"
        yield "</table>"
    if "requestBody" in one:
        content = one["requestBody"]["content"]["application/json"]
        yield f"<p>Body: {_type(content['schema'])}</p>{_example(content)}"
    content = one["responses"]["200"]["content"]["application/json"]
    yield f"<p>Response: {_type(content['schema'])}</p>{_example(content)}"
    yield '<p class="small">Errors: '
    yield ", ".join(
        f"{status} {escape(response['description'])}" for status, response in one["responses"].items() if status != "200"
    )
    yield "</p>"


def _example(content: Mapping[str, Any]) -> str:
    if "example" not in content:
        return ""
    return f"<pre>{escape(json.dumps(content['example'], indent=2))}</pre>"


def _schema(name: str, schema: Mapping[str, Any]) -> Iterator[str]:
    yield f'<h2 id="{escape(name)}"><code>{escape(name)}</code></h2><p>{_prose(schema.get("description", ""))}</p>'
    if not schema.get("properties"):
        return
    required = set(schema.get("required", ()))
    yield "<table><tr><th>field</th><th>type</th><th></th></tr>"
    for field, inner in schema["properties"].items():
        need = "" if field in required else ' <span class="small">optional</span>'
        yield f"<tr><td><code>{escape(field)}</code>{need}</td><td>{_type(inner)}</td>"
        yield f"<td>{_prose(inner.get('description', ''))}</td></tr>"
    yield "</table>"


def _type(schema: Mapping[str, Any]) -> str:
    if "$ref" in schema:
        name = str(schema["$ref"]).rpartition("/")[2]
        return f'<a href="#{escape(name)}">{escape(name)}</a>'
    if "anyOf" in schema:
        return " or ".join(_type(one) for one in schema["anyOf"])
    if "enum" in schema:
        return "one of " + ", ".join(f"<code>{escape(json.dumps(one))}</code>" for one in schema["enum"])
    if schema.get("type") == "array":
        return f"list of {_type(schema.get('items', {}))}"
    return escape(str(schema.get("type", "any")))


def _prose(text: str) -> str:
    return re.sub(r"`([^`]+)`", r"<code>\1</code>", escape(" ".join(text.split())))
