"""Access to the REST API, and requests when it stops: no operator runs here."""

from __future__ import annotations

import json
import secrets
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from eventsink.client import Client, Forbidden, Mute, NotFound, Unauthorized, Webhook
from tests.controlplane import ControlPlane
from tests.support.cluster import Installed, MakeNamespace
from tests.support.kubectl import Kubectl
from tests.support.rest import SINKS, SLACK_INSTALL, Rest, RestClient, calls_about, eventsink_command
from tests.support.sinks import event_sink
from tests.support.waiting import wait_until

pytestmark = pytest.mark.usefixtures("tenant")  # so that `namespace` is a tenant's

HOOK = {"Webhook": {"url": "https://example.com/hook"}}
ALLOWED = 3


@pytest.fixture(scope="module")
def rest(control_plane: ControlPlane, install_manifests: Installed, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rest]:
    settings = {
        "createWait": "100ms",
        "kubernetesTokens": {"enabled": True, "cache": "0s"},
        "slackInstall": SLACK_INSTALL,
        "limits": {"failures": {"allowed": ALLOWED, "every": "1h", "trustedProxies": ["127.0.0.0/8"]}},
    }
    one = Rest(install_manifests, tmp_path_factory.mktemp("rest"), settings, admin_kubeconfig=control_plane.admin_kubeconfig)
    with one.start():
        yield one


# ---- tokens of ServiceAccounts


def service_account(kubectl: Kubectl, namespace: str, *verbs: str) -> None:
    """A ServiceAccount `bot` with permissions on the EventSinks of its namespace."""
    kubectl.run("create", "serviceaccount", "bot", f"--namespace={namespace}")
    role = ("--verb=" + ",".join(verbs), "--resource=eventsinks.eventsink.dev")
    kubectl.run("create", "role", "bot", *role, f"--namespace={namespace}")
    kubectl.run("create", "rolebinding", "bot", "--role=bot", f"--serviceaccount={namespace}:bot", f"--namespace={namespace}")


def token(kubectl: Kubectl, namespace: str, audience: str = "eventsink-rest") -> str:
    made: str = kubectl.run("create", "token", "bot", f"--audience={audience}", f"--namespace={namespace}").stdout.strip()
    return made


def test_rbac_on_eventsinks_decides_what_a_service_account_may_do(
    rest: Rest, kubectl: Kubectl, tenant: str, namespace: str, make_namespace: MakeNamespace
) -> None:
    other = f"t-{secrets.token_hex(4)}"
    make_namespace(other)
    all_tenants = rest.client()
    all_tenants.wait_for_namespace(tenant)
    all_tenants.wait_for_namespace(other)
    foreign = all_tenants.create(other, HOOK).sink["id"]
    service_account(kubectl, namespace, "get", "list", "create")
    with Client(f"http://127.0.0.1:{rest.port}", token(kubectl, namespace)) as client:
        made = client.create(tenant, "By token", Webhook(url="https://example.com/hook"))
        assert [one.id for one in client.list(tenant)] == [made.id]
        assert client.get(made.id).name == "By token"
        for change in (
            lambda: client.update(made.id, name="x"),
            lambda: client.mute(made.id, Mute(('alertname="A"',), duration="1h")),
            lambda: client.unmute(made.id),
            lambda: client.delete(made.id),
            lambda: client.test(made.id),
        ):
            with pytest.raises(Forbidden, match="this token may not"):
                change()
        with pytest.raises(Forbidden):
            client.create(other, "Elsewhere", Webhook(url="https://example.com/hook"))
        # A tenant that does not exist gets the same error: its existence is not disclosed.
        with pytest.raises(Forbidden):
            client.create(f"t-{secrets.token_hex(4)}", "Nowhere", Webhook(url="https://example.com/hook"))
        assert list(client.list(other)) == []
        for call in (client.get, client.delete):
            with pytest.raises(NotFound):
                call(foreign)
        kubectl.run("delete", "rolebinding", "bot", f"--namespace={namespace}")
        wait_until("the permission to be gone", lambda: list(client.list(tenant)) == [])
    assert all_tenants.get(made.id).status == 200


