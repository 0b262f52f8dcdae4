"""The whole way: Prometheus fires a rule, Alertmanager notifies, the router delivers to EventSinks that kubectl applied."""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import standardwebhooks

from tests.support.cluster import Installed, MakeNamespace
from tests.support.debian import MonitoringPrograms
from tests.support.kubectl import Kubectl
from tests.support.monitoring import Alertmanager, Prometheus, webhook_configuration
from tests.support.parts import Router, alert, apply_and_wait, cluster_router, notification, start_operator
from tests.support.ports import free_port
from tests.support.receiver import CannedResponse, Received, Receiver
from tests.support.sinks import SECRET, event_sink, secret, signed
from tests.support.waiting import wait_until

ALERTS = 2000
POSTERS = 16


@dataclass
class System:
    """A running operator and router."""

    router: Router
    kubectl: Kubectl

    def apply(self, *objects: dict[str, Any]) -> None:
        """Apply EventSinks and what they need, and wait until they are active at the router."""
        apply_and_wait(self.kubectl, self.router, *objects)


@pytest.fixture
def system(install_manifests: Installed, kubectl: Kubectl, tmp_path: Path) -> Iterator[System]:
    router = cluster_router(install_manifests, tmp_path, intake={"address": f"127.0.0.1:{free_port()}"})
    with start_operator(install_manifests, tmp_path), router.start():
        yield System(router, kubectl)
        router.running.close()


@pytest.fixture
def tenant() -> str:
    """A tenant of this test alone: sinks of another test may not be gone yet."""
    return f"acme-{uuid.uuid4().hex[:8]}"


def verified(request: Received) -> dict[str, Any]:
    """The CloudEvent in a request whose signature is valid according to the reference library."""
    standardwebhooks.Webhook(SECRET).verify(request.body, dict(request.headers))
    event: dict[str, Any] = request.json()
    return event


def test_a_rule_that_fires_and_resolves_notifies_the_matching_sinks_once_each(
    system: System, receiver: Receiver, monitoring: MonitoringPrograms, make_namespace: MakeNamespace, tenant: str, tmp_path: Path
) -> None:
    acme, globex = make_namespace(tenant), make_namespace(f"globex-{tenant}")
    system.apply(
        secret(acme, secret=SECRET),
        event_sink(
            acme,
            "events",
            tenant=tenant,
            webhook=signed(receiver.url("/events")),
            match={"matchers": ['alertname=~"Database.+"']},
        ),
        event_sink(acme, "groups", tenant=tenant, webhook={"url": receiver.url("/groups"), "format": "alertmanager"}),
        event_sink(
            acme, "nothing", tenant=tenant, webhook={"url": receiver.url("/nothing")}, match={"matchers": ['alertname="Other"']}
        ),
        event_sink(globex, "foreign", tenant=f"globex-{tenant}", webhook={"url": receiver.url("/foreign")}),
    )
    appears = tmp_path / "appears.json"
    appears.write_text("[]")
    rule = {
        "alert": "DatabaseDown",
        "expr": 'absent(up{job="appears"})',
        "labels": {"severity": "critical", "namespace": acme},
        "annotations": {"summary": "The database is down", "runbook_url": "https://runbooks.example.com/db"},
    }
    scrape = {"scrape_configs": [{"job_name": "appears", "file_sd_configs": [{"files": [str(appears)]}]}]}
    configuration = webhook_configuration(system.router.url, token=system.router.token)
    with Alertmanager(monitoring, configuration, tmp_path / "am") as alertmanager:
        alertmanager.wait_up()
        target = f"127.0.0.1:{alertmanager.port}"
        with Prometheus(monitoring, [{"name": "g", "rules": [rule]}], [target], tmp_path / "prom", scrape) as prometheus:
            receiver.wait_for(1, path="/events")
            receiver.wait_for(1, path="/groups")
            system.kubectl.wait_condition("eventsink", "events", "Delivering", "True", namespace=acme)
            # The series appears, so the rule no longer holds.
            appears.write_text(json.dumps([{"targets": [f"127.0.0.1:{prometheus.port}"]}]))
            receiver.wait_for(2, path="/events")
            receiver.wait_for(2, path="/groups")

    events = [verified(request) for request in receiver.requests("/events")]
    assert [event["type"] for event in events] == ["dev.eventsink.alert.firing.v1", "dev.eventsink.alert.resolved.v1"]
    assert [(event["tenant"], event["severity"], event["data"]["name"]) for event in events] == [
        (tenant, "critical", "DatabaseDown")
    ] * 2
    assert events[0]["subject"] == events[1]["subject"]
    assert events[0]["data"]["summary"] == "The database is down"
    assert len({request.headers["webhook-id"] for request in receiver.requests("/events")}) == 2

    groups = [request.json() for request in receiver.requests("/groups")]
    assert [(group["version"], group["status"], len(group["alerts"])) for group in groups] == [
        ("4", "firing", 1),
        ("4", "resolved", 1),
    ]
    assert groups[0]["groupLabels"] == {"alertname": "DatabaseDown"}
    assert groups[1]["alerts"][0]["endsAt"] > groups[0]["alerts"][0]["startsAt"]

    assert receiver.requests("/nothing") == []
    assert receiver.requests("/foreign") == []
    assert len(receiver.requests()) == 4


