"""Slack on a real API server: each kind of credential, codes exchanged once whatever happens, nothing lost, nothing shown."""

from __future__ import annotations

import base64
import json
import time
import uuid
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from tests.support.cluster import Installed, MakeNamespace
from tests.support.debian import MonitoringPrograms
from tests.support.kubectl import Kubectl
from tests.support.monitoring import Alertmanager, webhook_configuration
from tests.support.monitoring import alert as raised
from tests.support.parts import Router, alert, apply_and_wait, cluster_router, notification, start_operator
from tests.support.ports import free_port
from tests.support.processes import RunningProcess
from tests.support.router_process import start_router
from tests.support.sinks import event_sink, events_of, secret, uid_of
from tests.support.slack import Slack
from tests.support.slack_limits import mentioned
from tests.support.waiting import wait_until

TEAM = "T1"
STORM = 10_000
NAMES = 50
DELIVERED_WITHIN_SECONDS = 180.0
LOOPBACK = {"allow": ["127.0.0.0/8"]}


SHOWN = {
    "fields": [{"annotation": "value", "title": "Current value"}],
    "mentions": [{"minSeverity": "critical", "users": ["U0123456789"]}],
}


@dataclass
class System:
    """Operator and router with a stand-in for Slack."""

    installed: Installed
    kubectl: Kubectl
    slack: Slack
    folder: Path
    router: Router
    operator: RunningProcess = field(init=False)

    def start_operator(self) -> None:
        self.operator = start_operator(
            self.installed,
            self.folder,
            slack={"apiUrl": self.slack.api_url, "hookUrls": [self.slack.url], "tokenFile": str(self.folder / "platform-token")},
            slackApp={"clientId": self.slack.client_id, "clientSecretFile": str(self.folder / "client-secret")},
            egress=LOOPBACK,
        )

    def apply(self, *objects: dict[str, Any]) -> None:
        """Apply, and wait until each EventSink is active at the router."""
        apply_and_wait(self.kubectl, self.router, *objects)

    def wait_condition(self, namespace: str, reason: str, kind: str = "Ready") -> str:
        """Wait until a condition of the sink `alerts` has a reason; returns its message."""

        def found() -> list[dict[str, Any]]:
            status = self.kubectl.get("eventsink", "alerts", namespace=namespace).get("status") or {}
            return [one for one in status.get("conditions", ()) if (one["type"], one["reason"]) == (kind, reason)]

        wait_until(f"{kind} {reason}", found, poll=0.2)
        return str(found()[0]["message"])

    def send(self, *names: str, namespace: str, **labels: str) -> None:
        alerts = [alert(name, namespace=namespace, severity="critical", **labels) for name in names]
        status, response = self.router.post(notification(*alerts, group=names[0]))
        assert (status, response["accepted"]) == (200, len(names))

    def delivered(self, channel: str) -> list[str]:
        """Names of the alerts in the messages of a channel, according to the router's delivery records."""
        messages = [f"{channel}/{posted.ts}" for posted in self.slack.messages(channel)]
        found = self.router.admin("/v1/deliveries?state=arrived&limit=1000")[1]["deliveries"]
        return [one["alert"] for one in found if one["reference"] in messages]


@pytest.fixture
def slack() -> Iterator[Slack]:
    with Slack() as running:
        running.add_workspace(TEAM, "Acme")
        yield running


@pytest.fixture
def system(install_manifests: Installed, kubectl: Kubectl, slack: Slack, tmp_path: Path) -> Iterator[System]:
    router = cluster_router(
        install_manifests,
        tmp_path,
        intake={"address": f"127.0.0.1:{free_port()}"},
        slack={"apiUrl": slack.api_url, "hookUrls": [slack.url]},
        dispatch={"retry": {"probeFirst": "1s"}},
    )
    (tmp_path / "client-secret").write_text(slack.client_secret)
    (tmp_path / "platform-token").write_text(slack.issue_token(TEAM))
    made = System(install_manifests, kubectl, slack, tmp_path, router)
    made.start_operator()
    with router.start():
        yield made
        router.running.close()
    made.operator.close()