def test_a_token_with_another_audience_or_of_a_deleted_account_is_rejected(rest: Rest, kubectl: Kubectl, namespace: str) -> None:
    service_account(kubectl, namespace, "get")
    for audience in ("https://kubernetes.default.svc", "another"):
        given = token(kubectl, namespace, audience)
        headers = {"X-Forwarded-For": f"2001:db8::{secrets.token_hex(2)}"}
        assert RestClient(rest.port, given).ask("GET", f"{SINKS}/none", headers=headers).status == 401
    good = RestClient(rest.port, token(kubectl, namespace))
    assert good.get("none").status == 404
    kubectl.run("delete", "serviceaccount", "bot", f"--namespace={namespace}")
    headers = {"X-Forwarded-For": "2001:db8::77"}
    wait_until("the token to be rejected", lambda: good.ask("GET", f"{SINKS}/none", headers=headers).status in (401, 429))
    assert rest.process is not None
    assert good.key not in rest.process.text()


@pytest.mark.parametrize(
    ("verb", "expected"),
    [
        ("get", set()),
        ("list", {"list_event_sinks"}),
        ("create", {"create_event_sink"}),
        ("update", {"update_event_sink", "mute_event_sink", "unmute_event_sink", "test_event_sink"}),
        ("delete", {"delete_event_sink"}),
    ],
)
def test_each_call_needs_its_verb_on_eventsinks(
    rest: Rest, kubectl: Kubectl, tenant: str, namespace: str, verb: str, expected: set[str]
) -> None:
    all_tenants = rest.client()
    all_tenants.wait_for_namespace(tenant)
    service_account(kubectl, namespace, *{"get", verb})
    client = RestClient(rest.port, token(kubectl, namespace))
    made = all_tenants.create(tenant, HOOK).sink["id"]
    wait_until("the permission", lambda: client.get(made).status == 200)
    allowed = set()
    about_sink, about_tenant = calls_about(made, tenant)
    # What deletes the sink comes last.
    for call in sorted([*about_sink, *about_tenant], key=lambda one: one.operation == "delete_event_sink"):
        response = client.call(call)
        listed = call.operation != "list_event_sinks" or response.json["event_sinks"]
        if response.status != 403 and listed:
            allowed.add(call.operation)
    assert allowed == {"get_event_sink"} | expected


def test_a_token_cannot_request_an_install_link(rest: Rest, kubectl: Kubectl, tenant: str, namespace: str) -> None:
    all_tenants = rest.client()
    all_tenants.wait_for_namespace(tenant)
    body = {"tenant_id": tenant, "name": "x", "channel": "#x"}
    assert all_tenants.ask("POST", "/v1/slack/install", body).status == 200, "a key can"
    service_account(kubectl, namespace, "get", "list", "create", "update")
    client = RestClient(rest.port, token(kubectl, namespace))
    wait_until("the permission", lambda: client.create(tenant, HOOK).status == 200)
    response = client.ask("POST", "/v1/slack/install", body)
    assert (response.status, response.error.partition(":")[0]) == (403, "only API keys can request a link")


# ---- invalid keys


def test_invalid_keys_are_counted_by_the_address_from_a_trusted_proxy(rest: Rest) -> None:
    right = rest.key()

    def ask(key: str, *hops: str) -> int:
        return RestClient(rest.port, key).ask("GET", f"{SINKS}/none", headers={"X-Forwarded-For": ", ".join(hops)}).status

    assert [ask("esk_wrong", "203.0.113.9") for _ in range(ALLOWED + 1)] == [401] * ALLOWED + [429]
    assert ask(right, "203.0.113.9") == 429, "a valid key does not get past the limit"
    assert ask("esk_wrong", "203.0.113.10") == 401
    assert ask(right, "203.0.113.10") == 404
    assert ask(right, "203.0.113.9:4711") == 429, "the port does not count as part of the address"
    # Hops before the last one come from the client and are not trusted.
    assert ask(right, "203.0.113.10", "203.0.113.9") == 429


def test_an_unauthenticated_caller_learns_nothing_about_sinks(rest: Rest) -> None:
    headers = {"X-Forwarded-For": "198.51.100.1"}
    for method, path in (("GET", f"{SINKS}/none"), ("DELETE", f"{SINKS}/none"), ("POST", SINKS)):
        assert RestClient(rest.port).ask(method, path, headers=headers).status == 401
    assert RestClient(rest.port).ask("GET", "/openapi.json", headers=headers).json["openapi"].startswith("3.1")


# ---- shutdown


def test_a_request_under_way_is_completed_before_the_process_stops(
    control_plane: ControlPlane, install_manifests: Installed, tmp_path: Path, tenant: str, namespace: str
) -> None:
    one = Rest(install_manifests, tmp_path, {"createWait": "3s"}, admin_kubeconfig=control_plane.admin_kubeconfig)
    with one.start() as process, ThreadPoolExecutor(1) as pool:
        client = one.client(tenant)
        client.wait_for_namespace(tenant)
        making = pool.submit(client.create, tenant, HOOK)
        wait_until("the sink", lambda: client.sinks(tenant))
        assert process.terminate() == 0
        made = making.result(30).sink
    assert made["ready"] is False


