"""Whether every reader reads the same in a JSON text."""

from __future__ import annotations

import pytest

from eventsink.alerts.peer_json import same_to_every_reader, without_lone_surrogates


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


@pytest.mark.parametrize(
    ("half", "whole"),
    [
        (r'"\ud800"', r'"\ufffd"'),
        (r'"a\uDC00b"', r'"a\ufffdb"'),
        (r'"\ud83d\ud83d\ude00\ude00"', r'"\ufffd\ud83d\ude00\ufffd"'),
        (r'"\\\ud83d"', r'"\\\ufffd"'),
        (r'{"\udfff": "\ud83d\\ude00"}', r'{"\ufffd": "\ufffd\\ude00"}'),
    ],
)
def test_half_a_character_becomes_one_that_is_not_known(half: str, whole: str) -> None:
    assert without_lone_surrogates(half.encode()) == whole.encode()


@pytest.mark.parametrize("body", [r'"\ud83d\ude00"', r'"\\ud800"', r'"\\\\ud800"', r'"\u00d8"', '"\0\\ud800"', "\\ud83", ""])
def test_what_is_no_half_of_a_character_is_left_alone(body: str) -> None:
    encoded = body.encode()
    assert without_lone_surrogates(encoded) is encoded
