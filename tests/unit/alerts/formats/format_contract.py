"""What every source format must pass: subclass `FormatContract` and say which format, and how one of its alerts looks."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from copy import deepcopy
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from eventsink.alerts.alert import Alert, IncomingAlert, IncomingNotification, Severity, UnusablePayload
from eventsink.alerts.formats.format import Format
from eventsink.runtime.times import parse_time

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=10), inner, max_size=4),
    max_leaves=20,
)
PIECES = [
    b"null",
    b'"',
    b"\\ud800",
    b"\\u0000",
    b"{",
    b"]",
    b"1e999",
    b"-0",
    b"9" * 400,
    b",",
    b'"a":',
    b"\xff",
    b"\xed\xa0\x80",
    b"[" * 2000,
]
DATA = Path(__file__).parents[3] / "data"
LONGEST = "https://canary.example.com/" + "x" * 300_000
"""Longer than anything may be."""
A_MINUTE = 60.0
"""Between two readings, each of which may have a time of its own."""
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
CANARY = LONGEST[:40]
_TIME = re.compile(r"\d{4}-\d\d-\d\dT")
_Path = tuple[str | int, ...]
ONE_CLASS_FOR_ALL = settings(suppress_health_check=[HealthCheck.differing_executors], deadline=None)


class MinimalFormatContract:
    """Subclasses give `format` and `sample`."""

    format: Format

    def sample(self, severity: str = "") -> bytes:
        """A notification of one alert, of this severity in the source's own words (empty: it says none)."""
        raise NotImplementedError

    def parsed(self, severity: str = "") -> tuple[IncomingNotification, IncomingAlert]:
        notification = self.format.parse(self.sample(severity))
        [alert] = notification.alerts
        return notification, alert

    def test_the_sample_is_parsed(self) -> None:
        notification, alert = self.parsed()
        assert notification.rejected == []
        assert alert.name
        assert alert.labels
        offset = alert.starts_at.utcoffset()
        assert offset is not None
        assert not offset

    def test_each_declared_severity_is_mapped(self) -> None:
        assert self.format.severities
        for word, severity in self.format.severities.items():
            assert self.parsed(word)[1].severity is severity, word
            assert self.parsed(word.upper())[1].severity is severity, word

    @pytest.mark.parametrize("word", ["", "a word that no table has"])
    def test_an_undeclared_severity_is_unknown(self, word: str) -> None:
        assert self.parsed(word)[1].severity is Severity.UNKNOWN

    def test_only_a_grouped_format_has_groups_and_passes_them_on_as_received(self) -> None:
        notification, alert = self.parsed()
        given_with = (notification.group is not None, bool(notification.body), alert.raw is not None)
        assert set(given_with) == {self.format.grouped}

    @ONE_CLASS_FOR_ALL
    @given(st.binary(max_size=200))
    def test_any_bytes_are_parsed_or_rejected(self, body: bytes) -> None:
        read_or_reject(self.format, body)

    @ONE_CLASS_FOR_ALL
    @given(st.data())
    def test_the_sample_with_any_damage_is_parsed_or_rejected(self, data: st.DataObject) -> None:
        sample = self.sample("critical")
        start = data.draw(st.integers(0, len(sample)))
        end = data.draw(st.integers(start, min(len(sample), start + 8)))
        piece = data.draw(st.one_of(st.binary(max_size=4), st.sampled_from(PIECES)))
        read_or_reject(self.format, sample[:start] + piece + sample[end:])

    @ONE_CLASS_FOR_ALL
    @given(json_values)
    def test_any_json_is_parsed_or_rejected(self, content: object) -> None:
        read_or_reject(self.format, json.dumps(content).encode())


