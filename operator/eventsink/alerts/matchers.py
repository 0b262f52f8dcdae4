"""Label matchers in Alertmanager's classic syntax: `name="value"`, `!=`, `=~`, `!~`.

Source of the syntax: Alertmanager's configuration reference, section matcher. A value may be in double quotes, in which a
backslash goes before a quotation mark, a backslash and the n of a line break. Regular expressions are RE2 and match the whole
value; a label that is absent has the empty value.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal, Protocol

import re2

MAX_PATTERN_MEMORY_BYTES = 1 << 20
"""What the compiled form of one expression may take: bounds the work that a tenant can put on the router."""
MAX_MATCHER_CHARACTERS = 1024

Operator = Literal["=", "!=", "=~", "!~"]
_OPERATORS: tuple[Operator, ...] = ("=~", "!=", "!~", "=")
_NAME = re.compile(r"[A-Za-z_:][A-Za-z0-9_:]*")
_ESCAPE = re.compile(r"\\(.)", re.DOTALL)
_ESCAPED = {'"': '"', "\\": "\\", "n": "\n"}


class InvalidMatcher(ValueError):
    """The text is not a matcher; the message is a sentence that says what is wrong with it."""


class Pattern(Protocol):
    """A compiled RE2 expression."""

    def fullmatch(self, text: str) -> object | None: ...


@dataclass(frozen=True, slots=True)
class Matcher:
    """A condition on one label. Two are equal when they were written alike but for quotes."""

    name: str
    operator: Operator
    value: str
    _pattern: Pattern | None = field(default=None, compare=False, repr=False)

    def matches(self, labels: Mapping[str, str]) -> bool:
        """Whether `labels` fulfil the condition."""
        value = labels.get(self.name, "")
        if self._pattern is None:
            return (value == self.value) is (self.operator == "=")
        return (self._pattern.fullmatch(value) is not None) is (self.operator == "=~")

    def __str__(self) -> str:
        value = self.value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
        return f'{self.name}{self.operator}"{value}"'


def parse_matcher(text: str) -> Matcher:
    """Read one matcher.

    Raises
    ------
    InvalidMatcher
        With a sentence that says what is wrong.
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
    pattern = compile_expression(value) if operator in ("=~", "!~") else None
    return Matcher(name.group(), operator, value, pattern)


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


def compile_expression(expression: str) -> Pattern:
    """Compile RE2, which takes linear time whatever the expression and the text are.

    Raises
    ------
    InvalidMatcher
        It is not valid, or its compiled form is too large.
    """
    options = re2.Options()
    options.max_mem = MAX_PATTERN_MEMORY_BYTES
    options.log_errors = False
    try:
        pattern: Pattern = re2.compile(expression, options=options)
    except re2.error as error:
        detail = error.args[0] if error.args else ""
        reason = detail.decode(errors="replace") if isinstance(detail, bytes) else str(detail)
        raise InvalidMatcher(f"the regular expression is not valid RE2: {reason}") from None
    return pattern
