"""Files that hold credentials."""

from __future__ import annotations

import os
from pathlib import Path


def write_private(file: Path, text: str, *, sync: bool = True) -> None:
    """Put a text into a file that only its owner may read; a reader sees the old text or the new one, also after a crash.

    Parameters
    ----------
    sync
        False: a crash of the machine within about half a minute may leave the file empty or absent.

    Raises
    ------
    OSError
        It could not be written.
    """
    if not file.parent.is_dir():
        file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        _sync(file.parent.parent)
    new = file.with_name(f".{file.name}.new")
    descriptor = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8") as stream:
        stream.write(text)
        if sync:
            stream.flush()
            os.fsync(stream.fileno())
    new.replace(file)
    if sync:
        _sync(file.parent)


def remove(file: Path) -> None:
    """Remove a file, if it is there, for good: also a crash does not bring it back.

    Raises
    ------
    OSError
        It is still there, or may come back.
    """
    file.unlink(missing_ok=True)
    if file.parent.is_dir():
        _sync(file.parent)


def remove_unfinished(folder: Path) -> None:
    """Remove what `write_private` had begun below a folder before the process was killed."""
    for file in folder.glob("*/.*.new"):
        file.unlink(missing_ok=True)


def _sync(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
