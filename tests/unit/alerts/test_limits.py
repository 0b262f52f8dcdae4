"""What exceeds a limit is cut or left out, and marked; below the limits an alert passes unchanged, and beyond them two stay two."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

import msgspec
import pytest

from eventsink.alerts.alert import Alert, IncomingAlert, Links, Severity, Status
from eventsink.alerts.limits import MAX_ANNOTATION_CHARACTERS, MAX_LABELS, MAX_MARKS, MAX_VALUE_CHARACTERS, bounded, cut


def identified(labels: dict[str, str], annotations: dict[str, str] | None = None, **members: Any) -> Alert:
    given = {
        "severity": Severity.HIGH,
        "name": labels.get("alertname", ""),
        "summary": "",
        "description": "",
        "namespace": "",
        **members,
    }
    incoming = IncomingAlert(
        status=Status.FIRING,
        labels=labels,
        annotations=annotations or {},
        starts_at=datetime(2026, 1, 1, tzinfo=UTC),
        ends_at=None,
        links=Links(),
        group=None,
        **given,
    )
    return incoming.identify(source="s", tenant="acme", dropped_labels=frozenset({"replica"}))


def many(count: int, **more: str) -> dict[str, str]:
    return {f"label-{number:03}": "x" for number in range(count)} | more


@pytest.mark.parametrize(
    ("pairs", "kept", "marks"),
    [
        ({}, {}, ()),
        ({"a": "b"}, {"a": "b"}, ()),
        ({"a": "x" * 10}, {"a": "x" * 10}, ()),
        ({"a": "x" * 11, "b": "y"}, {"a": "x" * 9 + "…", "b": "y"}, ("labels.a",)),
        ({"": "x", "b": "y"}, {"b": "y"}, ("labels",)),
        ({"n" * 257: "x", "b": "y"}, {"b": "y"}, ("labels",)),
        (dict.fromkeys("abcd", "x" * 8), {"a": "x" * 8, "b": "x" * 8, "c": "x" * 8, "d": "x…"}, ("labels.d",)),
        (dict.fromkeys("abcd", "x" * 9), dict.fromkeys("abc", "x" * 9), ("labels",)),
        ({"z": "x" * 29, "alertname": "A"}, {"z": "x" * 9 + "…", "alertname": "A"}, ("labels.z",)),
    ],
)
def test_pairs_within_ten_characters_each_and_thirty_in_all(
    pairs: dict[str, str], kept: dict[str, str], marks: tuple[str, ...]
) -> None:
    found, found_marks = bounded(pairs, "labels", longest=10, total=30)
    assert (found, found_marks) == (kept, marks)
    assert list(found) == list(kept)


def test_what_is_within_the_limits_is_the_same_object() -> None:
    pairs = many(MAX_LABELS)
    assert bounded(pairs, "labels", longest=10, total=10_000)[0] is pairs


def test_of_130_labels_those_that_say_what_it_is_about_are_kept() -> None:
    alert = identified(many(130, severity="critical", namespace="payments", alertname="Disk"))
    assert len(alert.labels) == MAX_LABELS
    assert alert.labels["severity"] == "critical"
    assert alert.truncated == ("labels",)


def test_an_annotation_of_70_kilobytes_is_cut_and_so_is_the_description_made_of_it() -> None:
    alert = identified({"a": "b"}, {"description": "x" * 70_000}, description="x" * 70_000, summary="y" * 70_000)
    assert alert.annotations["description"] == alert.description == cut("x" * 70_000, MAX_ANNOTATION_CHARACTERS)
    assert alert.description.endswith("x…")
    assert len(alert.summary) < 5000
    assert alert.truncated == ("annotations.description", "summary")


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (many(200), many(199) | {"label-199": "y"}),
        ({"a": "x" * (MAX_VALUE_CHARACTERS + 1)}, {"a": "x" * (MAX_VALUE_CHARACTERS + 2)}),
        ({"n" * 300: "x", "a": "b"}, {"m" * 300: "x", "a": "b"}),
    ],
)
def test_alerts_that_differ_beyond_the_limits_only_stay_two(one: dict[str, str], other: dict[str, str]) -> None:
    assert identified(one).fingerprint != identified(other).fingerprint


def test_a_dropped_label_does_not_count_beyond_the_limits_either() -> None:
    assert identified(many(200, replica="0")).fingerprint == identified(many(200, replica="1")).fingerprint


def test_an_alert_is_bounded_whatever_it_holds_and_says_so_in_few_words() -> None:
    huge = {f"{number:03}": "💥" * 20_000 for number in range(300)}
    encoded = msgspec.json.encode(identified(huge, huge))
    assert len(encoded) < 4 * (65_536 + 262_144) + 10_000
    assert 1 < len(json.loads(encoded)["truncated"]) <= MAX_MARKS


def test_an_alert_within_the_limits_says_nothing_of_them() -> None:
    assert "truncated" not in json.loads(msgspec.json.encode(identified({"a": "b"})))
