"""How matchers are written: Alertmanager's two syntaxes, and which of them a text is in.

Source: Alertmanager's configuration reference, section matcher, and what its 0.28 does with the table in tests/data. The classic syntax has
names of ASCII letters, digits, _ and :, and keeps a backslash that escapes nothing. That of UTF-8 has any name, in double quotation marks or
without any of the reserved characters, and Go's escapes. Both may be several matchers with commas between them, in braces or not. What is
valid in the classic syntax is read in that, whatever it is in the other: so does Alertmanager, unless it is told otherwise.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Literal

Operator = Literal["=", "!=", "=~", "!~"]
Parts = tuple[str, Operator, str]
"""Name, operator and value of one matcher."""
CLASSIC_NAME = re.compile(r"[A-Za-z_:][A-Za-z0-9_:]*")
_OPERATORS: tuple[Operator, ...] = ("=~", "!=", "!~", "=")
_ESCAPE = re.compile(r"\\(.)", re.DOTALL)
_ESCAPED = {'"': '"', "\\": "\\", "n": "\n"}
_RESERVED = frozenset("{}!=~,\\\"'`")
_CLASSIC_SPACES = " \t\n\f\r"
_NOT_SPACE_IN_GO = frozenset("\x1c\x1d\x1e\x1f")
_ESCAPED_IN_GO = {"a": 7, "b": 8, "f": 12, "n": 10, "r": 13, "t": 9, "v": 11, "\\": 92, '"': 34}
_DIGITS_IN_GO = {"x": 2, "u": 4, "U": 8}
_FORM = 'write a matcher as label="value", label!="value", label=~"expression" or label!~"expression", and commas between several'


class InvalidMatcher(ValueError):
    """The text is not a matcher; the message is a sentence that says what is wrong with it."""


class _NoClassicForm(InvalidMatcher):
    """It does not even begin as a matcher in the classic syntax."""


def parts_of(text: str) -> list[Parts]:
    """The matchers of a text.

    Raises
    ------
    InvalidMatcher
        With a sentence that says what is wrong.
    """
    if any("\ud800" <= one <= "\udfff" for one in text):
        raise InvalidMatcher("there is half a character in it: write it in UTF-8")
    try:
        found = [classic_parts(one) for one in _classic_texts(text)]
    except InvalidMatcher as error:
        try:
            found = _utf8_parts(text)
        except InvalidMatcher as other:
            raise (other if isinstance(error, _NoClassicForm) else error) from None
    if not found:
        raise InvalidMatcher(f"there is no matcher; {_FORM}")
    return found


def quoted(text: str) -> str:
    """A text in double quotation marks, as both syntaxes read it."""
    escaped = text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
    return f'"{escaped}"'


def classic_parts(text: str) -> Parts:
    """One matcher in the classic syntax.

    Raises
    ------
    InvalidMatcher
        With a sentence that says what is wrong.
    """
    text = text.strip(_CLASSIC_SPACES)
    name = CLASSIC_NAME.match(text)
    rest = text[name.end() :].lstrip(_CLASSIC_SPACES) if name is not None else ""
    operator = _operator(rest)
    if name is None or operator is None:
        raise _NoClassicForm(_FORM)
    return name.group(), operator, _classic_value(rest[len(operator) :].lstrip(_CLASSIC_SPACES))


def _classic_texts(text: str) -> Iterator[str]:
    """What is between commas that are not within quotation marks."""
    text = text.removeprefix("{").removesuffix("}")
    start, within, escaped = 0, False, False
    for at, character in enumerate(text):
        if character == "," and not within:
            yield text[start:at]
            start = at + 1
        elif character == '"' and not escaped:
            within = not within
        escaped = character == "\\" and not escaped
    if text[start:].strip():
        yield text[start:]


def _classic_value(written: str) -> str:
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
        raise InvalidMatcher(
            'put a \\ before each quotation mark within the value, and a comma between matchers, as in team="a", env="b"'
        )
    return _unescape(inner)


def _unescape(text: str) -> str:
    # Alertmanager keeps the backslash of what is no escape of its own: regular expressions need it.
    return _ESCAPE.sub(lambda escape: _ESCAPED.get(escape[1], escape[0]), text)


def _operator(text: str) -> Operator | None:
    return next((operator for operator in _OPERATORS if text.startswith(operator)), None)


def _utf8_parts(text: str) -> list[Parts]:
    tokens = [*_tokens(text), ("", "")]
    found: list[Parts] = []
    braces = tokens[0][0] == "{"
    at = int(braces)
    while tokens[at][0] not in ("", "}"):
        (name_kind, name), (operator_kind, operator), (value_kind, value) = (tokens[at : at + 3] + [("", "")] * 2)[:3]
        if name_kind != "text" or operator_kind != "operator" or value_kind != "text":
            raise InvalidMatcher(_FORM)
        if not name:
            raise InvalidMatcher("the name of the label is empty")
        found.append((name, _operator(operator) or "=", value))
        at += 3
        if tokens[at][0] == ",":
            at += 1
        elif tokens[at][0] not in ("", "}"):
            raise InvalidMatcher('put a comma between matchers, as in team="a", env="b"')
    if braces is not (tokens[at][0] == "}"):
        raise InvalidMatcher("the closing brace is missing" if braces else "there is a closing brace without an opening one")
    if tokens[at + int(braces) :] != [("", "")]:
        raise InvalidMatcher("there is something behind the closing brace")
    return found


def _tokens(text: str) -> Iterator[tuple[str, str]]:
    """Kind and text of each token; the kind of a mark is the mark itself."""
    at = 0
    while at < len(text):
        character = text[at]
        if _is_space(character):
            at += 1
        elif character in "{},":
            yield character, character
            at += 1
        elif (operator := _operator(text[at : at + 2])) is not None:
            yield "operator", operator
            at += len(operator)
        elif character == '"':
            end = _text_end(text, at + 1)
            yield "text", _unquoted(text[at + 1 : end - 1])
            at = end
        elif character in _RESERVED:
            raise InvalidMatcher(
                f"put double quotation marks around a name or a value with {character}; the operators are =, !=, =~ and !~"
            )
        else:
            end = at
            while end < len(text) and not _is_space(text[end]) and text[end] not in _RESERVED:
                end += 1
            yield "text", text[at:end]
            at = end


def _is_space(character: str) -> bool:
    return character.isspace() and character not in _NOT_SPACE_IN_GO


def _text_end(text: str, at: int) -> int:
    while at < len(text):
        if text[at] == '"':
            return at + 1
        at += 2 if text[at] == "\\" else 1
    raise InvalidMatcher("a closing quotation mark is missing")


def _unquoted(inner: str) -> str:
    """The text between two quotation marks, with Go's escapes."""
    written = bytearray()
    at = 0
    while at < len(inner):
        if inner[at] == "\n":
            raise InvalidMatcher("write \\n for a line break")
        if inner[at] != "\\":
            written += inner[at].encode()
            at += 1
            continue
        escape = inner[at + 1]
        if (code := _ESCAPED_IN_GO.get(escape)) is not None:
            written.append(code)
            at += 2
            continue
        start, digits, base = (at + 2, _DIGITS_IN_GO[escape], 16) if escape in _DIGITS_IN_GO else (at + 1, 3, 8)
        try:
            written += _character(inner[start : start + digits], digits, base, whole=escape in "uU")
        except (ValueError, OverflowError):
            raise InvalidMatcher(f"write \\\\ for a backslash: \\{escape} has no meaning here") from None
        at = start + digits
    try:
        return written.decode()
    except UnicodeDecodeError:
        raise InvalidMatcher("what \\x stands for must be UTF-8") from None


def _character(digits: str, count: int, base: int, *, whole: bool) -> bytes:
    """What the digits of an escape stand for: a character, or one byte of one."""
    if len(digits) != count or not digits.isascii() or not digits.isalnum():
        raise ValueError
    number = int(digits, base)
    return chr(number).encode() if whole else bytes([number])
