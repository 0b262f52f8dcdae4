"""How the JSON of any program becomes alerts: for each member of an alert an expression in CEL, in the configuration of its source.

An expression reads `item`, which is one alert as it was sent, and `body`, which is all that was sent with it. What it does not find is absent.
What it cannot evaluate is absent, too, and the alert says so in the annotation `mapping_errors`: no alert is lost for it. Only what has no name
is none.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from datetime import UTC, datetime
from functools import lru_cache
from typing import TYPE_CHECKING, Annotated, Any

import msgspec
from pydantic import AfterValidator, Field, StringConstraints
from pydantic.alias_generators import to_camel

from eventsink.alerts.alert import Severity, Status
from eventsink.alerts.rule_alerts import utc
from eventsink.alerts.severity import RULE_SEVERITIES, severity_of
from eventsink.cel.errors import EvaluationFailed, MemberAbsent
from eventsink.cel.reading import MAX_EXPRESSION_CHARACTERS
from eventsink.runtime.settings import Settings

if TYPE_CHECKING:
    from eventsink.cel.environment import Environment

MAX_MAPPED = 64
"""Labels of a mapping, and annotations."""
MILLISECONDS_FROM = 100_000_000_000
"""A time that is this number or more is in milliseconds: in seconds it would be after the year 5000."""
ERRORS = "mapping_errors"
"""The annotation that names the members whose expressions failed."""


OfBody = dict[str, tuple[Any, str]]


def _checked(text: str) -> str:
    _expression(text)
    return text


Expression = Annotated[str, StringConstraints(min_length=1, max_length=MAX_EXPRESSION_CHARACTERS), AfterValidator(_checked)]
MemberName = Annotated[str, StringConstraints(min_length=1, max_length=256)]
Mapped = Annotated[dict[MemberName, Expression], Field(max_length=MAX_MAPPED)]


class JsonMapping(Settings):
    """Which part of the JSON of a source is which member of an alert, as expressions in CEL over item and body."""

    items: Expression = "body"
    """The alerts: a list, or one object."""
    name: Expression = "item.name"
    """What the alert is called. An alert without a name is rejected."""
    status: Expression | None = None
    """firing, resolved or event, or true for firing and false for resolved; absent: each is an event, which happens once."""
    id: Expression = "item.id"
    """What tells alerts of one name and the same labels apart. It becomes the label id."""
    severity: Expression = "item.severity"
    """A word of the table in sources.md."""
    summary: Expression = "item.summary"
    """One line; absent: the name."""
    description: Expression = "item.description"
    """More about it."""
    namespace: Expression = "item.namespace"
    """The Kubernetes namespace that it is about. It becomes the label namespace."""
    labels: Mapped = Field(default={})
    """Labels by name."""
    annotations: Mapped = Field(default={})
    """Annotations by name."""
    url: Expression = "item.url"
    """The page where a person can read on."""
    starts_at: Expression = "item.startsAt"
    """When it began or happened: RFC 3339, or seconds or milliseconds since 1970; absent: when it arrived."""
    ends_at: Expression = "item.endsAt"
    """When it was resolved; absent: when that arrived."""


class MappedAlert:
    """One item, as the expressions of a mapping see it.

    Parameters
    ----------
    of_body
        Value of each expression that names no item, or why it has none, which are the same of all items of a body; empty with the first.
    """

    def __init__(self, mapping: JsonMapping, item: object, body: object, of_body: OfBody) -> None:
        self._mapping = mapping
        self._of_body = of_body
        self._values = {"item": item, "body": body}
        self.errors: list[str] = []
        """What could not be evaluated, as `severity: why`."""

    def text(self, member: str) -> str:
        """A member as a text; absent: empty."""
        return self._text(getattr(self._mapping, member), member)

    def texts(self, member: str) -> dict[str, str]:
        """Labels or annotations; those that are absent or empty are left out."""
        found = {name: self._text(one, f"{member}.{name}") for name, one in getattr(self._mapping, member).items()}
        return {name: text for name, text in found.items() if text}

    def severity(self) -> Severity:
        """The severity that its word means."""
        return severity_of(self.text("severity"), RULE_SEVERITIES)

    def status(self) -> Status:
        """Whether it fires; in doubt it does."""
        expression = self._mapping.status
        if expression is None:
            return Status.EVENT
        value = self._value(expression, "status")
        if isinstance(value, bool):
            return Status.FIRING if value else Status.RESOLVED
        try:
            return Status(str(value))
        except ValueError:
            self.errors.append("status: it is neither firing, resolved nor event, true nor false")
            return Status.FIRING

    def time(self, member: str) -> datetime | None:
        """A time; None: it is absent."""
        value = self._value(getattr(self._mapping, member), to_camel(member))
        if value is None or value == "":
            return None
        found = _time(value)
        if found is None:
            self.errors.append(f"{to_camel(member)}: it is no time with a zone, such as 2026-01-01T12:00:00Z")
        return found

    def _text(self, expression: str, member: str) -> str:
        return _as_text(self._value(expression, member))

    def _value(self, text: str, member: str) -> Any:
        if text in self._of_body:
            value, error = self._of_body[text]
        else:
            expression = _expression(text)
            value, error = None, ""
            try:
                value = expression.evaluate(self._values)
            except MemberAbsent:
                pass
            except EvaluationFailed as failed:
                error = str(failed)
            if not expression.names_item:
                self._of_body[text] = value, error
        if error:
            self.errors.append(f"{member}: {error}")
        return value


def without_nulls(value: Any) -> Any:
    """The same without the members of objects that are null; elements of lists keep their places.

    A number that is too large for expressions is its text, so that it keeps no alert away.
    """
    if isinstance(value, int) and not -(2**63) <= value < 2**64:
        return str(value)
    if isinstance(value, dict):
        return {name: without_nulls(one) for name, one in value.items() if one is not None}
    return [without_nulls(one) for one in value] if isinstance(value, list) else value


def items_of(mapping: JsonMapping, body: object) -> list[Any]:
    """The alerts of what was sent.

    Raises
    ------
    EvaluationFailed
        The expression has no value, or none that is a list or an object.
    """
    found = _expression(mapping.items).evaluate({"body": body, "item": None})
    if isinstance(found, Mapping):
        return [found]
    if isinstance(found, list):
        return found
    raise EvaluationFailed("it is neither a list nor an object")


def _as_text(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, str):
        return value
    if isinstance(value, datetime):
        return value.isoformat().replace("+00:00", "Z")
    if isinstance(value, float) and value.is_integer() and abs(value) < 2**53:
        value = int(value)
    try:
        return msgspec.json.encode(value).decode()
    except (TypeError, ValueError, RecursionError):
        return ""


def _time(value: Any) -> datetime | None:
    try:
        if isinstance(value, datetime):
            return utc(value)
        if isinstance(value, bool):
            return None
        if isinstance(value, int | float):
            seconds = value / 1000 if abs(value) >= MILLISECONDS_FROM else value
            return datetime.fromtimestamp(seconds, UTC) if math.isfinite(seconds) else None
        return utc(msgspec.convert(value, datetime, strict=False))
    except (ValueError, OverflowError, OSError):
        return None


class _Compiled:
    """An expression, which is given only what it names of an item and of a body: a body is as large as all of its items."""

    def __init__(self, text: str) -> None:
        self._program = _environment().compile(text)
        self._members = {name: self._program.reading.members_named(name) for name in ("item", "body")}
        self.names_item = any(token.text == "item" for token in self._program.reading.tokens)

    def evaluate(self, values: Mapping[str, Any]) -> Any:
        """As `Program.evaluate`."""
        return self._program.evaluate({name: _only(values[name], members) for name, members in self._members.items()})


def _only(value: Any, members: frozenset[str] | None) -> Any:
    if members is None or not isinstance(value, Mapping):
        return value
    return {name: value[name] for name in members if name in value}


@lru_cache(512)
def _expression(text: str) -> _Compiled:
    return _Compiled(text)


@lru_cache(1)
def _environment() -> Environment:
    from eventsink.cel.environment import ANY, Environment

    return Environment({"item": ANY, "body": ANY}, named="an expression reads item, one alert, and body, all that was sent")
