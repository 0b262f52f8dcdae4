"""Label matchers, as Alertmanager has them: `name="value"`, `!=`, `=~`, `!~`.

How they are written is in `matcher_syntax`. Regular expressions are RE2 and match the whole value; a label that is absent has the empty value.
What one of them can cost is bounded: the size of its compiled form, and the part of a value that it sees.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from eventsink.alerts.matcher_syntax import CLASSIC_NAME, InvalidMatcher, Operator, classic_parts, parts_of, quoted
from eventsink.runtime.bounded_patterns import MAX_MATCHED_CHARACTERS, PatternTooLarge, bounded_pattern
from eventsink.runtime.patterns import InvalidPattern, Pattern

MAX_MATCHER_CHARACTERS = 1024
_SPECIAL = frozenset("\\.+*?()[]{}^$")
"""An expression without these is a text, or several with | between them."""


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
        return f"{self.name if CLASSIC_NAME.fullmatch(self.name) else quoted(self.name)}{self.operator}{quoted(self.value)}"


def parse_matchers(text: str) -> tuple[Matcher, ...]:
    """Read one matcher or several, as Alertmanager 0.28 reads them: in its classic syntax or, if it is not that, in that of UTF-8.

    Raises
    ------
    InvalidMatcher
        With a sentence that says what is wrong.
    ExpressionTooLarge
        The regular expression of one is too large (`bounded_pattern`).
    """
    if len(text) > MAX_MATCHER_CHARACTERS:
        raise InvalidMatcher(f"an entry of matchers has at most {MAX_MATCHER_CHARACTERS} characters")
    return tuple(_matcher(*parts) for parts in parts_of(text))


def is_classic(text: str) -> bool:
    """Whether a text with valid matchers is a single one in the classic syntax: the first routers read nothing else."""
    try:
        return parts_of(text) == [classic_parts(text)]
    except InvalidMatcher:
        return False


def _matcher(name: str, operator: Operator, value: str) -> Matcher:
    if operator in ("=", "!="):
        return Matcher(name, operator, value, frozenset((value,)))
    if _SPECIAL.isdisjoint(value):
        return Matcher(name, operator, value, frozenset(value.split("|")))
    return Matcher(name, operator, value, None, _compiled(value))


def _compiled(expression: str) -> Pattern:
    try:
        return bounded_pattern(expression)
    except PatternTooLarge as error:
        raise ExpressionTooLarge(str(error)) from None
    except InvalidPattern as error:
        raise InvalidMatcher(str(error)) from None
