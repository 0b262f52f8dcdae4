"""The router on a real API server: what it waits for, what it reports, what it may not do, and how it delivers alone."""

from __future__ import annotations

import base64
import json
import sqlite3
import subprocess
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import msgspec
import pytest

from eventsink.resources.status import EventSinkStatus
from eventsink.router.queue.states import SinkReport
from tests.controlplane import ControlPlane
from tests.support.attacks import patched_by_router
from tests.support.cluster import SINKS_NAMESPACE, Installed
from tests.support.kubectl import Kubectl, condition
from tests.support.parts import Router, alert, cluster_router, notification, request, start_operator
from tests.support.processes import RunningProcess
from tests.support.receiver import CannedResponse, Receiver
from tests.support.sinks import SECRET, event_sink, secret, signed, uid_of
from tests.support.waiting import wait_until

CANARIES = {
    "url": "canary-url-5d1f",
    "header": "canary-header-77aa",
    "signing": "whsec_" + base64.b64encode(b"canary-signing-0123456789").decode(),
    "response": "canary-response-31c9",
    "source": "canary-source-token-8e",
}


@pytest.fixture
def installed(installed: Installed, admin: Kubectl) -> Installed:
    """What is installed, without a sink that another test has left, and as before the first start of an operator."""
    admin.run("delete", "eventsinks", "--all", "--all-namespaces")
    admin.run("delete", "secrets", "--all", "-n", SINKS_NAMESPACE)
    return installed


def known(router: Router) -> list[str]:
    """The sinks that the router knows."""
    return [one["sink"] for one in router.admin("/v1/sinks")[1]["sinks"]]


def test_a_router_that_has_not_loaded_its_sinks_accepts_no_alerts(admin: Kubectl, installed: Installed, tmp_path: Path) -> None:
    router = cluster_router(installed, tmp_path)
    with router.start(ready=False) as process:
        status, response = router.post(notification(alert("A", namespace="acme")))
        assert status == 503
        assert "not loaded all sinks yet" in response["error"]
        ready = request(f"http://127.0.0.1:{process.port_of('monitor')}/readyz", "")
        assert ready[0] == 503
        wait_until(
            "the reason why it is not ready",
            lambda: (
                request(f"http://127.0.0.1:{process.port_of('monitor')}/readyz", "")[1]["failing"].get("sinks")
                == "the operator has not written the tenancy yet"
            ),
        )
        with start_operator(installed, tmp_path):
            process.wait_ready()
        assert router.post(notification(alert("A", namespace="acme")))[0] == 403  # no tenant owns that namespace


def test_the_router_keeps_delivering_while_the_operator_and_the_api_server_are_down(
    plane: ControlPlane, admin: Kubectl, installed: Installed, receiver: Receiver, tmp_path: Path
) -> None:
    router = cluster_router(installed, tmp_path)
    with admin.namespace(tenant="acme") as acme, start_operator(installed, tmp_path) as operator, router.start():
        admin.apply([secret(acme, secret=SECRET), event_sink(acme, webhook=signed(receiver.url("/hook")))])
        wait_until("the sink", lambda: known(router))
        operator.terminate()
        plane.stop_api_server()
        for number in range(10):
            assert router.post(notification(alert(f"A{number}", namespace=acme), group=str(number)))[0] == 200
        receiver.wait_for(10)
        before = len(router.running.text().splitlines())
        plane.start_api_server()
        admin.wait_condition("eventsink", "alerts", "Delivering", "True", namespace=acme)
        assert len(router.running.text().splitlines()) - before < 20


