"""docs/sources.md says what the router accepts, what it rejects and how it responds."""

from __future__ import annotations

import ast
import json

import pytest
import yaml

from eventsink.alerts import limits
from eventsink.alerts.alert import Severity
from eventsink.alerts.audit_rules import DEFAULT_RULES
from eventsink.alerts.formats import alertmanager, cloudevents, grafana
from eventsink.alerts.formats.format import Format
from eventsink.alerts.formats.registry import FORMATS
from eventsink.router.config import RouterSettings
from eventsink.router.intake.settings import IntakeSettings
from eventsink.router.tenants import NoTenantReason
from tests.unit.docs.pages import between, blocks, calls, names, page, rows

SOURCES = page("sources.md")


@pytest.mark.parametrize("format_", FORMATS.values(), ids=FORMATS)
def test_the_severity_table_of_a_format_is_that_of_the_program(format_: Format) -> None:
    [heading] = [line for line in SOURCES.splitlines() if line.startswith("### Severities of ") and f"`{format_.name}`" in line]
    section = between(SOURCES, heading, "\n##")
    listed = {names(row[0])[0]: names(row[1]) for row in rows(section)}
    assert {word: severity for severity, words in listed.items() for word in words} == format_.severities
    assert list(listed) == list(reversed(Severity))


def test_the_table_of_formats_is_the_registry() -> None:
    listed, checked = (
        rows(between(SOURCES, "## Formats", "- **Repeats**")),
        rows(between(SOURCES, "| format | checked with |", "\n## ")),
    )
    assert {names(row[0])[0] for row in checked} == set(FORMATS)
    assert listed == [
        [
            f"`{one.name}`",
            one.repeats.value,
            "yes" if one.grouped else "no",
            ", ".join(f"`{suffix}`" for suffix in one.url_suffixes) or "none",
        ]
        for one in FORMATS.values()
    ]


def test_every_response_of_the_intake_is_explained() -> None:
    errors = [*calls("router/intake", "error"), *calls("router/intake", "reject")]
    errors += [one for name in ("error", "reject", "BadRequest") for one in calls("runtime/listener", name)]
    arguments = [call.args[0] for call in errors if call.args] + [call.args[1] for call in calls("router/intake", "_error")]
    given = {str(argument.value) for argument in arguments if isinstance(argument, ast.Constant)}
    codes = {code for code in given if code.isdigit()} | {"200", "503"}
    assert [row[0] for row in rows(between(SOURCES, "## Responses", "Errors are"))] == sorted(codes)


def test_every_reason_for_which_an_alert_is_rejected_is_explained() -> None:
    listed = {names(row[0])[0] for row in rows(between(SOURCES, "## Rejected alerts", "## Responses"))}
    assert listed == {*NoTenantReason, "Unusable"}


def test_the_examples_of_sources_are_accepted_by_the_router_and_the_senders_post_to_them() -> None:
    documents = [yaml.safe_load(block) for block in blocks(SOURCES, "yaml")]
    settings = [RouterSettings.model_validate(one) for one in documents if "sources" in one]
    by_format = {source.format: source for one in settings for source in one.sources}
    assert set(by_format) | {"cloudevents", "kubernetes-events"} == set(FORMATS)
    alertmanager_source, prometheus_source = by_format["alertmanager"], by_format["prometheus"]
    falco_source, grafana_source = by_format["falco"], by_format["grafana"]
    [configuration] = [one for one in documents if "receivers" in one]
    [webhook] = configuration["receivers"][1]["webhook_configs"]
    assert webhook["url"].endswith(f":8080/v1/alerts/{alertmanager_source.name}")
    assert f":8080/v1/alerts/{grafana_source.name}`" in SOURCES
    [policy_reporter] = [one["target"]["webhook"]["webhook"] for one in documents if "target" in one]
    assert policy_reporter.endswith(f":8080/v1/alerts/{by_format['policy-reporter'].name}")
    [trivy] = [one["operator"]["webhookBroadcastURL"] for one in documents if "operator" in one]
    assert trivy.endswith(f":8080/v1/alerts/{by_format['trivy-operator'].name}")
    assert f":8080/v1/alerts/{by_format['policy-report'].name}\n" in SOURCES
    [falco] = [one for one in documents if "http_output" in one]
    assert falco["http_output"]["url"].endswith(f":8080/v1/alerts/{falco_source.name}/<token>")
    assert falco_source.path_token
    [prometheus] = [one["alerting"]["alertmanagers"] for one in documents if "alerting" in one]
    assert prometheus[0]["path_prefix"] == f"/v1/alerts/{prometheus_source.name}"