@pytest.fixture
def tenant() -> str:
    return f"acme-{uuid.uuid4().hex[:8]}"


def credentials(slack: Slack, system: System, channel: str) -> tuple[dict[str, str], list[str]]:
    """Values of a Secret with each kind of credential, and all texts that must be shown nowhere."""
    values = {"code": slack.issue_code(TEAM), "token": slack.issue_token(TEAM), "url": slack.issue_webhook(channel)}
    return values, [*values.values(), slack.client_secret, (system.folder / "platform-token").read_text()]


def by(key: str) -> dict[str, Any]:
    return {"name": "slack", "key": key}


def test_each_kind_of_credential_delivers_to_its_channel_and_is_shown_nowhere(
    system: System, slack: Slack, monitoring: MonitoringPrograms, make_namespace: MakeNamespace, tenant: str, tmp_path: Path
) -> None:
    acme, other = make_namespace(tenant), make_namespace(f"other-{tenant}")
    channels = {name: slack.add_channel(TEAM, name) for name in ("by-code", "by-token", "by-hook", "platform", "others")}
    values, canaries = credentials(slack, system, "by-hook")
    sinks: dict[str, dict[str, Any]] = {
        "code": {"channel": "#by-code", "oauthCodeSecretRef": by("code")},
        "token": {"channel": channels["by-token"], "botTokenSecretRef": by("token")},
        "hook": {"incomingWebhookSecretRef": by("url")},
        "platform": {"channel": "#platform"},
    }
    for name in ("token", "hook"):
        sinks[name] |= SHOWN
    system.apply(
        secret(acme, "slack", **values),
        *(event_sink(acme, name, tenant=tenant, slack=spec) for name, spec in sinks.items()),
        event_sink(other, "others", tenant=f"other-{tenant}", slack={"channel": "#others"}),
    )
    configuration = webhook_configuration(system.router.url, token=system.router.token)
    with Alertmanager(monitoring, configuration, tmp_path / "am") as alertmanager:
        alertmanager.wait_up()
        alertmanager.post_alerts(
            raised("DatabaseDown", namespace=acme, severity="critical", annotations={"summary": "No response", "value": "7 s"})
        )
        for name in ("by-code", "by-token", "by-hook", "platform"):
            [posted] = slack.wait_for(1, channel=name)
            assert "DatabaseDown" in posted.text
            extended = name in ("by-token", "by-hook")
            assert mentioned(posted.body) == (["<@U0123456789>"] if extended else [])
            assert ("Current value" in json.dumps(posted.body)) == extended
    assert slack.messages("others") == []
    assert slack.calls("oauth.v2.access") == 1

    shown = {name: system.kubectl.get("eventsink", name, namespace=acme)["status"]["slack"] for name in sinks}
    team = {"teamId": TEAM, "teamName": "Acme"}
    assert shown == {
        "code": {**team, "channelId": channels["by-code"], "channelName": "by-code"},
        "token": {**team, "channelId": channels["by-token"], "channelName": "by-token"},
        "hook": {"incomingWebhook": True},
        "platform": {**team, "channelId": channels["platform"], "channelName": "platform"},
    }
    [posted] = slack.messages("by-token")
    wait_until("the delivery record of the message", lambda: system.delivered(channels["by-token"]) == ["DatabaseDown"])

    # A message that Slack rejects, as text too, becomes a dead letter; a token that it rejects is reported in the status.
    slack.fail("chat.postMessage", "invalid_blocks", channel="by-token", times=2)
    slack.revoke(values["token"])
    system.send("Rejected", namespace=acme)
    wait_until("a dead letter", lambda: system.router.admin("/v1/deliveries?state=dead")[1]["deliveries"])
    system.send("Held", namespace=acme)
    system.kubectl.wait_condition("eventsink", "token", "Delivering", "False", namespace=acme)

    canaries += [stored_token(system)]
    kinds = system.kubectl.run("api-resources", "--verbs=list", "-o", "name").stdout.split()
    shown_kinds = ",".join(kind for kind in kinds if kind != "secrets")
    seen = [
        system.kubectl.run("get", shown_kinds, "--all-namespaces", "-o", "yaml").stdout,
        system.operator.text(),
        system.router.running.text(),
        system.router.metrics(),
        json.dumps(system.router.admin("/v1/deliveries")[1]) + json.dumps(system.router.admin("/v1/sinks")[1]),
        *(json.dumps(events_of(system.kubectl, uid_of(system.kubectl, acme, name))) for name in sinks),
    ]
    assert not [number for number, text in enumerate(seen) for canary in canaries if canary in text]


