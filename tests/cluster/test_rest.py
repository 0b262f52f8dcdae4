"""The REST API on a real API server beside the operator, each with the permissions of its manifests."""

from __future__ import annotations

import base64
import json
import re
import secrets
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from tests.controlplane import ControlPlane
from tests.support.cluster import SYSTEM_NAMESPACE, Installed, MakeNamespace
from tests.support.kubectl import Kubectl
from tests.support.parts import start_operator
from tests.support.processes import RunningProcess
from tests.support.rest import SINKS, SLACK_INSTALL, Response, Rest, RestClient, calls_about, eventsink_command
from tests.support.sinks import compiled, event_sink, events_of, wait_compiled
from tests.support.waiting import wait_until

pytestmark = pytest.mark.usefixtures("tenant")  # so that `namespace` is a tenant's

CANARY = f"canary-{secrets.token_hex(12)}"
"""Part of every credential of these tests: found in no response, log, Event, spec or status."""
UUID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}")
TIME = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}Z")
HOOK = {"Webhook": {"url": "https://example.com/hook"}}
SIGNING = "whsec_" + base64.b64encode(f"{CANARY}-signing".encode()).decode()


@pytest.fixture(scope="module")
def operator(install_manifests: Installed, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningProcess]:
    folder = tmp_path_factory.mktemp("operator")
    settings: dict[str, Any] = {"webhooks": {"deniedHosts": ["denied.example.com"]}}
    with start_operator(install_manifests, folder, **settings) as running:
        running.wait_ready()
        yield running
        assert CANARY not in running.text()


@pytest.fixture(scope="module")
def rest(
    control_plane: ControlPlane, install_manifests: Installed, operator: RunningProcess, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Rest]:
    folder = tmp_path_factory.mktemp("rest")
    one = Rest(install_manifests, folder, {"slackInstall": SLACK_INSTALL}, admin_kubeconfig=control_plane.admin_kubeconfig)
    with one.start() as running:
        yield one
        assert CANARY not in running.text()
        assert base64.b64encode(CANARY.encode()).decode()[:-3] not in running.text()


def all_in(kubectl: Kubectl, kind: str, namespace: str) -> list[dict[str, Any]]:
    items: list[dict[str, Any]] = json.loads(kubectl.run("get", kind, f"--namespace={namespace}", "-o", "json").stdout)["items"]
    return items


def target_of(kubectl: Kubectl, uid: str) -> dict[str, Any]:
    """The webhook that was compiled for a sink."""
    sink = compiled(kubectl, uid)
    assert sink is not None
    webhook: dict[str, Any] = sink["webhook"]
    return webhook


def the_object(kubectl: Kubectl, namespace: str, uid: str) -> dict[str, Any]:
    found = [one for one in all_in(kubectl, "eventsinks", namespace) if one["metadata"]["uid"] == uid]
    assert found, f"no EventSink has the uid {uid}"
    return dict(found[0])


def specs_in(kubectl: Kubectl, namespace: str) -> dict[str, Any]:
    """The specs of the EventSinks there, by uid."""
    return {one["metadata"]["uid"]: one["spec"] for one in all_in(kubectl, "eventsinks", namespace)}


def left_in(kubectl: Kubectl, namespace: str) -> tuple[int, int]:
    """How many EventSinks and Secrets of the REST API exist."""
    made = [one for one in all_in(kubectl, "secrets", namespace) if one["type"] == "eventsink.dev/rest"]
    return len(all_in(kubectl, "eventsinks", namespace)), len(made)


# ---- the life of a sink


def test_a_webhook_sink_is_created_and_the_response_has_everything_documented(
    client: RestClient, tenant: str, namespace: str, kubectl: Kubectl
) -> None:
    response = client.create(tenant, HOOK, name="Security alerts", description="Of the security team")
    made = response.sink
    assert UUID.fullmatch(made["id"])
    assert TIME.fullmatch(made["created_at"])
    assert made == {
        "id": made["id"],
        "tenant_id": tenant,
        "name": "Security alerts",
        "description": "Of the security team",
        "event_sink_type": "Webhook",
        "configuration": {"Webhook": {"url": "https://example.com/hook"}},
        "created_at": made["created_at"],
        "updated_at": made["updated_at"],
        "ready": True,
        "reason": "",
        "delivering": {
            "status": "Unknown",
            "reason": "NotReported",
            "message": "the router has not reported on this sink yet",
        },
    }
    assert made["created_at"] == made["updated_at"]
    obj = the_object(kubectl, namespace, made["id"])
    assert obj["spec"] == {
        "tenant": tenant,
        "name": "Security alerts",
        "description": "Of the security team",
        "webhook": {"url": "https://example.com/hook"},
    }
    assert target_of(kubectl, made["id"])["url"] == "https://example.com/hook"
    again = client.get(made["id"])
    assert again.sink == made
    assert again.headers["etag"] == response.headers["etag"]
    assert again.headers["cache-control"] == "no-store"