def test_a_kill_9_in_the_middle_of_2000_alerts_loses_none_that_was_accepted(
    system: System, receiver: Receiver, make_namespace: MakeNamespace, tenant: str
) -> None:
    acme = make_namespace(tenant)
    system.apply(secret(acme, secret=SECRET), event_sink(acme, tenant=tenant, webhook=signed(receiver.url("/events"))))
    receiver.respond_with(CannedResponse(delay=0.005), path="/events")
    accepted: set[str] = set()

    def post(number: int) -> None:
        name = f"Alert{number}"
        try:
            status, _ = system.router.post(notification(alert(name, namespace=acme), group=name))
        except OSError:
            return  # the router was killed: no response, no promise
        if status == 200:
            accepted.add(name)

    with ThreadPoolExecutor(POSTERS) as posters:
        posts = [posters.submit(post, number) for number in range(ALERTS)]
        wait_until("half of the alerts to be accepted", lambda: len(accepted) >= ALERTS // 2)
        system.router.running.kill9()
        with system.router.start():
            for one in posts:
                one.result()
            for number in range(ALERTS):  # as Alertmanager would: what got no response is sent again
                if f"Alert{number}" not in accepted:
                    post(number)
            assert len(accepted) == ALERTS
            receiver.wait_for(lambda seen: accepted <= {request.json()["data"]["name"] for request in seen}, path="/events")
            wait_until("an empty queue", lambda: "eventsink_router_deliveries_waiting 0.0" in system.router.metrics())
            assert "eventsink_router_dead_letters 0.0" in system.router.metrics()
    by_id: dict[str, set[str]] = {}
    for request in receiver.requests("/events"):
        by_id.setdefault(request.headers["webhook-id"], set()).add(verified(request)["id"])
    assert all(len(alerts) == 1 for alerts in by_id.values())  # a duplicate is the same message


def test_a_suspended_sink_gets_nothing_and_a_deleted_one_leaves_dead_letters(
    system: System, receiver: Receiver, make_namespace: MakeNamespace, tenant: str
) -> None:
    acme = make_namespace(tenant)
    system.apply(
        event_sink(acme, "down", tenant=tenant, webhook={"url": receiver.url("/down")}),
        event_sink(acme, "asleep", tenant=tenant, suspend=True, webhook={"url": receiver.url("/asleep")}),
        event_sink(acme, "well", tenant=tenant, webhook={"url": receiver.url("/well")}),
    )
    receiver.respond_with(CannedResponse(503), path="/down")
    assert system.router.post(notification(alert("Disk", namespace=acme)))[0] == 200
    receiver.wait_for(1, path="/well")
    receiver.wait_for(3, path="/down")  # it is tried again and again, and delays no other sink
    reported = system.kubectl.wait_condition("eventsink", "down", "Delivering", "False", namespace=acme)
    assert reported["reason"] == "HTTP503"
    assert f"{receiver.url('').rstrip('/')} responded with 503" in reported["message"]
    assert receiver.requests("/asleep") == []
    uid = system.kubectl.get("eventsink", "down", namespace=acme)["metadata"]["uid"]
    system.kubectl.delete("eventsink", "down", namespace=acme)

    def dead() -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = system.router.admin(f"/v1/deliveries?state=dead&sink={uid}")[1]["deliveries"]
        return found

    wait_until("a dead letter", dead)
    assert [(one["reason"], one["alert"], one["tenant"]) for one in dead()] == [("SinkDeleted", "Disk", tenant)]


def test_a_401_of_the_receiver_holds_the_deliveries_and_a_corrected_token_releases_them(
    system: System, receiver: Receiver, make_namespace: MakeNamespace, tenant: str
) -> None:
    acme = make_namespace(tenant)
    hook = {
        "url": receiver.url("/guarded"),
        "headers": [{"name": "Authorization", "valueFrom": {"secretKeyRef": {"name": "token", "key": "value"}}}],
    }
    system.apply(secret(acme, "token", value="Bearer wrong"), event_sink(acme, tenant=tenant, webhook=hook))
    receiver.respond_with(401, path="/guarded")
    for number in range(20):
        assert system.router.post(notification(alert(f"A{number}", namespace=acme), group=str(number)))[0] == 200
    reported = system.kubectl.wait_condition("eventsink", "alerts", "Delivering", "False", namespace=acme)
    assert reported["reason"] == "HTTP401"
    assert "Bearer" not in reported["message"]
    receiver.respond_with(200, path="/guarded")
    system.kubectl.apply(secret(acme, "token", value="Bearer right"))
    system.kubectl.wait_condition("eventsink", "alerts", "Delivering", "True", namespace=acme)
    right = receiver.wait_for(
        lambda seen: len({one.json()["data"]["name"] for one in seen if one.headers["authorization"] == "Bearer right"}) == 20
    )
    assert right
    assert "eventsink_router_dead_letters 0.0" in system.router.metrics()
