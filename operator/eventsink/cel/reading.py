"""What may be written in an expression, and how the library gets it.

The limits are such that no expression can take long or make much, whatever it is evaluated on: the library counts only rounds of loops.
Two things are put in the place of others of the same length, so that positions stay: `matches`, which the library would compile again each
time, and the members of maps in which what is absent counts as empty.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

from eventsink.cel.errors import InvalidExpression
from eventsink.cel.tokens import Kind, Token, position, tokens_of

MAX_EXPRESSION_CHARACTERS = 2048
MAX_LOOPS = 3
"""In one expression, and none within another: each goes through all labels of an alert, or all members of a list."""
LOOPS = frozenset({"all", "exists", "exists_one", "existsOne", "filter"})
MATCHES = "matches"
ZONED = (
    "getFullYear",
    "getMonth",
    "getDate",
    "getDayOfMonth",
    "getDayOfWeek",
    "getDayOfYear",
    "getHours",
    "getMinutes",
    "getSeconds",
    "getMilliseconds",
)
"""Functions of a time that take a time zone. The library reads the file of that name, wherever it is, and keeps every name that it was given:
it gets only what is written out, and what may be the name of a zone."""
SEARCH = "_search"
"""What the library knows as `matches`: a function of ours, which keeps patterns compiled."""


@dataclass(frozen=True, slots=True)
class Call:
    """A call of a function with one text and nothing else, as in `alert.name.matches("^Kube")`."""

    literal: str
    """The argument as written, with its quotation marks."""
    at: int
    """Where it is in the expression."""


@dataclass(frozen=True, slots=True)
class Reading:
    """What was found in an expression."""

    source: str
    """What the library gets."""
    tokens: Sequence[Token]
    patterns: Sequence[Call]
    """Arguments of `matches`."""
    zones: Sequence[Call]
    """Arguments of `ZONED`."""
    is_costly: bool
    """Whether what it takes grows with more than the length of one text: it has loops, or `contains` is given what is not written out."""
    members: dict[str, list[Token]]
    """Of each map in which what is absent counts as empty: the members that are read of it, as names or literals."""
    names: frozenset[str]
    """Every `a.b` in `source`: what has to be there when it is evaluated is among them."""

    def members_named(self, variable: str) -> frozenset[str] | None:
        """At least those members of a variable that are read; None: all of it may be."""
        found = set()
        for index, token in enumerate(self.tokens):
            if token.kind is Kind.NAME and token.text == variable:
                if _text(self.tokens, index + 1) != "." or (member := _member(self.tokens, index + 1)) is None:
                    return None
                found.add(member.text)
        return frozenset(found)


def read(expression: str, maps: Collection[tuple[str, str]] = ()) -> Reading:
    """Find what the limits are about.

    Parameters
    ----------
    maps
        As `("alert", "labels")`: of `alert.labels`, a member that is named counts as empty where it is absent, and is read of the map
        `alert_labels`.

    Raises
    ------
    InvalidExpression
        It exceeds a limit.
    """
    if len(expression) > MAX_EXPRESSION_CHARACTERS:
        raise InvalidExpression(f"an expression has at most {MAX_EXPRESSION_CHARACTERS} characters")
    if not expression.strip():
        raise InvalidExpression("the expression is empty")
    tokens = tokens_of(expression)
    _check_names(expression, tokens, maps)
    loops = _check_loops(expression, tokens)
    patterns = calls(expression, tokens, MATCHES)
    zones = [call for name in ZONED for call in calls(expression, tokens, name, "alert.startsAt", may_be_absent=True)]
    source, members = _replaced(expression, tokens, maps)
    is_costly = loops > 0 or _contains_computed(tokens)
    return Reading(source, tokens, patterns, zones, is_costly, members, _names(tokens_of(source)))


def calls(
    expression: str, tokens: Sequence[Token], name: str, value: str = "alert.name", *, may_be_absent: bool = False
) -> list[Call]:
    """The calls of a function that takes one literal text and is called on a value.

    Parameters
    ----------
    value
        What it is called on, for example.
    may_be_absent
        Whether it may be called without the text, which is no call then.

    Raises
    ------
    InvalidExpression
        One is called in another way.
    """
    found = []
    for index, token in enumerate(tokens):
        if token.kind is Kind.NAME and token.text == name and _text(tokens, index + 1) == "(":
            argument = tokens[index + 2] if index + 2 < len(tokens) else token
            if may_be_absent and argument.text == ")":
                continue
            if _text(tokens, index - 1) != "." or argument.kind is not Kind.TEXT or _text(tokens, index + 3) != ")":
                where = position(expression, token.start)
                raise InvalidExpression(
                    f'{where}: write {name} behind a value, with one text in its brackets: {value}.{name}("...")'
                )
            found.append(Call(argument.text, argument.start))
    return found


def _text(tokens: Sequence[Token], index: int) -> str:
    return tokens[index].text if 0 <= index < len(tokens) else ""


def _check_names(expression: str, tokens: Sequence[Token], maps: Collection[tuple[str, str]]) -> None:
    ours = {SEARCH, *("_".join(parts) for parts in maps)}
    for token in tokens:
        if token.kind is Kind.NAME and token.text in ours:
            raise InvalidExpression(f"{position(expression, token.start)}: there is no {token.text}")


def _check_loops(expression: str, tokens: Sequence[Token]) -> int:
    """How many there are."""
    depth, loops, open_at = 0, 0, None
    for index, token in enumerate(tokens):
        if token.kind is Kind.MARK and token.text in "([{":
            depth += 1
        elif token.kind is Kind.MARK and token.text in ")]}":
            depth -= 1
            if open_at is not None and depth < open_at:
                open_at = None
        if token.kind is not Kind.NAME or _text(tokens, index + 1) != "(":
            continue
        where = position(expression, token.start)
        if token.text == "map" and _text(tokens, index - 1) == ".":
            raise InvalidExpression(f"{where}: map is not available; exists, all and filter are")
        if token.text in LOOPS and _text(tokens, index - 1) == ".":
            loops += 1
            if open_at is not None:
                raise InvalidExpression(f"{where}: {token.text} is within another loop; write one loop after the other")
            if loops > MAX_LOOPS:
                raise InvalidExpression(f"{where}: an expression has at most {MAX_LOOPS} loops (exists, all, filter); divide it")
            open_at = depth + 1
        elif token.text == MATCHES and open_at is not None:
            raise InvalidExpression(
                f"{where}: matches is not available within a loop; use startsWith, endsWith or contains there"
            )
    if loops and (plus := next((one for one in tokens if one.kind is Kind.MARK and one.text == "+"), None)) is not None:
        raise InvalidExpression(
            f"{position(expression, plus.start)}: + is not available in an expression with exists, all or filter"
        )
    return loops


def _contains_computed(tokens: Sequence[Token]) -> bool:
    return any(
        token.text == "contains"
        and _text(tokens, index + 1) == "("
        and not (index + 3 < len(tokens) and tokens[index + 2].kind is Kind.TEXT and tokens[index + 3].text == ")")
        for index, token in enumerate(tokens)
    )


def _replaced(expression: str, tokens: Sequence[Token], maps: Collection[tuple[str, str]]) -> tuple[str, dict[str, list[Token]]]:
    parts, at = [], 0
    members: dict[str, list[Token]] = {"_".join(names): [] for names in maps}
    for index, token in enumerate(tokens):
        if token.kind is not Kind.NAME:
            continue
        if token.text == MATCHES and _text(tokens, index + 1) == "(" and expression[token.start] != "`":
            parts += [expression[at : token.start], SEARCH]
            at = token.end
            continue
        map_names = (token.text, _text(tokens, index + 2))
        if map_names not in maps or _text(tokens, index + 1) != "." or _text(tokens, index - 1) == ".":
            continue
        if _text(tokens, index - 1) == "(" and _text(tokens, index - 2) == "has":
            continue
        member = _member(tokens, index + 3)
        if member is None:
            continue
        name = "_".join(map_names)
        members[name].append(member)
        between = expression[token.end : tokens[index + 2].start].replace(".", "", 1)
        parts += [expression[at : token.start], name, between]
        at = tokens[index + 2].end
    return "".join([*parts, expression[at:]]), members


def _names(tokens: Sequence[Token]) -> frozenset[str]:
    return frozenset(
        f"{tokens[index - 1].text}.{tokens[index + 1].text}" for index in range(1, len(tokens) - 1) if tokens[index].text == "."
    )


def _member(tokens: Sequence[Token], index: int) -> Token | None:
    """The member that is read of a map: a name behind a point, as it is, or a literal in brackets, as written."""
    if index + 1 >= len(tokens):
        return None
    mark, name = tokens[index], tokens[index + 1]
    if mark.text == "." and name.kind is Kind.NAME and _text(tokens, index + 2) != "(":
        return name
    if mark.text == "[" and name.kind is Kind.TEXT and _text(tokens, index + 2) == "]":
        return name
    return None
