"""One evaluation of a template: its variables, its steps, and what it has written so far."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from enum import Enum, auto

from eventsink.templates.errors import TemplateFailed
from eventsink.templates.steps import MAX_TEXT, Steps
from eventsink.templates.values import Value, text_of


class Signal(Enum):
    """How a block ended early, within a loop."""

    BREAK = auto()
    CONTINUE = auto()


class OutputFull(Exception):
    """What was written has reached the limit."""


class Evaluation:
    """The state that nodes and expressions share.

    Parameters
    ----------
    variables
        What the template is given.
    limit
        Characters that it may write.
    show
        What is done to each text that is no part of the template itself.
    lenient
        Whether a filter that cannot be computed gives nothing, instead of ending the evaluation.
    """

    __slots__ = ("_limit", "_out", "_scopes", "_variables", "lenient", "room", "show", "steps")

    def __init__(self, variables: Mapping[str, Value], limit: int, show: Callable[[str], str], *, lenient: bool = False) -> None:
        self.steps = Steps()
        self.lenient = lenient
        self.show = show
        self.room = limit
        self._limit = limit
        self._variables = variables
        self._scopes: list[dict[str, Value]] = [{}]
        self._out: list[str] | None = []

    def lookup(self, name: str) -> Value:
        """A variable: of the innermost loop that has one of the name, or one that was assigned, or one that was given."""
        for scope in reversed(self._scopes):
            if name in scope:
                return scope[name]
        return self._variables.get(name)

    def assign(self, name: str, value: Value) -> None:
        """Set a variable of the template."""
        self._scopes[0][name] = value

    def enter(self, scope: dict[str, Value]) -> None:
        """Begin a loop with its variables."""
        self._scopes.append(scope)

    def leave(self) -> None:
        """End it."""
        self._scopes.pop()

    def write(self, text: str) -> None:
        """Write a text; `OutputFull`: only a part of it had room."""
        self.steps.text(len(text))
        if self._out is None:
            return
        if len(text) > self.room:
            self._out.append(text[: self.room])
            raise OutputFull
        self.room -= len(text)
        self._out.append(text)

    def write_value(self, value: Value) -> None:
        """Write what is no part of the template itself."""
        text = text_of(value, self.steps)
        self.steps.take(1 + min(len(text), self._limit) // 8)
        self.write(self.show(text[: self._limit]))

    def quietly(self, block: Callable[[], Signal | None]) -> Signal | None:
        """Evaluate a block without what it writes."""
        out, self._out = self._out, None
        try:
            return block()
        finally:
            self._out = out

    def captured(self, block: Callable[[], Signal | None]) -> tuple[str, Signal | None]:
        """Evaluate a block, and return what it writes."""
        out, room, show, limit = self._out, self.room, self.show, self._limit
        parts: list[str] = []
        self._out, self.room, self.show, self._limit = parts, MAX_TEXT, str, MAX_TEXT + 1
        try:
            signal = block()
        except OutputFull:
            raise TemplateFailed(f"it captures a text of more than {MAX_TEXT:,} characters") from None
        finally:
            self._out, self.room, self.show, self._limit = out, room, show, limit
        return "".join(parts), signal

    def written(self) -> str:
        """Everything that was written."""
        return "".join(self._out or ())
