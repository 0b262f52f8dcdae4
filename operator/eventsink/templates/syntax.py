"""Reads a template: Liquid's tags and expressions become functions of an `Evaluation`; what is not listed here is rejected.

python-liquid parses. Its own evaluation counts loops and bytes, but not the steps between them: loops after one another, long expressions and
searches in long texts could take minutes. So each node and each expression counts here, and none of its objects is evaluated.

This module loads python-liquid, and with it babel: import it where a template is used only.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Container, Sequence
from typing import Any

from liquid import Environment
from liquid.ast import BlockNode, Node
from liquid.builtin.content import ContentNode
from liquid.builtin.expressions import (
    BooleanExpression,
    Filter,
    FilteredExpression,
    LoopExpression,
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
from liquid.builtin.output import OutputNode
from liquid.builtin.tags.assign_tag import AssignNode
from liquid.builtin.tags.capture_tag import CaptureNode
from liquid.builtin.tags.case_tag import CaseNode, MultiExpressionBlockNode
from liquid.builtin.tags.comment_tag import CommentNode
from liquid.builtin.tags.echo_tag import EchoNode
from liquid.builtin.tags.for_tag import BreakNode, ContinueNode, ForNode
from liquid.builtin.tags.if_tag import IfNode
from liquid.builtin.tags.inline_comment_tag import InlineCommentNode
from liquid.builtin.tags.liquid_tag import LiquidNode
from liquid.builtin.tags.unless_tag import UnlessNode
from liquid.exceptions import LiquidError
from liquid.stream import TokenStream
from liquid.tag import Tag

from eventsink.templates.errors import InvalidTemplate, TemplateFailed, position
from eventsink.templates.evaluation import Evaluation, Signal
from eventsink.templates.filters import FILTERS, arguments_wrong
from eventsink.templates.values import MAX_NUMBER, Value, equal, less, number_of, text_of, truthy

MAX_NESTING = 20
"""Blocks within blocks."""
MAX_DEPTH = 40
"""Expressions within expressions: the parts of `a and b and c` are so."""
MAX_FILTERS = 20
"""In a row."""
MAX_MESSAGE = 400
MAX_NAMED = 20
"""Names that a message lists."""
TAGS = ("assign", "break", "capture", "case", "comment", "continue", "echo", "for", "if", "liquid", "unless", "#")
"""Those that a template may have; `raw` is read before them."""
MAX_SPACES = 200
MAX_PARENTHESES = 200
_SPACES = re.compile(rf"\s{{{MAX_SPACES + 1}}}")
_OPENS = re.compile(r"\{\{|\{%-?\s*(?P<name>\w{0,20})")
_ENDS_RAW = re.compile(r"\{%-?\s*endraw\s*-?%\}")
_HINTS = {
    "disallowed parentheses in logical expression": "there are no parentheses: assign a part of the condition first",
    "disallowed ternary expression": "write {% if ... %}",
    "disallowed not operator in logical expression": "there is no not: write {% unless ... %}, or != or == false",
    "missing tag name or closing delimiter": "write {% name ... %}",
    "unexpected liquid parsing error": "it cannot be read: write simpler expressions",
    "block nesting limit reached": f"there are more than {MAX_NESTING} blocks within one another",
}
_NO_GO = "; templates are Liquid, not Go: write {{ commonLabels.alertname }}, {% for alert in alerts %} ... {% endfor %}"
_GO = ("range", "end", "with", "template", "define", "eq", "len", "index", "toUpper", "title", "if", "else")

Run = Callable[[Evaluation], "Signal | None"]
Evaluate = Callable[[Evaluation], Value]


class _Located(Tag):
    """A tag whose errors have a position."""

    def __init__(self, tag: Tag) -> None:
        super().__init__(tag.env)
        self._tag = tag

    def get_node(self, stream: TokenStream) -> Node:
        token = stream.current
        try:
            return self._tag.get_node(stream)
        except LiquidError as error:
            if error.token is None or error.token.start_index < 0:
                error.token = token
            raise

    def parse(self, stream: TokenStream) -> Node:
        return self._tag.parse(stream)


class _Liquid(Environment):
    block_nesting_limit = MAX_NESTING

    def setup_tags_and_filters(self, *, extra: bool = False) -> None:
        super().setup_tags_and_filters(extra=extra)
        kept = {*TAGS, "content", "output", "illegal"}
        self.tags = {name: _Located(tag) for name, tag in self.tags.items() if name in kept}


_LIQUID = _Liquid()


def read(source: str, variables: Container[str], known: Sequence[str]) -> Run:
    """The template as a function.

    Parameters
    ----------
    source
        Bounded by the caller.
    variables
        Names of what it is given.
    known
        The same in order, for messages.

    Raises
    ------
    InvalidTemplate
        With line, column and what to write.
    """
    _check_quickly(source)
    try:
        nodes = _LIQUID.from_string(source).nodes
    except (LiquidError, RecursionError) as error:
        raise _invalid(source, error) from None
    reader = _Reader(source, variables, known)
    run = reader.nodes(nodes)
    reader.check_names()
    return run


def _check_quickly(source: str) -> None:
    """Reject what would take the parser's regular expressions long: they are quadratic in what is not closed, and in white space."""
    if found := _SPACES.search(source):
        raise at(source, found.start(), f"there are more than {MAX_SPACES} spaces or line breaks in a row")
    if source.count("(") > MAX_PARENTHESES:
        raise at(source, source.index("("), f"there are more than {MAX_PARENTHESES} parentheses")
    index = 0
    while found := _OPENS.search(source, index):
        index, closing = found.start(), "%}" if found["name"] is not None else "}}"
        end = source.find(closing, found.end())
        if end >= 0 and found["name"] == "raw":
            ending = _ENDS_RAW.search(source, end)
            if ending is None:
                raise at(source, index, "{% endraw %} is missing")
            end = ending.end() - 2
        if end < 0:
            raise at(source, index, f"{closing} is missing")
        index = end + 2


