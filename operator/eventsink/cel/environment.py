"""What expressions may name, and their compilation by the library.

Importing this module loads the library, which takes 7 MB of memory: `condition` does so with the first expression.
"""

from __future__ import annotations

import ctypes
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from cel_expr_python import cel

from eventsink.cel.errors import EvaluationFailed, InvalidExpression, MemberAbsent
from eventsink.cel.reading import MATCHES, SEARCH, Call, Reading, read
from eventsink.cel.tokens import Kind, position
from eventsink.runtime.bounded_patterns import MAX_MATCHED_CHARACTERS, bounded_pattern
from eventsink.runtime.patterns import InvalidPattern

MAX_SENTENCE_CHARACTERS = 240
"""Of what the library says of an expression."""

TEXT = cel.Type.STRING
TEXTS = cel.Type.Map(cel.Type.STRING, cel.Type.STRING)
TIME = cel.Type.TIMESTAMP
ANY = cel.Type.DYN
_ZONE = re.compile(r"[+-]?[0-9]{2}:[0-9]{2}|[A-Za-z0-9_+-][A-Za-z0-9_+/-]{0,63}")
"""What may be the name of a time zone, and no other file's."""
_OPERATORS = ("==", "!=", "&&", "||", "<=", ">=", "<", ">", "+", "-", "*", "/", "%")
_TYPES = {
    "string": "a text",
    "int": "a whole number",
    "uint": "a whole number",
    "double": "a number",
    "bool": "true or false",
    "google.protobuf.Timestamp": "a time",
    "google.protobuf.Duration": "a duration",
}
_NONE = ctypes.py_object(None)
_ABSENT = "NOT_FOUND"
_FAILURES = {
    _ABSENT: "it reads a member that is not there; ask for it first, with has() or in",
    "Index error": "it reads an entry that a list does not have",
    "divide by zero": "it divides by zero",
    "modulus by zero": "it divides by zero",
    "overflow": "a number is too large",
    "out of range": "a number is too large",
    "timezone": "there is no such time zone",
    "cannot convert": "a text is not what it is converted to",
    "conversion": "a text is not what it is converted to",
    "No matching overloads": "a value is of another type than it needs",
    "non-message": "a value is of another type than it needs",
    "budget": "a loop goes through too many values",
}
"""What a failure means, by what the library says of it; the rest of that may hold values."""


def _referenced(value: Any) -> Any:
    """A value from the library with the references to None that it lacks: cel-expr-python 0.1.3 takes none for a null.

    Before Python 3.12, the process would abort when as many were given back as there are: some thousands. One too many harms nothing.
    """
    left = [value]
    while left:
        one = left.pop()
        if one is None:
            ctypes.pythonapi.Py_IncRef(_NONE)
        elif isinstance(one, dict):
            left.extend(one.values())
        elif isinstance(one, list):
            left.extend(one)
    return value


class Program:
    """A compiled expression."""

    __slots__ = ("_compiled", "members", "reading", "returns", "size")

    def __init__(self, compiled: Any, returns: str, reading: Reading, members: Mapping[str, Sequence[str]], size: int) -> None:
        self._compiled = compiled
        self.returns = returns
        """Type of its value, such as `BOOL`; `DYN`: it depends."""
        self.reading = reading
        self.members = members
        """What is read of each map in which what is absent counts as empty."""
        self.size = size
        """Instructions of its regular expressions together."""

    def evaluate(self, values: Mapping[str, Any]) -> Any:
        """The value in Python's own types.

        Raises
        ------
        EvaluationFailed
            It has none for these.
        """
        try:
            result = self._compiled.eval(data=values)
        except Exception as error:  # the library has no type of its own
            raise _failure(str(error)) from None
        if result.type().name() in ("ERROR", "UNKNOWN"):
            raise _failure(str(result))
        return _referenced(result.plain_value())

    def is_true(self, values: Mapping[str, Any]) -> bool:
        """The value of an expression that is true or false.

        Raises
        ------
        EvaluationFailed
            It has none for these.
        """
        try:
            result = self._compiled.eval(data=values).value()
        except Exception as error:  # the library has no type of its own
            raise _failure(str(error)) from None
        if result is True or result is False:
            return bool(result)
        raise _failure(str(result))