def test_a_sink_from_yaml_is_listed_oldest_first_beside_those_from_the_api(
    client: RestClient, tenant: str, namespace: str, kubectl: Kubectl
) -> None:
    first = client.create(tenant, HOOK, name="first").sink
    kubectl.apply(event_sink(namespace, name="by-yaml", tenant=tenant))
    listed = wait_until("both", lambda: client.sinks(tenant) if len(client.sinks(tenant)) == 2 else None)
    assert listed is not None
    assert sorted(listed, key=lambda one: (one["created_at"], one["id"])) == listed
    assert first["id"] in [one["id"] for one in listed]
    assert listed[-1]["created_at"] >= listed[0]["created_at"]


def test_an_update_changes_only_the_given_fields_and_then_moves_updated_at(
    client: RestClient, tenant: str, namespace: str, kubectl: Kubectl
) -> None:
    made = client.create(tenant, HOOK, description="before", match={"min_severity": "high"}, delivery={"max_age": "3d"}).sink
    assert made["match"] == {"min_severity": "high"}
    assert made["delivery"] == {"max_age": "3d"}
    same = client.update(made["id"], name="Alerts", description="before")
    assert same.sink == client.get(made["id"]).sink
    assert same.sink["updated_at"] == made["updated_at"]
    time.sleep(1.1)  # times have whole seconds
    changed = client.update(made["id"], name="Other", event_sink_args={"Webhook": {"url": "https://example.com/other"}}).sink
    assert changed["ready"] is True
    assert changed["updated_at"] > made["updated_at"]
    assert changed["created_at"] == made["created_at"]
    expected = {"name": "Other", "configuration": {"Webhook": {"url": "https://example.com/other"}}}
    assert changed == {**made, **expected, "updated_at": changed["updated_at"]}
    assert target_of(kubectl, made["id"])["url"] == "https://example.com/other"
    without = client.update(made["id"], match=None, delivery=None, description=None).sink
    assert "match" not in without
    assert "delivery" not in without
    assert without["description"] == ""
    assert "match" not in the_object(kubectl, namespace, made["id"])["spec"]


def test_a_deleted_sink_is_gone_with_the_secrets_that_were_created_for_it(
    client: RestClient, tenant: str, namespace: str, kubectl: Kubectl
) -> None:
    made = client.create(tenant, {"Webhook": {"url": "https://example.com/", "signing_secret": SIGNING}}).sink
    assert left_in(kubectl, namespace) == (1, 1)
    response = client.delete(made["id"])
    assert (response.status, response.json) == (200, {"id": made["id"], "tenant_id": tenant})
    assert left_in(kubectl, namespace) == (0, 0)
    assert client.get(made["id"]).status == 404
    assert client.delete(made["id"]).status == 404
    assert client.sinks(tenant) == []


# ---- credentials


