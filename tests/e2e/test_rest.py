"""The REST API with operator, router and Slack: a code creates one sink, a browser connects one, credentials are shown nowhere."""

from __future__ import annotations

import base64
import http.client
import json
import secrets
from collections.abc import Iterator
from dataclasses import dataclass
from urllib.parse import parse_qs, urlsplit

import pytest

from tests.controlplane import ControlPlane
from tests.support.cluster import Installed
from tests.support.kubectl import Kubectl
from tests.support.parts import Router, alert, cluster_router, notification, start_operator
from tests.support.ports import free_port
from tests.support.processes import RunningProcess
from tests.support.receiver import Receiver
from tests.support.rest import SINKS, Rest, RestClient
from tests.support.sinks import events_of
from tests.support.slack import Slack
from tests.support.waiting import wait_until

pytestmark = pytest.mark.usefixtures("tenant")  # so that `namespace` is a tenant's

TEAM = "T1"
LOOPBACK = {"allow": ["127.0.0.0/8"]}


@dataclass
class System:
    """Operator, router and REST API with a stand-in for Slack."""

    kubectl: Kubectl
    slack: Slack
    router: Router
    rest: Rest
    operator: RunningProcess

    def logs(self) -> str:
        assert self.rest.process is not None
        return self.router.running.text() + self.rest.process.text() + self.operator.text()


