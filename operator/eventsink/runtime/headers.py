"""Sets of header names, in lower case: one that ends with `*`, such as `ce-*`, is all names that begin so."""

from __future__ import annotations

from functools import lru_cache


def is_among(name: bytes, names: frozenset[bytes]) -> bool:
    """Whether a name, in lower case, is in the set."""
    return name in names or name.startswith(_prefixes(names))


@lru_cache(maxsize=64)
def _prefixes(names: frozenset[bytes]) -> tuple[bytes, ...]:
    return tuple(name[:-1] for name in names if name.endswith(b"*"))
