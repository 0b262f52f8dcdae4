"""The filters of templates: Liquid's, as far as they are of use in messages, each within the bounds of `steps`."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any
from urllib.parse import quote

from eventsink.runtime.patterns import utf8
from eventsink.templates.errors import TemplateFailed
from eventsink.templates.steps import Steps
from eventsink.templates.values import Value, equal, in_bounds, json_of, number_of, text_of, truthy

MAX_FORMAT = 64
"""Characters of the format of a date."""
_DIRECTIVE = re.compile(r"%(.?)", re.DOTALL)
_DIRECTIVES = frozenset("YymdeHIMSpaAbBjFTuVsZz%")


@dataclass(frozen=True, slots=True)
class Filter:
    """One filter."""

    call: Callable[..., Value]
    """With the steps, the value, and the arguments."""
    least: int = 0
    most: int = 0
    """Arguments that it takes."""


def _text(function: Callable[[str], str]) -> Filter:
    """A text becomes another of about the same length."""

    def call(steps: Steps, value: Value) -> str:
        text = text_of(value, steps)
        steps.text(len(text))
        return function(text)

    return Filter(call)


def _append(steps: Steps, value: Value, end: Value) -> str:
    text, more = text_of(value, steps), text_of(end, steps)
    steps.text(len(text) + len(more))
    return text + more


def _prepend(steps: Steps, value: Value, start: Value) -> str:
    return _append(steps, start, value)


def _replaced(most: int) -> Callable[..., str]:
    """Replaces a part of a text, so many times at most; -1: each time."""

    def call(steps: Steps, value: Value, old: Value, new: Value = "") -> str:
        text, part, other = text_of(value, steps), text_of(old, steps), text_of(new, steps)
        if not part:
            return text
        steps.search(text, part)
        times = text.count(part) if most < 0 else most
        steps.text(len(text) + times * max(0, len(other) - len(part)))
        return text.replace(part, other, most)

    return call


def _truncate(steps: Steps, value: Value, most: Value = 50, end: Value = "...") -> str:
    text, ellipsis, length = text_of(value, steps), text_of(end, steps), _whole(most)
    if len(text) <= length:
        return text
    return text[: max(0, length - len(ellipsis))] + ellipsis


def _truncatewords(steps: Steps, value: Value, most: Value = 15, end: Value = "...") -> str:
    text, ellipsis, count = text_of(value, steps), text_of(end, steps), max(1, _whole(most))
    steps.text(len(text) + len(ellipsis))
    words = text.split(None, count)
    return " ".join(words[:count]) + ellipsis if len(words) > count else text


def _slice(steps: Steps, value: Value, start: Value, length: Value = 1) -> Value:
    first, count = _whole(start), max(0, _whole(length))
    whole: Any = value if isinstance(value, list) else text_of(value, steps)
    first = max(0, first + len(whole)) if first < 0 else first
    steps.take(1 + min(count, len(whole)) // 8)
    part: Value = whole[first : first + count]
    return part


def _split(steps: Steps, value: Value, separator: Value) -> list[Value]:
    text, part = text_of(value, steps), text_of(separator, steps)
    if not text:
        return []
    steps.search(text, part)
    if not part:
        steps.items(len(text))
        return list(text)
    steps.items(text.count(part) + 1)
    return [*text.split(None if part == " " else part)]


def _squish(text: str) -> str:
    return " ".join(text.split())


def _url_encode(steps: Steps, value: Value) -> str:
    text = text_of(value, steps)
    steps.text(12 * len(text))
    return quote(utf8(text), safe="")


def _size(_steps: Steps, value: Value) -> int:
    return len(value) if isinstance(value, str | list | dict) else 0


def _default(_steps: Steps, value: Value, other: Value) -> Value:
    return value if truthy(value) and value not in ("", [], {}) else other


def _join(steps: Steps, value: Value, separator: Value = " ") -> str:
    between, entries = text_of(separator, steps), _list(value)
    steps.items(len(entries))
    texts = [text_of(entry, steps) for entry in entries]
    steps.text(sum(map(len, texts)) + len(between) * len(texts))
    return between.join(texts)


def _first(_steps: Steps, value: Value) -> Value:
    return value[0] if isinstance(value, list) and value else None


def _last(_steps: Steps, value: Value) -> Value:
    return value[-1] if isinstance(value, list) and value else None


def _map(steps: Steps, value: Value, name: Value) -> list[Value]:
    entries, key = _list(value), text_of(name, steps)
    steps.items(len(entries))
    return [_member(entry, key) for entry in entries]


def _where(steps: Steps, value: Value, name: Value, wanted: Value = None) -> list[Value]:
    entries, key = _list(value), text_of(name, steps)
    steps.items(len(entries))
    found = ((entry, _member(entry, key)) for entry in entries)
    return [entry for entry, member in found if (truthy(member) if wanted is None else equal(member, wanted, steps))]


def _sort(steps: Steps, value: Value, name: Value = None) -> list[Value]:
    entries = _list(value)
    steps.items(len(entries))
    values = [entry if name is None else _member(entry, text_of(name, steps)) for entry in entries]
    if all(isinstance(one, int | float) and not isinstance(one, bool) for one in values):
        keys: list[Any] = values
    else:
        keys = [text_of(one, steps) for one in values]
    rounds = len(entries).bit_length()
    steps.take(rounds * (len(entries) // 4 + sum(len(key) for key in keys if isinstance(key, str)) // (64 * 8)))
    order = sorted(range(len(entries)), key=keys.__getitem__)
    return [entries[place] for place in order]


def _reverse(steps: Steps, value: Value) -> list[Value]:
    entries = _list(value)
    steps.items(len(entries))
    return entries[::-1]


def _uniq(steps: Steps, value: Value, name: Value = None) -> list[Value]:
    entries = _list(value)
    steps.items(len(entries))
    known: dict[str, Value] = {}
    for entry in entries:
        text = text_of(entry if name is None else _member(entry, text_of(name, steps)), steps)
        steps.text(len(text))
        known.setdefault(text, entry)
    return list(known.values())


def _concat(steps: Steps, value: Value, other: Value) -> list[Value]:
    one, more = _list(value), _list(other)
    steps.items(len(one) + len(more))
    return one + more


def _compact(steps: Steps, value: Value) -> list[Value]:
    entries = _list(value)
    steps.items(len(entries))
    return [entry for entry in entries if entry is not None and entry != ""]


def _sum(steps: Steps, value: Value, name: Value = None) -> Value:
    entries = _list(value)
    steps.items(len(entries))
    steps.take(4 * len(entries))
    key = None if name is None else text_of(name, steps)
    return in_bounds(sum(number_of(entry if key is None else _member(entry, key)) for entry in entries))


def _number(function: Callable[..., int | float], least: int = 0, most: int = 0) -> Filter:
    def call(_steps: Steps, value: Value, *arguments: Value) -> int | float:
        try:
            return in_bounds(function(number_of(value), *[number_of(argument) for argument in arguments]))
        except ZeroDivisionError:
            raise TemplateFailed("it divides by 0") from None

    return Filter(call, least, most)


def _divided_by(one: int | float, other: int | float) -> int | float:
    return one // other if isinstance(one, int) and isinstance(other, int) else one / other


def _round(number: int | float, digits: int | float = 0) -> int | float:
    # As people learn it at school, not half to even.
    places = max(0, min(12, int(digits)))
    scaled = math.floor(abs(number) * 10**places + 0.5) / 10**places
    return math.copysign(scaled, number) if places else int(math.copysign(scaled, number))


def _date(steps: Steps, value: Value, form: Value) -> str:
    """A time in UTC, as strftime writes it in English; what is no time stays as it is."""
    text, pattern = text_of(value, steps), text_of(form, steps)
    steps.take(4)
    if len(pattern) > MAX_FORMAT:
        raise TemplateFailed(f"the format of a date has at most {MAX_FORMAT} characters")
    if unknown := [found for found in _DIRECTIVE.findall(pattern) if found not in _DIRECTIVES or not found]:
        raise TemplateFailed(f"a date has no %{unknown[0]}: write those of %{' %'.join(sorted(_DIRECTIVES - {'%'}))}")
    try:
        moment = _moment(value, text)
        seconds = str(int(moment.timestamp()))
        return moment.strftime(_DIRECTIVE.sub(lambda found: seconds if found[1] == "s" else found[0], pattern))
    except (ValueError, OverflowError, OSError):
        return text


def _moment(value: Value, text: str) -> datetime:
    if isinstance(value, int | float) or (text.isascii() and text.isdigit()):
        return datetime.fromtimestamp(number_of(value), UTC)
    if len(text) > MAX_FORMAT:
        raise ValueError
    moment = datetime.fromisoformat(text)
    return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)


def _json(steps: Steps, value: Value) -> str:
    return json_of(value, steps)


def _list(value: Value) -> list[Value]:
    """A list as it is; what is undefined as an empty one; anything else as its only entry."""
    return value if isinstance(value, list) else [] if value is None else [value]


def _member(value: Value, name: str) -> Value:
    return value.get(name) if isinstance(value, dict) else None


def _whole(value: Value) -> int:
    return int(number_of(value))


FILTERS: dict[str, Filter] = {
    "abs": _number(abs),
    "append": Filter(_append, 1, 1),
    "at_least": _number(max, 1, 1),
    "at_most": _number(min, 1, 1),
    "capitalize": _text(str.capitalize),
    "ceil": _number(math.ceil),
    "compact": Filter(_compact),
    "concat": Filter(_concat, 1, 1),
    "date": Filter(_date, 1, 1),
    "default": Filter(_default, 1, 1),
    "divided_by": _number(_divided_by, 1, 1),
    "downcase": _text(str.lower),
    "first": Filter(_first),
    "floor": _number(math.floor),
    "join": Filter(_join, 0, 1),
    "json": Filter(_json),
    "last": Filter(_last),
    "lstrip": _text(str.lstrip),
    "map": Filter(_map, 1, 1),
    "minus": _number(lambda one, other: one - other, 1, 1),
    "modulo": _number(lambda one, other: one % other, 1, 1),
    "plus": _number(lambda one, other: one + other, 1, 1),
    "prepend": Filter(_prepend, 1, 1),
    "remove": Filter(_replaced(-1), 1, 1),
    "remove_first": Filter(_replaced(1), 1, 1),
    "replace": Filter(_replaced(-1), 1, 2),
    "replace_first": Filter(_replaced(1), 1, 2),
    "reverse": Filter(_reverse),
    "round": _number(_round, 0, 1),
    "rstrip": _text(str.rstrip),
    "size": Filter(_size),
    "slice": Filter(_slice, 1, 2),
    "sort": Filter(_sort, 0, 1),
    "split": Filter(_split, 1, 1),
    "squish": _text(_squish),
    "strip": _text(str.strip),
    "strip_newlines": _text(lambda text: text.replace("\r\n", "").replace("\n", "")),
    "sum": Filter(_sum, 0, 1),
    "times": _number(lambda one, other: one * other, 1, 1),
    "truncate": Filter(_truncate, 0, 2),
    "truncatewords": Filter(_truncatewords, 0, 2),
    "uniq": Filter(_uniq, 0, 1),
    "upcase": _text(str.upper),
    "url_encode": Filter(_url_encode),
    "where": Filter(_where, 1, 2),
}


def arguments_wrong(name: str, given: Sequence[object]) -> str:
    """What is wrong with the number of arguments of a filter; empty: nothing."""
    filter_ = FILTERS[name]
    if filter_.least <= len(given) <= filter_.most:
        return ""
    wanted = str(filter_.most) if filter_.least == filter_.most else f"{filter_.least} to {filter_.most}"
    return f"the filter {name} takes {wanted if filter_.most else 'no'} argument{'s' if wanted != '1' else ''}"
