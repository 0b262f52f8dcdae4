"""Requests become specs: omitted fields stay, credentials go into a Secret, and errors name the fields of the request."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

import pytest

from eventsink.rest.body import read
from eventsink.rest.calls.messages import rest_path, rest_sentence
from eventsink.rest.calls.responses import response_of
from eventsink.rest.calls.secrets import referenced_secrets
from eventsink.rest.calls.specs import SpecChange, changed_spec, muted_spec, new_signing_secret, new_spec, unmuted_spec
from eventsink.rest.errors import Conflict, InvalidRequest, NotFound, RestError
from eventsink.rest.models import CreateRequest, MuteRequest, UpdateRequest

UID = "6fa1c1f2-7d3b-4e0e-9d9b-0c5a1c8c4a11"
URL = "https://example.com/hook"


def new(args: dict[str, Any], **more: Any) -> SpecChange:
    body = {"tenant_id": "acme", "name": "Alerts", "event_sink_args": args, **more}
    return new_spec(read(CreateRequest, json.dumps(body).encode()), "own", "whsec_made")


def changed(before: dict[str, Any], **changes: Any) -> SpecChange:
    return changed_spec(before, read(UpdateRequest, json.dumps({"id": UID, **changes}).encode()), "new", "whsec_made")


def ref(key: str, name: str = "own") -> dict[str, str]:
    return {"name": name, "key": key}


def webhook(**fields: Any) -> dict[str, Any]:
    return {"tenant": "acme", "name": "Alerts", "webhook": {"url": URL, **fields}}


NEW: list[tuple[str, dict[str, Any], dict[str, Any], dict[str, str]]] = [
    ("a URL goes into the spec", {"Webhook": {"url": URL}}, {"webhook": {"url": URL}}, {}),
    (
        "a secret URL does not",
        {"Webhook": {"secret_url": URL}},
        {"webhook": {"urlSecretRef": ref("url")}},
        {"url": URL},
    ),
    (
        "values of headers do not",
        {"Webhook": {"url": URL, "headers": [{"name": "A", "value": "1"}, {"name": "B", "value": "2"}]}},
        {
            "webhook": {
                "url": URL,
                "headers": [
                    {"name": "A", "valueFrom": {"secretKeyRef": ref("header-0")}},
                    {"name": "B", "valueFrom": {"secretKeyRef": ref("header-1")}},
                ],
            }
        },
        {"header-0": "1", "header-1": "2", "origin": "https://example.com"},
    ),
    (
        "a signing secret does not",
        {"Webhook": {"url": URL, "signing_secret": "whsec_abc"}},
        {"webhook": {"url": URL, "signingSecretRefs": [ref("signing-secret")]}},
        {"signing-secret": "whsec_abc"},
    ),
    (
        "a generated one does not",
        {"Webhook": {"url": URL, "generate_signing_secret": True}},
        {"webhook": {"url": URL, "signingSecretRefs": [ref("signing-secret")]}},
        {"signing-secret": "whsec_made"},
    ),
    (
        "a certificate does not",
        {"Webhook": {"url": URL, "ca_certificate": "pem"}},
        {"webhook": {"url": URL, "tls": {"caSecretRef": ref("ca.crt")}}},
        {"ca.crt": "pem"},
    ),
    (
        "a client certificate and its key, which are presented together",
        {"Webhook": {"url": URL, "client_certificate": "pem", "client_key": "key", "server_name": "a.example"}},
        {"webhook": {"url": URL, "tls": {"clientCertSecretRef": {"name": ref("x")["name"]}, "serverName": "a.example"}}},
        {"tls.crt": "pem", "tls.key": "key"},
    ),
    (
        "a password, with the host that it is for",
        {"Webhook": {"url": URL, "auth": {"basic": {"username": "a", "password": "b"}}}},
        {"webhook": {"url": URL, "auth": {"basic": {"username": "a", "passwordSecretRef": ref("basic-password")}}}},
        {"basic-password": "b", "origin": "https://example.com"},
    ),
    (
        "a token, with the host that it is for",
        {"Webhook": {"url": URL, "auth": {"bearer": {"token": "t"}}}},
        {"webhook": {"url": URL, "auth": {"bearer": {"tokenSecretRef": ref("bearer-token")}}}},
        {"bearer-token": "t", "origin": "https://example.com"},
    ),
    (
        "a client of an authorization server, with both hosts",
        {
            "Webhook": {
                "url": URL,
                "auth": {
                    "oauth2": {
                        "token_url": "https://login.example.com/token",
                        "client_id": "c",
                        "client_secret": "s",
                        "scopes": ["a"],
                        "endpoint_params": [{"name": "audience", "value": "x"}],
                    }
                },
            }
        },
        {
            "webhook": {
                "url": URL,
                "auth": {
                    "oauth2": {
                        "tokenUrl": "https://login.example.com/token",
                        "clientId": "c",
                        "clientSecretRef": ref("oauth2-client-secret"),
                        "scopes": ["a"],
                        "endpointParams": [{"name": "audience", "value": "x"}],
                    }
                },
            }
        },
        {"oauth2-client-secret": "s", "origin": "https://example.com", "token-origin": "https://login.example.com"},
    ),
    (
        "settings of a webhook",
        {"Webhook": {"url": URL, "format": "cloudevents", "batch": 5, "timeout": "3s"}},
        {"webhook": {"url": URL, "format": "cloudevents", "batch": 5, "timeout": "3s"}},
        {},
    ),
    (
        "a code",
        {"Slack": {"channel": "#a", "slack_oauth_code": "c"}},
        {"slack": {"channel": "#a", "oauthCodeSecretRef": ref("code")}},
        {"code": "c"},
    ),
    (
        "a token",
        {"Slack": {"channel": "#a", "bot_token": "t"}},
        {"slack": {"channel": "#a", "botTokenSecretRef": ref("token")}},
        {"token": "t"},
    ),
    (
        "an incoming webhook",
        {"Slack": {"incoming_webhook_url": "https://hooks.slack.com/x"}},
        {"slack": {"incomingWebhookSecretRef": ref("url")}},
        {"url": "https://hooks.slack.com/x"},
    ),
    ("the platform's workspace", {"Slack": {"channel": "#a"}}, {"slack": {"channel": "#a"}}, {}),
    (
        "what Slack messages show",
        {
            "Slack": {
                "channel": "#a",
                "slack_fields": [{"label": "team"}, {"annotation": "value", "title": "Value"}],
                "slack_buttons": [{"text": "Logs", "url_annotation": "logs_url"}],
                "slack_mentions": [{"min_severity": "critical", "users": ["U012"], "here": True}],
                "slack_links": "text",
                "slack_template": {"title": "{{ name }}"},
                "slack_updates": "thread",
                "slack_repeats": "channel",
            }
        },
        {
            "slack": {
                "channel": "#a",
                "fields": [{"label": "team"}, {"annotation": "value", "title": "Value"}],
                "buttons": [{"text": "Logs", "urlAnnotation": "logs_url"}],
                "mentions": [{"minSeverity": "critical", "users": ["U012"], "here": True}],
                "links": "text",
                "template": {"title": "{{ name }}"},
                "updates": "thread",
                "repeats": "channel",
            }
        },
        {},
    ),
]


@pytest.mark.parametrize(("args", "destination", "values"), [case[1:] for case in NEW], ids=[case[0] for case in NEW])
def test_credentials_of_a_new_sink_go_into_its_secret(
    args: dict[str, Any], destination: dict[str, Any], values: dict[str, str]
) -> None:
    change = new(args)
    assert change.spec == {"tenant": "acme", "name": "Alerts", **destination}
    assert change.values == values
    assert change.generates == ("whsec_made" in values.values())
    assert referenced_secrets(change.spec) == ({"own"} if values else set())


def test_times_are_written_and_shown_in_the_form_of_each_side() -> None:
    interval = {"times": [{"start_time": "08:00", "end_time": "18:00"}], "days_of_month": ["1:7"], "months": None}
    match = {"active_times": [interval], "outside_times": "drop"}
    change = new({"Webhook": {"url": URL}}, match=match)
    written = {"times": [{"startTime": "08:00", "endTime": "18:00"}], "daysOfMonth": ["1:7"]}
    assert change.spec["match"] == {"activeTimes": [written], "outsideTimes": "drop"}
    shown = response_of({"metadata": {"uid": UID, "namespace": "a", "name": "b"}, "spec": change.spec}).match
    assert shown is not None
    assert shown.model_dump(exclude_none=True) == {
        "active_times": [{k: v for k, v in interval.items() if v}],
        "outside_times": "drop",
    }
    with pytest.raises(InvalidRequest, match=r"match.active_times\[0\].times\[0\].end_time: end_time must be after start_time"):
        new({"Webhook": {"url": URL}}, match={"active_times": [{"times": [{"start_time": "08:00", "end_time": "08:00"}]}]})
    with pytest.raises(InvalidRequest, match=r"match.mute_times\[0\].location: write the name of a time zone"):
        new({"Webhook": {"url": URL}}, match={"mute_times": [{"location": "Mars/Olympus"}]})
    assert changed(change.spec, match={"active_times": None, "outside_times": None}).spec.get("match") is None


NOW = datetime(2026, 11, 26, 12, tzinfo=UTC)
A, B = {"matchers": ['a="1"'], "until": "2026-11-26T13:00:00Z"}, {"matchers": ['b="1"', 'c="1"'], "until": "2026-11-27T00:00:00Z"}
OVER = {"matchers": ['o="1"'], "until": "2026-11-26T12:00:00Z"}


def muted(before: list[Any], **request: Any) -> list[Any]:
    spec = webhook() | ({"mutes": before} if before else {})
    change = muted_spec(spec, read(MuteRequest, json.dumps(request).encode()), NOW)
    assert change.spec == spec | {"mutes": change.spec["mutes"]}
    assert not change.values
    found: list[Any] = change.spec["mutes"]
    return found


@pytest.mark.parametrize(
    ("before", "request_", "after"),
    [
        pytest.param([], A, [A], id="the first"),
        pytest.param([B], A, [B, A], id="one more"),
        pytest.param([OVER, B], A, [B, A], id="what is over goes"),
        pytest.param([A], A | {"until": "2026-11-26T14:00:00Z"}, [A | {"until": "2026-11-26T14:00:00Z"}], id="longer"),
        pytest.param(
            [B, A], {**B, "matchers": B["matchers"][::-1]}, [A, {**B, "matchers": B["matchers"][::-1]}], id="in another order"
        ),
        pytest.param([A], A | {"from": "2026-11-26T12:30:00Z"}, [A, A | {"from": "2026-11-26T12:30:00Z"}], id="another start"),
        pytest.param(
            [],
            {"matchers": A["matchers"], "duration": "1h30m", "comment": "why"},
            [A | {"until": "2026-11-26T13:30:00Z", "comment": "why"}],
            id="a duration",
        ),
        pytest.param([{"until": 5}, OVER], A, None, id="others are invalid"),
        pytest.param([A | {"matchers": [f'a="{number}"']} for number in range(32)], B, "at most 32", id="too many"),
        pytest.param([A | {"matchers": [f'a="{number}"']} for number in range(31)] + [OVER], B, 32, id="room by what is over"),
        pytest.param([], OVER, "until: in the past", id="in the past"),
        pytest.param([], {"matchers": ["a"], "duration": "1h"}, r"mutes\[0\].matchers\[0\]: write matchers", id="no matcher"),
        pytest.param([], {"matchers": ['a="1"'], "duration": "1"}, "duration: write a duration", id="no duration"),
        pytest.param([], {"matchers": ['a="1"'], "duration": "9999999w"}, "duration: too long", id="a long duration"),
        pytest.param([], {"matchers": ['a="1"'], "until": "tomorrow"}, r"mutes\[0\].until: write a time", id="no time"),
    ],
)
def test_a_mute_is_added_or_replaces_the_one_with_the_same_matchers(
    before: list[Any], request_: dict[str, Any], after: Any
) -> None:
    if isinstance(after, list | int):
        found = muted(before, **request_)
        assert (found if isinstance(after, list) else len(found)) == after
    else:
        with pytest.raises(InvalidRequest, match=after):
            muted(before, **request_)


@pytest.mark.parametrize("ends", [{}, {"duration": "1h", "until": "2026-11-26T14:00:00Z"}])
def test_a_mute_ends_in_exactly_one_way(ends: dict[str, str]) -> None:
    with pytest.raises(InvalidRequest, match="exactly one of until and duration"):
        muted([], matchers=['a="1"'], **ends)


@pytest.mark.parametrize(("index", "left"), [(None, None), (0, [B]), (1, [A])])
def test_one_mute_or_all_of_them_are_removed(index: int | None, left: Any) -> None:
    assert unmuted_spec(webhook() | {"mutes": [A, B]}, index).spec.get("mutes") == left


def test_a_mute_that_is_not_there_cannot_be_removed() -> None:
    assert unmuted_spec(webhook(), None).spec == webhook()
    with pytest.raises(NotFound, match="no such mute"):
        unmuted_spec(webhook() | {"mutes": [A]}, 1)


def test_mutes_are_created_replaced_and_shown_as_a_list() -> None:
    mute = {"matchers": ['a="1"'], "from": "2026-11-26T12:00:00Z", "until": "2026-11-26T13:00:00Z"}
    made = new({"Webhook": {"url": URL}}, mutes=[mute]).spec
    assert made["mutes"] == [mute]
    shown = response_of({"metadata": {"uid": UID, "namespace": "a", "name": "b"}, "spec": made})
    assert json.loads(shown.model_dump_json(by_alias=True, exclude_none=True))["mutes"] == [mute]
    assert changed(made, mutes=[A]).spec["mutes"] == [A]
    assert "mutes" not in changed(made, mutes=None).spec


def test_match_and_delivery_are_written_in_the_form_of_the_resource() -> None:
    change = new(
        {"Webhook": {"url": URL}},
        description="why",
        suspend=True,
        match={"min_severity": "high", "namespaces": ["shop-*"], "matchers": ['a="b"']},
        delivery={"send_resolved": False, "repeat_interval": "4h", "max_age": "3d"},
    )
    assert change.spec["match"] == {"minSeverity": "high", "namespaces": ["shop-*"], "matchers": ['a="b"']}
    assert change.spec["delivery"] == {"sendResolved": False, "repeatInterval": "4h", "maxAge": "3d"}
    assert (change.spec["description"], change.spec["suspend"]) == ("why", True)


def test_a_change_shows_no_credential() -> None:
    change = new({"Webhook": {"url": URL, "signing_secret": "canary-value"}})
    assert "canary-value" not in repr(change)
    request = read(
        CreateRequest, b'{"tenant_id":"a","name":"b","event_sink_args":{"Slack":{"channel":"#a","bot_token":"canary"}}}'
    )
    assert "canary" not in repr(request)


FULL = webhook(
    headers=[{"name": "A", "valueFrom": {"secretKeyRef": ref("header-0", "old")}}],
    signingSecretRefs=[ref("signing-secret", "old")],
    tls={"caSecretRef": ref("ca.crt", "old")},
    batch=5,
)
CHANGES: list[tuple[str, dict[str, Any], dict[str, Any], dict[str, Any]]] = [
    ("nothing", FULL, {}, FULL),
    ("the same", FULL, {"name": "Alerts", "event_sink_args": {"Webhook": {"batch": 5}}}, FULL),
    ("the name", FULL, {"name": "New"}, {**FULL, "name": "New"}),
    ("a description", FULL, {"description": "d"}, {**FULL, "description": "d"}),
    ("no description", {**FULL, "description": "d"}, {"description": None}, FULL),
    ("an empty one", {**FULL, "description": "d"}, {"description": ""}, FULL),
    ("match", FULL, {"match": {"sources": ["a"]}}, {**FULL, "match": {"sources": ["a"]}}),
    ("no match", {**FULL, "match": {"sources": ["a"]}}, {"match": None}, FULL),
    ("an empty match", {**FULL, "match": {"sources": ["a"]}}, {"match": {}}, {**FULL, "match": {"sources": ["a"]}}),
    (
        "one member of match",
        {**FULL, "match": {"sources": ["a"], "minSeverity": "low"}},
        {"match": {"min_severity": "high"}},
        {**FULL, "match": {"sources": ["a"], "minSeverity": "high"}},
    ),
    (
        "one member of match cleared",
        {**FULL, "match": {"sources": ["a"], "minSeverity": "low"}},
        {"match": {"sources": None}},
        {**FULL, "match": {"minSeverity": "low"}},
    ),
    (
        "one member of delivery",
        {**FULL, "delivery": {"maxAge": "1h"}},
        {"delivery": {"send_resolved": False}},
        {**FULL, "delivery": {"maxAge": "1h", "sendResolved": False}},
    ),
    ("the last member of match", {**FULL, "match": {"sources": ["a"]}}, {"match": {"sources": None}}, FULL),
    ("suspend", FULL, {"suspend": True}, {**FULL, "suspend": True}),
    ("resume", {**FULL, "suspend": True}, {"suspend": None}, FULL),
    (
        "no batch",
        FULL,
        {"event_sink_args": {"Webhook": {"batch": None}}},
        {**FULL, "webhook": {key: value for key, value in FULL["webhook"].items() if key != "batch"}},
    ),
    (
        "a body of its own",
        FULL,
        {"event_sink_args": {"Webhook": {"template": "{{ name | json }}", "content_type": "application/json", "method": "PUT"}}},
        {
            **FULL,
            "webhook": {**FULL["webhook"], "template": "{{ name | json }}", "contentType": "application/json", "method": "PUT"},
        },
    ),
    (
        "what success is",
        FULL,
        {"event_sink_args": {"Webhook": {"success_when": {"statuses": [202], "pointer": "/ok", "equals": "true"}}}},
        {
            **FULL,
            "webhook": {**FULL["webhook"], "successWhen": {"statuses": [202], "pointer": "/ok", "equals": "true"}},
        },
    ),
    (
        "no certificate",
        FULL,
        {"event_sink_args": {"Webhook": {"ca_certificate": None}}},
        {**FULL, "webhook": {key: value for key, value in FULL["webhook"].items() if key != "tls"}},
    ),
    (
        "no headers",
        FULL,
        {"event_sink_args": {"Webhook": {"headers": []}}},
        {**FULL, "webhook": {key: value for key, value in FULL["webhook"].items() if key != "headers"}},
    ),
    (
        "another path of the same host",
        FULL,
        {"event_sink_args": {"Webhook": {"url": "https://example.com/other"}}},
        {**FULL, "webhook": {**FULL["webhook"], "url": "https://example.com/other"}},
    ),
    (
        "another signing secret beside the one before",
        FULL,
        {"event_sink_args": {"Webhook": {"signing_secret": "s"}}},
        {
            **FULL,
            "webhook": {**FULL["webhook"], "signingSecretRefs": [ref("signing-secret", "new"), ref("signing-secret", "old")]},
        },
    ),
    (
        "a secret URL instead",
        webhook(),
        {"event_sink_args": {"Webhook": {"secret_url": "https://other.example/"}}},
        {"tenant": "acme", "name": "Alerts", "webhook": {"urlSecretRef": ref("url", "new")}},
    ),
    (
        "a channel",
        {"tenant": "acme", "name": "a", "slack": {"channel": "#a", "botTokenSecretRef": ref("token", "old")}},
        {"event_sink_args": {"Slack": {"channel": "#b"}}},
        {"tenant": "acme", "name": "a", "slack": {"channel": "#b", "botTokenSecretRef": ref("token", "old")}},
    ),
    (
        "what Slack messages show",
        {
            "tenant": "acme",
            "name": "a",
            "slack": {"incomingWebhookSecretRef": ref("url", "old"), "links": "text", "fields": [{"label": "team"}]},
        },
        {"event_sink_args": {"Slack": {"slack_fields": [{"annotation": "value"}], "slack_links": None}}},
        {
            "tenant": "acme",
            "name": "a",
            "slack": {"incomingWebhookSecretRef": ref("url", "old"), "fields": [{"annotation": "value"}]},
        },
    ),
]


@pytest.mark.parametrize(("before", "changes", "after"), [case[1:] for case in CHANGES], ids=[case[0] for case in CHANGES])
def test_an_update_changes_only_the_given_fields(before: dict[str, Any], changes: dict[str, Any], after: dict[str, Any]) -> None:
    copy = json.loads(json.dumps(before))
    assert changed(before, **changes).spec == after
    assert before == copy


SECRET_HEADER = webhook(headers=[{"name": "A", "valueFrom": {"secretKeyRef": ref("header-0", "old")}}])
SLACK = {"tenant": "acme", "name": "a", "slack": {"channel": "#a"}}
OTHER_HOST = {"url": "https://other.example/"}
WITH_AUTH = webhook(auth={"bearer": {"tokenSecretRef": ref("bearer-token", "old")}})


def oauth2(**fields: Any) -> dict[str, Any]:
    client = {"token_url": "https://login.example.com/token", "client_id": "c", "client_secret": "canary"}
    return {"auth": {"oauth2": {**client, **fields}}}


REJECTED_WEBHOOKS: list[tuple[str, dict[str, Any], dict[str, Any], str]] = [
    (
        "two kinds of auth",
        FULL,
        {"auth": {"basic": {"username": "a", "password": "canary"}, "bearer": {"token": "canary"}}},
        "auth: set exactly one of basic, bearer and oauth2",
    ),
    ("no kind of auth", FULL, {"auth": {}}, "auth: set exactly one of basic, bearer and oauth2"),
    (
        "a token that was given for a host",
        WITH_AUTH,
        OTHER_HOST,
        "auth: write auth again together with the new URL: the values that are kept were given for the previous host",
    ),
    (
        "headers and a token that were given for a host",
        webhook(**SECRET_HEADER["webhook"], auth=WITH_AUTH["webhook"]["auth"]),
        OTHER_HOST,
        "headers: write headers and auth again together with the new URL",
    ),
    (
        "auth for a URL that is kept in a Secret",
        {**WITH_AUTH, "webhook": {"urlSecretRef": ref("url", "old")}},
        {"auth": {"bearer": {"token": "canary"}}},
        "auth: write secret_url together with them",
    ),
    (
        "auth beside the header that it writes",
        WITH_AUTH,
        {"headers": [{"name": "authorization", "value": "canary"}]},
        "headers: remove the header Authorization, or auth, which writes this header",
    ),
    (
        "a colon in a user name",
        FULL,
        {"auth": {"basic": {"username": "a:b", "password": "canary"}}},
        "auth.basic.username: a user name consists of ASCII characters, without control characters and colons",
    ),
    (
        "an address of tokens without a scheme",
        FULL,
        oauth2(token_url="login.example.com"),
        "auth.oauth2.token_url: the URL must begin with http:// or https://",
    ),
    (
        "an address of tokens with a password",
        FULL,
        oauth2(token_url="https://a:canary@login.example.com/"),
        "auth.oauth2.token_url: remove user and password from the URL; name the client in client_id and its secret in client_secret",
    ),
    ("a client of two lines", FULL, oauth2(client_id="a\nb"), "auth.oauth2.client_id: a client id consists of ASCII characters"),
    ("two scopes in one", FULL, oauth2(scopes=["a b"]), "auth.oauth2.scopes[0]: write one scope in each entry"),
    (
        "a parameter that the client sends itself",
        FULL,
        oauth2(endpoint_params=[{"name": "grant_type", "value": "password"}]),
        "auth.oauth2.endpoint_params[0].name: remove this parameter",
    ),
    ("a certificate without its key", FULL, {"client_certificate": "pem"}, "client_key: required with client_certificate"),
    ("a key without its certificate", FULL, {"client_key": "canary"}, "client_certificate: required with client_key"),
    (
        "a URL instead of a server's name",
        FULL,
        {"server_name": "https://a.example"},
        "server_name: a server name consists of parts of 1 to 63 letters, digits and -",
    ),
    (
        "a server's name where there is no TLS",
        webhook(url="http://a.example/"),
        {"server_name": "a.example"},
        "server_name: omit server_name, or use an https URL; an http URL has no certificate to check",
    ),
    (
        "no TLS any more where certificates are checked",
        FULL,
        {"secret_url": "http://example.com/canary", "headers": [], "server_name": "a.example"},
        "ca_certificate: omit ca_certificate and server_name, or use an https URL",
    ),
    (
        "a content type without a template",
        FULL,
        {"content_type": "text/plain"},
        "content_type: remove content_type; it is for bodies of a template, and each format has its own",
    ),
    (
        "a content type that is none",
        FULL,
        {"template": "{{ name | json }}", "content_type": "json"},
        "content_type: write a media type, such as application/json or text/plain; charset=utf-8",
    ),
    ("a method without a body", FULL, {"method": "GET"}, "method: write one of 'POST', 'PUT' or 'PATCH'"),
]
REJECTED: list[tuple[str, dict[str, Any], dict[str, Any], str]] = [
    ("no name", FULL, {"name": None}, "name: required"),
    ("no URL", FULL, {"event_sink_args": {"Webhook": {"url": None}}}, "event_sink_args.Webhook.url: required"),
    ("no channel", SLACK, {"event_sink_args": {"Slack": {"channel": None}}}, "event_sink_args.Slack.channel: required"),
    (
        "a mention of nobody",
        SLACK,
        {"event_sink_args": {"Slack": {"slack_mentions": [{"min_severity": "high"}]}}},
        "event_sink_args.Slack.slack_mentions[0]: set at least one of users, groups and here: true",
    ),
    (
        "a template that cannot be read",
        SLACK,
        {"event_sink_args": {"Slack": {"slack_template": {"body": "{{ name | upcas }}"}}}},
        "event_sink_args.Slack.slack_template.body: line 1, column 11: there is no filter upcas: did you mean upcase?",
    ),
    ("another type", FULL, {"event_sink_args": {"Slack": {"channel": "#a"}}}, "event_sink_args: the type cannot change"),
    (
        "headers that were given for a host",
        SECRET_HEADER,
        {"event_sink_args": {"Webhook": OTHER_HOST}},
        "event_sink_args.Webhook.headers",
    ),
    (
        "headers behind a secret URL",
        {**SECRET_HEADER, "webhook": {"urlSecretRef": ref("url", "old"), "headers": SECRET_HEADER["webhook"]["headers"]}},
        {"event_sink_args": {"Webhook": {"url": URL}}},
        "event_sink_args.Webhook.headers",
    ),
    (
        "the same host by another scheme",
        SECRET_HEADER,
        {"event_sink_args": {"Webhook": {"url": "http://example.com/hook"}}},
        "event_sink_args.Webhook.headers",
    ),
    (
        "headers for a URL that is kept in a Secret",
        {"tenant": "acme", "name": "Alerts", "webhook": {"urlSecretRef": ref("url", "old")}},
        {"event_sink_args": {"Webhook": {"headers": [{"name": "A", "value": "1"}]}}},
        "event_sink_args.Webhook.headers: write secret_url together with them",
    ),
    (
        "a bad expression",
        FULL,
        {"match": {"expression": "alert.nme"}},
        "match.expression: line 1, column 6: there is no alert.nme",
    ),
    ("a bad matcher", FULL, {"match": {"matchers": ["="]}}, "match.matchers[0]: "),
    (
        "a bad template",
        FULL,
        {"event_sink_args": {"Webhook": {"template": '"{{ name }}"'}}},
        "event_sink_args.Webhook.template: ",
    ),
    (
        "a redirect as success",
        FULL,
        {"event_sink_args": {"Webhook": {"success_when": {"statuses": [302]}}}},
        "event_sink_args.Webhook.success_when.statuses[0]: ",
    ),
    ("a bad batch", FULL, {"event_sink_args": {"Webhook": {"format": "alertmanager"}}}, "event_sink_args.Webhook.batch: "),
    *(
        (label, before, {"event_sink_args": {"Webhook": args}}, f"event_sink_args.Webhook.{sentence}")
        for label, before, args, sentence in REJECTED_WEBHOOKS
    ),
]


@pytest.mark.parametrize(("before", "changes", "sentence"), [case[1:] for case in REJECTED], ids=[case[0] for case in REJECTED])
def test_an_invalid_update_is_rejected(before: dict[str, Any], changes: dict[str, Any], sentence: str) -> None:
    with pytest.raises(InvalidRequest) as error:
        changed(before, **changes)
    assert error.value.sentence.startswith(sentence)
    assert "canary" not in error.value.sentence


@pytest.mark.parametrize(
    ("args", "origin"),
    [
        ({}, "https://example.com"),
        ({"url": "https://EXAMPLE.com:8443/x?y"}, "https://example.com:8443"),
        ({"secret_url": "http://example.com:80/canary"}, "http://example.com"),
    ],
)
def test_values_of_headers_are_kept_with_the_host_that_they_were_given_for(args: dict[str, Any], origin: str) -> None:
    headers = [{"name": "A", "value": "1"}]
    assert changed(webhook(), event_sink_args={"Webhook": {"headers": headers, **args}}).values["origin"] == origin


def test_plain_header_values_written_in_yaml_stay_with_their_host_since_responses_do_not_show_them() -> None:
    before = webhook(headers=[{"name": "X-Team", "value": "acme"}])
    with pytest.raises(InvalidRequest, match="headers: write headers again"):
        changed(before, event_sink_args={"Webhook": OTHER_HOST})


def test_a_sink_with_fields_of_a_newer_version_cannot_be_changed() -> None:
    with pytest.raises(Conflict, match="does not know"):
        changed({**webhook(), "fromTheFuture": 1}, name="x")


@pytest.mark.parametrize(
    ("path", "field"),
    [
        ("spec.tenant", "tenant_id"),
        ("spec.name", "name"),
        ("spec.match.minSeverity", "match.min_severity"),
        ("spec.match.matchers[1]", "match.matchers[1]"),
        ("spec.delivery.maxAge", "delivery.max_age"),
        ("spec.webhook.url", "event_sink_args.Webhook.url"),
        ("spec.webhook.urlSecretRef", "event_sink_args.Webhook.secret_url"),
        ("spec.webhook.headers[0].valueFrom.secretKeyRef", "event_sink_args.Webhook.headers[0].value"),
        ("spec.webhook.signingSecretRefs[0]", "event_sink_args.Webhook.signing_secret"),
        ("spec.webhook.tls.caSecretRef", "event_sink_args.Webhook.ca_certificate"),
        ("spec.webhook.tls.clientCertSecretRef", "event_sink_args.Webhook.client_certificate"),
        ("spec.webhook.tls.serverName", "event_sink_args.Webhook.server_name"),
        ("spec.webhook.auth.basic.passwordSecretRef", "event_sink_args.Webhook.auth.basic.password"),
        ("spec.webhook.auth.oauth2.clientSecretRef", "event_sink_args.Webhook.auth.oauth2.client_secret"),
        ("spec.webhook.auth.oauth2.tokenUrl", "event_sink_args.Webhook.auth.oauth2.token_url"),
        ("spec.slack.channel", "event_sink_args.Slack.channel"),
        ("spec.slack.oauthCodeSecretRef", "event_sink_args.Slack.slack_oauth_code"),
        ("spec.slack.botTokenSecretRef", "event_sink_args.Slack.bot_token"),
        ("spec.slack.incomingWebhookSecretRef", "event_sink_args.Slack.incoming_webhook_url"),
        ("spec.slack.fields[1].label", "event_sink_args.Slack.slack_fields[1].label"),
        ("spec.slack.buttons[0].urlAnnotation", "event_sink_args.Slack.slack_buttons[0].url_annotation"),
        ("spec.slack.mentions[0]", "event_sink_args.Slack.slack_mentions[0]"),
        ("spec.slack.links", "event_sink_args.Slack.slack_links"),
        ("spec.slack.template.title", "event_sink_args.Slack.slack_template.title"),
    ],
)
def test_errors_name_the_field_of_the_request_instead_of_the_spec(path: str, field: str) -> None:
    assert rest_path(path) == field
    assert rest_sentence(f"{path}: is wrong") == f"{field}: is wrong"


def test_signing_secrets_differ_and_are_valid_for_standard_webhooks() -> None:
    import standardwebhooks

    one, other = new_signing_secret(), new_signing_secret()
    assert one != other
    assert standardwebhooks.Webhook(one)


BODIES: list[tuple[str, bytes, str]] = [
    ("not JSON", b"{", "the body: invalid JSON"),
    ("not an object", b"[]", "the body: write an object"),
    ("NaN", b'{"tenant_id": NaN}', "tenant_id: write a text"),
    ("half of a character", b'{"tenant_id": "\\ud800"}', "the body: invalid JSON"),
    ("not UTF-8", b'{"tenant_id": "\xff"}', "the body: invalid JSON"),
    ("a number", b'{"tenant_id": 5, "name": "x", "event_sink_args": {"Slack": {}}}', "tenant_id: write a text"),
    (
        "a long name",
        json.dumps({"tenant_id": "a", "name": "x" * 129, "event_sink_args": {"Slack": {}}}).encode(),
        "name: write 128 char",
    ),
    ("nothing", b"{}", "tenant_id: this field is required; add it; name: this field is required; add it"),
    (
        "both",
        b'{"tenant_id":"a","name":"x","event_sink_args":{"Slack":{},"Webhook":{}}}',
        "event_sink_args: write exactly one of",
    ),
    (
        "a name twice",
        b'{"name":"x","tenant_id":"a","name":"x","event_sink_args":{"Slack":{}}}',
        "the body: duplicate field at line 1 column 29",
    ),
    (
        "a name twice within",
        b'{"name":"x","tenant_id":"a",\n"event_sink_args":{"Webhook":{"headers":[{"name":"}","value":"{\\"name"},{"name":"A","value":"1","\\u006eame":"B"}]}}}',
        "the body: duplicate field at line 2 column 97",
    ),
    (
        "nothing but mistakes",
        json.dumps({f"k{number}": 1 for number in range(2_000)}).encode(),
        "the body: 2003 fields are unknown or wrong; /docs describes",
    ),
    (
        "a name in another case",
        b'{"name":"x","Name":"x","tenant_id":"a","event_sink_args":{"Slack":{}}}',
        "Name: unknown field, remove it",
    ),
    (
        "the python name",
        b'{"tenant_id":"a","name":"x","event_sink_args":{"slack":{}}}',
        "event_sink_args.slack: unknown field",
    ),
]


@pytest.mark.parametrize(("body", "sentence"), [case[1:] for case in BODIES], ids=[case[0] for case in BODIES])
def test_an_invalid_body_is_rejected_with_an_explanation(body: bytes, sentence: str) -> None:
    with pytest.raises(RestError) as error:
        read(CreateRequest, body)
    assert error.value.sentence.startswith(sentence)
    assert "\n" not in error.value.sentence