@pytest.fixture(scope="module")
def system(
    control_plane: ControlPlane, install_manifests: Installed, kubectl: Kubectl, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[System]:
    folder = tmp_path_factory.mktemp("system")
    with Slack(lists_per_minute=0) as slack:
        slack.add_workspace(TEAM, "Acme")
        router = cluster_router(
            install_manifests,
            folder,
            intake={"address": f"127.0.0.1:{free_port()}"},
            slack={"apiUrl": slack.api_url, "hookUrls": [slack.url]},
        )
        port = free_port()
        redirect = f"http://127.0.0.1:{port}/v1/slack/callback"
        (folder / "client-secret").write_text(slack.client_secret)
        operator = start_operator(
            install_manifests,
            folder,
            slack={"apiUrl": slack.api_url, "hookUrls": [slack.url]},
            slackApp={
                "clientId": slack.client_id,
                "clientSecretFile": str(folder / "client-secret"),
                "redirectUrl": redirect,
            },
            egress=LOOPBACK,
        )
        with operator, router.start():
            rest = Rest(
                install_manifests,
                folder,
                {
                    "address": f"127.0.0.1:{port}",
                    "slackInstall": {"clientId": slack.client_id, "redirectUrl": redirect},
                    "router": {"url": router.admin_url, "tokenFile": str(folder / "admin-token")},
                },
                admin_kubeconfig=control_plane.admin_kubeconfig,
            )
            with rest.start():
                yield System(kubectl, slack, router, rest, operator)


@pytest.fixture(scope="module")
def rest(system: System) -> Rest:
    return system.rest


def code(system: System) -> str:
    """As Slack gives it after the page whose redirect address the operator repeats."""
    return system.slack.issue_code(TEAM, redirect_uri=f"http://127.0.0.1:{system.rest.port}/v1/slack/callback")


def channel(system: System) -> str:
    name = f"c-{secrets.token_hex(4)}"
    system.slack.add_channel(TEAM, name)
    return name


def send_alert(system: System, namespace: str, uid: str, name: str) -> None:
    """Send an alert of the namespace, once the router has the sink."""
    wait_until("the sink at the router", lambda: uid in [one["uid"] for one in system.router.admin("/v1/sinks")[1]["sinks"]])
    status, response = system.router.post(notification(alert(name, namespace=namespace), group=name))
    assert (status, response["accepted"]) == (200, 1)


def test_a_slack_sink_is_created_with_a_code_gets_alerts_and_keeps_its_credential_when_the_channel_changes(
    system: System, client: RestClient, tenant: str, namespace: str
) -> None:
    first, second, given = channel(system), channel(system), code(system)
    made = client.create(tenant, {"Slack": {"channel": f"#{first}", "slack_oauth_code": given}}).sink
    assert made["ready"] is True, made
    assert made["event_sink_type"] == "Slack"
    shown = made["configuration"]["Slack"]
    assert (shown["channel"], shown["channel_name"], shown["team_id"], shown["team_name"]) == (f"#{first}", first, TEAM, "Acme")
    send_alert(system, namespace, made["id"], "First")
    wait_until("the message", lambda: system.slack.messages(first))
    changed = client.update(made["id"], event_sink_args={"Slack": {"channel": f"#{second}"}}).sink
    assert changed["ready"] is True, changed
    assert changed["configuration"]["Slack"]["channel_name"] == second
    for rejected in ({"bot_token": "xoxb-1"}, {"slack_oauth_code": "x"}):
        response = client.update(made["id"], event_sink_args={"Slack": {"channel": f"#{second}", **rejected}})
        assert response.error == f"event_sink_args.Slack.{next(iter(rejected))}: unknown field, remove it"
    everything = client.get(made["id"]).body + client.ask("GET", f"{SINKS}?tenant_id={tenant}").body
    events = json.dumps(events_of(system.kubectl, made["id"]))
    for canary in (given, system.slack.client_secret):
        assert canary not in everything.decode() + system.logs() + events
        assert base64.b64encode(canary.encode()).decode() not in everything.decode() + system.logs()
    resources = system.kubectl.run("get", "eventsinks", f"--namespace={namespace}", "-o", "json").stdout
    assert given not in resources


def test_a_code_that_slack_rejects_is_reported_with_the_reason_and_leaves_nothing(
    system: System, client: RestClient, tenant: str, namespace: str
) -> None:
    response = client.create(tenant, {"Slack": {"channel": f"#{channel(system)}", "slack_oauth_code": "no-code-of-slack"}})
    assert response.status == 400
    assert "code" in response.error
    assert client.sinks(tenant) == []
    left = json.loads(system.kubectl.run("get", "eventsinks,secrets", f"--namespace={namespace}", "-o", "json").stdout)["items"]
    assert [one for one in left if one["kind"] == "EventSink" or one.get("type") == "eventsink.dev/rest"] == []


def test_a_channel_that_does_not_exist_does_not_spend_the_code(system: System, client: RestClient, tenant: str) -> None:
    given, right = code(system), channel(system)
    response = client.create(tenant, {"Slack": {"channel": "#absent", "slack_oauth_code": given}})
    assert response.status == 400
    assert response.error.startswith("event_sink_args.Slack.channel: ")
    again = client.create(tenant, {"Slack": {"channel": f"#{right}", "slack_oauth_code": given}}).sink
    assert again["ready"] is True, again


def test_a_bot_token_or_an_incoming_webhook_works_instead_of_a_code(system: System, client: RestClient, tenant: str) -> None:
    name = channel(system)
    token, url = system.slack.issue_token(TEAM), system.slack.issue_webhook(name)
    assert client.create(tenant, {"Slack": {"channel": f"#{name}", "bot_token": token}}).sink["ready"] is True
    by_hook = client.create(tenant, {"Slack": {"incoming_webhook_url": url}}).sink
    assert by_hook["ready"] is True
    assert by_hook["configuration"] == {"Slack": {"channel": ""}}
    assert token not in system.logs()
    assert url not in system.logs()


class Browser:
    """Follows no redirect by itself, and keeps cookies."""

    def __init__(self) -> None:
        self.cookies: dict[str, str] = {}

    def get(self, url: str) -> tuple[int, dict[str, str], str]:
        parts = urlsplit(url)
        connection = http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=30)
        try:
            cookies = {"Cookie": "; ".join(f"{name}={value}" for name, value in self.cookies.items())} if self.cookies else {}
            connection.request("GET", f"{parts.path}?{parts.query}", headers=cookies)
            response = connection.getresponse()
            headers = {name.lower(): value for name, value in response.getheaders()}
            if "set-cookie" in headers:
                name, _, value = headers["set-cookie"].partition(";")[0].partition("=")
                self.cookies[name] = value
            return response.status, headers, response.read().decode()
        finally:
            connection.close()


