"""Makes functions of Liquid's expressions: paths, literals, conditions and filters."""

from __future__ import annotations

from collections.abc import Callable, Collection, Container, Sequence

from liquid.builtin.expressions import (
    BooleanExpression,
    Filter,
    FilteredExpression,
    Nil,
    Path,
    PositionalArgument,
)
from liquid.builtin.expressions.logical import (
    ContainsExpression,
    EqExpression,
    GeExpression,
    GtExpression,
    LeExpression,
    LogicalAndExpression,
    LogicalOrExpression,
    LtExpression,
    NeExpression,
)
from liquid.builtin.expressions.primitive import (
    Blank,
    Empty,
    FalseLiteral,
    FloatLiteral,
    IntegerLiteral,
    RangeLiteral,
    StringLiteral,
    TrueLiteral,
)

from eventsink.templates.errors import InvalidTemplate, TemplateFailed, position
from eventsink.templates.evaluation import Evaluation
from eventsink.templates.filters import FILTERS, arguments_wrong
from eventsink.templates.parsing import GO_WORDS, NO_GO, at, unknown
from eventsink.templates.values import MAX_NUMBER, Value, equal, less, text_of, truthy

MAX_DEPTH = 40
"""Expressions within expressions: the parts of `a and b and c` are so."""
MAX_FILTERS = 20
"""In a row."""

Evaluate = Callable[[Evaluation], Value]


