"""Keys in a file, as they are at each call."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pytest

from eventsink.rest.access.key_store import FileKeyStore, KeyStoreError
from eventsink.rest.access.keys import make_key
from eventsink.standalone import rest
from eventsink.standalone.rest import FIRST_KEY, KEYS, FileKeys, make_first_key


async def test_while_the_key_file_cannot_be_read_every_key_is_rejected(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / KEYS
    _, record = make_key("x", None, datetime.now(UTC))
    await FileKeyStore(file).add(record)

    def fail(_: Path) -> None:
        raise KeyStoreError("too many open files")

    keys = FileKeys(file)
    with monkeypatch.context() as patched:
        patched.setattr(rest, "records_in", fail)
        assert keys.records() == {}
    assert set(keys.records()) == {record.id}
    await FileKeyStore(file).remove(record.id)
    assert keys.records() == {}


def test_the_first_key_is_created_once_and_again_after_a_kill_before_its_record(tmp_path: Path) -> None:
    make_first_key(tmp_path)
    first = (tmp_path / FIRST_KEY).read_text()
    make_first_key(tmp_path)
    assert (tmp_path / FIRST_KEY).read_text() == first
    (tmp_path / KEYS).unlink()
    make_first_key(tmp_path)
    assert (tmp_path / FIRST_KEY).read_text() != first
    assert set(FileKeys(tmp_path / KEYS).records()) == {(tmp_path / FIRST_KEY).read_text().split("_")[1]}
