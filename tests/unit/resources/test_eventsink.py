"""An EventSink is read completely or rejected with a message for each mistake."""

from __future__ import annotations

import traceback
from typing import Any

import pytest

from eventsink.alerts.matcher_syntax import InvalidMatcher
from eventsink.alerts.matchers import parse_matchers
from eventsink.resources import rules
from eventsink.resources.eventsink import FieldError, InvalidSpec, read_eventsink, read_object, read_spec
from tests.cluster.manifests import Rejected, accepted, eventsink, rejected

LEAST: dict[str, Any] = {"tenant": "acme", "name": "Alerts", "webhook": {"url": "https://example.com/hook"}}


def errors_of(spec: object) -> list[str]:
    with pytest.raises(InvalidSpec) as caught:
        read_spec(spec)
    return [str(error) for error in caught.value.errors]


@pytest.mark.parametrize("case", rejected(), ids=lambda case: case.case)
def test_an_invalid_spec_gets_the_same_messages_as_from_the_api_server(case: Rejected) -> None:
    errors = errors_of(case.spec)
    if case.offline is not None:
        assert errors == list(case.offline)
    else:
        assert len(errors) == len(case.says)
        for error in errors:
            path, _, sentence = error.partition(": ")
            assert any(line.startswith(f"{path}: ") and line.endswith(f": {sentence}") for line in case.says), error


@pytest.mark.parametrize("spec", accepted().values(), ids=accepted())
def test_a_spec_that_the_api_server_accepts_is_read(spec: dict[str, Any]) -> None:
    assert read_spec(spec).model_dump(by_alias=True, exclude_none=True) == spec


def test_the_crd_and_the_router_accept_the_same_matchers() -> None:
    good = [text for spec in accepted().values() for text in spec.get("match", {}).get("matchers", [])]
    bad = [
        case.spec["match"]["matchers"][0]
        for case in rejected()
        if "matchers" in case.spec.get("match", {}) and any(line.endswith(rules.MATCHER.message) for line in case.says)
    ]
    bad = [text for text in bad if "'" not in text]  # a part of the value to Alertmanager, and not what anybody means
    assert len(good) > 5
    assert len(bad) > 3
    for text in good:
        parse_matchers(text)
    for text in bad:
        with pytest.raises(InvalidMatcher):
            parse_matchers(text)


def test_an_eventsink_is_read_with_its_identity() -> None:
    obj = eventsink(LEAST, name="alerts", namespace="acme")
    obj["metadata"] |= {"uid": "u1", "generation": 4, "resourceVersion": "77"}
    obj["status"] = {"observedGeneration": 3}
    sink = read_eventsink(obj)
    assert (sink.uid, sink.namespace, sink.name) == ("u1", "acme", "alerts")
    assert (sink.generation, sink.resource_version, sink.deleting) == (4, "77", False)
    assert sink.status.observed_generation == 3
    assert sink.spec.tenant == "acme"
    assert sink.raw is obj


def test_an_object_is_readable_although_its_spec_is_invalid() -> None:
    obj = eventsink({"tenant": "acme"}, name="alerts")
    obj["metadata"] |= {"uid": "u1", "deletionTimestamp": "2026-03-01T08:00:00Z"}
    with pytest.raises(InvalidSpec):
        read_eventsink(obj)
    assert read_object(obj).uid == "u1"
    assert read_object(obj).deleting


def test_an_unreadable_status_counts_as_empty() -> None:
    assert read_object({**eventsink(LEAST), "status": {"conditions": "gone"}}).status.conditions == ()


def test_unknown_fields_are_named_and_marked() -> None:
    with pytest.raises(InvalidSpec) as caught:
        read_spec({**LEAST, "pager": {}, "webhook": {**LEAST["webhook"], "retries": 3}})
    sentence = "this version of the operator does not know this field; upgrade the operator or remove the field"
    assert caught.value.errors == (
        FieldError("spec.pager", sentence, unknown_field=True),
        FieldError("spec.webhook.retries", sentence, unknown_field=True),
    )


def test_an_unknown_destination_type_is_one_error_about_an_unknown_field() -> None:
    assert len(errors_of({"tenant": "acme", "name": "Alerts", "pager": {"key": "x"}})) == 1


def test_python_names_of_fields_are_unknown() -> None:
    assert errors_of({**LEAST, "match": {"min_severity": "high"}})[0].startswith("spec.match.min_severity: ")


@pytest.mark.parametrize("spec", [None, "text", []])
def test_a_spec_that_is_not_an_object_is_rejected(spec: object) -> None:
    (error,) = errors_of(spec)
    assert error.startswith("spec: ")


@pytest.mark.parametrize(
    "webhook",
    [
        {"url": "https://user:hunter2@example.com/"},
        {"url": "ftp://example.com/hunter2"},
        {"url": ["hunter2"]},
        {"url": "https://example.com", "headers": [{"name": "Authorization", "value": "hunter2"}]},
        {"url": "https://example.com", "headers": [{"name": "X-A", "value": "hunter2\n"}]},
        {"url": "https://example.com", "headers": [{"name": "X-A", "value": {"hunter2": 1}}]},
    ],
)
def test_no_error_shows_a_credential_that_was_written_into_a_spec(webhook: dict[str, Any]) -> None:
    with pytest.raises(InvalidSpec) as caught:
        read_spec({**LEAST, "webhook": webhook})
    shown = "".join(traceback.format_exception(caught.value)) + repr(caught.value)
    assert "hunter2" not in shown


def test_no_representation_shows_the_url_or_the_value_of_a_header() -> None:
    webhook = {"url": "https://example.com/hunter2", "headers": [{"name": "X-A", "value": "hunter2"}]}
    assert "hunter2" not in repr(read_eventsink(eventsink({**LEAST, "webhook": webhook})))