class Expressions:
    """The expressions of one template.

    Parameters
    ----------
    source, variables, known
        As in `syntax.read`.
    """

    def __init__(self, source: str, variables: Container[str], known: Sequence[str]) -> None:
        self._source = source
        self._given = variables
        self._known = known
        self._used: dict[str, int] = {}
        """Name of a variable -> where it was used first."""
        self._depth = 0

    def check_names(self, assigned: Collection[str]) -> None:
        """Reject a variable that nothing gives: a wrong name would be empty, and nobody would know why."""
        for name, index in self._used.items():
            if name not in self._given and name not in assigned:
                hint = NO_GO if name in GO_WORDS else ""
                raise self.wrong(index, unknown("variable", name, self._known) + hint)

    def wrong(self, index: int, text: str) -> InvalidTemplate:
        """An error at this place."""
        return at(self._source, index, text)

    def value(self, expression: object) -> Evaluate:
        """The expression as a function; InvalidTemplate as `syntax.read`."""
        if self._depth == MAX_DEPTH:
            token = getattr(expression, "token", None)
            raise self.wrong(token.start_index if token is not None else -1, "the expression is nested too deeply")
        self._depth += 1
        try:
            return self._value_of(expression)
        finally:
            self._depth -= 1

    def _value_of(self, expression: object) -> Evaluate:
        if isinstance(expression, FilteredExpression):
            return self._filtered(expression)
        if isinstance(expression, BooleanExpression):
            return self.value(expression.expression)
        if isinstance(expression, Path):
            return self._path(expression)
        if isinstance(expression, StringLiteral | TrueLiteral | FalseLiteral):
            constant: Value = expression.value
            return lambda _state: constant
        if isinstance(expression, IntegerLiteral | FloatLiteral):
            number = expression.value
            if not abs(number) <= MAX_NUMBER:
                raise self.wrong(expression.token.start_index, "the number is larger than 1,000,000,000,000,000")
            return lambda _state: number
        if isinstance(expression, Nil):
            return lambda _state: None
        if isinstance(expression, Empty | Blank):
            return lambda _state: ""
        if isinstance(expression, RangeLiteral):
            raise self.wrong(expression.token.start_index, "write a range in {% for name in (1..9) %} only")
        return self._logical(expression)

    def _logical(self, expression: object) -> Evaluate:
        if not isinstance(expression, _PAIRS):
            token = getattr(expression, "token", None)
            raise self.wrong(token.start_index if token is not None else -1, "such an expression is not known")
        left, right = self.value(expression.left), self.value(expression.right)
        if isinstance(expression, LogicalAndExpression):
            return lambda state: truthy(left(state)) and _further(state, right)
        if isinstance(expression, LogicalOrExpression):
            return lambda state: truthy(left(state)) or _further(state, right)
        if isinstance(expression, ContainsExpression):
            return lambda state: _contains(state, left(state), right(state))
        if isinstance(expression, EqExpression | NeExpression):
            wanted = isinstance(expression, EqExpression)
            return lambda state: same(state, left(state), right(state)) is wanted
        if isinstance(expression, LtExpression):
            return lambda state: _before(state, left(state), right(state))
        if isinstance(expression, GtExpression):
            return lambda state: _before(state, right(state), left(state))
        if isinstance(expression, LeExpression):
            return lambda state: _up_to(state, left(state), right(state))
        return lambda state: _up_to(state, right(state), left(state))

    def _path(self, path: Path) -> Evaluate:
        root, *rest = path.path
        index = path.token.start_index
        if not isinstance(root, str):
            raise self.wrong(index, "begin with the name of a variable")
        self._used.setdefault(root, index)
        segments = [self.value(one) if isinstance(one, Path) else one for one in rest]

        def evaluate(state: Evaluation) -> Value:
            state.steps.take(1 + len(segments) // 2)
            value = state.lookup(root)
            for segment in segments:
                if value is None:
                    return None
                value = _member(value, segment(state) if callable(segment) else segment)
            return value

        return evaluate

    def _filtered(self, expression: FilteredExpression) -> Evaluate:
        value, filters = self.value(expression.left), expression.filters or ()
        if len(filters) > MAX_FILTERS:
            raise self.wrong(filters[MAX_FILTERS].token.start_index, f"there are more than {MAX_FILTERS} filters in a row")
        for one in filters:
            value = self._filter(one, value)
        return value

    def _filter(self, one: Filter, value: Evaluate) -> Evaluate:
        index = one.token.start_index
        if one.name not in FILTERS:
            raise self.wrong(index, unknown("filter", one.name, list(FILTERS)))
        if not all(isinstance(argument, PositionalArgument) for argument in one.args):
            raise self.wrong(index, f"the filter {one.name} takes no named arguments")
        if wrong := arguments_wrong(one.name, one.args):
            raise self.wrong(index, wrong)
        call, arguments = FILTERS[one.name].call, [self.value(argument.value) for argument in one.args]
        where = f"{position(self._source, index)}: {one.name}: "

        def evaluate(state: Evaluation) -> Value:
            state.steps.take(2)
            given = value(state)
            values = [argument(state) for argument in arguments]
            try:
                return call(state.steps, given, *values)
            except TemplateFailed as failed:
                if state.lenient and state.steps.left >= 0:
                    return None
                raise TemplateFailed(where + str(failed)) from None

        return evaluate


_PAIRS = (
    LogicalAndExpression,
    LogicalOrExpression,
    ContainsExpression,
    EqExpression,
    NeExpression,
    LtExpression,
    GtExpression,
    LeExpression,
    GeExpression,
)


def _member(value: Value, name: Value) -> Value:
    if isinstance(value, dict):
        found = value.get(name) if isinstance(name, str) else None
        return len(value) if found is None and name == "size" and name not in value else found
    if isinstance(value, list):
        if isinstance(name, int) and not isinstance(name, bool):
            return value[name] if -len(value) <= name < len(value) else None
        if name in ("first", "last"):
            return value[0 if name == "first" else -1] if value else None
        return len(value) if name == "size" else None
    return len(value) if isinstance(value, str) and name == "size" else None


def same(state: Evaluation, one: Value, other: Value) -> bool:
    """Whether two values are the same to a template."""
    state.steps.take()
    if one == "" or other == "":  # also the words empty and blank
        return _nothing(one) and _nothing(other)
    return equal(one, other, state.steps)


def _further(state: Evaluation, condition: Evaluate) -> bool:
    state.steps.take()
    return truthy(condition(state))


def _nothing(value: Value) -> bool:
    return value is None or value in ("", [], {})


def _before(state: Evaluation, one: Value, other: Value) -> bool:
    state.steps.take()
    if isinstance(one, str) and isinstance(other, str):
        state.steps.text(min(len(one), len(other)))
    return less(one, other)


def _up_to(state: Evaluation, one: Value, other: Value) -> bool:
    return _before(state, one, other) or same(state, one, other)


def _contains(state: Evaluation, whole: Value, part: Value) -> bool:
    if isinstance(whole, str):
        text = text_of(part, state.steps)
        state.steps.search(whole, text)
        return bool(text) and text in whole
    if isinstance(whole, list):
        return any(equal(one, part, state.steps) for one in whole)
    return isinstance(whole, dict) and isinstance(part, str) and part in whole