def test_credentials_are_kept_in_secrets_and_never_shown(
    client: RestClient, tenant: str, namespace: str, kubectl: Kubectl, operator: RunningProcess
) -> None:
    args = {
        "Webhook": {
            "secret_url": f"https://hooks.example.com:8443/{CANARY}/path?key={CANARY}",
            "headers": [{"name": "Authorization", "value": f"Bearer {CANARY}"}, {"name": "X-Team", "value": "acme"}],
            "signing_secret": SIGNING,
            "format": "cloudevents",
            "batch": 10,
            "timeout": "5s",
        }
    }
    response = client.create(tenant, args)
    made = response.sink
    assert made["ready"] is True, made
    assert made["configuration"] == {
        "Webhook": {
            "url": "https://hooks.example.com:8443",
            "headers": [{"name": "Authorization"}, {"name": "X-Team"}],
            "format": "cloudevents",
            "batch": 10,
            "timeout": "5s",
            "signed": True,
        }
    }
    target = target_of(kubectl, made["id"])
    assert target["url"].endswith(f"/{CANARY}/path?key={CANARY}")
    assert [one["value"] for one in target["headers"]] == [f"Bearer {CANARY}", "acme"]
    assert target["signingSecrets"] == [SIGNING]
    seen = [response, client.get(made["id"]), client.ask("GET", f"{SINKS}?tenant_id={tenant}")]
    shown = b"".join(one.body for one in seen).decode()
    shown += json.dumps(all_in(kubectl, "eventsinks", namespace)) + json.dumps(events_of(kubectl, made["id"]))
    assert CANARY not in shown
    assert base64.b64encode(f"{CANARY}-signing".encode()).decode() not in shown
    wait_until("its Event", lambda: events_of(kubectl, made["id"]))
    assert {one["type"] for one in events_of(kubectl, made["id"])} == {"Normal"}, "no word of a Secret that was just being made"


def test_a_generated_signing_secret_is_shown_once_and_the_previous_one_keeps_signing(
    client: RestClient, tenant: str, kubectl: Kubectl, namespace: str
) -> None:
    response = client.create(tenant, {"Webhook": {"url": "https://example.com/", "generate_signing_secret": True}})
    first, uid = response.json["signing_secret"], response.sink["id"]
    assert first.startswith("whsec_")
    assert len(base64.b64decode(first.removeprefix("whsec_"))) == 32
    assert "signing_secret" not in client.get(uid).json
    again = client.update(uid, event_sink_args={"Webhook": {"generate_signing_secret": True}})
    second = again.json["signing_secret"]
    assert target_of(kubectl, uid)["signingSecrets"] == [second, first]
    third = client.update(uid, event_sink_args={"Webhook": {"generate_signing_secret": True}}).json["signing_secret"]
    assert target_of(kubectl, uid)["signingSecrets"] == [third, second]
    assert left_in(kubectl, namespace) == (1, 2)
    none = client.update(uid, event_sink_args={"Webhook": {"signing_secret": None}}).sink
    assert none["configuration"]["Webhook"] == {"url": "https://example.com/"}
    assert left_in(kubectl, namespace) == (1, 0)


def test_kept_header_values_are_not_sent_to_another_host_than_they_were_given_for(client: RestClient, tenant: str) -> None:
    headers = [{"name": "Authorization", "value": f"Bearer {CANARY}"}]
    uid = client.create(tenant, {"Webhook": {"url": "https://example.com/", "headers": headers}}).sink["id"]
    other = client.update(uid, event_sink_args={"Webhook": {"url": "https://evil.example.net/"}})
    assert other.status == 400
    assert other.error.startswith("event_sink_args.Webhook.headers: write headers again together with the new URL")
    assert client.update(uid, event_sink_args={"Webhook": {"url": "https://example.com/other"}}).status == 200
    moved = client.update(uid, event_sink_args={"Webhook": {"url": "https://other.example.net/", "headers": headers}})
    assert moved.sink["configuration"]["Webhook"]["url"] == "https://other.example.net/"


def test_only_scheme_and_host_of_a_url_in_a_secret_are_shown(
    client: RestClient, tenant: str, namespace: str, kubectl: Kubectl
) -> None:
    kubectl.apply(
        [
            {
                "apiVersion": "v1",
                "kind": "Secret",
                "metadata": {"name": "hook", "namespace": namespace},
                "stringData": {"url": f"https://yaml.example.com/{CANARY}"},
            },
            event_sink(namespace, name="by-yaml", tenant=tenant, webhook={"urlSecretRef": {"name": "hook", "key": "url"}}),
        ]
    )
    listed = wait_until("the sink", lambda: [one for one in client.sinks(tenant) if one["ready"]])
    assert listed[0]["configuration"]["Webhook"]["url"] == "https://yaml.example.com"


# ---- rejected requests that leave nothing behind


def test_a_url_that_the_policy_forbids_is_rejected_with_the_reason_and_leaves_nothing(
    client: RestClient, tenant: str, namespace: str, kubectl: Kubectl
) -> None:
    response = client.create(tenant, {"Webhook": {"url": "https://denied.example.com/", "signing_secret": SIGNING}})
    assert response.status == 400
    assert "event_sink_args.Webhook.url" in response.error
    assert "denied.example.com" in response.error
    assert left_in(kubectl, namespace) == (0, 0)
    assert client.sinks(tenant) == []


