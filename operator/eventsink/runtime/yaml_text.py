"""Reads a YAML text that a person has written into values."""

from __future__ import annotations

from typing import Any

import yaml
from yaml.composer import Composer
from yaml.constructor import SafeConstructor
from yaml.cyaml import CParser  # type: ignore[attr-defined]
from yaml.resolver import Resolver

MAX_NODES = 200_000
"""Values in one document, those behind aliases counted each time: a few aliases of aliases would fill the memory."""
UNREADABLE = (ValueError, AttributeError, LookupError, RecursionError)
"""What PyYAML raises, beside its own errors, where a value is none of its type (`!!int x`, `!!bool x`, 2026-13-01) or is nested too deeply."""


class InvalidYaml(ValueError):
    """The text is not YAML, or nothing that can be used; the message says what and where, and repeats nothing of it."""


class _Loader(Composer, CParser, SafeConstructor, Resolver):
    """Scans in libyaml: in Python, a thousand brackets take seconds. Composes in Python: libyaml's own composer overflows the stack."""

    def __init__(self, text: str | bytes) -> None:
        CParser.__init__(self, text)
        Composer.__init__(self)
        SafeConstructor.__init__(self)
        Resolver.__init__(self)


def read_yaml(text: str | bytes) -> Any:
    """The value of one document; None: it is empty.

    Parameters
    ----------
    text
        Bytes are UTF-8, or UTF-16 with a byte order mark.

    Raises
    ------
    InvalidYaml
        It cannot be read.
    """
    try:
        loader = _Loader(text)
        try:
            node = loader.get_single_node()
            if node is None:
                return None
            if not is_bounded(node):
                raise InvalidYaml("is too large, or an alias (*) in it refers to what contains it")
            return loader.construct_document(node)
        finally:
            loader.dispose()
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f" at line {mark.line + 1}, column {mark.column + 1}" if mark is not None else ""
        raise InvalidYaml(f"is not valid YAML{where}") from None
    except InvalidYaml:
        raise
    except UNREADABLE:
        raise InvalidYaml("cannot be read as YAML: a value is none of its type, or it is nested too deeply") from None


def is_bounded(root: yaml.Node) -> bool:
    """Whether a document is of a bearable size, without aliases to what contains them."""
    left = MAX_NODES
    waiting: list[yaml.Node] = [root]
    while waiting:
        node = waiting.pop()
        left -= 1
        if left < 0:
            return False
        if isinstance(node, yaml.MappingNode):
            waiting += [one for pair in node.value for one in pair]
        elif isinstance(node, yaml.SequenceNode):
            waiting += node.value
    return True
