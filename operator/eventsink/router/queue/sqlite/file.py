"""The queue's file on its disk: that one process has it, that it is the one that was used before, that it is still there, and has room.

Beside `queue.db` are `-wal` and `-shm`, which SQLite makes and which are part of it, `.lock`, and `.used`: the id of the queue that was
used here, so that a start with an empty folder is not taken for a first one.
"""

from __future__ import annotations

import errno
import os
import sqlite3
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Self

from eventsink.router.queue.protocol import QueueDamaged, QueueUnavailable
from eventsink.runtime.files import sync_folder, write_private
from eventsink.runtime.lock import FileLock, Locked
from eventsink.runtime.logs import get_logger

_SUFFIXES = ("", "-wal", "-shm")
_DAMAGE_CODES = {sqlite3.SQLITE_IOERR_READ, sqlite3.SQLITE_IOERR_SHORT_READ, sqlite3.SQLITE_IOERR_CORRUPTFS}


class QueueFile:
    """The file of one queue, locked for this process until `release`. Make it with `open`.

    Raises
    ------
    QueueUnavailable
        Its folder cannot be used, or the queue that was used here is missing or empty. The lock is released then.
    """

    def __init__(self, path: Path, lock: FileLock, *, accept_loss: str = "") -> None:
        self.path = path
        self.damage = ""
        """Why nothing more can be stored in it, for good; empty: it can. Set by whichever thread finds out."""
        self._marker = path.with_name(f"{path.name}.used")
        self._identities: dict[str, tuple[int, int]] = {}
        self._lock = lock
        try:
            known = self._marker.read_text(encoding="ascii").strip() if self._marker.exists() else ""
            self.expected = "" if known == accept_loss else known
            """Id of the queue that must be in it; empty: any, or none."""
            self.interrupted = _size(Path(f"{path}-wal")) > 0
            """Whether the process that had it last was killed."""
            if self.expected and not _size(path):
                raise lost(path, self.expected, "is missing" if not path.exists() else "is empty")
            self._make_private()
        except OSError as error:
            self.release()
            raise _of_system(path, error) from None
        except BaseException:
            self.release()
            raise

    @classmethod
    async def open(cls, path: Path, *, accept_loss: str, lock_timeout: float, on_wait: Callable[[str], None]) -> Self:
        """Lock the file, as soon as no other process has it.

        Parameters
        ----------
        lock_timeout
            Seconds.
        on_wait
            Called with whoever has it, as soon as that is known.

        Raises
        ------
        QueueUnavailable
            As of the class, or another process still has it.
        """
        try:
            lock = await FileLock.wait(Path(f"{path}.lock"), lock_timeout, on_wait)
        except Locked as holder:
            raise QueueUnavailable(
                f"{path}: another process has this queue open ({holder}), and did not end within {lock_timeout:g} s (queue.lockTimeout); "
                "one router runs on one queue"
            ) from None
        except OSError as error:
            raise _of_system(path, error) from None
        return cls(path, lock, accept_loss=accept_loss)

    def opened(self, store_id: str) -> None:
        """It is open, and contains the queue with this id.

        Raises
        ------
        QueueUnavailable
            The folder cannot be written.
        """
        try:
            if not self._marker.exists() or self._marker.read_text(encoding="ascii").strip() != store_id:
                write_private(self._marker, f"{store_id}\n")
            sync_folder(self.path.parent)
            self._make_private()
        except OSError as error:
            raise _of_system(self.path, error) from None
        self._identities = {suffix: found for suffix in _SUFFIXES if (found := self._identity(suffix)) is not None}

    def check_still_there(self) -> None:
        """Find out whether the file was removed or replaced: what is written then is gone with the process.

        Raises
        ------
        QueueDamaged
        """
        for suffix, identity in self._identities.items():
            if self._identity(suffix) != identity:
                self.damage = self.damage or (
                    f"{self.path}{suffix} was removed or replaced while the router runs; nothing can be stored. Restart the router, "
                    "and see docs/queue.md"
                )
                raise QueueDamaged(self.damage)

    def room(self, used: int) -> int:
        """Bytes that more rows may take: what is free on the disk, and in the file, of which rows use so much."""
        # The file does not shrink: its free pages are room as well, or a queue that once filled the disk would stay full for ever.
        return free_bytes(self.path.parent) + max(0, _size(self.path) - used)

    def failed(self, error: sqlite3.Error, doing: str) -> QueueUnavailable:
        """What an error of SQLite means, which is remembered where nothing more can be stored: `doing` is `read` or `written`."""
        if is_damage(error):
            self.found_damage(str(error))
            return QueueDamaged(self.damage)
        return QueueUnavailable(f"the queue cannot be {doing}: the storage failed: {error}")

    def found_damage(self, what: str) -> None:
        """A part of it cannot be read."""
        if not self.damage:
            self.damage = f"{self.path} is damaged ({what}); nothing can be stored, and what can still be read is delivered. See docs/queue.md"
            get_logger().error("the queue is damaged", reason=self.damage)

    def release(self) -> None:
        """Let another process have it."""
        self._lock.release()

    def _identity(self, suffix: str) -> tuple[int, int] | None:
        try:
            status = os.stat(f"{self.path}{suffix}")
        except OSError:
            return None
        return status.st_dev, status.st_ino

    def _make_private(self) -> None:
        """Let only the owner read alerts; SQLite gives `-wal` and `-shm` the mode of the file."""
        os.close(os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
        for file in (f"{self.path}{suffix}" for suffix in (*_SUFFIXES, ".lock")):
            try:
                if os.stat(file).st_mode & 0o077:
                    os.chmod(file, 0o600)
            except FileNotFoundError:
                pass
            except PermissionError:
                get_logger().warning("others may be able to read a file of the queue, which belongs to another user", file=file)


def lost(path: Path, store: str, what: str) -> QueueUnavailable:
    """The queue that was used here is gone."""
    return QueueUnavailable(
        f"{path}: the queue {store} that was used here {what}; restore it, or set queue.acceptLoss: {store} to go on without what was in "
        "it (docs/queue.md)"
    )


def free_bytes(folder: Path) -> int:
    """What is free on the disk of a folder, for this user."""
    status = os.statvfs(folder)
    return status.f_bavail * status.f_frsize


def _size(file: Path) -> int:
    try:
        return os.stat(file).st_size
    except FileNotFoundError:
        return 0


def is_damage(error: sqlite3.Error) -> bool:
    """Whether an error of SQLite means that the file cannot be read, and not that its disk has a problem which may pass."""
    code = getattr(error, "sqlite_errorcode", 0)
    return code & 0xFF in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB) or code in _DAMAGE_CODES


