"""Alerts from a real Alertmanager and of real pods to a receiver, and the ways in which a tenant makes its sinks."""

from __future__ import annotations

from typing import Any

import pytest
import yaml

from tests.controlplane.alertmanager import CurrentAlertmanager
from tests.pods.conftest import started
from tests.pods.installation import Installation
from tests.pods.workloads import (
    ALERTMANAGER_URL,
    BROKEN,
    MONITORING,
    RECEIVER_URL,
    SLACK,
    TENANT,
    Client,
    Receiver,
    Response,
    copy_program,
    pod,
)
from tests.support.kubectl import Kubectl
from tests.support.sinks import event_sink, secret, signed
from tests.support.waiting import wait_until

REST_URL = "http://eventsink-rest.eventsink-system:8082"
TOKEN = "/rest/token"


@pytest.fixture(scope="module")
def alertmanager(kubectl: Kubectl, installation: Installation, image: str, current_alertmanager: CurrentAlertmanager) -> None:
    """A real Alertmanager, configured as docs/sources.md says; its program is copied into a pod."""
    token = kubectl.get("secret", "eventsink-source-tokens", namespace=installation.namespace)["data"]["alertmanager"]
    configuration = {
        "route": {"receiver": "eventsink", "group_by": ["alertname"], "group_wait": "1s", "group_interval": "1s"},
        "receivers": [
            {
                "name": "eventsink",
                "webhook_configs": [
                    {
                        "url": f"http://eventsink-router.{installation.namespace}:8080/v1/alerts/alertmanager",
                        "http_config": {"authorization": {"credentials_file": "/token/token"}},
                    }
                ],
            }
        ],
    }
    name = {"name": "alertmanager", "namespace": MONITORING}
    config = {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": name,
        "data": {"alertmanager.yml": yaml.safe_dump(configuration)},
    }
    kubectl.apply([config, {"apiVersion": "v1", "kind": "Secret", "metadata": name, "data": {"token": token}}])
    arguments = ("--config.file=/config/alertmanager.yml", "--storage.path=/tmp", "--cluster.listen-address=")
    mounts: dict[str, Any] = {
        "/program": {"emptyDir": {}},
        "/config": {"configMap": {"name": "alertmanager"}},
        "/token": {"secret": {"secretName": "alertmanager"}},
    }
    made = pod(
        MONITORING, "alertmanager", image, "/programs/become.py", "/program/alertmanager", *arguments, mounts=mounts, port=9093
    )
    kubectl.apply(made)
    kubectl.run("wait", "-n", MONITORING, "--for=jsonpath={.status.phase}=Running", "pod/alertmanager", "--timeout=60s")
    copy_program(kubectl, MONITORING, "alertmanager", current_alertmanager.alertmanager, "/program/alertmanager")
    started(kubectl, made)


def fire(client: Client, name: str, *, ended: bool = False) -> None:
    """Send an alert to Alertmanager, as Prometheus would."""
    alert = {"labels": {"alertname": name, "severity": "critical", "namespace": TENANT}, "startsAt": "2026-01-01T12:00:00Z"}
    now = {"endsAt": "2026-01-01T13:00:00Z"} if ended else {}
    assert client.call("POST", f"{ALERTMANAGER_URL}/api/v2/alerts", [{**alert, **now}]).status == 200


@pytest.mark.usefixtures("alertmanager")
def test_an_alert_of_a_real_alertmanager_reaches_the_receiver_signed(
    kubectl: Kubectl, client: Client, receiver: Receiver
) -> None:
    kubectl.apply(event_sink(TENANT, "first", tenant=TENANT, webhook=signed(f"{RECEIVER_URL}/first")))
    kubectl.wait_condition("eventsink", "first", "Ready", "True", namespace=TENANT)

    fire(client, "DiskFull")
    wait_until("the firing alert", lambda: receiver.received("/first"))
    fire(client, "DiskFull", ended=True)
    wait_until("its end", lambda: len(receiver.received("/first")) == 2)

    firing, resolved = receiver.received("/first")
    assert (firing["verified"], resolved["verified"]) == (True, True)
    assert [one["alert"] for one in (firing, resolved)] == ["firing", "resolved"]
    assert firing["name"] == "DiskFull"
    kubectl.wait_condition("eventsink", "first", "Delivering", "True", namespace=TENANT)


@pytest.mark.usefixtures("alertmanager")
def test_an_alert_reaches_a_slack_channel(kubectl: Kubectl, client: Client) -> None:
    channel = {"channel": "#alerts", "botTokenSecretRef": {"name": "slack", "key": "token"}}
    spec = {"match": {"matchers": ["alertname=NodeDown"]}, "slack": channel}
    kubectl.apply([secret(TENANT, "slack", token="xoxb-any"), event_sink(TENANT, "channel", tenant=TENANT, **spec)])
    kubectl.wait_condition("eventsink", "channel", "Ready", "True", namespace=TENANT)

    fire(client, "NodeDown")

    def shown() -> str:
        return kubectl.run("logs", "-n", SLACK, "deployment/slack-stand-in").stdout

    wait_until("the message in Slack's log", lambda: "NodeDown" in shown(), show=shown)


