"""Each recipe is a sample that is accepted as it is, and whose messages the service takes, whatever alerts say."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any, cast

import msgspec
import pytest
import yaml
from aiohttp import ClientSession
from click.testing import CliRunner

from eventsink.alerts.alert import Alert, Links, Severity, Status
from eventsink.cli import main
from eventsink.destinations.credentials import secret_text
from eventsink.destinations.webhook.config import WebhookPolicy
from eventsink.destinations.webhook.resolve import target_of
from eventsink.destinations.webhook.sender import open_sender
from eventsink.destinations.webhook.spec import WebhookSpec
from eventsink.destinations.webhook.target import WebhookTarget
from eventsink.resources.eventsink import EventSink, read_eventsink
from eventsink.sinks.sender import Delivered, Failed, FailureClass, Message, SenderContext
from tests.support.services import JSM, OPSGENIE, SERVICES, StandIn
from tests.support.templates import alert, resolved
from tests.unit.destinations.sender_contract import sink_of
from tests.unit.docs.pages import ROOT

SAMPLES = ROOT / "manifests" / "samples"
HOSTILE = 'x"}],\\ \u202e <users/all> @everyone <!here> \n\t\u0001 {{ nothing }} [a](javascript:b) \U0001f525'
URL = "https://example.com/runbook"
ALERTS = {
    "one that fires": alert(links=Links(source=URL, runbook=URL)),
    "its end": resolved(alert(links=Links(source=URL))),
    "one that says hardly anything": Alert(
        id="1" * 32,
        fingerprint="2" * 32,
        source="alertmanager",
        tenant="acme",
        status=Status.FIRING,
        severity=Severity.UNKNOWN,
        name="",
        summary="",
        description="",
        namespace="",
        labels={"job": "x"},
        annotations={},
        starts_at=datetime(2026, 1, 1, tzinfo=UTC),
        ends_at=None,
        links=Links(),
    ),
    "a hostile one": alert(HOSTILE, summary=HOSTILE, description=HOSTILE, labels={"team": HOSTILE, "empty": ""}),
    "a long one": alert(
        "n" * 256,
        id="3" * 32,
        fingerprint="3" * 32,
        summary="\u0001é🔥" * 1300,
        description="\u0001é🔥" * 20_000,
        severity=Severity.CRITICAL,
        labels={f"{'l' * 200}{number}": "\u0001é🔥" * 100 for number in range(60)},
        annotations={"summary": "é" * 60_000},
    ),
    "an event": alert(status=Status.EVENT, severity=Severity.INFORMATIONAL),
}


def sample(recipe: str) -> tuple[EventSink, WebhookTarget]:
    """The sink of a recipe, compiled with the Secret beside it."""
    documents = list(yaml.safe_load_all((SAMPLES / f"recipe-{recipe}.yaml").read_text()))
    secrets = {
        one["metadata"]["name"]: {key: value.encode() for key, value in one["stringData"].items()}
        for one in documents
        if one["kind"] == "Secret"
    }
    [document] = (one for one in documents if one["kind"] == "EventSink")
    sink = read_eventsink({**document, "metadata": {**document["metadata"], "uid": "u", "generation": 1}})
    assert isinstance(sink.spec.destination, WebhookSpec)
    target = target_of(
        sink.spec.destination,
        lambda path, ref: secret_text(path, ref, secrets, sink.namespace),
        WebhookPolicy(allow_http=False),
        datetime.now(UTC),
    )
    return sink, target


async def sent(recipe: str, *alerts: Alert, **changed: Any) -> tuple[StandIn, Delivered | Failed]:
    _, target = sample(recipe)
    target = target.model_copy(update=changed)
    service = StandIn(SERVICES[recipe])
    sender = open_sender(sink_of(target), target, SenderContext(service, cast(ClientSession, None)))
    encoded = [msgspec.json.encode(one) for one in alerts]
    return service, await sender.send(Message(id="m", alerts=encoded, batched=target.batch > 1))


def test_each_recipe_has_a_service_to_be_tested_with() -> None:
    assert {path.stem.removeprefix("recipe-") for path in SAMPLES.glob("recipe-*.yaml")} == SERVICES.keys()


@pytest.mark.parametrize("recipe", SERVICES)
def test_a_recipe_is_valid_as_it_is(recipe: str) -> None:
    ended = CliRunner().invoke(main, ["validate", str(SAMPLES / f"recipe-{recipe}.yaml")])
    assert (ended.exit_code, ended.stderr) == (0, "1 EventSink in order\n")


@pytest.mark.parametrize("which", ALERTS)
@pytest.mark.parametrize("recipe", SERVICES)
async def test_the_service_takes_what_the_recipe_writes(recipe: str, which: str) -> None:
    service, outcome = await sent(recipe, ALERTS[which])
    assert service.rejected == []
    assert isinstance(outcome, Delivered), outcome
    assert len(service.taken) == 1


@pytest.mark.parametrize("recipe", SERVICES)
async def test_the_service_takes_nothing_else(recipe: str) -> None:
    service, outcome = await sent(recipe, ALERTS["one that fires"], template=None, content_type="application/json")
    assert isinstance(outcome, Failed)
    assert service.taken == []


async def test_an_incident_of_pagerduty_is_opened_and_resolved_by_one_key() -> None:
    events = [(await sent("pagerduty", one))[0].taken[0].json for one in (alert(), resolved(alert()))]
    assert [one["event_action"] for one in events] == ["trigger", "resolve"]
    assert events[0]["dedup_key"] == events[1]["dedup_key"] == alert().fingerprint
    severities = [(await sent("pagerduty", alert(severity=one)))[0].taken[0].json["payload"]["severity"] for one in Severity]
    assert dict(zip((one.value for one in Severity), severities, strict=True)) == {
        "unknown": "warning",
        "informational": "info",
        "low": "info",
        "medium": "warning",
        "high": "error",
        "critical": "critical",
        "fatal": "critical",
    }


async def test_pagerduty_takes_the_key_in_the_body_as_it_is_documented_and_no_event_without_one() -> None:
    _, target = sample("pagerduty")
    assert target.template is not None
    documented = target.template.replace("{\n", '{\n  "routing_key": "0123456789abcdef0123456789abcdef",\n', 1)
    service, outcome = await sent("pagerduty", alert(), template=documented, headers=())
    assert isinstance(outcome, Delivered), service.rejected
    assert service.taken[0].json["routing_key"] == "0123456789abcdef0123456789abcdef"
    service, outcome = await sent("pagerduty", alert(), headers=())
    assert isinstance(outcome, Failed)
    assert (service.rejected, outcome.failure) == (["no routing key"], FailureClass.MESSAGE)


@pytest.mark.parametrize("url", [OPSGENIE, JSM])
@pytest.mark.parametrize("which", ALERTS)
async def test_opsgenie_and_jira_service_management_take_the_same_sample(url: str, which: str) -> None:
    service, outcome = await sent("opsgenie", ALERTS[which], url=url)
    assert service.rejected == []
    assert isinstance(outcome, Delivered), outcome
    assert [one.url for one in service.taken] == [url]


def test_the_page_names_the_url_of_jira_service_management_with_which_the_sample_is_tested() -> None:
    assert f"`{JSM}`" in (ROOT / "docs" / "recipes.md").read_text()


async def test_a_thread_of_google_chat_has_an_alert_and_its_end() -> None:
    keys = [(await sent("google-chat", one))[0].taken[0].json["thread"]["threadKey"] for one in (alert(), resolved(alert()))]
    assert keys[0] == keys[1] == alert().fingerprint


async def test_an_alertmanager_gets_all_labels_and_the_ends() -> None:
    service, _ = await sent("to-alertmanager", alert(), resolved(alert(pod="b")))
    first, second = service.taken[0].json
    assert first["labels"] == alert().labels
    assert (first["endsAt"][:4], second["endsAt"]) == ("2100", "2026-03-01T10:12:00Z")


def test_opsgenie_is_sent_no_end_which_would_be_an_alert_of_its_own() -> None:
    sink, _ = sample("opsgenie")
    assert sink.spec.delivery is not None
    assert sink.spec.delivery.send_resolved is False


async def test_a_chat_that_says_that_it_did_not_take_the_message_gets_it_again() -> None:
    _, target = sample("telegram")
    service = StandIn(lambda _: (200, json.dumps({"ok": False}).encode()))
    sender = open_sender(sink_of(target), target, SenderContext(service, cast(ClientSession, None)))
    outcome = await sender.send(Message(id="m", alerts=[msgspec.json.encode(alert())]))
    assert isinstance(outcome, Failed)
    assert outcome.reason == "UnexpectedResponse"
