"""A small disk of its own, which can be full."""

from __future__ import annotations

import ctypes
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

_MS_RDONLY, _MS_REMOUNT, _MNT_DETACH = 1, 32, 2
_libc = ctypes.CDLL(None, use_errno=True)


@contextmanager
def small_disk(folder: Path, size: str = "3m") -> Iterator[Path]:
    """A disk that is mounted as `folder`, which is made; only root can do that."""
    folder.mkdir()
    if _libc.mount(b"queue", str(folder).encode(), b"tmpfs", 0, f"size={size}".encode()):
        pytest.skip("only root can mount a small disk")
    try:
        yield folder
    finally:
        _libc.umount2(str(folder).encode(), _MNT_DETACH)


def make_read_only(folder: Path, *, read_only: bool = True) -> None:
    """As a kernel does with a disk that has errors, while nobody has a file open for writing."""
    flags = _MS_REMOUNT | (_MS_RDONLY if read_only else 0)
    if _libc.mount(b"queue", str(folder).encode(), b"tmpfs", flags, None):
        raise OSError(ctypes.get_errno(), "cannot be remounted")


def fill(folder: Path) -> Path:
    """Leave no byte free on the disk of a folder; returns the file that takes it all."""
    with (folder / "filler").open("wb", buffering=0) as file:
        try:
            while file.write(b"\0" * 4096):
                pass
        except OSError:
            return folder / "filler"
    raise AssertionError("it has room without end")
