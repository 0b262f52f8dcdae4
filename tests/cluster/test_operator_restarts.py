"""The operator through restarts, outages, other versions of the CRD, and its own removal. Each on a control plane of its own."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import yaml

from eventsink.resources.status import DELIVERS_AGAIN
from eventsink.runtime.times import format_time
from tests.controlplane import ControlPlane
from tests.soak.outage import outage, requests_since
from tests.support.cluster import CRDS, MANIFESTS, SINKS_NAMESPACE, Installed, install, install_crd
from tests.support.kubectl import Kubectl
from tests.support.parts import start_operator
from tests.support.processes import RunningProcess, eventsink
from tests.support.sinks import (
    SECRET,
    compiled,
    compiled_uids,
    event_sink,
    events_of,
    secret,
    signed,
    uid_of,
    wait_all_ready,
)
from tests.support.waiting import wait_until

OUTAGE_SECONDS = 12
"""Longer than any wait between two attempts but the longest; `make soak` takes minutes."""
WRITES = {"create", "update", "patch", "delete", "deletecollection"}


def wait_ready(admin: Kubectl, namespace: str, name: str = "alerts") -> None:
    admin.wait_condition("eventsink", name, "Ready", "True", namespace=namespace)


def test_a_restart_over_handled_sinks_writes_nothing_and_reads_no_secret(
    plane: ControlPlane, admin: Kubectl, installed: Installed, acme: str, tmp_path: Path
) -> None:
    admin.apply([secret(acme, secret=SECRET), *(event_sink(acme, f"s{n}", webhook=signed()) for n in range(10))])
    admin.apply(event_sink(acme, "waiting", webhook=signed(secret="none")))
    with start_operator(installed, tmp_path) as operator:
        operator.wait_ready()
        wait_all_ready(admin, acme, [f"s{number}" for number in range(10)])
        admin.wait_condition("eventsink", "waiting", "Ready", "False", namespace=acme)
        assert operator.terminate() == 0
    before = len(plane.audited())
    with start_operator(installed, tmp_path, sweepInterval="1s") as operator:
        operator.wait_ready()
        # A sink that is created now is handled after all that existed before.
        admin.apply(event_sink(acme, "last"))
        wait_ready(admin, acme, "last")
        operator.terminate()
    last = uid_of(admin, acme, "last")
    asked = [(one["verb"], one.get("objectRef", {})) for one in requests_since(plane, before)]
    wrote = [(verb, ref.get("name")) for verb, ref in asked if verb in WRITES and ref.get("resource") not in ("events", "leases")]
    assert sorted(wrote) == [("create", f"sink-{last}"), ("patch", "last")]
    read = [ref["name"] for verb, ref in asked if verb == "get" and ref.get("resource") == "secrets"]
    assert set(read) <= {"tenancy"}
    assert len(events_of(admin, uid_of(admin, acme, "s0"))) == 1


def test_a_sink_that_stops_delivering_and_recovers_gets_one_event_for_each_across_restarts(
    admin: Kubectl, installed: Installed, acme: str, tmp_path: Path
) -> None:
    admin.apply(event_sink(acme))
    uid = uid_of(admin, acme)

    def report(status: str, reason: str, message: str = "it said so") -> None:
        """As the router does."""
        now = format_time(datetime.now(UTC))
        condition = {"type": "Delivering", "status": status, "reason": reason, "message": message, "lastTransitionTime": now}
        body = {
            "apiVersion": "eventsink.dev/v1alpha1",
            "kind": "EventSink",
            "metadata": {"name": "alerts", "namespace": acme},
            "status": {"conditions": [condition]},
        }
        applied = ("apply", "--server-side", "--subresource=status", "--field-manager=eventsink-router", "-f", "-")
        admin.run(*applied, input=yaml.safe_dump(body))

    def recorded() -> list[tuple[str, str]]:
        return [(one["type"], one["reason"]) for one in events_of(admin, uid) if one["reason"] != "Accepted"]

    with start_operator(installed, tmp_path) as operator:
        operator.wait_ready()
        wait_ready(admin, acme)
        report("True", "Delivered")
        report("False", "HTTP404")
        wait_until("an Event", lambda: recorded() == [("Warning", "HTTP404")])
        assert "Delivering is False: it said so" in [one["message"] for one in events_of(admin, uid)]
    with start_operator(installed, tmp_path) as operator:
        operator.wait_ready()
        admin.apply(event_sink(acme, "last"))  # handled after all that existed before
        wait_ready(admin, acme, "last")
        assert recorded() == [("Warning", "HTTP404")]
        operator.terminate()
    both = [("Normal", "Delivered"), ("Warning", "HTTP404")]
    report("True", "Delivered", DELIVERS_AGAIN)  # while none runs
    for name in ("later", "much-later"):
        with start_operator(installed, tmp_path):
            wait_until("an Event", lambda: sorted(recorded()) == both)
            admin.apply(event_sink(acme, name))
            wait_ready(admin, acme, name)
            assert sorted(recorded()) == both


def test_what_was_deleted_while_the_operator_was_down_is_removed_at_its_start(
    admin: Kubectl, installed: Installed, acme: str, tmp_path: Path
) -> None:
    admin.apply([event_sink(acme, "gone"), event_sink(acme, "recreated"), event_sink(acme, "stays")])
    with start_operator(installed, tmp_path) as operator:
        for name in ("gone", "recreated", "stays"):
            wait_ready(admin, acme, name)
        operator.terminate()
    uids = {name: uid_of(admin, acme, name) for name in ("gone", "recreated", "stays")}
    # No finalizer makes the deletion wait for the operator.
    admin.run("-n", acme, "delete", "eventsink", "gone", "recreated", "--timeout=30s")
    admin.apply(event_sink(acme, "recreated", webhook=signed(secret="none")))
    with start_operator(installed, tmp_path):
        admin.wait_gone("secret", f"sink-{uids['gone']}", namespace=SINKS_NAMESPACE)
        admin.wait_gone("secret", f"sink-{uids['recreated']}", namespace=SINKS_NAMESPACE)
        admin.wait_condition("eventsink", "recreated", "Ready", "False", reason="SecretNotFound", namespace=acme)
        assert compiled(admin, uids["stays"]) is not None


def test_after_a_kill_in_the_middle_the_next_start_compiles_every_sink(
    admin: Kubectl, installed: Installed, acme: str, tmp_path: Path
) -> None:
    names = [f"s{number}" for number in range(30)]
    with start_operator(installed, tmp_path) as operator:
        operator.wait_ready()
        admin.apply([event_sink(acme, name) for name in names])
        operator.wait_logged("a first active sink", lambda line: line.get("event") == "sink accepted and active")
        operator.kill9()
    with start_operator(installed, tmp_path):
        assert set(wait_all_ready(admin, acme, names).values()) <= compiled_uids(admin)


def test_an_outage_of_the_api_server_neither_stops_the_operator_nor_causes_a_storm_of_requests(
    plane: ControlPlane, admin: Kubectl, installed: Installed, acme: str, tmp_path: Path
) -> None:
    outage(plane, admin, installed, acme, tmp_path, OUTAGE_SECONDS)


def test_an_operator_started_while_the_api_server_is_unavailable_waits_for_it(
    plane: ControlPlane, admin: Kubectl, installed: Installed, acme: str, tmp_path: Path
) -> None:
    plane.stop_api_server()
    with start_operator(installed, tmp_path) as operator:
        operator.port_of("monitor")
        plane.start_api_server()
        operator.wait_ready()
        admin.apply(event_sink(acme))
        wait_ready(admin, acme)


def changed_crd(change: Any) -> dict[str, Any]:
    """The CRD with a change to its schema."""
    crd: dict[str, Any] = yaml.safe_load(CRDS.read_text())
    change(crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"])
    return crd


def test_a_crd_that_lacks_status_fields_degrades_the_status_only(
    admin: Kubectl, installed: Installed, acme: str, tmp_path: Path
) -> None:
    def older(schema: dict[str, Any]) -> None:
        for name in ("specChangedTime", "type", "delivery"):
            del schema["status"]["properties"][name]

    admin.apply(changed_crd(older), server_side=True)
    try:
        with start_operator(installed, tmp_path, sweepInterval="1s") as operator:
            admin.apply([event_sink(acme, name) for name in ("alerts", "others")])
            for name in ("alerts", "others"):
                wait_ready(admin, acme, name)
                assert compiled(admin, uid_of(admin, acme, name)) is not None
            warned = [line for line in operator.lines() if "the CRD lacks fields of the status" in line["event"]]
            assert len(warned) == 1
            install_crd(admin)  # the CRD is upgraded after the operator
            for name in ("alerts", "others"):
                admin.wait_until("eventsink", name, lambda sink: sink["status"].get("type") == "webhook", namespace=acme)
    finally:
        install_crd(admin)


def test_a_spec_field_of_a_newer_crd_is_never_ignored(admin: Kubectl, installed: Installed, acme: str, tmp_path: Path) -> None:
    def newer(schema: dict[str, Any]) -> None:
        schema["spec"]["properties"]["onlyOnSundays"] = {"type": "boolean"}

    admin.apply(changed_crd(newer), server_side=True)
    try:
        with start_operator(installed, tmp_path):
            admin.apply(event_sink(acme, onlyOnSundays=True))
            reported = admin.wait_condition("eventsink", "alerts", "Ready", "False", reason="UnknownField", namespace=acme)
            assert reported["message"].startswith("spec.onlyOnSundays: this version of the operator does not know this field")
            assert compiled(admin, uid_of(admin, acme)) is None
    finally:
        install_crd(admin)


def test_without_the_crd_the_start_ends_with_a_sentence_and_status_3(fresh_control_plane: Any, tmp_path: Path) -> None:
    plane = fresh_control_plane()
    settings = tmp_path / "operator.yaml"
    settings.write_text(f"monitor: {{address: '127.0.0.1:0'}}\nkubernetes: {{kubeconfig: {plane.admin_kubeconfig}}}\n")
    with eventsink("operator", "--config", settings, folder=tmp_path) as operator:
        assert operator.wait() == 3
        assert "apply the CRD first" in operator.lines()[-1]["reason"]


def test_an_uninstall_leaves_nothing_stuck(fresh_control_plane: Any, tmp_path: Path) -> None:
    plane = fresh_control_plane()
    admin = Kubectl(plane.admin_kubeconfig)
    install_crd(admin)
    installed = install(plane, admin)
    with admin.namespace(tenant="acme") as acme:
        admin.apply(event_sink(acme))
        with start_operator(installed, tmp_path):
            wait_ready(admin, acme)
        for folder in (MANIFESTS / "default", MANIFESTS / "namespaces", CRDS.parent):
            admin.run("delete", "-k", str(folder), "--timeout=90s")
        admin.run("delete", "namespace", acme, "--timeout=60s")
    wait_until("the CRD to be gone", lambda: admin.find("crd", "eventsinks.eventsink.dev") is None, poll=0.5)


def test_an_invalid_setting_stops_the_start_with_an_explanation_and_status_2(tmp_path: Path) -> None:
    settings = tmp_path / "operator.yaml"
    settings.write_text("sweepIntervall: 5s\n")
    process: RunningProcess
    with eventsink("operator", "--config", settings, folder=tmp_path) as process:
        assert process.wait() == 2
        assert "sweepIntervall: there is no such setting; did you mean sweepInterval?" in process.text()


LOGINS = "tests.support.kopf_logins"


def test_when_kopf_gives_up_the_operator_ends_instead_of_waiting_for_ever(installed: Installed, tmp_path: Path) -> None:
    never, seconds = "1000000", "1.5"  # more than one login all the same
    with eventsink(installed.operator, never, seconds, folder=tmp_path, name="kopf", module=LOGINS) as kopf:
        ended = kopf.wait_logged("how it ended", lambda line: "ended" in line)
        assert ended["ended"] == "kopf ended: LoginError"


def test_a_moment_of_401_as_after_a_start_of_the_api_server_does_not_end_the_operator(
    admin: Kubectl, installed: Installed, acme: str, tmp_path: Path
) -> None:
    admin.apply(event_sink(acme))
    with eventsink(installed.operator, "2", folder=tmp_path, name="kopf", module=LOGINS) as kopf:
        kopf.wait_logged("the sink", lambda line: line.get("seen") == acme)
