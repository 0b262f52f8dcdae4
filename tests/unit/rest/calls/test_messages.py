"""Whatever is said of a sink, a response says it in terms of a request: no field of a spec, and no Secret to create or change."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

import eventsink
from eventsink.destinations import registry
from eventsink.destinations.arguments import arguments
from eventsink.resources.rule import Rule
from eventsink.rest.body import SENTENCES
from eventsink.rest.calls.messages import rest_path, rest_sentence
from tests.unit.resources.every_rule import RULES

PACKAGE = Path(eventsink.__file__).parent
SPEC_WORD = re.compile(r"\b[a-z]+[A-Z]\w*|secretKeyRef|SecretRef|\btls\b|EventSink")
"""A field of a spec whose argument has another name."""
ONLY_IN_YAML = {
    "HEADER_ONE_VALUE",
    "HEADER_CREDENTIAL",
    "SECRET_NAME",
    "SECRET_KEY",
    "TENANT_IMMUTABLE",
    "ONE_DESTINATION",
    "ONE_USERNAME",
    "ONE_CLIENT_ID",
    "SOME_TLS",
}
"""Rules that no request can break: values of headers are always kept in a Secret of the REST API, and a tenant is in no PUT."""


@pytest.mark.parametrize(
    "rule", [rule for name, rule in RULES.items() if name not in ONLY_IN_YAML], ids=lambda rule: rule.message[:40]
)
def test_the_message_of_every_rule_names_arguments(rule: Rule) -> None:
    said = rest_sentence(rule.message)
    assert not SPEC_WORD.search(said)
    assert "in a Secret" not in said


@pytest.mark.parametrize(
    ("message", "said"),
    [
        ("repeatInterval must be from 1m to 30d", "repeat_interval must be from 1m to 30d"),
        ("name its authority in tls.caSecretRef.", "name its authority in ca_certificate."),
        (
            "its authority (tls.caSecretRef) and its name (tls.serverName)",
            "its authority (ca_certificate) and its name (server_name)",
        ),
        ("name a Secret with one in tls.clientCertSecretRef", "name a Secret with one in client_certificate"),
        (
            "name a credential (botTokenSecretRef, incomingWebhookSecretRef or oauthCodeSecretRef)",
            "name a credential (bot_token, incoming_webhook_url or slack_oauth_code)",
        ),
        (
            "spec.slack.botTokenSecretRef: Slack rejects the token (invalid_auth); put a valid one into the Secret",
            "event_sink_args.Slack.bot_token: Slack rejects the token (invalid_auth); create the sink again with a valid token, which a "
            "change does not replace",
        ),
        (
            "check spec.slack.channel, and that the app is a member",
            "check event_sink_args.Slack.channel, and that the app is a member",
        ),
        (
            "spec.webhook.urlSecretRef: Secret eventsink-rest-alerts-0a1b2c3d not found, create it with: "
            "kubectl -n acme create secret generic eventsink-rest-alerts-0a1b2c3d --from-literal=url=...",
            "event_sink_args.Webhook.secret_url: the value that was kept is gone; send it again, or create the sink again",
        ),
        # What is no field of a spec stays: settings of the platform, words of the language, names of others.
        ("the platform allows https:// only (operator setting webhooks.allowHttp)",) * 2,
        ("operator settings slackApp.clientId and slackApp.clientSecretFile; slack.tokenFile",) * 2,
        ("check the URL, the format and the timeout; the name of a tenant matches",) * 2,
        ("Secret hook not found, create it with: kubectl -n acme create secret generic hook --from-literal=url=...",) * 2,
    ],
)
def test_a_message_is_put_in_terms_of_a_request(message: str, said: str) -> None:
    assert rest_sentence(message) == said


def test_every_sentence_that_is_replaced_is_one_that_the_type_says() -> None:
    for name in registry.names():
        spoken = " ".join(
            node.value
            for file in (PACKAGE / "destinations" / name).glob("*.py")
            if file.name != "arguments.py"
            for node in ast.walk(ast.parse(file.read_text()))
            if isinstance(node, ast.Constant) and isinstance(node.value, str)
        )
        for sentence in arguments()[name].sentences:
            assert sentence in spoken


def test_messages_about_the_form_of_a_request_are_not_about_yaml() -> None:
    assert not [
        sentence for sentence in SENTENCES.values() if "YAML" in sentence or "operator" in sentence or "quotes" in sentence
    ]


@pytest.mark.parametrize("path", ["", "spec", "match"])
def test_what_is_no_path_stays(path: str) -> None:
    assert rest_path(path) == path
