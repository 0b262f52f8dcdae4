"""Upgrades: each sink is compiled again, once, and routers and operators of this version and the one before work beside each other."""

from __future__ import annotations

import base64
import json
from collections import Counter
from pathlib import Path
from typing import Any

from eventsink.controller.compile import COMPILER_VERSION
from tests.controlplane import ControlPlane
from tests.support import sink_v0_1
from tests.support.cluster import SINKS_NAMESPACE, Installed
from tests.support.kubectl import Kubectl
from tests.support.older_operator import OLDER_VERSION
from tests.support.parts import Router, alert, cluster_router, notification, start_operator
from tests.support.receiver import Receiver
from tests.support.sinks import SECRET, compiled, event_sink, secret, signed, uid_of, wait_compiled
from tests.support.waiting import wait_until

USER = "system:serviceaccount:eventsink-system:eventsink-operator"
READS = {"get", "list", "watch"}
NAMES = ("signed", "plain", "paused")


def writes_since(plane: ControlPlane, start: int) -> Counter[str]:
    """How often the operator wrote each object except Events and its Lease, after the first `start` audited requests."""
    done = [one for one in plane.audited()[start:] if one["user"]["username"] == USER and one["verb"] not in READS]
    refs = [one["objectRef"] for one in done if "objectRef" in one]
    return Counter(f"{ref['resource']}/{ref.get('name', '')}" for ref in refs if ref["resource"] not in ("events", "leases"))


def compiler_of(admin: Kubectl, uid: str) -> int:
    """The version that the compiled Secret records where the operator looks for it."""
    notes = admin.get("secret", f"sink-{uid}", namespace=SINKS_NAMESPACE)["metadata"]["annotations"]
    return int(json.loads(notes["eventsink.dev/compiled-from"])["compiler"])


def is_current(sink: dict[str, Any]) -> bool:
    """Whether the operator of this version compiled it."""
    return bool(sink["compiledFrom"].get("compiler") == COMPILER_VERSION)


def test_an_upgrade_compiles_each_sink_once_and_a_restart_none(
    plane: ControlPlane, admin: Kubectl, installed: Installed, tmp_path: Path
) -> None:
    with admin.namespace(tenant="acme") as acme:
        sinks = [
            event_sink(acme, "signed", webhook=signed()),
            event_sink(acme, "plain"),
            event_sink(acme, "paused", suspend=True),
        ]
        admin.apply([secret(acme, secret=SECRET), *sinks])
        with start_operator(installed, tmp_path, module="tests.support.older_operator") as older:
            for name in NAMES:
                admin.wait_condition("eventsink", name, "Ready", "True", namespace=acme)
            assert older.terminate() == 0
        uids = {name: uid_of(admin, acme, name) for name in NAMES}
        before = {uid: compiled(admin, uid) for uid in uids.values()}
        assert {compiler_of(admin, uid) for uid in uids.values()} == {OLDER_VERSION}

        audited = len(plane.audited())
        with start_operator(installed, tmp_path) as upgraded:
            for uid in uids.values():
                wait_compiled(admin, uid, is_current)
            upgraded.wait_ready()
            assert upgraded.terminate() == 0
        assert writes_since(plane, audited) == {f"secrets/sink-{uid}": 1 for uid in uids.values()}

        for name, uid in uids.items():
            document = compiled(admin, uid)
            assert document is not None
            old = sink_v0_1.Sink.model_validate(document)
            assert (old.name, old.suspend) == (name, name == "paused")
            assert old.webhook is not None
            assert old.webhook.signing_secrets == ((SECRET,) if name == "signed" else ())
            assert old.destination == old.expected_destination()
            # Only the recorded version differs: no destination changed, so nothing is sent again.
            assert {**document, "compiledFrom": None} == {**(before[uid] or {}), "compiledFrom": None}

        audited = len(plane.audited())
        with start_operator(installed, tmp_path) as restarted:
            restarted.wait_ready()
            admin.apply(event_sink(acme, "last"))  # handled after all that existed before
            admin.wait_condition("eventsink", "last", "Ready", "True", namespace=acme)
            restarted.terminate()
        assert writes_since(plane, audited) == {f"secrets/sink-{uid_of(admin, acme, 'last')}": 1, "eventsinks/last": 1}