def _invalid(source: str, error: Exception) -> InvalidTemplate:
    token = error.token if isinstance(error, LiquidError) else None
    if not isinstance(error, LiquidError):
        return InvalidTemplate("it is nested too deeply")
    text = str(error.message)
    index = token.start_index if token is not None else -1
    here = source[max(index, 0) :].split(None, 1)[:1] or [""]
    if text.startswith("unexpected tag"):
        text = _unknown("tag", token.value if token is not None else "", [name for name in TAGS if name != "#"])
    elif text in _HINTS:
        text = _HINTS[text]
    elif index >= 0 and text.startswith(("expected a ", "unexpected '")) and (here[0][0] in ".$" or here[0] in _GO):
        text += _NO_GO
    text = text.replace("primitive expression", "value")
    return at(source, index, text)


def at(source: str, index: int, text: str) -> InvalidTemplate:
    """An error with its position, counted from 1."""
    text = " ".join(text[:MAX_MESSAGE].split())
    if index < 0:
        return InvalidTemplate(text)
    return InvalidTemplate(f"{position(source, index)}: {text}")


def _unknown(kind: str, name: str, known: Sequence[str]) -> str:
    name = name[:40]
    if name.startswith("end") or name in ("else", "elsif", "when"):
        return f"unexpected {kind} {name}: nothing that it belongs to is open"
    if close := difflib.get_close_matches(name, known, 1):
        return f"there is no {kind} {name}: did you mean {close[0]}?"
    return f"there is no {kind} {name}" + (f": write one of {', '.join(known)}" if len(known) <= MAX_NAMED else "")


