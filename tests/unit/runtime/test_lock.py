"""A lock is held by one process at a time, and names its holder."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest

from eventsink.runtime.lock import FileLock, Locked

US = f"{socket.gethostname()}, process {os.getpid()}"


def test_whoever_comes_second_learns_who_holds_the_lock(tmp_path: Path) -> None:
    lock = FileLock(tmp_path / "lock")
    with pytest.raises(Locked, match=f"^{US}$"):
        FileLock(tmp_path / "lock")
    lock.release()
    FileLock(tmp_path / "lock").release()
    assert (tmp_path / "lock").stat().st_mode & 0o077 == 0


@pytest.mark.parametrize("content", [b"", b"\x00\x1b[31m", b"\xff\xfe\n" * 100, b"x" * 10_000])
def test_a_holder_whose_name_cannot_be_read_is_another_process(tmp_path: Path, content: bytes) -> None:
    lock = FileLock(tmp_path / "lock")
    (tmp_path / "lock").write_bytes(content)
    with pytest.raises(Locked) as raised:
        FileLock(tmp_path / "lock")
    assert str(raised.value).isprintable()
    assert 0 < len(str(raised.value)) <= 200
    lock.release()


async def test_a_wait_ends_with_its_timeout_and_has_said_once_whom_it_waits_for(tmp_path: Path) -> None:
    lock, waits = FileLock(tmp_path / "lock"), list[str]()
    with pytest.raises(Locked):
        await FileLock.wait(tmp_path / "lock", 0.5, waits.append)
    assert waits == [US]
    lock.release()
    (await FileLock.wait(tmp_path / "lock", 0, waits.append)).release()
    assert waits == [US]
