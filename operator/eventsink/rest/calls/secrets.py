"""The Secrets that hold the credentials of a sink. Each is written once; the spec says which count, so one write changes all or nothing."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from secrets import token_hex
from typing import Any

from eventsink.destinations.credentials import REST_SECRET_PREFIX
from eventsink.kube.api import Object

SECRET_TYPE = "eventsink.dev/rest"
"""Of the Secrets that the REST API creates; an admission policy limits it to them. A Secret's type never changes."""


def new_secret_name(sink: str) -> str:
    """A new name for a Secret of the sink of that name; an admission policy limits the REST API to such names."""
    return f"{REST_SECRET_PREFIX}{sink}-{token_hex(4)}"


def own_secrets(obj: Object) -> set[str]:
    """The Secrets that the REST API created for the sink and that its spec still refers to."""
    form = re.compile(rf"{REST_SECRET_PREFIX}{re.escape(obj['metadata']['name'])}-[0-9a-f]{{8}}")
    return {name for name in referenced_secrets(obj.get("spec")) if form.fullmatch(name)}


def referenced_secrets(spec: Any) -> set[str]:
    """Names of the Secrets that a spec refers to."""
    return {ref["name"] for ref in _references(spec) if isinstance(ref.get("name"), str)}


def _references(value: Any) -> Iterator[Mapping[str, Any]]:
    """Every SecretKeyRef below, found by its form: a table of paths would have to follow each change of the spec."""
    if isinstance(value, Mapping):
        for name, inner in value.items():
            if name.endswith(("SecretRef", "secretKeyRef")) and isinstance(inner, Mapping):
                yield inner
            else:
                yield from _references(inner)
    elif isinstance(value, list):
        for inner in value:
            if isinstance(inner, Mapping) and set(inner) == {"name", "key"}:
                yield inner
            else:
                yield from _references(inner)
