"""A compiled sink is one JSON document that this version, the one before and the next can read."""

from __future__ import annotations

import json
from typing import Any

import pytest
from pydantic import ValidationError

from eventsink.destinations.slack.target import SlackTarget
from eventsink.destinations.webhook.target import WebhookTarget
from eventsink.sinks import sink as documents
from eventsink.sinks.sink import CompiledFrom, Sink, Tenancy, Withdrawn
from eventsink.sinks.target import DispatchParameters, PayloadKind, Target

WEBHOOK = WebhookTarget(url="https://hooks.example.com/canary", format="alertmanager")
SLACK = SlackTarget(token="canary", team_id="T1", channel_id="C1")


def sink(target: Target | None) -> Sink:
    return Sink(
        uid="u",
        namespace="acme",
        name="alerts",
        display_name="Alerts",
        tenant="acme",
        compiled_from=CompiledFrom(generation=1),
        destination=target.destination() if target else "d",
        dispatch=target.dispatch_parameters() if target else DispatchParameters(),
        target=target,
    )


@pytest.mark.parametrize("target", [WEBHOOK, SLACK, None])
def test_a_written_sink_is_read_back(target: Target | None) -> None:
    written = sink(target)
    assert Sink.model_validate_json(written.to_json()) == written
    assert "canary" not in repr(written)


@pytest.mark.parametrize("target", [WEBHOOK, SLACK])
def test_the_target_has_the_member_name_that_version_0_1_reads(target: Target) -> None:
    document = json.loads(sink(target).to_json())
    assert document["version"] == 1
    assert document["type"] == target.type
    assert document[target.type] == json.loads(target.model_dump_json(by_alias=True, exclude_none=True, exclude={"type"}))


@pytest.mark.parametrize("target", [WEBHOOK, SLACK])
def test_a_sink_that_version_0_1_compiled_gets_the_dispatch_parameters_of_its_target(target: Target) -> None:
    document = json.loads(sink(target).to_json())
    del document["dispatch"], document["type"]
    assert Sink.model_validate(document) == sink(target)


def test_a_destination_type_of_a_newer_version_is_known_only_by_name() -> None:
    document = json.loads(sink(WEBHOOK).to_json())
    document |= {"type": "pager", "pager": document.pop("webhook")}
    read = Sink.model_validate(document)
    assert read.target == Target(type="pager")
    assert read.dispatch.payload is PayloadKind.GROUP


@pytest.mark.parametrize("target", [WEBHOOK, SLACK])
@pytest.mark.parametrize("absent", [{}, {"webhook": None, "slack": None}])
def test_a_document_without_the_target_of_a_known_type_is_not_read(target: Target, absent: dict[str, None]) -> None:
    document = json.loads(sink(target).to_json())
    del document[target.type]
    with pytest.raises(ValidationError, match="has no member of the name of its type"):
        Sink.model_validate({**document, **absent})


def test_a_withdrawn_sink_keeps_its_dispatch_parameters() -> None:
    withdrawn = sink(WEBHOOK).model_copy(update={"target": None, "withdrawn": Withdrawn(reason="TenantNotOwned", since="x")})
    read = Sink.model_validate_json(withdrawn.to_json())
    assert (read.type, read.target, read.dispatch.payload) == ("withdrawn", None, PayloadKind.GROUP)


@pytest.mark.parametrize(
    ("current", "version", "readable"), [(1, 1, True), (1, 2, False), (1, 0, False), (3, 2, True), (3, 1, False)]
)
def test_a_reader_accepts_its_own_version_and_the_previous_one(
    monkeypatch: pytest.MonkeyPatch, current: int, version: int, readable: bool
) -> None:
    monkeypatch.setattr(documents, "DOCUMENT_VERSION", current)
    for model, document in ((Sink, json.loads(sink(WEBHOOK).to_json())), (Tenancy, {"owners": {}})):
        given: dict[str, Any] = {**document, "version": version}
        if readable:
            assert model.model_validate(given)
        else:
            with pytest.raises(
                ValidationError, match=f"has version {version}, and this program reads version {current}: upgrade it"
            ):
                model.model_validate(given)


@pytest.mark.parametrize(
    ("target", "error"),
    [({}, ("webhook", "url")), ({"url": "canary", "timeout": "canary"}, ("webhook", "timeout")), ("canary", ("webhook",))],
)
def test_an_error_in_a_target_names_the_field_within_the_sink_and_no_value(target: Any, error: tuple[str, ...]) -> None:
    document = json.loads(sink(WEBHOOK).to_json()) | {"webhook": target}
    with pytest.raises(ValidationError) as caught:
        Sink.model_validate(document)
    assert [one["loc"] for one in caught.value.errors()] == [error]
    assert "canary" not in f"{caught.value} {caught.value.errors()}"
