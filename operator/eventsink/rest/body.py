"""Reads the JSON body of a request: what is wrong with it is said by its field, or by its position where it is not JSON."""

from __future__ import annotations

import codecs
import json
from typing import Any, TypeVar

from pydantic import ValidationError

from eventsink.destinations.arguments import RestModel
from eventsink.resources.eventsink import SENTENCES as OF_SPECS
from eventsink.rest.errors import InvalidRequest

Model = TypeVar("Model", bound=RestModel)

_DECODER = json.JSONDecoder()
MAX_ERRORS = 10
"""In one sentence."""
MAX_DESCRIBED = 1000
"""To describe each takes longer than to find it: a body that consists of mistakes would keep all other requests waiting for a second."""

SENTENCES = OF_SPECS | {
    "extra_forbidden": "unknown field, remove it",
    "string_type": "write a text",
    "bool_type": "write true or false",
    "int_type": "write a whole number",
    "list_type": "write a list",
    "model_type": "write an object",
    "json_invalid": "invalid JSON: {error}",
}
"""Type of pydantic's error -> what to do."""


def read(model: type[Model], body: bytes) -> Model:
    """Read a request. A byte order mark before it is skipped.

    Raises
    ------
    InvalidRequest
        It is not JSON, names a field twice, or is not of this form.
    """
    body = body.removeprefix(codecs.BOM_UTF8)
    try:
        found = model.model_validate_json(body, by_alias=True, by_name=False)
    except ValidationError as error:
        sentence = describe(error)
    else:
        _check_unique(body.decode())
        return found
    raise InvalidRequest(sentence)


def describe(error: ValidationError) -> str:
    """One sentence for each error, field by field, without a value."""
    if error.error_count() > MAX_DESCRIBED:
        return f"the body: {error.error_count()} fields are unknown or wrong; /docs describes what a request has"
    found: dict[str, str] = {}
    for one in error.errors(include_url=False, include_input=False):
        path = "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in one["loc"]).lstrip(".") or "the body"
        template = SENTENCES.get(one["type"])
        sentence = template.format(**one.get("ctx", {})) if template else one["msg"].removeprefix("Value error, ")
        found.setdefault(path, sentence)
    return "; ".join(f"{path}: {sentence}" for path, sentence in list(found.items())[:MAX_ERRORS])


def _check_unique(text: str) -> None:
    """Check that no object of a valid JSON text has a name twice: which of the two counts, every program decides for itself.

    Raises
    ------
    InvalidRequest
        One has.
    """
    twice = False

    def count(pairs: list[tuple[str, Any]]) -> None:
        nonlocal twice
        twice = twice or len({name for name, _ in pairs}) < len(pairs)

    json.loads(text, object_pairs_hook=count)
    if twice:
        at = _position_of_duplicate(text)
        line, column = text.count("\n", 0, at) + 1, at - text.rfind("\n", 0, at)
        raise InvalidRequest(f"the body: duplicate field at line {line} column {column}; remove one of the two")


def _position_of_duplicate(text: str) -> int:
    """Where, in a valid JSON text, a name begins that its object already has."""
    objects: list[set[str] | None] = []
    """The names so far of each object around the position; None for a list."""
    at, name_next = 0, False
    while True:
        character = text[at]
        if character == '"':
            value, end = _DECODER.raw_decode(text, at)
            names = objects[-1] if objects else None
            if name_next and names is not None:
                if value in names:
                    return at
                names.add(value)
            at, name_next = end, False
            continue
        if character in "{[":
            objects.append(set() if character == "{" else None)
        elif character in "}]":
            objects.pop()
        name_next = name_next or character in "{,"
        if character in ":[":
            name_next = False
        at += 1