def test_without_an_operator_a_sink_stays_and_is_not_ready(
    rest: Rest, client: RestClient, tenant: str, operator: RunningProcess, kubectl: Kubectl, namespace: str
) -> None:
    operator.pause()
    try:
        made = client.create(tenant, HOOK).sink
        assert made["ready"] is False
        assert made["reason"].startswith("Pending: ")
    finally:
        operator.resume()
    wait_until("readiness", lambda: client.get(made["id"]).sink["ready"])
    assert left_in(kubectl, namespace) == (1, 0)


REJECTED: list[tuple[str, dict[str, Any], str]] = [
    ("no name", {"name": ""}, "name: write 1 or more characters"),
    ("a name of two lines", {"name": "a\nb"}, "name: write one line of text with visible characters"),
    ("no destination", {"event_sink_args": {}}, "event_sink_args: write exactly one of Slack and Webhook"),
    ("an unknown field", {"colour": "red"}, "colour: unknown field, remove it"),
    (
        "an unknown argument",
        {"event_sink_args": {"Webhook": {"url": "https://example.com/", "headerz": []}}},
        "event_sink_args.Webhook.headerz: unknown field, remove it",
    ),
    (
        "an unknown destination",
        {"event_sink_args": {"Teams": {"url": "https://example.com/"}}},
        "event_sink_args.Teams: unknown field, remove it",
    ),
    (
        "another scheme",
        {"event_sink_args": {"Webhook": {"url": "ftp://example.com/"}}},
        "event_sink_args.Webhook.url: the URL must begin with http:// or https://, in lower case",
    ),
    (
        "another scheme in a Secret",
        {"event_sink_args": {"Webhook": {"secret_url": "ftp://example.com/"}}},
        "event_sink_args.Webhook.secret_url: the URL must begin with http:// or https://, in lower case",
    ),
    (
        "two URLs",
        {"event_sink_args": {"Webhook": {"url": "https://a.example/", "secret_url": "https://b.example/"}}},
        "event_sink_args.Webhook: write exactly one of url and secret_url",
    ),
    (
        "a header of the sender",
        {"event_sink_args": {"Webhook": {"url": "https://a.example/", "headers": [{"name": "Host", "value": "b"}]}}},
        "event_sink_args.Webhook.headers[0].name: remove this header",
    ),
    (
        "a header of two lines",
        {"event_sink_args": {"Webhook": {"url": "https://a.example/", "headers": [{"name": "X", "value": "a\nb"}]}}},
        "event_sink_args.Webhook.headers[0].value: the value of a header must be one line",
    ),
    ("no channel", {"event_sink_args": {"Slack": {}}}, "event_sink_args.Slack.channel: set channel"),
    (
        "two credentials",
        {"event_sink_args": {"Slack": {"channel": "#a", "bot_token": "x", "slack_oauth_code": "y"}}},
        "event_sink_args.Slack: write at most one of slack_oauth_code and bot_token",
    ),
    ("a matcher that is none", {"match": {"matchers": ["="]}}, "match.matchers[0]: write matchers as"),
    ("an age that is none", {"delivery": {"max_age": "soon"}}, "delivery.max_age: write a duration"),
    ("an age beyond its bounds", {"delivery": {"max_age": "60d"}}, "delivery.max_age: max_age must be from 1m to 30d"),
    ("a number as a text", {"description": 5}, "description: write a text"),
]


@pytest.mark.parametrize(("wrong", "sentence"), [case[1:] for case in REJECTED], ids=[case[0] for case in REJECTED])
def test_an_invalid_request_is_rejected_with_the_name_of_its_field(
    rest: Rest, all_tenants: RestClient, wrong: dict[str, Any], sentence: str
) -> None:
    body = {"tenant_id": "nobody", "name": "Alerts", "event_sink_args": HOOK, **wrong}
    response = all_tenants.ask("POST", SINKS, body)
    assert response.status == 400
    assert response.error.startswith(sentence)


@pytest.fixture(scope="module")
def all_tenants(rest: Rest) -> RestClient:
    return rest.client()