def test_an_event_about_a_pod_reaches_the_owner_of_its_namespace(
    kubectl: Kubectl, installation: Installation, receiver: Receiver
) -> None:
    spec = {
        "match": {"sources": ["kubernetes-events"], "matchers": ["pod=stuck"]},
        "webhook": {"url": f"{RECEIVER_URL}/open/broken"},
    }
    kubectl.apply(event_sink(BROKEN, "events", tenant=BROKEN, **spec))
    kubectl.wait_condition("eventsink", "events", "Ready", "True", namespace=BROKEN)

    stuck = pod(BROKEN, "stuck", "eventsink-missing:1", "-c", "pass")
    stuck["spec"]["containers"][0]["imagePullPolicy"] = "Never"
    kubectl.apply(stuck)

    wait_until(
        "the Event of the kubelet",
        lambda: "ErrImageNeverPull" in receiver.names("/open/broken"),
        poll=1,
        show=lambda: receiver.received("/open/broken"),
    )
    kubectl.delete("pod", "stuck", namespace=BROKEN)


def test_a_service_account_with_edit_creates_a_sink_of_its_tenant(kubectl: Kubectl, installation: Installation) -> None:
    developer = service_account(kubectl, "developer", "edit")
    sink = event_sink(TENANT, "own", tenant=TENANT, webhook=signed(f"{RECEIVER_URL}/own"))

    developer.apply(sink)
    kubectl.wait_condition("eventsink", "own", "Ready", "True", namespace=TENANT)

    assert "own" in developer.run("get", "eventsinks", "-n", TENANT).stdout
    developer.run("delete", "eventsink", "own", "-n", TENANT)


def test_a_service_account_with_view_reads_sinks_and_creates_none(kubectl: Kubectl, installation: Installation) -> None:
    viewer = service_account(kubectl, "viewer", "view")

    assert "first" in viewer.run("get", "eventsinks", "-n", TENANT).stdout
    refusal = viewer.apply(event_sink(TENANT, "other", tenant=TENANT), expect_failure=True)

    assert "forbidden" in refusal


def test_a_service_account_uses_the_rest_api_through_its_service(
    kubectl: Kubectl, installation: Installation, client: Client, receiver: Receiver
) -> None:
    kubectl.run("create", "rolebinding", "client", "-n", TENANT, "--clusterrole=edit", f"--serviceaccount={TENANT}:default")
    arguments = {"Webhook": {"url": f"{RECEIVER_URL}/rest"}}
    wanted = {"tenant_id": TENANT, "name": "By REST", "description": "", "event_sink_args": arguments}

    created: list[Response] = []

    def create() -> bool:  # what the API server says about a token is cached for some seconds
        created.append(client.call("POST", f"{REST_URL}/v1/event_sink", wanted, token_file=TOKEN))
        return created[-1].status == 200

    wait_until("the REST API to know the rights of a ServiceAccount", create, poll=1, show=lambda: created[-1])
    uid = created[-1].json["event_sink"]["id"]
    found = client.call("GET", f"{REST_URL}/v1/event_sink?tenant_id={TENANT}", token_file=TOKEN).json["event_sinks"]
    assert {one["name"] for one in found} == {"first", "channel", "By REST"}
    assert client.call("GET", f"{REST_URL}/v1/event_sink?tenant_id=acme", token_file=TOKEN).json == {"event_sinks": []}
    assert client.call("GET", f"{REST_URL}/v1/event_sink?tenant_id={TENANT}").status == 401
    assert client.call("DELETE", f"{REST_URL}/v1/event_sink/{uid}", token_file=TOKEN).status == 200


def service_account(kubectl: Kubectl, name: str, role: str) -> Kubectl:
    """A ServiceAccount of the tenant's namespace with a ClusterRole in it; returns kubectl with its token."""
    kubectl.run("create", "serviceaccount", name, "-n", TENANT)
    kubectl.run("create", "rolebinding", name, "-n", TENANT, f"--clusterrole={role}", f"--serviceaccount={TENANT}:{name}")
    token = kubectl.run("create", "token", name, "-n", TENANT).stdout.strip()
    configuration = yaml.safe_load(kubectl.kubeconfig.read_text())
    configuration["users"] = [{"name": one["name"], "user": {"token": token}} for one in configuration["users"]]
    folder = kubectl.kubeconfig.parent / name
    folder.mkdir(mode=0o700)
    file = folder / "kubeconfig"
    file.touch(0o600)
    file.write_text(yaml.safe_dump(configuration))
    return Kubectl(file)