def test_a_person_connects_slack_in_the_browser(system: System, client: RestClient, tenant: str, namespace: str) -> None:
    name = channel(system)
    begun = client.ask("POST", "/v1/slack/install", {"tenant_id": tenant, "name": "By browser", "channel": f"#{name}"})
    assert begun.status == 200, begun.body
    browser = Browser()
    status, headers, _ = browser.get(begun.json["url"])
    assert status == 303
    assert "HttpOnly" in headers["set-cookie"]
    assert "SameSite=Lax" in headers["set-cookie"]
    assert headers["location"].startswith("https://slack.com/oauth/v2/authorize?")
    asked = parse_qs(urlsplit(headers["location"]).query)
    assert asked["client_id"] == [system.slack.client_id]
    given = system.slack.issue_code(TEAM, redirect_uri=asked["redirect_uri"][0])
    back = f"{asked['redirect_uri'][0]}?code={given}&state={asked['state'][0]}"
    status, _, page = Browser().get(back)
    assert status == 403
    assert "another browser" in page
    status, headers, page = browser.get(back)
    assert status == 200, page
    assert name in page
    assert "default-src 'none'" in headers["content-security-policy"]
    assert given not in page
    (sink,) = client.sinks(tenant)
    assert (sink["name"], sink["ready"], sink["configuration"]["Slack"]["channel_name"]) == ("By browser", True, name)
    send_alert(system, namespace, sink["id"], "Browsed")
    wait_until("the message", lambda: system.slack.messages(name))
    status, _, page = browser.get(back)
    assert (status, "already used" in page) == (400, True)
    assert browser.get(begun.json["url"])[0] == 400

    reinstall = client.ask("POST", "/v1/slack/install", {"id": sink["id"]}).json["url"]
    asked = parse_qs(urlsplit(browser.get(reinstall)[1]["location"]).query)
    given = system.slack.issue_code(TEAM, redirect_uri=asked["redirect_uri"][0])
    status, _, page = browser.get(f"{asked['redirect_uri'][0]}?code={given}&state={asked['state'][0]}")
    assert status == 200, page
    assert client.get(sink["id"]).sink["ready"] is True
    assert given not in system.logs()
    stranger = system.rest.client(f"t-{secrets.token_hex(4)}")
    assert stranger.ask("POST", "/v1/slack/install", {"id": sink["id"]}).status == 404


def test_a_webhook_sink_gets_the_alerts_that_match(system: System, client: RestClient, tenant: str, namespace: str) -> None:
    with Receiver() as receiver:
        response = client.create(
            tenant,
            {
                "Webhook": {
                    "secret_url": receiver.url("/hook"),
                    "headers": [{"name": "Authorization", "value": "Bearer canary-header"}],
                    "generate_signing_secret": True,
                }
            },
            match={"matchers": ['alertname="Wanted"']},
        )
        assert response.sink["ready"] is True, response.body
        send_alert(system, namespace, response.sink["id"], "Unwanted")
        send_alert(system, namespace, response.sink["id"], "Wanted")
        received = receiver.wait_for(lambda seen: bool(seen))[0]
        assert received.json()["data"]["name"] == "Wanted"
        assert received.headers["authorization"] == "Bearer canary-header"
        import standardwebhooks

        standardwebhooks.Webhook(response.json["signing_secret"]).verify(received.body, dict(received.headers))
    assert "canary-header" not in system.logs()


def test_a_test_alert_is_really_delivered_and_the_response_has_its_outcome(
    system: System, client: RestClient, tenant: str, namespace: str
) -> None:
    with Receiver() as receiver, Receiver() as other:
        # No alert of a test would fulfil these rules: the test is about the destination.
        rules = {"matchers": ['alertname="Wanted"']}
        made = client.create(tenant, {"Webhook": {"url": receiver.url("/hook")}}, match=rules).sink
        client.create(tenant, {"Webhook": {"url": other.url("/hook")}})
        wait_until(
            "the sink at the router", lambda: made["id"] in [one["uid"] for one in system.router.admin("/v1/sinks")[1]["sinks"]]
        )
        response = client.ask("POST", f"{SINKS}/{made['id']}/test")
        assert response.status == 200, response.body
        outcome = response.json
        assert (outcome["delivered"], outcome["status"], outcome["reason"]) == (True, "2xx", "")
        (received,) = receiver.wait_for(1)
        assert received.json()["data"]["name"] == "EventSinkTest"
        assert received.headers["webhook-id"] == outcome["delivery_id"]

        receiver.respond_with(404)
        outcome = client.ask("POST", f"{SINKS}/{made['id']}/test").json
        assert (outcome["delivered"], outcome["status"], outcome["reason"]) == (False, "4xx", "HTTP404")
        assert "/hook" not in outcome["message"]
        # The sink is held now; once its receiver works again, a test alert finds that out at once.
        receiver.respond_with(200)
        assert client.ask("POST", f"{SINKS}/{made['id']}/test").json["delivered"] is True
        assert other.requests() == []

    stranger = system.rest.client(f"t-{secrets.token_hex(4)}")
    assert stranger.ask("POST", f"{SINKS}/{made['id']}/test").status == 404


def test_a_test_of_a_slack_sink_is_a_message_in_its_channel(system: System, client: RestClient, tenant: str) -> None:
    name = channel(system)
    made = client.create(tenant, {"Slack": {"channel": f"#{name}", "bot_token": system.slack.issue_token(TEAM)}}).sink
    wait_until("the test alert", lambda: client.ask("POST", f"{SINKS}/{made['id']}/test").status == 200)
    (message,) = system.slack.messages(name)
    assert "EventSinkTest" in json.dumps(message.body)