def test_a_status_is_written_when_it_changes_and_not_for_each_message(
    plane: ControlPlane, admin: Kubectl, installed: Installed, receiver: Receiver, tmp_path: Path
) -> None:
    router = cluster_router(installed, tmp_path)
    with admin.namespace(tenant="acme") as acme, start_operator(installed, tmp_path), router.start():
        admin.apply(event_sink(acme, webhook={"url": receiver.url("/hook")}))
        wait_until("the sink", lambda: known(router))
        receiver.respond_with(200, path="/hook")
        for number in range(50):
            router.post(notification(alert(f"A{number}", namespace=acme), group=str(number)))
        receiver.wait_for(50)
        admin.wait_condition("eventsink", "alerts", "Delivering", "True", namespace=acme)
        receiver.respond_with(404, path="/hook")
        router.post(notification(alert("B", namespace=acme), group="B"))
        reported = admin.wait_condition("eventsink", "alerts", "Delivering", "False", reason="HTTP404", namespace=acme)
        assert reported["message"].startswith(f"{receiver.url('').rstrip('/')} responded with 404: check the URL")
        status = admin.get("eventsink", "alerts", namespace=acme)["status"]
        assert status["delivery"]["lastError"].startswith("HTTP404: ")
        assert "/hook" not in json.dumps(status)
        assert condition({"status": status}, "Ready")["status"] == "True"
        assert 2 <= len(written_by_the_router(plane, acme)) <= 5


def written_by_the_router(plane: ControlPlane, namespace: str) -> list[str]:
    """The names of the EventSinks there whose status it has written so far, in order."""
    user = "system:serviceaccount:eventsink-system:eventsink-router"
    patches = [one["objectRef"] for one in plane.audited() if one["user"]["username"] == user and one["verb"] == "patch"]
    return [one["name"] for one in patches if one["namespace"] == namespace]


def reports(reason: str) -> Callable[[dict[str, Any]], bool]:
    """Whether `Delivering` has that reason."""
    return lambda found: condition(found, "Delivering").get("reason") == reason


def recorded(queue: Path) -> list[str]:
    """The reasons that the router has on disk."""
    with closing(sqlite3.connect(f"file:{queue}?mode=ro", uri=True)) as connection:
        rows = connection.execute("SELECT report FROM sink_reports").fetchall()
    return sorted(msgspec.msgpack.decode(report, type=SinkReport).reason for (report,) in rows)


@pytest.mark.parametrize("end", [RunningProcess.terminate, RunningProcess.kill9])
def test_a_restart_writes_no_status_that_says_so_already(
    plane: ControlPlane,
    admin: Kubectl,
    installed: Installed,
    receiver: Receiver,
    tmp_path: Path,
    end: Callable[[RunningProcess], object],
) -> None:
    router = cluster_router(installed, tmp_path, dispatch={"retry": {"probeFirst": "2s", "probeLongest": "2s"}})
    receiver.respond_with(404, path="/held")
    mutes = [{"matchers": ["alertname=Muted"], "until": f"{year}-01-01T00:00:00Z"} for year in (2020, 2096)]
    states = {"arrives": "Delivered", "held": "HTTP404", "unused": "NothingSent", "suspended": "Suspended"}
    with admin.namespace(tenant="acme") as acme, start_operator(installed, tmp_path):
        with router.start() as first:
            for name in states:
                match = {"matchers": ["alertname=Never"]} if name == "unused" else {}
                suspend = name == "suspended"
                hook = {"url": receiver.url(f"/{name}")}
                admin.apply(event_sink(acme, name, match=match, mutes=mutes, suspend=suspend, webhook=hook))
                router.wait_known(f"{acme}/{name}")
            router.post(notification(alert("A", namespace=acme)))
            for name, reason in states.items():
                admin.wait_until("eventsink", name, reports(reason), namespace=acme)
            wait_until("the record of that", lambda: recorded(tmp_path / "queue.db") == sorted(states.values()))
            end(first)
        before = {name: admin.get("eventsink", name, namespace=acme)["metadata"]["resourceVersion"] for name in states}
        written, asked = len(written_by_the_router(plane, acme)), len(receiver.requests("/held"))
        with router.start():
            receiver.wait_for(asked + 1, path="/held")  # it is tried again, and fails as before
            admin.apply(event_sink(acme, "new", webhook={"url": receiver.url("/new")}))
            admin.wait_until("eventsink", "new", lambda found: condition(found, "Delivering"), namespace=acme)
            assert set(written_by_the_router(plane, acme)[written:]) == {"new"}
            assert {
                name: admin.get("eventsink", name, namespace=acme)["metadata"]["resourceVersion"] for name in states
            } == before
            receiver.respond_with(200, path="/held")
            admin.wait_condition("eventsink", "held", "Delivering", "True", namespace=acme)


