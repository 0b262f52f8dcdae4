"""Label matchers in Alertmanager's classic syntax: `name="value"`, `!=`, `=~`, `!~`.

Source of the syntax: Alertmanager's configuration reference, section matcher. A value may be in double quotes, in which a
backslash goes before a quotation mark, a backslash and the n of a line break. Regular expressions are RE2 and match the whole
value; a label that is absent has the empty value. What one of them can cost is bounded: the size of its compiled form, and the part of
a value that it sees.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from eventsink.runtime.bounded_patterns import MAX_MATCHED_CHARACTERS, PatternTooLarge, bounded_pattern
from eventsink.runtime.patterns import InvalidPattern, Pattern

MAX_MATCHER_CHARACTERS = 1024

Operator = Literal["=", "!=", "=~", "!~"]
_OPERATORS: tuple[Operator, ...] = ("=~", "!=", "!~", "=")
_NAME = re.compile(r"[A-Za-z_:][A-Za-z0-9_:]*")
_ESCAPE = re.compile(r"\\(.)", re.DOTALL)
_ESCAPED = {'"': '"', "\\": "\\", "n": "\n"}
_SPECIAL = frozenset("\\.+*?()[]{}^$")
"""An expression without these is a text, or several with | between them."""


class InvalidMatcher(ValueError):
    """The text is not a matcher; the message is a sentence that says what is wrong with it."""


class ExpressionTooLarge(InvalidMatcher):
    """The expression is valid, and matching it could take too long."""


@dataclass(frozen=True, slots=True)
class Matcher:
    """A condition on one label. Two are equal when they were written alike but for quotes."""

    name: str
    operator: Operator
    value: str
    values: frozenset[str] | None = field(compare=False, repr=False)
    """The values that it names, where it compares texts; None: only the expression says."""
    _expression: Pattern | None = field(default=None, compare=False, repr=False)

    @property
    def positive(self) -> bool:
        """Whether the label must be what `value` says, not anything else."""
        return self.operator in ("=", "=~")

    @property
    def size(self) -> int:
        """Instructions of the compiled expression; 0: there is none."""
        return self._expression.size if self._expression is not None else 0

    def matches(self, labels: Mapping[str, str]) -> bool:
        """Whether `labels` fulfil the condition."""
        return self.says(labels.get(self.name, "")) is self.positive

    def says(self, value: str) -> bool:
        """Whether a label's value is what `value` says, wanted or not."""
        if self._expression is None:
            assert self.values is not None
            return value in self.values
        return self._expression.fullmatch(value[:MAX_MATCHED_CHARACTERS])

    def __str__(self) -> str:
        value = self.value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
        return f'{self.name}{self.operator}"{value}"'


def parse_matcher(text: str) -> Matcher:
    """Read one matcher.

    Raises
    ------
    InvalidMatcher
        With a sentence that says what is wrong.
    ExpressionTooLarge
        Its regular expression has more than `MAX_EXPRESSION_SIZE` instructions or `MAX_UNICODE_CLASSES` classes.
    """
    if len(text) > MAX_MATCHER_CHARACTERS:
        raise InvalidMatcher(f"a matcher has at most {MAX_MATCHER_CHARACTERS} characters")
    text = text.strip()
    name = _NAME.match(text)
    rest = text[name.end() :].lstrip() if name is not None else ""
    operator = next((operator for operator in _OPERATORS if rest.startswith(operator)), None)
    if name is None or operator is None:
        raise InvalidMatcher('write a matcher as label="value", label!="value", label=~"expression" or label!~"expression"')
    value = _value(rest[len(operator) :].lstrip())
    if operator in ("=", "!="):
        return Matcher(name.group(), operator, value, frozenset((value,)))
    if _SPECIAL.isdisjoint(value):
        return Matcher(name.group(), operator, value, frozenset(value.split("|")))
    return Matcher(name.group(), operator, value, None, _compiled(value))


def _value(written: str) -> str:
    if not written.startswith('"'):
        if '"' in written:
            raise InvalidMatcher(
                "put quotation marks around a value that contains quotation marks, with \\ before each inner one"
            )
        return _unescape(written)
    if len(written) < 2 or not written.endswith('"'):
        raise InvalidMatcher("the closing quotation mark of the value is missing")
    inner = written[1:-1]
    if re.search(r'(?<!\\)(?:\\\\)*"', inner) or len(inner) - len(inner.rstrip("\\")) & 1:
        raise InvalidMatcher('put a \\ before each quotation mark within the value; one matcher per entry, such as team="a"')
    return _unescape(inner)


def _unescape(text: str) -> str:
    # Alertmanager keeps the backslash of what is no escape of its own: regular expressions need it.
    return _ESCAPE.sub(lambda escape: _ESCAPED.get(escape[1], escape[0]), text)


def _compiled(expression: str) -> Pattern:
    try:
        return bounded_pattern(expression)
    except PatternTooLarge as error:
        raise ExpressionTooLarge(str(error)) from None
    except InvalidPattern as error:
        raise InvalidMatcher(str(error)) from None
