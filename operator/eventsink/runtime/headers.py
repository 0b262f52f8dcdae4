"""Sets of header names, in lower case, in which `ce-*` stands for all names that begin with `ce-`."""

from __future__ import annotations

from functools import lru_cache


@lru_cache(maxsize=64)
def prefixes_of(names: frozenset[bytes]) -> tuple[bytes, ...]:
    """What names begin with that are in the set for how they begin."""
    return tuple(name[:-1] for name in names if name.endswith(b"*"))


def is_among(name: bytes, names: frozenset[bytes]) -> bool:
    """Whether a name, in lower case, is in the set."""
    return name in names or name.startswith(prefixes_of(names))