def test_a_router_with_a_new_queue_keeps_what_the_statuses_say_and_fills_in_what_is_missing(
    plane: ControlPlane, admin: Kubectl, installed: Installed, receiver: Receiver, tmp_path: Path
) -> None:
    router = cluster_router(installed, tmp_path)
    receiver.respond_with(404, path="/held")
    with admin.namespace(tenant="acme") as acme, start_operator(installed, tmp_path):
        with router.start():
            for name in ("arrives", "held"):
                admin.apply(event_sink(acme, name, webhook={"url": receiver.url(f"/{name}")}))
                router.wait_known(f"{acme}/{name}")
            router.post(notification(alert("A", namespace=acme)))
            admin.wait_until("eventsink", "arrives", reports("Delivered"), namespace=acme)
            admin.wait_until("eventsink", "held", reports("HTTP404"), namespace=acme)
        for file in tmp_path.glob("queue.db*"):
            file.unlink()
        admin.apply(event_sink(acme, "new", webhook={"url": receiver.url("/new")}))
        admin.wait_condition("eventsink", "new", "Ready", "True", namespace=acme)
        before = {name: admin.get("eventsink", name, namespace=acme) for name in ("arrives", "held")}
        with router.start():
            admin.wait_until("eventsink", "new", reports("NothingSent"), namespace=acme)
            wait_until("all to be known", lambda: recorded(tmp_path / "queue.db") == ["Delivered", "HTTP404", "NothingSent"])
            assert {name: admin.get("eventsink", name, namespace=acme) for name in before} == before


def test_a_router_whose_queue_was_restored_from_a_copy_believes_the_statuses_and_not_the_copy(
    admin: Kubectl, installed: Installed, receiver: Receiver, tmp_path: Path
) -> None:
    router = cluster_router(installed, tmp_path)
    with admin.namespace(tenant="acme") as acme, start_operator(installed, tmp_path):
        admin.apply(event_sink(acme, "one", webhook={"url": receiver.url("/")}))
        with router.start() as process:
            router.wait_known(f"{acme}/one")
            router.post(notification(alert("A", namespace=acme)))
            admin.wait_until("eventsink", "one", reports("Delivered"), namespace=acme)
            assert process.terminate() == 0
        copy = (tmp_path / "queue.db").read_bytes()
        receiver.respond_with(404)
        with router.start() as process:
            router.post(notification(alert("B", namespace=acme)))
            admin.wait_until("eventsink", "one", reports("HTTP404"), namespace=acme)
            process.kill9()
        before = admin.get("eventsink", "one", namespace=acme)
        (tmp_path / "queue.db-wal").unlink()
        (tmp_path / "queue.db").write_bytes(copy)
        with closing(sqlite3.connect(tmp_path / "queue.db")) as restored:
            restored.execute("UPDATE meta SET known_wall = known_wall - 3600")
            restored.commit()
        with router.start():
            wait_until("the status to be read", lambda: recorded(tmp_path / "queue.db") == ["HTTP404"])
            assert admin.get("eventsink", "one", namespace=acme) == before


def test_a_recreated_sink_does_not_inherit_the_delivery_status_of_the_deleted_one(
    admin: Kubectl, installed: Installed, receiver: Receiver, tmp_path: Path
) -> None:
    router = cluster_router(installed, tmp_path)
    with admin.namespace(tenant="acme") as acme, router.start(ready=False):
        with start_operator(installed, tmp_path) as operator:
            router.running.wait_ready()
            admin.apply(event_sink(acme, webhook={"url": receiver.url("/hook")}))
            wait_until("the sink", lambda: known(router))
            operator.terminate()
        # The operator is down: the router still has the deleted sink when another of its name is created.
        former = uid_of(admin, acme)
        admin.delete("eventsink", "alerts", namespace=acme)
        admin.apply(event_sink(acme, webhook={"url": receiver.url("/hook")}))
        router.post(notification(alert("A", namespace=acme)))
        receiver.wait_for(1)
        assert uid_of(admin, acme) != former
        admin.wait_until("eventsink", "alerts", lambda found: condition(found, "Delivering"), namespace=acme)
        wait_until("the inherited status to be cleared", lambda: delivering(admin, acme)["reason"] == "NothingSent")
        assert "delivery" not in admin.get("eventsink", "alerts", namespace=acme)["status"]