class _Reader:
    def __init__(self, source: str, variables: Container[str], known: Sequence[str]) -> None:
        self._source = source
        self._given = variables
        self._known = known
        self._used: dict[str, int] = {}
        """Name of a variable -> where it was used first."""
        self._set: set[str] = {"forloop"}
        self._depth = 0

    def check_names(self) -> None:
        """Reject a variable that nothing gives: a wrong name would be empty, and nobody would know why."""
        for name, index in self._used.items():
            if name not in self._given and name not in self._set:
                hint = _NO_GO if name in _GO else ""
                raise self._wrong(index, _unknown("variable", name, self._known) + hint)

    def _wrong(self, index: int, text: str) -> InvalidTemplate:
        return at(self._source, index, text)

    # ---- nodes

    def nodes(self, nodes: Sequence[Node]) -> Run:
        """Nodes one after the other."""
        runs = [run for node in nodes if (run := self._node(node)) is not None]

        def block(state: Evaluation) -> Signal | None:
            for run in runs:
                if (signal := run(state)) is not None:
                    return signal
            return None

        return block

    def _block(self, block: BlockNode) -> Run:
        run = self.nodes(block.nodes)
        if not block.blank:
            return run
        # White space alone, in a block that assigns or is skipped, is not meant to be seen.
        return lambda state: state.quietly(lambda: run(state))

    def _node(self, node: Node) -> Run | None:
        if isinstance(node, ContentNode):
            return _content(node.text)
        if isinstance(node, OutputNode | EchoNode):
            return _output(self._value(node.expression))
        if isinstance(node, CommentNode | InlineCommentNode):
            return None
        if isinstance(node, AssignNode):
            return self._assign(str(node.name), self._value(node.expression))
        if isinstance(node, CaptureNode):
            return self._capture(str(node.name), self._block(node.block))
        if isinstance(node, IfNode):
            return self._if(node, positive=True)
        if isinstance(node, UnlessNode):
            return self._if(node, positive=False)
        if isinstance(node, CaseNode):
            return self._case(node)
        if isinstance(node, ForNode):
            return self._for(node)
        if isinstance(node, LiquidNode):
            return self._block(node.block)
        if isinstance(node, BreakNode):
            return lambda _state: Signal.BREAK
        if isinstance(node, ContinueNode):
            return lambda _state: Signal.CONTINUE
        raise self._wrong(node.token.start_index, f"there is no tag {node.token.value[:40]}")

    def _assign(self, name: str, value: Evaluate) -> Run:
        self._set.add(name)

        def run(state: Evaluation) -> Signal | None:
            state.steps.take()
            state.assign(name, value(state))
            return None

        return run

    def _capture(self, name: str, block: Run) -> Run:
        self._set.add(name)

        def run(state: Evaluation) -> Signal | None:
            text, signal = state.captured(lambda: block(state))
            state.assign(name, text)
            return signal

        return run

    def _if(self, node: IfNode | UnlessNode, *, positive: bool) -> Run:
        first = self._value(node.condition)
        branches = [(first if positive else lambda state: not truthy(first(state)), self._block(node.consequence))]
        branches += [(self._value(one.expression), self._block(one.block)) for one in node.alternatives]
        otherwise = self._block(node.default) if node.default is not None else None

        def run(state: Evaluation) -> Signal | None:
            for condition, block in branches:
                state.steps.take()
                if truthy(condition(state)):
                    return block(state)
            return otherwise(state) if otherwise is not None else None

        return run

    def _case(self, node: CaseNode) -> Run:
        subject = self._value(node.expression)
        whens: list[tuple[list[Evaluate], Run]] = []
        otherwise: Run | None = None
        for block in node.blocks:
            if isinstance(block, MultiExpressionBlockNode):
                whens.append(([self._value(one) for one in block.expression.expressions], self._block(block.block)))
            else:
                otherwise = self._block(block)

        def run(state: Evaluation) -> Signal | None:
            value = subject(state)
            for values, block in whens:
                if any(_same(state, value, one(state)) for one in values):
                    return block(state)
            return otherwise(state) if otherwise is not None else None

        return run

    def _for(self, node: ForNode) -> Run:
        loop = node.expression
        if not isinstance(loop, LoopExpression) or loop.cols is not None:
            raise self._wrong(node.token.start_index, "write {% for name in list %}")
        name, backwards = str(loop.identifier), bool(loop.reversed)
        self._set.add(name)
        entries = self._range(loop.iterable) if isinstance(loop.iterable, RangeLiteral) else self._entries(loop.iterable)
        offset = self._value(loop.offset) if loop.offset is not None else None
        limit = self._value(loop.limit) if loop.limit is not None else None
        block = self._block(node.block)
        otherwise = self._block(node.default) if node.default is not None else None

        def run(state: Evaluation) -> Signal | None:
            chosen = entries(state)
            if offset is not None:
                chosen = chosen[max(0, int(number_of(offset(state)))) :]
            if limit is not None:
                chosen = chosen[: max(0, int(number_of(limit(state))))]
            if not chosen:
                return otherwise(state) if otherwise is not None else None
            length = len(chosen)
            outer = state.lookup("forloop")
            scope: dict[str, Value] = {}
            state.enter(scope)
            try:
                for index, entry in enumerate(reversed(chosen) if backwards else chosen):
                    state.steps.take(2)
                    scope[name] = entry
                    scope["forloop"] = _forloop(index, length, outer)
                    if block(state) is Signal.BREAK:
                        break
            finally:
                state.leave()
            return None

        return run

    def _range(self, literal: RangeLiteral) -> Callable[[Evaluation], Sequence[Any]]:
        start, stop = self._value(literal.start), self._value(literal.stop)
        return lambda state: range(int(number_of(start(state))), int(number_of(stop(state))) + 1)

    def _entries(self, expression: object) -> Callable[[Evaluation], Sequence[Any]]:
        value = self._value(expression)

        def entries(state: Evaluation) -> Sequence[Any]:
            found = value(state)
            if isinstance(found, dict):
                state.steps.items(len(found))
                return [[key, one] for key, one in found.items()]
            if isinstance(found, list):
                return found
            return [] if found is None or found == "" else [found]

        return entries

    # ---- expressions

    def _value(self, expression: object) -> Evaluate:
        if self._depth == MAX_DEPTH:
            token = getattr(expression, "token", None)
            raise self._wrong(token.start_index if token is not None else -1, "the expression is nested too deeply")
        self._depth += 1
        try:
            return self._value_of(expression)
        finally:
            self._depth -= 1

    def _value_of(self, expression: object) -> Evaluate:
        if isinstance(expression, FilteredExpression):
            return self._filtered(expression)
        if isinstance(expression, BooleanExpression):
            return self._value(expression.expression)
        if isinstance(expression, Path):
            return self._path(expression)
        if isinstance(expression, StringLiteral | TrueLiteral | FalseLiteral):
            constant: Value = expression.value
            return lambda _state: constant
        if isinstance(expression, IntegerLiteral | FloatLiteral):
            number = expression.value
            if not abs(number) <= MAX_NUMBER:
                raise self._wrong(expression.token.start_index, "the number is larger than 1,000,000,000,000,000")
            return lambda _state: number
        if isinstance(expression, Nil):
            return lambda _state: None
        if isinstance(expression, Empty | Blank):
            return lambda _state: ""
        if isinstance(expression, RangeLiteral):
            raise self._wrong(expression.token.start_index, "write a range in {% for name in (1..9) %} only")
        return self._logical(expression)

    def _logical(self, expression: object) -> Evaluate:
        if not isinstance(expression, _PAIRS):
            token = getattr(expression, "token", None)
            raise self._wrong(token.start_index if token is not None else -1, "such an expression is not known")
        left, right = self._value(expression.left), self._value(expression.right)
        if isinstance(expression, LogicalAndExpression):
            return lambda state: truthy(left(state)) and _further(state, right)
        if isinstance(expression, LogicalOrExpression):
            return lambda state: truthy(left(state)) or _further(state, right)
        if isinstance(expression, ContainsExpression):
            return lambda state: _contains(state, left(state), right(state))
        if isinstance(expression, EqExpression | NeExpression):
            wanted = isinstance(expression, EqExpression)
            return lambda state: _same(state, left(state), right(state)) is wanted
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
            raise self._wrong(index, "begin with the name of a variable")
        self._used.setdefault(root, index)
        segments = [self._value(one) if isinstance(one, Path) else one for one in rest]

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
        value, filters = self._value(expression.left), expression.filters or ()
        if len(filters) > MAX_FILTERS:
            raise self._wrong(filters[MAX_FILTERS].token.start_index, f"there are more than {MAX_FILTERS} filters in a row")
        for one in filters:
            value = self._filter(one, value)
        return value

    def _filter(self, one: Filter, value: Evaluate) -> Evaluate:
        index = one.token.start_index
        if one.name not in FILTERS:
            raise self._wrong(index, _unknown("filter", one.name, list(FILTERS)))
        if not all(isinstance(argument, PositionalArgument) for argument in one.args):
            raise self._wrong(index, f"the filter {one.name} takes no named arguments")
        if wrong := arguments_wrong(one.name, one.args):
            raise self._wrong(index, wrong)
        call, arguments = FILTERS[one.name].call, [self._value(argument.value) for argument in one.args]
        where = f"{position(self._source, index)}: {one.name}: "

        def evaluate(state: Evaluation) -> Value:
            state.steps.take(2)
            given = value(state)
            values = [argument(state) for argument in arguments]
            try:
                return call(state.steps, given, *values)
            except TemplateFailed as failed:
                raise TemplateFailed(where + str(failed)) from None

        return evaluate


def _content(text: str) -> Run:
    def run(state: Evaluation) -> Signal | None:
        state.write(text)
        return None

    return run


def _output(value: Evaluate) -> Run:
    def run(state: Evaluation) -> Signal | None:
        state.write_value(value(state))
        return None

    return run


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


def _same(state: Evaluation, one: Value, other: Value) -> bool:
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
    return _before(state, one, other) or _same(state, one, other)


def _contains(state: Evaluation, whole: Value, part: Value) -> bool:
    if isinstance(whole, str):
        text = text_of(part, state.steps)
        state.steps.search(whole, text)
        return bool(text) and text in whole
    if isinstance(whole, list):
        return any(equal(one, part, state.steps) for one in whole)
    return isinstance(whole, dict) and isinstance(part, str) and part in whole


def _forloop(index: int, length: int, outer: Value) -> dict[str, Value]:
    return {
        "index": index + 1,
        "index0": index,
        "rindex": length - index,
        "rindex0": length - index - 1,
        "first": index == 0,
        "last": index == length - 1,
        "length": length,
        "parentloop": outer,
    }
