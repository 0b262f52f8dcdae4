"""What every source format must pass: subclass `FormatContract` and say which format, and how one of its alerts looks."""

from __future__ import annotations

import json

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from eventsink.alerts.alert import IncomingAlert, IncomingNotification, Severity, UnusablePayload
from eventsink.alerts.formats.format import Format

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
ONE_CLASS_FOR_ALL = settings(suppress_health_check=[HealthCheck.differing_executors])


class FormatContract:
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


def read_or_reject(format_: Format, body: bytes) -> None:
    """Parse, and let nothing but UnusablePayload be raised."""
    try:
        format_.parse(body)
    except UnusablePayload:
        pass