@pytest.mark.parametrize(
    ("method", "path", "headers", "raw", "status"),
    [
        ("GET", "/v1/nothing", {}, None, 404),
        ("PATCH", SINKS, {}, b"{}", 405),
        ("POST", SINKS, {"Content-Type": "text/plain"}, b"{}", 415),
        ("POST", SINKS, {"Content-Type": "application/json; charset=latin-1"}, b"{}", 415),
        ("POST", SINKS, {}, b"{" + b" " * 1_100_000, 413),
        ("POST", SINKS, {}, b"{", 400),
        ("POST", SINKS, {}, b"[]", 400),
        ("POST", SINKS, {}, b'{"tenant_id": "\\ud800"}', 400),
        ("GET", f"{SINKS}?tenant_id=a&colour=red", {}, None, 400),
        ("GET", f"{SINKS}?tenant_id=a&tenant_id=b", {}, None, 400),
        ("GET", SINKS, {}, None, 400),
        ("GET", f"{SINKS}?tenant_id=a&pagination[page_size]=0", {}, None, 400),
        ("GET", f"{SINKS}?tenant_id=a&pagination[page_size]=ten", {}, None, 400),
        ("GET", f"{SINKS}?tenant_id=a&pagination[page_size]=1&pagination[page_token]=x", {}, None, 400),
        ("GET", f"{SINKS}/6fa1c1f2-7d3b-4e0e-9d9b-0c5a1c8c4a11", {}, None, 404),
        ("GET", f"{SINKS}/7", {}, None, 404),
        ("POST", SINKS, {"Idempotency-Key": "a b"}, b"{}", 400),
    ],
)
def test_a_malformed_request_is_rejected_with_the_right_status_and_a_sentence(
    all_tenants: RestClient, method: str, path: str, headers: dict[str, str], raw: bytes | None, status: int
) -> None:
    response = all_tenants.ask(method, path, raw=raw, headers=headers)
    assert response.status == status
    assert response.error
    if status == 405:
        assert set(response.headers["allow"].split(",")) == {"GET", "HEAD", "POST"}


def test_an_update_cannot_change_the_type_and_keeps_omitted_fields(client: RestClient, tenant: str) -> None:
    uid = client.create(tenant, HOOK).sink["id"]
    other = client.update(uid, event_sink_args={"Slack": {"channel": "#alerts"}})
    assert other.status == 400
    assert "the type cannot change, and this sink is a Webhook" in other.error
    assert client.ask("PUT", f"{SINKS}/{uid}", {"id": "6fa1c1f2-7d3b-4e0e-9d9b-0c5a1c8c4a11", "name": "x"}).error.startswith(
        "id: "
    )
    assert client.ask("PUT", f"{SINKS}/{uid}", {"name": "x"}).error == "id: this field is required; add it"
    assert client.update(uid, tenant_id="other").error == "tenant_id: unknown field, remove it"
    assert client.get(uid).sink["name"] == "Alerts"


# ---- keys and tenants


def test_without_a_valid_key_no_call_is_served(rest: Rest, client: RestClient, tenant: str) -> None:
    uid = client.create(tenant, HOOK).sink["id"]
    wrong = client.key[:-1] + ("A" if client.key[-1] != "A" else "B")
    for key in ("", "esk_x", wrong):
        other = RestClient(rest.port, key)
        for response in (
            other.create(tenant, HOOK),
            other.get(uid),
            other.delete(uid),
            other.ask("GET", f"{SINKS}?tenant_id={tenant}"),
        ):
            assert response.status in (401, 429)
            assert response.error
    assert client.get(uid).status == 200, "who was let in before is not locked out by others' wrong keys"


def test_a_revoked_key_is_rejected_at_once_and_others_stay_valid(rest: Rest, client: RestClient, tenant: str) -> None:
    second = rest.client(tenant)
    ident = second.key.split("_")[1]
    eventsink_command("keys", "revoke", ident, "--kubeconfig", str(rest.admin_kubeconfig))
    wait_until("the key to be rejected", lambda: second.get("none").status in (401, 429))
    assert client.get("none").status == 404
    listed = eventsink_command("keys", "list", "-o", "json", "--kubeconfig", str(rest.admin_kubeconfig)).stdout
    assert ident not in listed
    assert client.key.split("_")[1] in listed
    assert client.key.split("_", 2)[2] not in listed