def test_a_compiled_sink_without_a_compiler_version_is_compiled_again(
    admin: Kubectl, installed: Installed, tmp_path: Path
) -> None:
    with admin.namespace(tenant="acme") as acme, start_operator(installed, tmp_path) as operator:
        operator.wait_ready()
        admin.apply(event_sink(acme, "plain"))
        admin.wait_condition("eventsink", "plain", "Ready", "True", namespace=acme)
        uid = uid_of(admin, acme, "plain")
        secret_name = f"sink-{uid}"
        found = admin.get("secret", secret_name, namespace=SINKS_NAMESPACE)
        document = json.loads(base64.b64decode(found["data"]["sink.json"]))
        del document["compiledFrom"]["compiler"], document["compiledFrom"]["tokens"], document["dispatch"], document["type"]
        data = base64.b64encode(json.dumps(document).encode()).decode()
        notes = {"eventsink.dev/compiled-from": json.dumps(document["compiledFrom"])}
        change = {"metadata": {"annotations": notes}, "data": {"sink.json": data}}
        admin.run("-n", SINKS_NAMESPACE, "patch", "secret", secret_name, "--type=merge", "-p", json.dumps(change))
        again = wait_compiled(admin, uid, is_current)
        assert again["type"] == "webhook"


# ---- versions beside each other


def hooks(acme: str, receiver: Receiver) -> list[dict[str, Any]]:
    """A Secret, and one sink of each kind that version 0.1 had."""
    return [
        secret(acme, secret=SECRET),
        event_sink(acme, "signed", webhook=signed(receiver.url("/signed"))),
        event_sink(acme, "group", webhook={"url": receiver.url("/group"), "format": "alertmanager"}),
        event_sink(acme, "matching", webhook={"url": receiver.url("/matching")}, match={"matchers": ['alertname="B"']}),
        event_sink(acme, "paused", webhook={"url": receiver.url("/paused")}, suspend=True),
    ]


def deliver(router: Router, acme: str, receiver: Receiver, name: str, expected: dict[str, int]) -> None:
    """Post an alert, and wait until so many messages have arrived at each path in all; no other came."""
    assert router.post(notification(alert(name, namespace=acme), group=name))[0] == 200
    for path, times in expected.items():
        if times:
            receiver.wait_for(times, path=path)
    wait_until("everything is delivered", lambda: "eventsink_router_deliveries_waiting 0.0" in router.metrics())
    assert {path: len(receiver.requests(path)) for path in expected} == expected


FIRST = {"/signed": 1, "/group": 1, "/matching": 0, "/paused": 0}
SECOND = {"/signed": 2, "/group": 2, "/matching": 1, "/paused": 0}
THIRD = {"/signed": 3, "/group": 3, "/matching": 1, "/paused": 0}


def wait_active(admin: Kubectl, router: Router, acme: str) -> None:
    """Wait until all sinks are Ready, and known to the router."""
    for name in ("signed", "group", "matching", "paused"):
        admin.wait_condition("eventsink", name, "Ready", "True", namespace=acme)
        router.wait_known(f"{acme}/{name}")


def test_an_older_router_delivers_what_the_new_operator_compiles_and_is_upgraded_without_a_repetition(
    admin: Kubectl, installed: Installed, tmp_path: Path
) -> None:
    with admin.namespace(tenant="acme") as acme, Receiver() as receiver, start_operator(installed, tmp_path) as operator:
        operator.wait_ready()
        admin.apply(hooks(acme, receiver))
        router = cluster_router(installed, tmp_path)
        with router.start(module="tests.support.older_router") as older:
            wait_active(admin, router, acme)
            deliver(router, acme, receiver, "A", FIRST)
            deliver(router, acme, receiver, "B", SECOND)
            assert all("webhook-signature" in one.headers for one in receiver.requests("/signed"))
            admin.wait_condition("eventsink", "signed", "Delivering", "True", namespace=acme)
            assert older.terminate() == 0
        with router.start():
            wait_active(admin, router, acme)
            deliver(router, acme, receiver, "C", THIRD)


def test_the_new_router_delivers_what_an_older_operator_compiled_and_its_upgrade_repeats_nothing(
    admin: Kubectl, installed: Installed, tmp_path: Path
) -> None:
    router = cluster_router(installed, tmp_path)
    with admin.namespace(tenant="acme") as acme, Receiver() as receiver:
        with start_operator(installed, tmp_path, module="tests.support.operator_v0_1") as older:
            older.wait_ready()
            admin.apply(hooks(acme, receiver))
            with router.start():
                wait_active(admin, router, acme)
                uid = uid_of(admin, acme, "signed")
                assert not {"type", "dispatch", "target"} & (compiled(admin, uid) or {}).keys()
                deliver(router, acme, receiver, "A", FIRST)
                assert older.terminate() == 0
                with start_operator(installed, tmp_path):
                    for name in ("signed", "group", "matching", "paused"):
                        wait_compiled(admin, uid_of(admin, acme, name), is_current)
                    deliver(router, acme, receiver, "B", SECOND)
                    deliver(router, acme, receiver, "C", THIRD)
        assert all("webhook-signature" in one.headers for one in receiver.requests("/signed"))
