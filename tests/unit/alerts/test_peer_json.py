"""Whether every reader reads the same in a JSON text."""

from __future__ import annotations

import pytest

from eventsink.alerts.peer_json import same_to_every_reader


@pytest.mark.parametrize(
    "body",
    [b"{}", b'{"a": 1, "b": [{"a": 1}, {"a": 2}]}', b'{"a": {"a": {"a": 1}}}', b'[1, "a", {"x": {}}]'],
)
def test_names_may_be_repeated_in_different_objects(body: bytes) -> None:
    assert same_to_every_reader(body)


@pytest.mark.parametrize(
    "body",
    [
        b'{"a": 1, "a": 1}',
        b'{"alerts": [], "Alerts": []}',
        '{"alerts": [], "alert\u017f": []}'.encode(),
        b'{"x": [1, {"y": {"a": 1, "\\u0061": 2}}]}',
        b'{"a": "\xff"}',
        b'{"a": ' + b"[" * 100_000 + b"]" * 100_000 + b"}",
        b"not JSON",
    ],
)
def test_two_members_of_one_name_are_not_the_same_to_every_reader(body: bytes) -> None:
    assert not same_to_every_reader(body)
