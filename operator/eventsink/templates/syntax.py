"""Reads a template: Liquid's tags and expressions become functions of an `Evaluation`; what is not listed is rejected.

python-liquid parses. Its own evaluation counts loops and bytes, but not the steps between them: loops after one another, long expressions and
searches in long texts could take minutes. So each node and each expression counts here, and none of its objects is evaluated.

This module loads python-liquid, and with it babel: import it where a template is used only.
"""

from __future__ import annotations

from collections.abc import Callable, Container, Sequence
from typing import Any

from liquid.ast import BlockNode, Node
from liquid.builtin.content import ContentNode
from liquid.builtin.expressions import LoopExpression
from liquid.builtin.expressions.primitive import RangeLiteral
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

from eventsink.templates.evaluation import Evaluation, Signal
from eventsink.templates.expressions import Evaluate, Expressions, same
from eventsink.templates.parsing import parse
from eventsink.templates.values import Value, number_of, truthy

Run = Callable[[Evaluation], "Signal | None"]


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
    nodes = parse(source)
    reader = _Reader(Expressions(source, variables, known))
    run = reader.nodes(nodes)
    reader.check_names()
    return run


class _Reader:
    def __init__(self, expressions: Expressions) -> None:
        self._expressions = expressions
        self._value = expressions.value
        self._wrong = expressions.wrong
        self._set: set[str] = {"forloop"}

    def check_names(self) -> None:
        self._expressions.check_names(self._set)

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
                if any(same(state, value, one(state)) for one in values):
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