def cannot_be_opened(path: Path, reason: str) -> QueueUnavailable:
    """Its folder does not let the file be opened."""
    return QueueUnavailable(f"{path}: the queue cannot be opened: {reason}; check queue.path and its folder")


def disk_failed(path: Path, reason: str) -> QueueUnavailable:
    """Its disk does not let the file be opened, which is as it was: it may be full."""
    return cannot_be_opened(path, f"{reason} ({free_bytes(path.parent)} bytes are free on its disk)")


def _of_system(path: Path, error: OSError) -> QueueUnavailable:
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return disk_failed(path, str(error.strerror))
    refused = error.errno in (errno.EACCES, errno.EPERM)
    return cannot_be_opened(path, f"{error.strerror}{_whose(path) if refused else ''}")


def _whose(path: Path) -> str:
    """Whose the files are that this user may not use."""
    for file in (path.parent, *(Path(f"{path}{suffix}") for suffix in (*_SUFFIXES, ".lock", ".used"))):
        needed = os.R_OK | os.W_OK | (os.X_OK if file == path.parent else 0)
        try:
            status = os.stat(file)
        except OSError:
            continue
        if not os.access(file, needed):
            return (
                f": {file} belongs to user {status.st_uid} and group {status.st_gid} with mode {stat.S_IMODE(status.st_mode):04o}, and the "
                f"router is user {os.geteuid()}"
            )
    return ""