def stored_token(system: System) -> str:
    """The token that the code of the test was exchanged for."""
    found = json.loads(
        system.kubectl.run(
            "get", "secrets", "-n", system.installed.namespace, "--field-selector=type=eventsink.dev/slack-token", "-o", "json"
        ).stdout
    )
    [record] = [json.loads(base64.b64decode(one["data"]["token.json"])) for one in found["items"]][-1:]
    return str(record["token"])


def test_apps_of_an_organisation_apps_that_may_only_post_and_codes_that_come_with_a_webhook_deliver(
    system: System, slack: Slack, make_namespace: MakeNamespace, tenant: str
) -> None:
    acme = make_namespace(tenant)
    for team in ("T7", "T8"):
        slack.add_workspace(team, organisation="E1")
    private = slack.add_channel(TEAM, "private", private=True)
    for team, name in ((TEAM, "chosen"), ("T7", "elsewhere"), ("T8", "of-the-organisation"), ("T8", "by-its-code")):
        slack.add_channel(team, name)
    values = {
        "organisation": slack.issue_token("T8", organisation=True),
        "organisation-code": slack.issue_code("T8", organisation=True),
        "only-posts": slack.issue_token(TEAM, scopes=["chat:write"]),
        "hook": slack.issue_code(TEAM, scopes=[], webhook_channel="chosen"),
    }
    sinks: dict[str, dict[str, Any]] = {
        "organisation": {"channel": "#of-the-organisation", "teamId": "T8", "botTokenSecretRef": by("organisation")},
        "organisation-code": {"channel": "by-its-code", "teamId": "T8", "oauthCodeSecretRef": by("organisation-code")},
        "only-posts": {"channel": private, "botTokenSecretRef": by("only-posts")},
        "hook": {"oauthCodeSecretRef": by("hook")},
    }
    system.apply(
        secret(acme, "slack", **values), *(event_sink(acme, name, tenant=tenant, slack=spec) for name, spec in sinks.items())
    )
    system.send("A", namespace=acme)
    for name in ("of-the-organisation", "by-its-code", "private", "chosen"):
        slack.wait_for(1, channel=name)
    assert slack.messages("chosen")[0].via == "webhook"
    shown = {name: system.kubectl.get("eventsink", name, namespace=acme)["status"]["slack"] for name in sinks}
    assert {name: (one["teamId"], one.get("channelName")) for name, one in shown.items()} == {
        "organisation": ("T8", "of-the-organisation"),
        "organisation-code": ("T8", "by-its-code"),
        "only-posts": (TEAM, None),
        "hook": (TEAM, "chosen"),
    }
    assert [name for name, one in shown.items() if one.get("incomingWebhook")] == ["hook"]
    # The webhook is in what Slack said, which is stored: the code is not exchanged again.
    system.operator.kill9()
    system.start_operator()
    system.operator.wait_ready()
    system.kubectl.delete("eventsink", "hook", namespace=acme)
    system.apply(event_sink(acme, "hook", tenant=tenant, slack=sinks["hook"]))
    system.send("B", namespace=acme)
    slack.wait_for(2, channel="chosen")
    assert slack.calls("oauth.v2.access") == 2
    # A team that the app was not added to.
    wrong = sinks["organisation"] | {"teamId": "T9"}
    system.kubectl.apply(event_sink(acme, "alerts", tenant=tenant, slack=wrong))
    assert "team_access_not_granted" in system.wait_condition(acme, "SlackTeamInvalid")