def delivering(admin: Kubectl, namespace: str) -> dict[str, Any]:
    return condition(admin.get("eventsink", "alerts", namespace=namespace), "Delivering")


def as_router(installed: Installed, admin: Kubectl, *arguments: str) -> subprocess.CompletedProcess[str]:
    """kubectl with the router's permissions."""
    return Kubectl(installed.router).run(*arguments, check=False)


AGO = "2026-01-01T00:00:00Z"
LATER = "2026-02-02T00:00:00Z"
READY = {"type": "Ready", "status": "False", "reason": "InvalidSpec", "message": "", "lastTransitionTime": AGO}
DELIVERING = {"type": "Delivering", "status": "False", "reason": "HTTP503", "message": "", "lastTransitionTime": AGO}
KNOWN: dict[str, Any] = {
    "observedGeneration": 1,
    "conditions": [READY, DELIVERING],
    "type": "webhook",
    "specChangedTime": AGO,
    "delivery": {"lastError": "HTTP503"},
    "slack": {"channelId": "C1"},
    "webhook": {"origin": "https://example.com"},
}
"""A status with every field, and what the router tries to change each to."""
FORGED: dict[str, Any] = {
    "observedGeneration": 99,
    "conditions": [{**READY, "status": "True"}, DELIVERING],
    "type": "slack",
    "specChangedTime": LATER,
    "delivery": {"lastError": None, "lastDeliveredTime": LATER},
    "slack": {"channelId": "C2"},
    "webhook": {"origin": "https://other.example.com"},
}
OWN = {"conditions", "delivery"}


@pytest.fixture
def known_status(kubectl: Kubectl, install_manifests: Installed, namespace: str) -> None:
    """An EventSink with a full status, where the policy is active."""
    kubectl.apply(event_sink(namespace))
    patch = json.dumps({"status": KNOWN})
    kubectl.run("patch", "eventsink", "alerts", "-n", namespace, "--subresource=status", "--type=merge", "-p", patch)
    forged = {"type": "slack"}
    wait_until("the policy", lambda: "may not change" in patched_by_router(install_manifests, namespace, forged), poll=0.5)


def test_the_router_may_change_no_field_of_a_status_but_its_own(
    install_manifests: Installed, namespace: str, known_status: None
) -> None:
    fields = {info.alias or name for name, info in EventSinkStatus.model_fields.items()}
    assert set(KNOWN) == set(FORGED) == fields
    for field in sorted(fields - OWN):
        for change in ({field: FORGED[field]}, {field: None}):
            assert f"the router may not change status.{field}" in patched_by_router(install_manifests, namespace, change), change
    another = {**READY, "type": "Reconciling", "status": "True"}
    for conditions in (FORGED["conditions"], [DELIVERING], [], None, [READY, DELIVERING, another]):
        response = patched_by_router(install_manifests, namespace, {"conditions": conditions})
        assert "the router may change the condition Delivering only" in response, conditions
    assert "may not change" in patched_by_router(install_manifests, namespace, None), "a status that is removed as a whole"


def test_the_router_may_change_its_own_fields_of_a_status(
    install_manifests: Installed, namespace: str, known_status: None
) -> None:
    for status in (
        {"delivery": FORGED["delivery"]},
        {"delivery": None},
        {"conditions": [READY, {**DELIVERING, "status": "True", "lastTransitionTime": LATER}]},
        {"conditions": [READY]},
    ):
        response = json.loads(patched_by_router(install_manifests, namespace, status))
        assert response["kind"] == "EventSink", response


