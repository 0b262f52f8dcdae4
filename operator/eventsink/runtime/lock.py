"""A lock that one process holds at a time: a file, so that the lock ends with the process, whatever ended it."""

from __future__ import annotations

import asyncio
import fcntl
import os
import socket
from collections.abc import Callable
from pathlib import Path

POLL_SECONDS = 0.2
"""Between two attempts while another process holds the lock."""
MAX_HOLDER_BYTES = 200
UNKNOWN_HOLDER = "another process"


class Locked(Exception):
    """Another process holds the lock; the text names it: its host or pod, and its number there."""


class FileLock:
    """A held lock.

    Parameters
    ----------
    file
        Made if it is absent; it names whoever holds the lock, and stays.

    Raises
    ------
    Locked
        Another process holds it.
    OSError
        The file cannot be used.
    """

    def __init__(self, file: Path) -> None:
        descriptor = os.open(file, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = _holder(descriptor)
            os.close(descriptor)
            raise Locked(holder) from None
        except BaseException:
            os.close(descriptor)
            raise
        _name_holder(descriptor)
        self._descriptor = descriptor

    @classmethod
    async def wait(cls, file: Path, timeout: float, on_wait: Callable[[str], None]) -> FileLock:
        """Hold a lock as soon as no other process does.

        Parameters
        ----------
        timeout
            Seconds; 0: another process may not hold it.
        on_wait
            Called with the holder, and again when that is another.

        Raises
        ------
        Locked
            Another process still held it at the end.
        OSError
            The file cannot be used.
        """
        clock = asyncio.get_running_loop().time
        deadline, holder = clock() + timeout, ""
        while True:
            try:
                return cls(file)
            except Locked as locked:
                if (left := deadline - clock()) <= 0:
                    raise
                if holder != str(locked):
                    holder = str(locked)
                    on_wait(holder)
            await asyncio.sleep(min(POLL_SECONDS, left))

    def release(self) -> None:
        """Let another process have it."""
        os.close(self._descriptor)


def _name_holder(descriptor: int) -> None:
    try:
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, f"{socket.gethostname()}, process {os.getpid()}\n".encode(), 0)
    except OSError:
        pass  # on a full disk it stays nameless


def _holder(descriptor: int) -> str:
    """Whoever wrote its name last: the holder, but for the moment before it does so."""
    text = os.pread(descriptor, MAX_HOLDER_BYTES, 0).decode(errors="replace").partition("\n")[0]
    return text if text.isprintable() and text else UNKNOWN_HOLDER