def test_a_code_is_exchanged_once_although_the_operator_restarts_and_the_sink_is_recreated(
    system: System, slack: Slack, make_namespace: MakeNamespace, tenant: str
) -> None:
    acme = make_namespace(tenant)
    slack.add_channel(TEAM, "alerts")
    sink = event_sink(acme, tenant=tenant, slack={"channel": "#alerts", "oauthCodeSecretRef": by("code")})
    system.apply(secret(acme, "slack", code=slack.issue_code(TEAM)), sink)
    assert system.operator.terminate() == 0
    system.start_operator()
    system.operator.wait_ready()
    system.kubectl.delete("eventsink", "alerts", namespace=acme)
    system.apply(sink)
    system.send("A", namespace=acme)
    slack.wait_for(1, channel="alerts")
    assert slack.calls("oauth.v2.access") == 1


def test_a_code_is_not_sent_again_after_a_kill_between_claim_and_response(
    system: System, slack: Slack, make_namespace: MakeNamespace, tenant: str
) -> None:
    acme = make_namespace(tenant)
    slack.add_channel(TEAM, "alerts")
    slack.hang("oauth.v2.access", done=True)
    sink = event_sink(acme, tenant=tenant, slack={"channel": "#alerts", "oauthCodeSecretRef": by("code")})
    system.kubectl.apply([secret(acme, "slack", code=slack.issue_code(TEAM)), sink])
    wait_until("the exchange", lambda: slack.calls("oauth.v2.access") == 1)
    system.operator.kill9()
    system.start_operator()
    assert "install the app again" in system.wait_condition(acme, "CodeSpent")
    assert slack.calls("oauth.v2.access") == 1
    system.kubectl.apply(secret(acme, "slack", code=slack.issue_code(TEAM)))
    system.kubectl.wait_condition("eventsink", "alerts", "Ready", "True", namespace=acme)
    assert slack.calls("oauth.v2.access") == 2


def test_a_revoked_token_holds_the_queue_and_a_new_secret_releases_it_with_nothing_lost(
    system: System, slack: Slack, make_namespace: MakeNamespace, tenant: str
) -> None:
    acme = make_namespace(tenant)
    channel = slack.add_channel(TEAM, "alerts")
    token = slack.issue_token(TEAM)
    sink = event_sink(acme, tenant=tenant, slack={"channel": "#alerts", "botTokenSecretRef": by("token")})
    system.apply(secret(acme, "slack", token=token), sink)
    slack.revoke(token)
    names = [f"A{number}" for number in range(30)]
    for name in names:
        system.send(name, namespace=acme)
    assert "revoked" in system.wait_condition(acme, "TokenRevoked", kind="Delivering")
    assert slack.messages("alerts") == []
    system.kubectl.apply(secret(acme, "slack", token=slack.issue_token(TEAM)))
    wait_until("all deliveries", lambda: sorted(system.delivered(channel)) == sorted(names))
    assert system.router.admin("/v1/deliveries?state=dead")[1]["deliveries"] == []


