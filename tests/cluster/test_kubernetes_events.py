"""`eventsink events` on a real API server: each Event reaches the sink, and none twice, whatever is killed, stopped or too old."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from eventsink.runtime.process import ExitStatus
from tests.controlplane import ControlPlane
from tests.support.cluster import SYSTEM_NAMESPACE
from tests.support.kubectl import Kubectl
from tests.support.kubernetes_events import (
    CHECKPOINT,
    Arrived,
    counted,
    create_all,
    install,
    made,
    source,
    start_events,
    through_failures,
)
from tests.support.receiver import Receiver
from tests.support.router_process import start_router
from tests.support.waiting import wait_until

EVENTS = 10_000


@pytest.fixture(scope="module")
def account(plane: ControlPlane, admin: Kubectl) -> Path:
    return install(plane, admin)


@pytest.fixture(autouse=True)
def _without_what_another_test_has_left(admin: Kubectl, account: Path) -> None:
    admin.run("-n", SYSTEM_NAMESPACE, "delete", "--ignore-not-found", *CHECKPOINT)
    admin.run("-n", SYSTEM_NAMESPACE, "delete", "--ignore-not-found", "lease", "eventsink-events-leader")


def wait_written(admin: Kubectl, before: str = "") -> str:
    """Wait until the checkpoint says something else; returns what."""

    def position() -> str:
        found = (admin.find(*CHECKPOINT, namespace=SYSTEM_NAMESPACE) or {}).get("data", {}).get("_all", "")
        return str(found) if found != before else ""

    wait_until("the checkpoint", position)
    return position()


def test_events_are_sent_to_the_owners_of_their_namespaces_and_those_of_nodes_to_the_default_tenant(
    plane: ControlPlane, admin: Kubectl, account: Path, receiver: Receiver, tmp_path: Path
) -> None:
    admin.run("create", "namespace", "globex")
    admin.run("create", "namespace", "nobodys")
    sinks = [receiver.url(f"/{one}#batch=1000&tenant={one}") for one in ("globex", "platform")]
    node: dict[str, Any] = {"regarding": {"kind": "Node", "name": "node-1"}, "reason": "NodeNotReady", "type": "Normal"}
    volume: dict[str, Any] = {"regarding": {"kind": "PersistentVolume", "name": "pv-1"}, "reason": "VolumeFailedDelete"}
    space: dict[str, Any] = {"regarding": {"kind": "Namespace", "name": "closing"}, "reason": "FailedDelete"}
    pulled: dict[str, Any] = {"reason": "Pulled", "type": "Normal"}
    globex, platform = Arrived(receiver, "/globex"), Arrived(receiver, "/platform")
    with start_router(tmp_path, *sinks, sources=[source(tmp_path, defaultTenant="platform")]) as router:
        scoped = [made("node.1", "default", **node), made("pv.1", "default", **volume), made("closing.1", "default", **space)]
        create_all(plane, [made("before", "globex"), *scoped])
        with start_events(account, router, tmp_path) as events:
            create_all(plane, [made("pulled", "globex", **pulled), made("stray", "nobodys"), made("after", "globex")])
            globex.wait_for("before", "after")
            platform.wait_for("node-1", "pv-1", "closing", "stray")
            version = wait_written(admin)
            assert "globex" not in events.metrics() + str(events.readiness()), "whoever may reach them learns no name"
            assert events.terminate() == ExitStatus.DONE
        create_all(plane, [made("meanwhile", "globex")])
        with start_events(account, router, tmp_path) as events:
            globex.wait_for("before", "after", "meanwhile")
            wait_written(admin, version)
            assert counted(events, "read") == 1  # it goes on where it was
        platform.wait_for("node-1", "pv-1", "closing", "stray")
    found = {one["name"]: (one["severity"], one["namespace"], one["status"]) for one in platform.alerts}
    assert found == {
        "NodeNotReady": ("critical", "", "event"),
        "VolumeFailedDelete": ("medium", "", "event"),
        "FailedDelete": ("medium", "", "event"),
        "FailedScheduling": ("medium", "nobodys", "event"),
    }


def test_an_event_that_grows_is_sent_again_with_the_new_count_when_repeat_interval_has_passed(
    plane: ControlPlane, admin: Kubectl, account: Path, receiver: Receiver, tmp_path: Path
) -> None:
    admin.run("create", "namespace", "initech")
    initech = Arrived(receiver, "/initech")
    series = {"series": {"count": 5, "lastObservedTime": "2026-01-01T12:05:00.000000Z"}}
    sink = receiver.url("/initech#batch=1000&tenant=initech&repeat=4")
    # With one type and nothing beside it, the API server filters.
    alone: dict[str, Any] = {"namespaces": ["initech"], "filter": {"alsoReasons": []}}
    with start_router(tmp_path, sink, sources=[source(tmp_path)]) as router, start_events(account, router, tmp_path, **alone):
        create_all(plane, [made("grows", "initech"), made("normal", "initech", type="Normal")])
        initech.wait_for("grows")
        admin.run("-n", "initech", "patch", "events.events.k8s.io", "grows", "--type", "merge", "-p", json.dumps(series))
        initech.wait_for("grows", "grows")
    first, again = initech.alerts
    assert (first["count"], again["count"]) == (1, 5)
    assert (first["id"], first["startsAt"]) == (again["id"], again["startsAt"])


def test_each_of_many_events_reaches_the_sink_once_and_again_with_its_newest_count_through_kills_an_outage_and_410(
    plane: ControlPlane, admin: Kubectl, account: Path, receiver: Receiver, tmp_path: Path
) -> None:
    through_failures(plane, admin, account, receiver, tmp_path, EVENTS)