def test_the_limits_are_those_of_the_program() -> None:
    listed = {row[0]: row[1] for row in rows(SOURCES.split("## Limits", 1)[1])}
    made = (limits.MADE_LEAST_BYTES >> 20, limits.MADE_MOST_BYTES >> 20)
    assert listed == {
        "a request": f"{IntakeSettings().max_body_bytes >> 20} MiB (`intake.maxBodyBytes`)",
        "what is made of a request": f"{limits.MADE_MULTIPLE} times its size, but always {made[0]} MiB and never more than {made[1]} MiB",
        "labels of an alert, and annotations": f"{limits.MAX_LABELS}",
        "name of a label or an annotation": f"{limits.MAX_NAME_CHARACTERS} characters",
        "value of a label": f"{limits.MAX_VALUE_CHARACTERS} characters",
        "value of an annotation": f"{limits.MAX_ANNOTATION_CHARACTERS} characters",
        "all labels of an alert": f"{limits.MAX_LABELS_CHARACTERS} characters",
        "all annotations of an alert": f"{limits.MAX_ANNOTATIONS_CHARACTERS} characters",
        "name of an alert": f"{limits.MAX_NAME_CHARACTERS} characters",
        "`summary`": f"{limits.MAX_SUMMARY_CHARACTERS} characters",
        "group labels, and common labels": f"{limits.MAX_GROUP_LABELS_CHARACTERS} characters",
        "key of a group": f"{limits.MAX_KEY_CHARACTERS} characters",
        "a URL": f"{limits.MAX_URL_CHARACTERS} characters",
        "`externalURL`": f"{limits.MAX_SHARED_URL_CHARACTERS} characters",
    }


def test_members_of_grafanas_alerts_become_what_the_page_says() -> None:
    listed = {names(row[0])[0]: names(row[1]) for row in rows(between(SOURCES, "| member of Grafana's", "An annotation"))}
    assert {member: next(one for one in said if not one.startswith("links.")) for member, said in listed.items()} == {
        **grafana.TEXTS,
        "values": grafana.VALUES,
    }


def test_the_default_rules_for_an_audit_log_are_those_of_the_page() -> None:
    listed = rows(between(SOURCES, "| default rule | severity", "- **Components**"))
    assert [(names(row[0])[0], names(row[1])[0]) for row in listed] == [(one.name, one.severity) for one in DEFAULT_RULES]
    for row, rule in zip(listed, DEFAULT_RULES, strict=True):
        if rule.resources != ("*",):
            assert tuple(names(row[2])) == rule.resources
        whom = {one for one in rule.except_users if one.endswith("*")}
        assert row[3] == ("components and ServiceAccounts" if "system:serviceaccount:*" in whom else "components" if whom else "")


def test_the_members_of_an_events_data_that_become_labels_are_those_of_the_page() -> None:
    listed = {row[0]: row[1] for row in rows(between(SOURCES, "| part of an event", "An empty batch"))}
    assert names(next(part for part in listed if part.endswith("of the data"))) == list(cloudevents.FROM_DATA)


@pytest.mark.parametrize(
    ("annotations", "member"),
    [
        *((name, "summary") for name in ("summary", "title", "message", "description")),
        *((name, "description") for name in ("description", "message")),
        *((name, "runbook") for name in ("runbook_url", "runbook")),
        *((name, "dashboard") for name in ("dashboard_url", "dashboardURL", "dashboard", "__dashboard_url__")),
    ],
)
def test_annotations_are_read_as_the_page_says(annotations: str, member: str) -> None:
    listed = {
        names(row[0])[0].removeprefix("links."): names(row[1]) for row in rows(between(SOURCES, "## What is read", "## Sev"))
    }
    assert annotations in listed[member]
    value = "https://example.com/page"
    alert = {"status": "firing", "labels": {"a": "b"}, "startsAt": "2026-01-01T12:00:00Z", "annotations": {annotations: value}}
    [incoming] = alertmanager.parse(json.dumps({"version": "4", "alerts": [alert]}).encode()).alerts
    assert value in (getattr(incoming, member, None), getattr(incoming.links, member, None))
