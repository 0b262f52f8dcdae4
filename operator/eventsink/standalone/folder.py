"""Finds which files of a folder are new, changed or gone, so that a file in the middle of being replaced changes nothing.

It is polled. A mounted ConfigMap changes by a link (`..data`) to a folder that was not there before, and folders of other machines report
no change at all: comparing each file's inode, time and size finds both, in about a millisecond for a hundred files.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from eventsink.standalone.documents import SUFFIXES

MAX_DEPTH = 16
"""Of folders in folders; a link to a folder above would be followed for ever."""
MAX_FILES = 10_000
MAX_HELD = 10
"""Snapshots that a removal waits for other files to settle: one of them may hold the same documents, under another name."""

Stamp = tuple[int, int, int, int]
"""Device, inode, time of the last change in nanoseconds, size: of the file behind all links."""
Identity = tuple[int, int]
"""Device and inode of the folder itself."""


@dataclass(frozen=True, slots=True)
class Snapshot:
    """What was in the folder at one moment."""

    identity: Identity | None
    """None: the folder is not there, or cannot be read."""
    files: Mapping[str, Stamp]
    """Path below the folder -> stamp."""


@dataclass(frozen=True, slots=True)
class Changes:
    """What to do about it."""

    read: tuple[str, ...] = ()
    gone: frozenset[str] = frozenset()


def take_snapshot(folder: Path) -> Snapshot:
    """All files that could hold documents. Names that begin with a dot are ignored, as a ConfigMap's own are."""
    try:
        state = folder.stat()
        files = dict(_files(folder, "", MAX_DEPTH))
    except OSError:
        return Snapshot(None, {})
    return Snapshot((state.st_dev, state.st_ino), files)


def _files(folder: Path, prefix: str, depth: int) -> Iterable[tuple[str, Stamp]]:
    found: list[tuple[str, Stamp]] = []
    with os.scandir(folder) as entries:
        for entry in sorted(entries, key=lambda one: one.name):
            if entry.name.startswith("."):
                continue
            try:
                if entry.is_dir():
                    if depth:
                        found += _files(Path(entry.path), f"{prefix}{entry.name}/", depth - 1)
                elif entry.name.endswith(SUFFIXES):
                    state = entry.stat()
                    found.append((prefix + entry.name, (state.st_dev, state.st_ino, state.st_mtime_ns, state.st_size)))
            except FileNotFoundError:
                continue  # gone, or a link to nothing, at this moment
            if len(found) > MAX_FILES:
                raise OSError(f"more than {MAX_FILES} files")
    return found


class FolderChanges:
    """Compares each snapshot with the one before. Pure.

    A change counts when two snapshots in a row have it: whoever writes a file in two steps, or replaces it by deleting and moving, is not caught
    in between. The first snapshot counts at once, except for what is gone. A removal counts no earlier than what was written meanwhile, so that
    a document which moves to another file is never missing.

    Parameters
    ----------
    known
        Files that were accepted before the start.
    identity
        Of the folder then.
    """

    def __init__(self, known: Iterable[str] = (), identity: Identity | None = None) -> None:
        self._taken: dict[str, Stamp | None] = dict.fromkeys(known)
        self._identity = identity
        self._last: Snapshot | None = None
        self._held = 0
        """Snapshots that removals have waited."""

    @property
    def identity(self) -> Identity | None:
        """Of the folder when it last held any file."""
        return self._identity

    def lost(self, now: Snapshot) -> bool:
        """Whether the folder vanished: it is not there, or is empty and another one than before, as after an unmount."""
        if now.identity is None:
            return True
        return not now.files and bool(self._taken) and self._identity is not None and now.identity != self._identity

    def since_last(self, now: Snapshot) -> Changes:
        """What changed for good."""
        last, self._last = self._last, now
        if now == last and now.files == self._taken and not self.lost(now):
            self._last = last  # one of two equal ones is enough to keep
            self._held = 0
            return Changes()
        if self.lost(now):
            self._last = None if last is None else Snapshot(None, {})
            return Changes()
        read = tuple(
            file
            for file, stamp in now.files.items()
            if self._taken.get(file) != stamp and (last is None or last.files.get(file) == stamp)
        )
        gone: frozenset[str] = frozenset()
        if last is not None and last.identity is not None:
            gone = frozenset(file for file in self._taken if file not in now.files and file not in last.files)
        for file in read:
            self._taken[file] = now.files[file]
        if not gone:
            self._held = 0
        elif self._held < MAX_HELD and any(self._taken.get(file) != stamp for file, stamp in now.files.items()):
            self._held += 1
            gone = frozenset()
        for file in gone:
            del self._taken[file]
        if now.files or gone:
            self._identity = now.identity
        return Changes(read, gone)

    def read_again(self, file: str) -> None:
        """It changed while it was read, or could not be read: the next snapshot has it as changed."""
        if file in self._taken:
            self._taken[file] = None

    def hold(self, gone: frozenset[str]) -> frozenset[str]:
        """A file that may hold their documents could not be read: the removals that count all the same, because they waited long enough."""
        if self._held >= MAX_HELD:
            return gone
        self._held += 1
        self._taken.update(dict.fromkeys(gone))
        return frozenset()
