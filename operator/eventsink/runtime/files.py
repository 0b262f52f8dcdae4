"""Files and folders that only their owner may read, and that a crash does not lose."""

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
    make_folder(file.parent)
    new = file.with_name(f".{file.name}.new")
    descriptor = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8") as stream:
        stream.write(text)
        if sync:
            stream.flush()
            os.fsync(stream.fileno())
    new.replace(file)
    if sync:
        sync_folder(file.parent)


def remove(file: Path) -> None:
    """Remove a file, if it is there, for good: also a crash does not bring it back.

    Raises
    ------
    OSError
        It is still there, or may come back.
    """
    file.unlink(missing_ok=True)
    if file.parent.is_dir():
        sync_folder(file.parent)


def remove_unfinished(folder: Path) -> None:
    """Remove what `write_private` had begun below a folder before the process was killed."""
    for file in folder.glob("*/.*.new"):
        file.unlink(missing_ok=True)


def make_folder(folder: Path) -> None:
    """Make a folder that only its owner may read, with its parents, if it is absent; it is still there after a crash.

    Raises
    ------
    OSError
        It could not be made.
    """
    if folder.is_dir():
        return
    absent = [one for one in (folder, *folder.parents) if not one.exists()]
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    for one in reversed(absent):
        sync_folder(one.parent)


def sync_folder(folder: Path) -> None:
    """Have the names of the files in a folder on disk, so that a crash does not lose them.

    Raises
    ------
    OSError
        It cannot be read or written.
    """
    descriptor = os.open(folder, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
