"""Folders and files that only their owner may read, and that a crash does not lose."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest

from eventsink.runtime import files


@pytest.fixture
def synced(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """The folders whose names were put on disk."""
    folders: list[Path] = []
    monkeypatch.setattr(files, "sync_folder", folders.append)
    return folders


def test_each_folder_that_is_made_is_in_its_parent_on_disk(tmp_path: Path, synced: list[Path]) -> None:
    files.make_folder(tmp_path / "a/b/c")
    assert synced == [tmp_path, tmp_path / "a", tmp_path / "a/b"]
    assert stat.S_IMODE((tmp_path / "a/b/c").stat().st_mode) == 0o700
    synced.clear()
    files.make_folder(tmp_path / "a/b/c")
    assert synced == []


def test_a_file_is_in_its_folder_and_a_new_folder_in_its_parent_on_disk(tmp_path: Path, synced: list[Path]) -> None:
    files.write_private(tmp_path / "a/file", "text")
    assert synced == [tmp_path, tmp_path / "a"]
    assert stat.S_IMODE((tmp_path / "a/file").stat().st_mode) == 0o600