def test_what_slack_rejects_is_sent_as_text_and_otherwise_named_and_counted(tmp_path: Path) -> None:
    with Slack(message_seconds=0) as slack:
        slack.add_workspace(TEAM, "Acme")
        address = f"slack:{TEAM}/{slack.add_channel(TEAM, 'alerts')}/{slack.issue_token(TEAM)}"
        dispatch = {"rateLimitInterval": "1ms", "retry": {"first": "10ms", "longest": "100ms", "sinkLongest": "100ms"}}
        with start_router(tmp_path, address, slack={"apiUrl": slack.api_url}, dispatch=dispatch) as router:

            def post(name: str) -> None:
                assert router.post(notification(alert(name, namespace="acme", canary="secret"), group=name))[0] == 200

            def deliveries(state: str) -> list[dict[str, Any]]:
                found: list[dict[str, Any]] = router.admin(f"/v1/deliveries?state={state}")[1]["deliveries"]
                return found

            slack.fail("chat.postMessage", "invalid_blocks")
            post("AsText")
            [posted] = slack.wait_for(1)
            assert "AsText" in posted.text
            assert not posted.body.keys() & {"blocks", "attachments"}

            slack.fail("chat.postMessage", "invalid_blocks", times=None)
            for number in range(3):
                post(f"Rejected{number}")
                wait_until("a dead letter", lambda number=number: len(deliveries("dead")) == number + 1)  # type: ignore[misc]
            assert {(one["attempts"], one["reason"], one["detail"]) for one in deliveries("dead")} == {
                (1, "InvalidBlocks", "Slack responded with invalid_blocks: Slack does not accept its blocks")
            }
            assert 'eventsink_router_messages_sent_plain_total{reason="InvalidBlocks"} 4.0' in router.metrics()
            logged = [line for line in router.running.lines() if line["event"] == "Slack rejected the form of a message"]
            assert {(line["error"], line["text_alone"]) for line in logged} == {
                ("invalid_blocks", False),
                ("invalid_blocks", True),
            }
            assert "secret" not in router.running.text()

            slack.clear_failures()
            slack.fail("chat.postMessage", "an_error_of_tomorrow", times=None)
            post("Waits")
            wait_until("its failure", lambda: [one["reason"] for one in deliveries("waiting")] == ["UnknownError"])
            assert "an_error_of_tomorrow" in deliveries("waiting")[0]["detail"]
            slack.clear_failures()
            slack.wait_for(lambda seen: any("Waits" in one.text for one in seen))


def test_a_storm_is_delivered_in_digests_and_each_alert_is_linked_to_its_message(slack: Slack, tmp_path: Path) -> None:
    channels = [slack.add_channel(TEAM, name) for name in ("alerts", "more")]
    token = slack.issue_token(TEAM)
    # Two sinks share a channel: together they may send one message a second.
    addresses = [f"slack:{TEAM}/{channel}/{token}" for channel in (channels[0], channels[0], channels[1])]
    with start_router(tmp_path, *addresses, slack={"apiUrl": slack.api_url}) as router:
        for start in range(0, STORM, 100):
            alerts = [alert(f"Name{n % NAMES}", namespace="acme", pod=f"pod-{n}") for n in range(start, start + 100)]
            status, response = router.post(notification(*alerts, group=str(start)))
            assert (status, response["accepted"]) == (200, 100)
        began = time.monotonic()
        wait_until(
            "all deliveries",
            lambda: "eventsink_router_deliveries_waiting 0.0" in router.metrics(),
            deadline=DELIVERED_WITHIN_SECONDS,
        )
        assert time.monotonic() - began < DELIVERED_WITHIN_SECONDS
        arrived: list[dict[str, Any]] = []
        after: int | None = 0
        while after is not None:
            page = router.admin(f"/v1/deliveries?state=arrived&limit=1000&after={after}")[1]
            arrived += page["deliveries"]
            after = page["next"]
        assert len({one["id"] for one in arrived}) == len(arrived) == STORM * 3
        posted = {f"{one.channel}/{one.ts}" for one in slack.messages()}
        assert {one["reference"] for one in arrived} == posted
        assert len(posted) < 100
        one = arrived[-1]
        listed = router.admin(f"/v1/deliveries?message={one['message']}&limit=1000")[1]["deliveries"]
        assert one["id"] in [other["id"] for other in listed]
        assert router.admin("/v1/deliveries?state=dead")[1]["deliveries"] == []
    assert slack.calls("chat.postMessage") == len(posted)  # no call was rate-limited