def test_after_a_kill_all_sinks_are_unchanged(
    control_plane: ControlPlane, install_manifests: Installed, tmp_path: Path, tenant: str, namespace: str
) -> None:
    one = Rest(install_manifests, tmp_path, {"createWait": "100ms"}, admin_kubeconfig=control_plane.admin_kubeconfig)
    process = one.start()
    key = one.key(tenant)
    client = RestClient(one.port, key)
    client.wait_for_namespace(tenant)
    made = client.create(tenant, HOOK, headers={"Idempotency-Key": "one"}).sink
    process.kill9()
    process.close()
    with one.start():
        again = RestClient(one.port, key)
        assert [sink["id"] for sink in again.sinks(tenant)] == [made["id"]]
        assert again.create(tenant, HOOK, headers={"Idempotency-Key": "one"}).sink["id"] == made["id"]
        assert again.get(made["id"]).sink["updated_at"] == made["updated_at"]


# ---- command and metrics


def test_the_command_manages_sinks_of_a_cluster(rest: Rest, tenant: str, namespace: str, tmp_path: Path) -> None:
    key = rest.key(tenant)
    RestClient(rest.port, key).wait_for_namespace(tenant)
    (tmp_path / "key").write_text(f"{key}\n")
    where = ("--server", f"http://127.0.0.1:{rest.port}", "--key-file", tmp_path / "key")
    created = eventsink_command(
        *(
            "sinks",
            "create",
            "--tenant",
            tenant,
            "--name=Alerts",
            "--webhook-url=https://example.com/",
            "--generate-signing-secret",
        ),
        *where,
    )
    ident = created.stdout.splitlines()[1].split()[0]
    assert created.stdout.splitlines()[-1].startswith("whsec_")
    assert "the operator has not processed it yet" in created.stderr
    eventsink_command("sinks", "update", ident, "--suspend", "--name=Other", *where)
    listed = eventsink_command("sinks", "list", "--tenant", tenant, *where).stdout.splitlines()
    assert [line.split()[:2] for line in listed[1:]] == [[ident, "Other"]]
    assert "suspend: true" in eventsink_command("sinks", "get", ident, "-o", "yaml", *where).stdout

    def mutes() -> list[list[str]]:
        [listed] = json.loads(eventsink_command("sinks", "list", "--tenant", tenant, "-o", "json", *where).stdout)
        return [one["matchers"] for one in listed.get("mutes", [])]

    latency, disk = 'alertname="HighLatency"', 'alertname="DiskFull"'
    for matcher in (latency, disk):
        muted = eventsink_command("sinks", "mute", ident, "--matcher", matcher, "--for=2h", "-o", "json", *where)
    assert mutes() == [[latency], [disk]]
    etag = json.loads(muted.stdout)["etag"]
    eventsink_command("sinks", "unmute", ident, "--index=0", "--if-match", etag, *where)
    assert mutes() == [[disk]]
    assert (
        "changed since" in eventsink_command("sinks", "unmute", ident, "--index=0", "--if-match", etag, *where, status=1).stderr
    )
    eventsink_command("sinks", "unmute", ident, *where)
    assert mutes() == []

    assert "router.url" in eventsink_command("sinks", "test", ident, *where, status=1).stderr
    eventsink_command("sinks", "delete", ident, *where)
    assert "no sink has this id" in eventsink_command("sinks", "get", ident, *where, status=1).stderr


def test_health_and_metrics_count_calls_and_statuses_without_names(
    rest: Rest, kubectl: Kubectl, tenant: str, namespace: str
) -> None:
    client = rest.client(tenant)
    kubectl.apply(event_sink(namespace, (sink := f"s-{secrets.token_hex(8)}"), tenant=tenant))
    wait_until("the sink", lambda: client.sinks(tenant))
    assert client.get("none").status == 404
    with pytest.raises(Unauthorized), Client(f"http://127.0.0.1:{rest.port}", "esk_x") as stranger:
        stranger.get("none")
    assert rest.process is not None
    text = rest.process.metrics()
    assert 'eventsink_rest_requests_total{operation="get_event_sink",status="404"}' in text
    assert 'eventsink_rest_request_seconds_count{operation="get_event_sink"}' in text
    for name in (tenant, namespace, sink, client.key.split("_")[1]):
        assert name not in text + str(rest.process.readiness())
