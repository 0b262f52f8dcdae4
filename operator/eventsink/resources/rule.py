"""Rules of the EventSink that its shape cannot say, each once: as CEL for the API server, as Python, and as the message shown.

A rule is attached in `spec.py`, to a type (as `Annotated` metadata) or to a model (in its `RULES`). From there it goes both
into the CRD, where `kubectl apply` shows its message, and into the validation of a spec that was never seen by such a
CRD, so that a person reads the same message in both cases. Predicates get the validated value or model, never a raw document.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, NoReturn

from pydantic import GetCoreSchemaHandler, GetJsonSchemaHandler
from pydantic_core import CoreSchema, PydanticCustomError, core_schema

from eventsink.runtime.durations import DURATION_FORM, DURATION_PATTERN, UNITS_MS, parse_duration
from eventsink.runtime.patterns import Pattern

BROKEN = "rules_broken"
"""Type of the pydantic error that carries broken rules, in its context under `rules`."""

Reason = Literal["FieldValueInvalid", "FieldValueForbidden", "FieldValueRequired"]


@dataclass(frozen=True)
class Rule:
    """One rule about a value or about several fields of one object."""

    message: str
    """A sentence that says what to do; shown by the API server behind the path of the field."""
    cel: str = ""
    """The rule in CEL with `self` for the value; empty where a keyword of the schema says the same (uniqueness)."""
    holds: Callable[[Any], bool] | None = None
    """The rule in Python; None for a rule about a change, which one version of an object cannot show."""
    field: str = ""
    """The field of the object that the sentence is about, in camelCase; empty: the object or value itself."""
    reason: Reason = "FieldValueInvalid"

    def as_validation(self) -> dict[str, str]:
        """The entry of `x-kubernetes-validations`."""
        entry = {"rule": self.cel, "message": self.message}
        if self.field:
            entry["fieldPath"] = f".{self.field}"
        if self.reason != "FieldValueInvalid":
            entry["reason"] = self.reason
        return entry

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        """Hook of pydantic: check the rule after the value's type."""
        return core_schema.no_info_after_validator_function(self._checked, handler(source))

    def __get_pydantic_json_schema__(self, core: CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        """Hook of pydantic: add the rule to the value's schema."""
        return with_validations(handler(core), [self])

    def _checked(self, value: Any) -> Any:
        check([self], value)
        return value


@dataclass(frozen=True)
class Readable:
    """A text that a function can read, as `Annotated` metadata: what it says of one that it cannot is the message.

    Nothing of it is in the CRD, whose CEL cannot do it; the admission webhook and the operator check it.
    """

    read: Callable[[str], object]
    """Raises ValueError with a sentence that says what to do."""

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        """Hook of pydantic: read the text after its type and bounds were checked."""
        return core_schema.no_info_after_validator_function(self._checked, handler(source))

    def _checked(self, text: str) -> str:
        try:
            self.read(text)
        except ValueError as error:
            broken([Rule(str(error))])
        return text


def check(rules: Sequence[Rule], value: Any) -> None:
    """Raise the error BROKEN, which names all rules that do not hold."""
    found = [rule for rule in rules if rule.holds is not None and not rule.holds(value)]
    if found:
        broken(found)


def broken(rules: Sequence[Rule]) -> NoReturn:
    """Raise the error BROKEN for these rules."""
    raise PydanticCustomError(BROKEN, "rules are broken", {"rules": rules})


def with_validations(schema: dict[str, Any], rules: Sequence[Rule]) -> dict[str, Any]:
    """The schema with the CEL of these rules behind those that it has."""
    entries = [rule.as_validation() for rule in rules if rule.cel]
    if entries:
        schema["x-kubernetes-validations"] = [*schema.get("x-kubernetes-validations", []), *entries]
    return schema


def cel_text(text: str) -> str:
    """A string literal of CEL."""
    return "'" + text.replace("\\", "\\\\").replace("'", "\\'") + "'"


def cel_list(texts: Sequence[str]) -> str:
    """A list of string literals of CEL."""
    return f"[{', '.join(cel_text(text) for text in texts)}]"


def form(pattern: str, message: str) -> Rule:
    """A text as a whole matches an anchored pattern, in the operator on the same engine as in the API server.

    A rule instead of the schema's `pattern`, whose message would be the pattern.
    """
    return one_form_of([(pattern, True)], message)


def one_form_of(ways: Sequence[tuple[str, bool]], message: str) -> Rule:
    """One of the ways holds for a text, each a pattern and whether it has to be found."""
    compiled = [(Pattern(pattern), found) for pattern, found in ways]
    return Rule(
        message=message,
        cel=" || ".join(f"{'' if found else '!'}self.matches({cel_text(pattern)})" for pattern, found in ways),
        holds=lambda text: any(pattern.search(text) == found for pattern, found in compiled),
    )


DIGITS = r"\d+"
DURATION_AGAIN = r"^(\d{1,7}(ms?|[shdw]))+$"
"""DURATION_PATTERN in fewer characters, each of which costs."""


def within(lowest: str, highest: str, message: str) -> Rule:
    """A duration is between two others, both allowed. A text that is not a duration is left to the rule about its form.

    Before 1.34, the API server estimates the cost of these rules as if the text had a million characters (it is of a type that takes numbers
    too), and refuses a CRD with expensive ones. So CEL looks for each unit once: of one that is written twice it sees the first only.
    """
    parts = " + ".join(
        rf"int('0' + text.find({cel_text(pattern)}).find({cel_text(DIGITS)})) * {UNITS_MS[unit]}"
        for unit, pattern in ((unit, rf"{DIGITS}{unit}(\d|$)" if unit == "m" else DIGITS + unit) for unit in UNITS_MS)
    )
    bounds = f"total >= {round(parse_duration(lowest) * 1000)} && total <= {round(parse_duration(highest) * 1000)}"
    return Rule(
        message=message,
        cel=f"type(self) != string || [string(self)].all(text, !text.matches({cel_text(DURATION_AGAIN)}) || [{parts}].all(total, {bounds}))",
        holds=lambda text: parse_duration(lowest) <= parse_duration(text) <= parse_duration(highest),
    )


def duration_form() -> Rule:
    """A duration is a text with units. Its CEL sees numbers too (`Duration` in `model.py`), since people forget the unit."""
    text = form(DURATION_PATTERN, DURATION_FORM)
    return replace(text, cel=f"type(self) == string && {text.cel.replace('self.', 'string(self).')}")


def exactly_one(fields: Sequence[str], message: str) -> Rule:
    """One of several fields of an object is given, and no second one. The fields' names are the same in Python and in JSON."""
    return Rule(
        message=message,
        cel=f"[{', '.join(f'has(self.{name})' for name in fields)}].filter(given, given).size() == 1",
        holds=lambda model: sum(getattr(model, name) is not None for name in fields) == 1,
    )


def unique(message: str) -> Rule:
    """A list has no duplicate entries; in the CRD the list's type says so."""
    return Rule(message=message, holds=lambda entries: all(entry not in entries[:i] for i, entry in enumerate(entries)))