class FormatContract(MinimalFormatContract):
    """Of a format that real programs send: its members are read as what they mean, and what exceeds a limit is truncated and marked."""

    def payloads(self) -> list[bytes]:
        """Notifications with all members that are read: every recorded one; of a format without any, the sample."""
        return recordings(self.format.name) or [self.sample(next(iter(self.format.severities)))]

    def test_what_exceeds_a_limit_is_in_the_alert_as_a_whole_or_the_alert_says_so(self) -> None:
        seen = 0
        for payload in map(json.loads, self.payloads()):
            for path in members(payload):
                if not isinstance(value_at(payload, path), str):
                    continue
                for before, after in zip(
                    *[self.alerts(changed(payload, path, text)) for text in (CANARY, LONGEST)], strict=False
                ):
                    if CANARY in msgspec.json.encode(before).decode():
                        seen += 1
                        whole = LONGEST in msgspec.json.encode(after).decode()
                        assert whole or after.truncated, path
        assert seen

    def test_half_a_character_is_read_as_one_that_is_not_known_and_the_rest_as_it_is(self) -> None:
        seen = 0
        for payload in map(json.loads, self.payloads()):
            for path in members(payload):
                if isinstance(text := value_at(payload, path), str) and not _TIME.match(text):
                    half, unknown = (self.outcome(changed(payload, path, text + end)) for end in ("\ud83d", "\ufffd"))
                    assert half == unknown, path
                    seen += not isinstance(half, str)
        assert seen

    def test_null_is_read_as_absent(self) -> None:
        for payload in map(json.loads, self.payloads()):
            for path in members(payload):
                if isinstance(path[-1], str):
                    assert self.outcome(changed(payload, path, None)) == self.outcome(changed(payload, path, ...)), path

    def test_a_number_is_read_as_its_text_and_a_text_as_its_number(self) -> None:
        for payload in map(json.loads, self.payloads()):
            for path in members(payload):
                value = value_at(payload, path)
                if isinstance(value, str | int | None) and not (isinstance(value, str) and _TIME.match(value)):
                    assert self.outcome(changed(payload, path, "5")) == self.outcome(changed(payload, path, 5)), path

    def test_an_empty_time_is_read_as_absent_and_one_in_seconds_as_that_moment(self) -> None:
        seen = 0
        for payload in map(json.loads, self.payloads()):
            for path in members(payload):
                if not (isinstance(text := value_at(payload, path), str) and _TIME.match(text) and text > "1971"):
                    continue
                absent = changed(payload, path, ...)
                assert self.outcome(changed(payload, path, "")) == self.outcome(absent), path
                moment = parse_time(text).replace(microsecond=0)
                seconds = int(moment.timestamp())
                written, *others = (
                    self.times(changed(payload, path, one)) for one in (moment.isoformat(), seconds, float(seconds), str(seconds))
                )
                for one in others:
                    assert one == pytest.approx(written, abs=A_MINUTE), path
                seen += self.times(absent) != written
        assert seen

    def times(self, payload: Any) -> list[float]:
        """When each alert starts and ends, in seconds; 0: never."""
        return [time.timestamp() if time else 0.0 for one in self.alerts(payload) for time in (one.starts_at, one.ends_at)]

    def alerts(self, payload: Any) -> list[Alert]:
        try:
            found = self.format.parse(json.dumps(payload).encode()).alerts
        except UnusablePayload:
            return []
        return [one.identify(source="s", tenant="t") for one in found]

    def outcome(self, payload: Any) -> object:
        """What is read, but for times, which may be those of the test."""
        try:
            found = self.format.read(json.dumps(payload).encode())
        except UnusablePayload as error:
            return str(error)
        alerts = [msgspec.structs.replace(one, starts_at=EPOCH, ends_at=None, valid_for=None, raw=None) for one in found.alerts]
        return alerts, found.rejected


def recordings(name: str) -> list[bytes]:
    """All that was recorded of a format, but for what is no body alone."""
    return [file.read_bytes() for folder in {name, name.replace("-", "_")} for file in sorted((DATA / folder).glob("*.json"))]


def members(value: Any, path: _Path = ()) -> Iterator[_Path]:
    """Paths of all members; of a list those of its first two elements."""
    if path:
        yield path
    inner = value.items() if isinstance(value, dict) else list(enumerate(value))[:2] if isinstance(value, list) else ()
    for name, one in inner:
        if name != "managedFields":
            yield from members(one, (*path, name))


def value_at(payload: Any, path: _Path) -> Any:
    for name in path:
        payload = payload[name]
    return payload


def changed(payload: Any, path: _Path, value: Any) -> Any:
    """The payload with another value of a member; `...`: without it."""
    copied = deepcopy(payload)
    holder = value_at(copied, path[:-1])
    if value is ...:
        del holder[path[-1]]
    else:
        holder[path[-1]] = value
    return copied


def read_or_reject(format_: Format, body: bytes) -> None:
    """Parse, and let nothing but UnusablePayload be raised."""
    try:
        format_.read(body)
    except UnusablePayload:
        pass