def test_keys_are_stored_as_hashes_only(rest: Rest, client: RestClient, tenant: str, kubectl: Kubectl) -> None:
    made = eventsink_command("keys", "create", "--name=x", f"--tenant={tenant}", "--kubeconfig", str(rest.admin_kubeconfig))
    client = RestClient(rest.port, made.stdout.strip())
    wait_until("the REST API to know the key", lambda: client.get("none").status == 404)
    secret = kubectl.get("secret", "eventsink-rest-keys", namespace=SYSTEM_NAMESPACE)
    _, ident, text = client.key.split("_", 2)
    record = json.loads(base64.b64decode(secret["data"][ident]))
    assert record["hash"].startswith("sha256:")
    assert text not in json.dumps(record)


def test_a_key_of_one_tenant_reaches_nothing_of_another_by_any_call(
    rest: Rest, client: RestClient, tenant: str, namespace: str, make_namespace: MakeNamespace, kubectl: Kubectl
) -> None:
    other_tenant = f"t-{secrets.token_hex(4)}"
    other_namespace = make_namespace(other_tenant)
    other = rest.client(other_tenant)
    other.wait_for_namespace(other_tenant)
    made = [other.create(other_tenant, HOOK, name=f"sink {n}").sink for n in range(2)]
    kubectl.apply(event_sink(other_namespace, name="by-yaml", tenant=other_tenant))
    wait_until("all of them", lambda: len(other.sinks(other_tenant)) == 3)
    ids = [one["id"] for one in other.sinks(other_tenant)]
    before = specs_in(kubectl, other_namespace)
    unknown = client.get("6fa1c1f2-7d3b-4e0e-9d9b-0c5a1c8c4a11")
    for uid in ids:
        responses = [
            *map(client.call, calls_about(uid, other_tenant)[0]),
            client.update(uid, name="mine", headers={"If-Match": "*"}),
            client.ask("DELETE", f"{SINKS}/{uid}/mute?index=0", headers={"If-Match": '"1"'}),
            client.ask("POST", f"{SINKS}/{uid}/test"),
        ]
        assert {(one.status, one.error) for one in responses} == {(404, unknown.error)}, "the same error as for an unknown id"
        assert client.ask("HEAD", f"{SINKS}/{uid}").status == 404
    about_tenant = calls_about(ids[0], other_tenant)[1]
    assert {one.operation for one in about_tenant} == {"create_event_sink", "list_event_sinks", "install_slack"}
    for response in (
        *map(client.call, about_tenant),
        client.ask(
            "POST", SINKS, {"tenant_id": other_tenant, "name": "x", "event_sink_args": HOOK}, headers={"Idempotency-Key": "k"}
        ),
    ):
        assert (response.status, response.error) == (403, "tenant_id: this key has no access to this tenant")
    token = other.ask("GET", f"{SINKS}?tenant_id={other_tenant}&pagination[page_size]=1").json["pagination"]["next_page_token"]
    assert client.ask("GET", f"{SINKS}?tenant_id={tenant}&pagination[page_size]=1&pagination[page_token]={token}").status == 400
    assert specs_in(kubectl, other_namespace) == before
    assert {one["id"] for one in made} < set(ids)


def test_a_sink_that_claims_a_tenant_from_a_foreign_namespace_is_hidden(
    rest: Rest, client: RestClient, tenant: str, make_namespace: MakeNamespace, kubectl: Kubectl
) -> None:
    foreign = make_namespace(f"t-{secrets.token_hex(4)}")
    kubectl.apply(event_sink(foreign, name="thief", tenant=tenant))
    uid = kubectl.get("eventsink", "thief", namespace=foreign)["metadata"]["uid"]
    own = client.create(tenant, HOOK).sink
    assert [one["id"] for one in client.sinks(tenant)] == [own["id"]]
    assert client.get(uid).status == 404
    assert client.delete(uid).status == 404


def test_with_several_namespaces_the_marked_one_gets_new_sinks(
    client: RestClient, tenant: str, namespace: str, make_namespace: MakeNamespace, kubectl: Kubectl
) -> None:
    second = make_namespace(tenant)
    response = ask_until(lambda: client.create(tenant, HOOK), 409)
    assert "kubectl label namespace" in response.error
    kubectl.run("label", "namespace", second, "eventsink.dev/rest=true")
    made = ask_until(lambda: client.create(tenant, HOOK), 200)
    assert the_object(kubectl, second, made.sink["id"])