@pytest.mark.parametrize(
    "arguments",
    [
        ["get", "secrets", "-n", "eventsink-system"],
        ["get", "secrets", "-n", "default"],
        ["get", "secret", "tenancy", "-n", SINKS_NAMESPACE],
        ["get", "eventsinks", "-n", "default"],
        ["get", "namespaces"],
        ["create", "secret", "generic", "x", "-n", SINKS_NAMESPACE],
    ],
)
def test_the_router_has_no_permission_that_it_does_not_need(
    kubectl: Kubectl, install_manifests: Installed, arguments: list[str]
) -> None:
    denied = as_router(install_manifests, kubectl, *arguments)
    assert denied.returncode != 0
    assert "forbidden" in denied.stderr.lower()


def test_an_unreadable_compiled_sink_leaves_its_last_valid_version_active(
    admin: Kubectl, installed: Installed, receiver: Receiver, tmp_path: Path
) -> None:
    router = cluster_router(installed, tmp_path)
    with admin.namespace(tenant="acme") as acme, router.start(ready=False):
        with start_operator(installed, tmp_path) as operator:
            router.running.wait_ready()
            admin.apply(event_sink(acme, webhook={"url": receiver.url("/hook")}))
            wait_until("the sink", lambda: known(router))
            operator.terminate()
        uid = uid_of(admin, acme)
        newer = base64.b64encode(b'{"version": 99, "canary": "x"}').decode()
        admin.run(
            "patch",
            "secret",
            f"sink-{uid}",
            "-n",
            SINKS_NAMESPACE,
            "--type=merge",
            "-p",
            json.dumps({"data": {"sink.json": newer}}),
        )
        router.running.wait_logged("an unreadable sink", lambda line: "cannot be read" in line.get("event", ""))
        router.post(notification(alert("A", namespace=acme)))
        receiver.wait_for(1)
        assert "canary" not in router.running.text()


def test_no_credential_is_found_anywhere_but_in_secrets(
    admin: Kubectl, installed: Installed, receiver: Receiver, tmp_path: Path
) -> None:
    router = cluster_router(installed, tmp_path)
    router.token = CANARIES["source"]
    with admin.namespace(tenant="acme") as acme, start_operator(installed, tmp_path) as operator, router.start():
        path, named = f"/{CANARIES['url']}", "s-4c1d9e"
        hook = {
            "urlSecretRef": {"name": "c", "key": "url"},
            "headers": [{"name": "X-Key", "valueFrom": {"secretKeyRef": {"name": "c", "key": "header"}}}],
            "signingSecretRefs": [{"name": "c", "key": "signing"}],
        }
        # `create`, since `apply` itself would repeat the data in an annotation.
        literals = {"url": receiver.url(path), "header": CANARIES["header"], "signing": CANARIES["signing"]}
        admin.run("-n", acme, "create", "secret", "generic", "c", *(f"--from-literal={k}={v}" for k, v in literals.items()))
        receiver.respond_with(
            *(CannedResponse(status, body=CANARIES["response"].encode()) for status in (500, 302, 400, 503, 401)),
            path=path,
        )
        admin.apply(
            [
                event_sink(acme, named, webhook=hook),
                event_sink(acme, "broken", webhook={**hook, "signingSecretRefs": [{"name": "c", "key": "header"}]}),
            ]
        )
        admin.wait_condition("eventsink", named, "Ready", "True", namespace=acme)
        wait_until("the sink", lambda: known(router))
        for number in range(5):
            router.post(notification(alert(f"A{number}", namespace=acme), group=str(number)))
        admin.wait_condition("eventsink", named, "Delivering", "False", namespace=acme)
        request(router.url, "wrong-token", b"{}")
        shown = {
            "objects": admin.run("get", "eventsinks,events,configmaps", "--all-namespaces", "-o", "yaml").stdout,
            "describe": admin.run("describe", "eventsinks", "-n", acme).stdout,
            "operator log": operator.text(),
            "router log": router.running.text(),
            "metrics and health": str([each.metrics() + str(each.readiness()) for each in (operator, router.running)]),
            "admin": json.dumps([router.admin("/v1/deliveries"), router.admin("/v1/sinks")]),
        }
    for name in (acme, "acme", named):
        assert name not in shown["metrics and health"]
    for where, text in shown.items():
        for what, canary in CANARIES.items():
            assert canary not in text, f"the {what} is in the {where}"
            assert base64.b64encode(canary.encode()).decode().rstrip("=") not in text, f"the {what} is in the {where}"
