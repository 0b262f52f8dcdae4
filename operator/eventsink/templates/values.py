"""The values of templates, which are those of JSON: as text, as a number, as JSON, and whether they are the same."""

from __future__ import annotations

import json
import math

from eventsink.runtime.patterns import utf8
from eventsink.templates.errors import TemplateFailed
from eventsink.templates.steps import CHARACTERS, Steps

Value = None | bool | int | float | str | list["Value"] | dict[str, "Value"]

MAX_NUMBER = 1e15
"""Up to which every whole number is exact."""


def text_of(value: Value, steps: Steps) -> str:
    """As a template shows it: nothing for what is undefined; lists and maps as JSON."""
    if isinstance(value, str):
        return value
    if value is None:
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int):
        return str(value)
    if isinstance(value, float):
        return format(value, ".15g")
    return json_of(value, steps)


def json_of(value: Value, steps: Steps) -> str:
    """As JSON in one line, which every reader takes: a lone surrogate, which is no JSON to strict ones, becomes U+FFFD."""
    steps.text(_weight(value, steps))
    text = utf8(json.dumps(value, ensure_ascii=False)).decode()
    steps.text(len(text))
    return text


def _weight(value: Value, steps: Steps) -> int:
    """Characters of it as JSON, without escapes."""
    steps.take()
    if isinstance(value, str):
        return len(value) + 2
    if isinstance(value, list):
        return 2 + sum(_weight(entry, steps) + 2 for entry in value)
    if isinstance(value, dict):
        return 2 + sum(len(name) + 6 + _weight(entry, steps) for name, entry in value.items())
    return 8


def number_of(value: Value) -> int | float:
    """A number, or the one that a text consists of; otherwise 0."""
    if isinstance(value, bool):
        return 0
    if isinstance(value, int | float):
        return value
    if isinstance(value, str) and len(value) <= 40:
        for kind in (int, float):
            try:
                return in_bounds(kind(value))
            except (ValueError, TemplateFailed):
                continue
    return 0


def in_bounds(number: int | float) -> int | float:
    """The number itself.

    Raises
    ------
    TemplateFailed
        It is too large, or none.
    """
    if not (math.isfinite(number) and abs(number) <= MAX_NUMBER):
        raise TemplateFailed("a number is larger than 1,000,000,000,000,000")
    return number


def truthy(value: Value) -> bool:
    """Everything is true but false and what is undefined; an empty text is true, too."""
    return value is not None and value is not False


def equal(one: Value, other: Value, steps: Steps) -> bool:
    """Whether they are the same. Lists and maps are the same as nothing: compare them with `empty`."""
    if isinstance(one, list | dict) or isinstance(other, list | dict):
        return False
    if isinstance(one, bool) or isinstance(other, bool):
        return one is other
    steps.take(1 + (len(one) // CHARACTERS if isinstance(one, str) and isinstance(other, str) and len(one) == len(other) else 0))
    return one == other


def less(one: Value, other: Value) -> bool:
    """Whether one comes before the other: of two texts; or of numbers, at least one of which is written as such."""
    if isinstance(one, str) and isinstance(other, str):
        return one < other
    kinds = {_kind(one), _kind(other)}
    return kinds in ({"number"}, {"number", "text"}) and number_of(one) < number_of(other)


def _kind(value: Value) -> str:
    if isinstance(value, str):
        return "text"
    return "number" if isinstance(value, int | float) and not isinstance(value, bool) else ""
