"""Which snapshots of a folder make a change, as tables; and what a snapshot has."""

from __future__ import annotations

from pathlib import Path

import pytest

from eventsink.standalone.folder import MAX_HELD, FolderChanges, Identity, Snapshot, Stamp, take_snapshot
from eventsink.standalone.watcher import pause_after

HERE: Identity = (1, 1)
OTHER: Identity = (2, 1)
OLD: Stamp = (1, 2, 3, 4)
NEW: Stamp = (1, 3, 3, 4)


def at(identity: Identity | None = HERE, /, **files: Stamp) -> Snapshot:
    return Snapshot(identity, files)


@pytest.mark.parametrize(
    ("snapshots", "read", "gone"),
    [
        ([at(a=OLD)], [("a",)], [set()]),
        ([at(a=OLD), at(a=OLD)], [("a",), ()], [set(), set()]),
        ([at(a=OLD), at(a=NEW), at(a=NEW), at(a=NEW)], [("a",), (), ("a",), ()], [set()] * 4),
        ([at(a=OLD), at(a=OLD, b=NEW), at(a=OLD, b=NEW)], [("a",), (), ("b",)], [set()] * 3),
        ([at(a=OLD, b=OLD), at(b=OLD), at(b=OLD), at(b=OLD)], [("a", "b"), (), (), ()], [set(), set(), {"a"}, set()]),
        ([at(a=OLD, b=OLD), at(b=OLD), at(a=OLD, b=OLD)], [("a", "b"), (), ()], [set()] * 3),
        ([at(a=OLD), at(), at()], [("a",), (), ()], [set(), set(), {"a"}]),
        ([at(a=OLD), at(None), at(None), at(None)], [("a",), (), (), ()], [set()] * 4),
        ([at(a=OLD), at(OTHER), at(OTHER), at(OTHER)], [("a",), (), (), ()], [set()] * 4),
        ([at(a=OLD), at(OTHER), at(OTHER), at(OTHER, a=NEW), at(OTHER, a=NEW)], [("a",), (), (), (), ("a",)], [set()] * 5),
        ([at(a=OLD, b=OLD), at(None), at(b=OLD), at(b=OLD)], [("a", "b"), (), (), ()], [set(), set(), set(), {"a"}]),
        ([at(a=OLD, b=OLD), at(OTHER), at(b=OLD), at(b=OLD)], [("a", "b"), (), (), ()], [set(), set(), set(), {"a"}]),
        ([at(a=OLD), at(b=OLD), at(b=OLD)], [("a",), (), ("b",)], [set(), set(), {"a"}]),
        ([at(a=OLD), at(), at(b=OLD), at(b=OLD)], [("a",), (), (), ("b",)], [set(), set(), set(), {"a"}]),
        (
            [at(a=OLD, c=OLD), at(c=OLD), at(c=NEW), at(c=NEW)],
            [("a", "c"), (), (), ("c",)],
            [set(), set(), set(), {"a"}],
        ),
    ],
    ids=[
        "the first snapshot counts at once",
        "no change",
        "a changed file counts when it stays the same",
        "a new file, too",
        "a deleted file counts when it stays missing",
        "a file that was missing in one snapshot was replaced",
        "the last file is deleted",
        "the folder is removed",
        "the folder is unmounted",
        "another folder is mounted",
        "a file that is missing behind an outage is missing twice before it counts",
        "and behind an unmount, too",
        "a file is renamed",
        "a file is written again under another name while its removal settles",
        "its documents are written into another file meanwhile",
    ],
)
def test_a_change_counts_once_two_consecutive_snapshots_have_it(
    snapshots: list[Snapshot], read: list[tuple[str, ...]], gone: list[set[str]]
) -> None:
    folder_changes = FolderChanges()
    changes = [folder_changes.since_last(one) for one in snapshots]
    assert [one.read for one in changes] == read
    assert [one.gone for one in changes] == gone


def test_a_file_of_an_earlier_run_is_gone_only_after_two_snapshots_without_it() -> None:
    folder_changes = FolderChanges(["a", "b"], HERE)
    assert [(one.read, one.gone) for one in map(folder_changes.since_last, [at(b=OLD), at(b=OLD)])] == [
        (("b",), frozenset()),
        ((), frozenset({"a"})),
    ]


def test_an_empty_folder_at_the_start_is_taken_for_a_missing_mount() -> None:
    folder_changes = FolderChanges(["a"], OTHER)
    assert folder_changes.lost(at())
    assert not any(folder_changes.since_last(at()).gone for _ in range(3))


def test_a_file_that_could_not_be_read_is_read_again() -> None:
    folder_changes = FolderChanges()
    folder_changes.since_last(at(a=OLD))
    folder_changes.read_again("a")
    assert folder_changes.since_last(at(a=OLD)).read == ("a",)


def test_a_removal_does_not_wait_for_ever_for_a_file_that_always_changes() -> None:
    folder_changes = FolderChanges()
    folder_changes.since_last(at(a=OLD, log=OLD))
    gone = [folder_changes.since_last(at(log=(1, 2, 100 + number, 4))).gone for number in range(MAX_HELD + 2)]
    assert gone == [frozenset()] * (MAX_HELD + 1) + [frozenset({"a"})]


def test_a_removal_waits_for_a_file_that_could_not_be_read_and_not_for_ever() -> None:
    folder_changes = FolderChanges()
    folder_changes.since_last(at(a=OLD))
    folder_changes.since_last(at(b=OLD))
    held = 0
    while not (gone := folder_changes.hold(folder_changes.since_last(at(b=OLD)).gone)):
        folder_changes.read_again("b")
        held += 1
    assert gone == {"a"}
    assert 1 <= held <= MAX_HELD


def test_a_snapshot_has_the_document_files_of_all_subfolders_and_follows_links(tmp_path: Path) -> None:
    (tmp_path / "team").mkdir()
    (tmp_path / "..data").mkdir()
    for name in ("a.yaml", "b.txt", ".hidden.yaml", "team/c.yml", "..data/d.json"):
        (tmp_path / name).write_text("x")
    (tmp_path / "d.json").symlink_to("..data/d.json")
    (tmp_path / "broken.yaml").symlink_to("nothing")
    (tmp_path / "team" / "round").symlink_to(tmp_path / "team")
    found = take_snapshot(tmp_path)
    assert {"a.yaml", "d.json", "team/c.yml"} <= found.files.keys()
    assert all(name.endswith(("a.yaml", "c.yml", "d.json")) for name in found.files)
    behind = (tmp_path / "..data" / "d.json").stat()
    assert found.files["d.json"] == (behind.st_dev, behind.st_ino, behind.st_mtime_ns, behind.st_size)


def test_a_missing_folder_has_no_identity(tmp_path: Path) -> None:
    assert take_snapshot(tmp_path / "absent") == Snapshot(None, {})


@pytest.mark.parametrize(("cost", "pause"), [(0.0, 1.0), (0.09, 1.0), (0.3, 3.0)])
def test_polling_a_large_folder_takes_a_tenth_of_a_processor_at_most(cost: float, pause: float) -> None:
    assert pause_after(cost, poll=1.0) == pytest.approx(pause)
