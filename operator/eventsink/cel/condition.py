"""Conditions on an alert that tenants write: `spec.match.expression`.

An expression names members of the alert, and only what it names is handed to it. A label or an annotation that an alert lacks counts as the
empty text, as in matchers; `has()` and `in` tell whether it is there.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import TYPE_CHECKING, Any
from weakref import WeakValueDictionary

from eventsink.cel.errors import EvaluationFailed, InvalidExpression
from eventsink.cel.reading import calls
from eventsink.cel.tokens import Token, position
from eventsink.runtime.bounded_patterns import MAX_MATCHED_CHARACTERS
from eventsink.runtime.patterns import utf8

if TYPE_CHECKING:
    from eventsink.cel.environment import Environment, Program

SEVERITIES = ("informational", "low", "medium", "high", "critical", "fatal")
"""What `atLeast` compares, the lowest first; `unknown` and any other text is at least each of them."""
AT_LEAST = "atLeast"
MAX_CONDITIONS = 64
"""So many are kept compiled that nobody has any more: one takes 30 KB, and at most 0.8 MB (measured)."""
_RANKS = {word: rank for rank, word in enumerate(SEVERITIES)}
_TEXTS = ("name", "severity", "status", "source", "tenant", "namespace", "summary", "description")
_MAPS = ("labels", "annotations")
_ATTRIBUTES = {"startsAt": "starts_at"}
_NAMED = (
    "an expression reads alert.labels, alert.annotations, alert.name, alert.severity, alert.namespace, alert.source, alert.status, "
    "alert.summary, alert.description, alert.tenant and alert.startsAt"
)


class Condition:
    """A condition, compiled."""

    __slots__ = ("__weakref__", "_members", "_program", "_variables", "size", "text", "tokens")

    def __init__(self, text: str, program: Program) -> None:
        self.text = text
        self.size = program.size
        """Instructions of its regular expressions together."""
        self.tokens = len(program.reading.tokens)
        """Its length: the compiled form takes at most 0.5 KB of memory for each of them, beside its regular expressions (measured)."""
        self._program = program
        self._members = tuple((f"alert_{name}", name, keys) for name in _MAPS if (keys := program.members[f"alert_{name}"]))
        named = ((f"alert.{name}", _ATTRIBUTES.get(name, name)) for name in (*_TEXTS, *_MAPS, *_ATTRIBUTES))
        self._variables = tuple((name, attribute) for name, attribute in named if name in program.reading.names)

    def holds(self, alert: object) -> bool:
        """Whether an `Alert` fulfils it.

        Raises
        ------
        EvaluationFailed
            It cannot be evaluated; the message says why, and repeats nothing of the alert.
        """
        values = {variable: getattr(alert, attribute) for variable, attribute in self._variables}
        for variable, attribute, keys in self._members:
            given = getattr(alert, attribute)
            values[variable] = {key: given.get(key, "") for key in keys}
        if self._program.reading.is_costly:
            values = {name: _cut(value) for name, value in values.items()}
        try:
            return self._program.is_true(values)
        except EvaluationFailed:
            if (readable := _readable(values)) == values:
                raise
            return self._program.is_true(readable)


def _cut(value: Any) -> Any:
    if isinstance(value, str):
        return value[:MAX_MATCHED_CHARACTERS]
    return {name: text[:MAX_MATCHED_CHARACTERS] for name, text in value.items()} if isinstance(value, Mapping) else value


def _readable(value: Any) -> Any:
    """The same in UTF-8: of a lone surrogate, which JSON can say and the library cannot read, U+FFFD."""
    if isinstance(value, str):
        return utf8(value).decode()
    if isinstance(value, Mapping):
        return {_readable(name): _readable(one) for name, one in value.items()}
    return value


_in_use: WeakValueDictionary[str, Condition] = WeakValueDictionary()


@lru_cache(MAX_CONDITIONS)
def read_condition(text: str) -> Condition:
    """Read a condition; of one that somebody has, that one.

    Raises
    ------
    InvalidExpression
        With a sentence that says where and what to do.
    """
    known = _in_use.get(text)
    if known is not None:
        return known
    environment = _environment()
    program = environment.compile(text)
    tokens = program.reading.tokens
    for call in calls(text, tokens, AT_LEAST):
        if environment.value_of(call.literal) not in _RANKS:
            raise InvalidExpression(f"{position(text, call.at)}: write one of the severities {', '.join(SEVERITIES)}")
    _check_severities(text, tokens)
    if program.returns != "BOOL":
        raise InvalidExpression('the expression must be true or false: compare something, as in alert.labels.team == "payments"')
    _in_use[text] = condition = Condition(text, program)
    return condition


def _check_severities(text: str, tokens: Sequence[Token]) -> None:
    for index in range(len(tokens) - 3):
        names = [token.text for token in tokens[index : index + 4]]
        if names[:3] == ["alert", ".", "severity"] and names[3] in ("<", ">"):
            where = position(text, tokens[index].start)
            raise InvalidExpression(f'{where}: texts have no such order; write alert.severity.{AT_LEAST}("high")')


@lru_cache(1)
def _environment() -> Environment:
    from eventsink.cel.environment import TEXT, TEXTS, TIME, Environment

    variables = {f"alert.{name}": TEXT for name in _TEXTS} | {f"alert.{name}": TEXTS for name in _MAPS}
    return Environment(
        {**variables, "alert.startsAt": TIME},
        maps=[("alert", name) for name in _MAPS],
        tests={AT_LEAST: _at_least},
        named=_NAMED,
    )


def _at_least(severity: str, least: str) -> bool:
    return _RANKS.get(severity, len(_RANKS)) >= _RANKS[least]
