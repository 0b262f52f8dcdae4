"""Regular expressions that anybody may write, and that are matched again and again: bounded in size, and kept compiled.

What matching one of them takes is the product of its size and of the part of a text that it sees.
"""

from __future__ import annotations

from functools import lru_cache

from eventsink.runtime.patterns import InvalidPattern, Pattern

MAX_EXPRESSION_SIZE = 1500
"""Instructions of the compiled form of one expression. Matching takes a few nanoseconds for each of them and each byte, so that the worst
expression takes 4 ms of a processor on a value of `MAX_MATCHED_CHARACTERS` (measured); a usual one has 20 to 200 and takes 1 us."""
MAX_EXPRESSION_MEMORY_BYTES = 32 << 10
"""What the compiled form of one expression may take, what it keeps between matches included."""
MAX_UNICODE_CLASSES = 16
"""Such as \\pL in one expression: each has hundreds of ranges. They take 60 us to compile, also where the result is too large (measured)."""
MAX_MATCHED_CHARACTERS = 1024
"""An expression sees so many characters of a value; what follows is as if it were not there."""
SHARED_EXPRESSIONS = 512
"""So many expressions are kept compiled: many sinks have the same."""


class PatternTooLarge(InvalidPattern):
    """The expression is valid, and matching it could take too long."""


@lru_cache(SHARED_EXPRESSIONS)
def bounded_pattern(expression: str) -> Pattern:
    """The compiled expression.

    Raises
    ------
    InvalidPattern
        It is no RE2; the message is a sentence.
    PatternTooLarge
        It has more than `MAX_EXPRESSION_SIZE` instructions or `MAX_UNICODE_CLASSES` classes; the message is a sentence.
    """
    if expression.count("\\p") + expression.count("\\P") > MAX_UNICODE_CLASSES:
        raise PatternTooLarge(
            f"the regular expression is too large: it has more than {MAX_UNICODE_CLASSES} classes of Unicode, such as \\pL; "
            "write .* for them, or divide it into several"
        )
    try:
        pattern = Pattern(expression, MAX_EXPRESSION_MEMORY_BYTES)
    except InvalidPattern as error:
        if "too large" not in str(error):
            raise InvalidPattern(f"the regular expression is not valid RE2: {error}") from None
        size = f"more than {MAX_EXPRESSION_SIZE}"
    else:
        if pattern.size <= MAX_EXPRESSION_SIZE:
            return pattern
        size = str(pattern.size)
    raise PatternTooLarge(
        f"the regular expression is too large: compiled, it has {size} instructions, and {MAX_EXPRESSION_SIZE} are allowed; "
        "lower the numbers in its repetitions, such as {1000}, write .* for them, or divide it into several"
    )