def ask_until(ask: Callable[[], Response], status: int) -> Response:
    """Ask until the response has the status."""

    def probe() -> Response | None:
        response = ask()
        return response if response.status == status else None

    found = wait_until(f"a response {status}", probe)
    assert found is not None
    return found


def test_a_tenant_without_a_namespace_is_rejected_with_the_command_to_label_one(all_tenants: RestClient) -> None:
    response = all_tenants.create("nobody", HOOK)
    assert response.status == 400
    assert "kubectl label namespace <one> eventsink.dev/tenant=<tenant>" in response.error


# ---- changes by other tools


MANAGED: list[tuple[str, dict[str, Any], str]] = [
    (
        "Helm",
        {
            "labels": {"app.kubernetes.io/managed-by": "Helm"},
            "annotations": {"meta.helm.sh/release-name": "alerts", "meta.helm.sh/release-namespace": "acme"},
        },
        "this sink is managed by Helm (release alerts in the namespace acme): change it in the values of the release",
    ),
    (
        "Argo CD",
        {"annotations": {"argocd.argoproj.io/tracking-id": "shop:eventsink.dev/EventSink:acme/alerts"}},
        "this sink is managed by Argo CD (Application shop): change it in the repository that it comes from",
    ),
    (
        "Flux",
        {"labels": {"kustomize.toolkit.fluxcd.io/name": "shop", "kustomize.toolkit.fluxcd.io/namespace": "flux-system"}},
        "this sink is managed by Flux (Kustomization flux-system/shop): change it in the repository that it comes from",
    ),
]


@pytest.mark.parametrize(("metadata", "sentence"), [case[1:] for case in MANAGED], ids=[case[0] for case in MANAGED])
def test_a_sink_that_a_tool_manages_can_be_read_but_not_changed(
    client: RestClient, tenant: str, namespace: str, kubectl: Kubectl, metadata: dict[str, Any], sentence: str
) -> None:
    obj = event_sink(namespace, name="managed", tenant=tenant)
    kubectl.apply({**obj, "metadata": {**obj["metadata"], **metadata}})
    listed = wait_until("the sink", lambda: client.sinks(tenant))
    uid = listed[0]["id"]
    for response in (client.update(uid, name="mine"), client.delete(uid)):
        assert response.status == 409
        assert response.error == sentence
    assert client.get(uid).sink["name"] != "mine"


def test_if_match_guards_an_update_against_a_concurrent_change(client: RestClient, tenant: str, kubectl: Kubectl) -> None:
    made = client.create(tenant, HOOK)
    uid, tag = made.sink["id"], made.headers["etag"]
    assert client.update(uid, name="one", headers={"If-Match": tag}).status == 200
    late = client.update(uid, name="two", headers={"If-Match": tag})
    assert late.status == 412
    assert late.error.startswith("If-Match: ")
    assert client.get(uid).sink["name"] == "one"
    assert client.update(uid, name="three", headers={"If-Match": client.get(uid).headers["etag"]}).sink["name"] == "three"


def test_an_idempotency_key_creates_one_sink_for_many_requests(
    client: RestClient, tenant: str, namespace: str, kubectl: Kubectl
) -> None:
    args = {"Webhook": {"url": "https://example.com/", "signing_secret": SIGNING}}
    with ThreadPoolExecutor(8) as pool:
        responses = list(pool.map(lambda _: client.create(tenant, args, headers={"Idempotency-Key": "key-1"}), range(8)))
    assert len({one.sink["id"] for one in responses}) == 1
    assert left_in(kubectl, namespace) == (1, 1)
    other = client.create(tenant, args, name="Another", headers={"Idempotency-Key": "key-1"})
    assert other.status == 409
    assert other.error.startswith("Idempotency-Key: ")
    assert client.create(tenant, args, headers={"Idempotency-Key": "key-2"}).sink["id"] != responses[0].sink["id"]


def test_a_create_that_was_interrupted_before_its_secret_is_completed_by_the_same_request(
    client: RestClient, tenant: str, namespace: str, kubectl: Kubectl
) -> None:
    args = {"Webhook": {"url": "https://example.com/", "signing_secret": SIGNING}}
    uid = client.create(tenant, args, headers={"Idempotency-Key": "cut"}).sink["id"]
    name = the_object(kubectl, namespace, uid)["spec"]["webhook"]["signingSecretRefs"][0]["name"]
    kubectl.run("delete", "secret", name, f"--namespace={namespace}")
    wait_until("the loss", lambda: not client.get(uid).sink["ready"])
    again = client.create(tenant, args, headers={"Idempotency-Key": "cut"}).sink
    assert (again["id"], again["ready"]) == (uid, True)
    assert left_in(kubectl, namespace) == (1, 1)


