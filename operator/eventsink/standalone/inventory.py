"""The documents that count: of each file its last good version, and no object from two files."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

from eventsink.standalone.documents import Document, DocumentKey, Fault, FileContent

Files = Mapping[str, tuple[Document, ...]]
"""Name of a file -> its documents."""


class Inventory:
    """What was accepted of each file.

    A file with any fault, or with an object that another file has, is rejected as a whole: what was accepted of it before stays.
    """

    def __init__(self, accepted: Files | None = None) -> None:
        self._accepted: dict[str, tuple[Document, ...]] = dict(accepted or {})
        self._pending: dict[str, tuple[Document, ...]] = {}
        """Rejected only because of another file: tried again when anything changes."""

    @property
    def files(self) -> Files:
        return self._accepted

    def documents(self) -> dict[DocumentKey, Document]:
        """All that count."""
        return {one.key: one for documents in self._accepted.values() for one in documents}

    def update(self, changed: Mapping[str, FileContent], gone: set[str]) -> list[Fault]:
        """Files were read again, or are gone; returns why which of them were rejected."""
        faults = [fault for content in changed.values() for fault in content.faults]
        for file in gone:
            self._accepted.pop(file, None)
            self._pending.pop(file, None)
        for file, content in changed.items():
            self._pending.pop(file, None)
            if not content.faults:
                self._pending[file] = content.documents
        candidates = dict(self._pending)
        while (conflict := _conflict(self._accepted, candidates)) is not None:
            loser, fault = conflict
            del candidates[loser]
            if loser in changed:
                faults.append(fault)
        for file, documents in candidates.items():
            self._accepted[file] = documents
            del self._pending[file]
        return sorted(faults)


def _conflict(accepted: Files, candidates: Files) -> tuple[str, Fault] | None:
    """A candidate that has an object which another file has, too. The one that adds it loses; else the last by name."""
    owners: dict[DocumentKey, Document] = {}
    for _, documents in sorted({**accepted, **candidates}.items()):
        for one in documents:
            other = owners.setdefault(one.key, one)
            if other is one:
                continue
            ranked = sorted(
                (side for side in (one, other) if side.file in candidates),
                key=lambda side: (not _has(accepted.get(side.file, ()), side.key), side.file),
            )
            loser = ranked[-1]
            winner = other if loser is one else one
            message = f"{loser.title} is also defined at {winner.file}:{winner.line}; remove one of the two"
            return loser.file, Fault(loser.file, loser.line, "", message)
    return None


def _has(documents: tuple[Document, ...], key: DocumentKey) -> bool:
    return any(one.key == key for one in documents)


def dump(files: Files) -> str:
    """The accepted files as text, with credentials; fit for a file that only its owner may read."""
    return json.dumps({file: [_fields(one) for one in documents] for file, documents in files.items()})


def load(text: str) -> dict[str, tuple[Document, ...]]:
    """The other way.

    Raises
    ------
    ValueError
        It is not what `dump` wrote.
    """
    try:
        return {file: tuple(Document(file=file, **one) for one in documents) for file, documents in _items(json.loads(text))}
    except (TypeError, AttributeError):
        raise ValueError("not a list of accepted files") from None


def _items(value: Any) -> Iterator[tuple[str, list[dict[str, Any]]]]:
    yield from value.items()


def _fields(one: Document) -> dict[str, Any]:
    return {name: value for name, value in vars(one).items() if name != "file"}