class Environment:
    """What expressions of one kind may name.

    Parameters
    ----------
    variables
        Types by name; `alert.name` is a name.
    maps
        As `("alert", "labels")`: a member of `alert.labels` that is named counts as empty where it is absent (`reading`).
    tests
        Functions that are called on a text with a text, as in `alert.severity.atLeast("high")`, by name.
    named
        What is said of a name that does not exist: what there is.
    """

    def __init__(
        self,
        variables: Mapping[str, Any],
        *,
        maps: Sequence[tuple[str, str]] = (),
        tests: Mapping[str, Callable[[str, str], bool]] | None = None,
        named: str,
    ) -> None:
        self._maps = frozenset(maps)
        self._named = named
        self._environment = cel.NewEnv(
            variables={**variables, **{"_".join(names): TEXTS for names in maps}},
            functions=[_declared(name, test) for name, test in {SEARCH: _search, **(tests or {})}.items()],
        )

    def compile(self, expression: str) -> Program:
        """Read an expression.

        Raises
        ------
        InvalidExpression
            With a sentence that says where and what to do.
        """
        reading = read(expression, self._maps)
        try:
            compiled = self._environment.compile(reading.source)
            returns = compiled.return_type().name()
        except Exception as error:  # the library has no type of its own
            raise InvalidExpression(self._sentence(str(error))) from None
        for call in reading.zones:
            if not _ZONE.fullmatch(self.value_of(call.literal)):
                raise InvalidExpression(
                    f'{position(expression, call.at)}: write the name of a time zone, such as "Europe/Berlin"'
                )
        members = {
            name: tuple(dict.fromkeys(self.value_of(one.text) if one.kind is Kind.TEXT else one.text for one in found))
            for name, found in reading.members.items()
        }
        return Program(compiled, returns, reading, members, sum(self._sizes(expression, reading.patterns)))

    def value_of(self, literal: str) -> str:
        """The text that a literal means."""
        return str(self._environment.compile(literal).eval(data={}).value())

    def _sizes(self, expression: str, patterns: Sequence[Call]) -> Iterator[int]:
        for call in patterns:
            try:
                yield bounded_pattern(self.value_of(call.literal)).size
            except InvalidPattern as error:
                raise InvalidExpression(f"{position(expression, call.at)}: {error}") from None

    def _sentence(self, said: str) -> str:
        _, found, rest = said.partition("ERROR: <input>:")
        line, _, rest = rest.partition(":")
        column, _, rest = rest.partition(": ")
        if not found or not line.isdecimal():
            if "recursion" in said:
                return "the expression is nested too deeply; divide it"
            return "the library cannot read the expression"
        rest = rest.partition("\n")[0].removesuffix(" [INVALID_ARGUMENT]").replace(SEARCH, MATCHES)
        for names in self._maps:
            rest = rest.replace("_".join(names), ".".join(names))
        return f"line {line}, column {column}: {self._explained(rest)[:MAX_SENTENCE_CHARACTERS]}"

    def _explained(self, said: str) -> str:
        _, undeclared, rest = said.partition("undeclared reference to '")
        if undeclared:
            return f"there is no {rest.partition(chr(39))[0]}; {self._named}"
        _, mismatch, rest = said.partition("found no matching overload for '")
        if mismatch:
            function, _, rest = rest.partition("' applied to '")
            types = ", ".join(_TYPES.get(one, one) for one in rest.rstrip("'").removeprefix("(").removesuffix(")").split(", "))
            return f"{function.strip('_') if function.strip('_') in _OPERATORS else function} does not take {types}"
        said, _, _ = said.partition(", expecting ")[0].partition(" expecting ")
        if "token recognition error at: '= '" in said or "token recognition error at: '='" in said:
            return "write == to compare"
        if "<EOF>" in said:
            return "the expression ends too early"
        return said.removeprefix("Syntax error: ")


def _declared(name: str, test: Callable[[str, str], bool]) -> Any:
    overload = cel.Overload(id=f"{name}_text", return_type=cel.Type.BOOL, parameters=[TEXT, TEXT], is_member=True, impl=test)
    return cel.FunctionDecl(name, [overload])


def _search(text: str, pattern: str) -> bool:
    return bounded_pattern(pattern).search(text[:MAX_MATCHED_CHARACTERS])


def _failure(said: str) -> EvaluationFailed:
    sentence = next((sentence for sign, sentence in _FAILURES.items() if sign in said), "it has no value for some alert")
    return MemberAbsent(sentence) if said.startswith(_ABSENT) else EvaluationFailed(sentence)