def test_twenty_concurrent_clients_and_the_resources_agree_in_the_end(
    rest: Rest, client: RestClient, tenant: str, namespace: str, kubectl: Kubectl
) -> None:
    shared = client.create(tenant, HOOK, name="shared").sink["id"]

    def work(number: int) -> list[str]:
        kept = []
        for turn in range(4):
            made = client.create(tenant, HOOK, name=f"{number}-{turn}").sink
            changed = client.update(made["id"], name=f"{number}-{turn} changed", event_sink_args={"Webhook": {"batch": turn + 1}})
            assert changed.status == 200, changed.body
            assert client.update(shared, description=f"{number}-{turn}").status in (200, 409)
            if turn % 2:
                assert client.delete(made["id"]).status == 200
            else:
                kept.append(made["id"])
        return kept

    with ThreadPoolExecutor(20) as pool:
        kept = [uid for uids in pool.map(work, range(20)) for uid in uids]
    objects = {one["metadata"]["uid"]: one for one in all_in(kubectl, "eventsinks", namespace)}
    assert set(objects) == {*kept, shared}
    listed = client.sinks(tenant)
    assert [one["id"] for one in listed] == [
        one["metadata"]["uid"]
        for one in sorted(objects.values(), key=lambda one: (one["metadata"]["creationTimestamp"], one["metadata"]["uid"]))
    ]
    for one in listed:
        assert one["name"] == objects[one["id"]]["spec"]["name"]
        assert one["description"] == objects[one["id"]]["spec"].get("description", "")
    for one in listed:
        if one["id"] != shared:
            wait_compiled(kubectl, one["id"], partial(is_called, str(one["name"])))
    assert left_in(kubectl, namespace)[1] == 0


def is_called(name: str, sink: dict[str, Any]) -> bool:
    return bool(sink["displayName"] == name)


def test_a_thousand_sinks_are_listed_in_pages_without_a_gap(
    rest: Rest, client: RestClient, tenant: str, namespace: str, kubectl: Kubectl
) -> None:
    kubectl.apply([event_sink(namespace, name=f"sink-{number:04}", tenant=tenant) for number in range(1000)], server_side=True)
    wait_until("a thousand sinks", lambda: len(client.sinks(tenant)) == 1000)
    found: list[str] = []
    token = ""
    while True:
        path = f"{SINKS}?tenant_id={tenant}&pagination[page_size]=100" + (f"&pagination[page_token]={token}" if token else "")
        page = client.ask("GET", path).json
        found += [one["id"] for one in page["event_sinks"]]
        token = page["pagination"]["next_page_token"]
        if not token:
            break
    assert found == [one["id"] for one in client.sinks(tenant)]
    assert len(set(found)) == 1000


# ---- outages


def test_while_the_api_server_is_down_calls_get_503_with_retry_after(
    fresh_control_plane: Callable[[], ControlPlane], tmp_path: Path
) -> None:
    from tests.support.cluster import install, install_crd

    cluster = fresh_control_plane()
    kubectl = Kubectl(cluster.admin_kubeconfig)
    install_crd(kubectl)
    installed = install(cluster, kubectl)
    one = Rest(installed, tmp_path, {"createWait": 1}, admin_kubeconfig=cluster.admin_kubeconfig)
    with one.start(), kubectl.namespace(tenant="acme"):
        client = one.client("acme")
        client.wait_for_namespace("acme")
        uid = client.create("acme", HOOK).sink["id"]
        cluster.stop_api_server()
        calls: list[Callable[[], Response]] = [
            lambda: client.create("acme", HOOK),
            lambda: client.get(uid),
            lambda: client.delete(uid),
            lambda: client.ask("GET", f"{SINKS}?tenant_id=acme"),
        ]
        for call in calls:
            response = ask_until(call, 503)
            assert int(response.headers["retry-after"]) >= 1
            assert "API server" in response.error
        cluster.start_api_server()
        wait_until("the API server to return", lambda: client.get(uid).status == 200)
