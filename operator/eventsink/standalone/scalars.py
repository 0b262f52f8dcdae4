"""What kubectl makes of a value without quotes. It reads YAML 1.1 with changes of its own, and so do these loaders."""

from __future__ import annotations

import re
from typing import ClassVar

from yaml import SafeLoader
from yaml.composer import Composer
from yaml.constructor import SafeConstructor
from yaml.cyaml import CParser  # type: ignore[attr-defined]
from yaml.nodes import ScalarNode
from yaml.resolver import Resolver
from yaml.tokens import Token

STRING = "tag:yaml.org,2002:str"
INTEGER = "tag:yaml.org,2002:int"
NULL = "tag:yaml.org,2002:null"
_FLOAT = "tag:yaml.org,2002:float"
_BOOLEAN = "tag:yaml.org,2002:bool"

_WORDS = {
    **{
        word: _BOOLEAN
        for lower in ("y", "n", "yes", "no", "true", "false", "on", "off")
        for word in (lower, lower.capitalize(), lower.upper())
    },
    **dict.fromkeys(("", "~", "null", "Null", "NULL"), NULL),
    **{sign + word: _FLOAT for word in (".inf", ".Inf", ".INF") for sign in ("", "+", "-")},
    **dict.fromkeys((".nan", ".NaN", ".NAN"), _FLOAT),
    "<<": "tag:yaml.org,2002:merge",
}
_INTEGER_FORM = re.compile(r"[-+]?(0[bB][01]+|0[xX][0-9a-fA-F]+|0[oO]?[0-7]+|0|[1-9][0-9]*)")
_FLOAT_FORM = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?")
_NUMBER_STARTS = frozenset("+-.0123456789")
MAX_LEVELS = 300
"""Of brackets and braces; more cannot be composed either."""
_LOWEST, _HIGHEST = -(2**63), 2**64 - 1
"""A whole number beyond these is a floating one."""


def tag_of(text: str) -> str:
    """The tag of a plain scalar: a date is a text, while 1e3, 0o17, 08 and y are none."""
    if (word := _WORDS.get(text)) is not None:
        return word
    if text[0] not in _NUMBER_STARTS:
        return STRING
    # Behind a point, an underscore has to be between digits.
    number = text.replace("_", "") if text[0] != "." or _is_number(text) else text
    if _INTEGER_FORM.fullmatch(number) and _LOWEST <= whole_number(number) <= _HIGHEST:
        return INTEGER
    return _FLOAT if _FLOAT_FORM.fullmatch(number) and abs(float(number)) != float("inf") else STRING


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def whole_number(text: str) -> int:
    """The number that a text of the form of an integer stands for."""
    sign, digits = (-1 if text[0] == "-" else 1), text.replace("_", "").lstrip("+-").lower()
    for prefix, base in (("0x", 16), ("0b", 2), ("0o", 8), ("0", 8)):
        if digits.startswith(prefix) and len(digits) > len(prefix):
            return sign * int(digits[len(prefix) :], base)
    return sign * int(digits)


class _Resolver(Resolver):
    """Gives plain scalars the tags that kubectl gives them."""

    def resolve(self, kind: type, value: str, implicit: tuple[bool, bool]) -> str:
        if kind is ScalarNode and implicit[0]:
            return tag_of(value)
        found: str = super().resolve(kind, value, implicit)  # type: ignore[no-untyped-call]
        return found


class _Constructor(SafeConstructor):
    bool_values: ClassVar[dict[str, bool]] = {**SafeConstructor.bool_values, "y": True, "n": False}

    def construct_yaml_int(self, node: ScalarNode) -> int:
        return whole_number(str(self.construct_scalar(node)))


_Constructor.add_constructor(INTEGER, _Constructor.construct_yaml_int)  # type: ignore[type-var]


class Loader(_Resolver, _Constructor, SafeLoader):
    """Says best what is wrong, and where."""

    def fetch_flow_collection_start(self, token: type[Token]) -> None:
        """Look at each token for all levels: a thousand of them would take seconds."""
        if self.flow_level >= MAX_LEVELS:
            raise RecursionError
        super().fetch_flow_collection_start(token)


class FastLoader(Composer, CParser, _Constructor, _Resolver):
    """Scans in libyaml, three times as fast. Nodes are composed in Python: libyaml's own composer overflows the stack of deep documents."""

    def __init__(self, text: str) -> None:
        CParser.__init__(self, text)
        Composer.__init__(self)
        SafeConstructor.__init__(self)
        Resolver.__init__(self)
