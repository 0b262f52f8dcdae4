"""Valid EventSinks are stored as they were written, can be changed within the rules, and read well in kubectl."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

import pytest
import yaml

from eventsink.destinations.slack.spec import SlackStatus
from eventsink.resources.status import Condition, DeliveryStatus, EventSinkStatus, ready, stalled
from eventsink.runtime.times import format_time
from tests.cluster.manifests import accepted, eventsink
from tests.controlplane.binaries import older
from tests.support.cluster import MANIFESTS, Installed
from tests.support.kubectl import Kubectl

SAMPLES = sorted((Path(__file__).parents[2] / "manifests" / "samples").glob("*.yaml"))
LEAST: dict[str, Any] = {"tenant": "acme", "name": "Alerts", "webhook": {"url": "https://example.com/hook"}}
NOW = datetime(2026, 3, 1, 9, 30, tzinfo=UTC)


@pytest.mark.parametrize("server_side", [False, True], ids=["plain", "server-side"])
@pytest.mark.parametrize("spec", accepted().values(), ids=accepted())
def test_an_accepted_manifest_is_stored_as_it_was_written(
    kubectl: Kubectl, namespace: str, spec: dict[str, Any], server_side: bool
) -> None:
    kubectl.apply(eventsink(spec, namespace=namespace), server_side=server_side)
    assert kubectl.get("eventsink", "alerts", namespace=namespace)["spec"] == spec


def test_applying_the_manifests_again_reports_everything_as_unchanged(kubectl: Kubectl, install_manifests: Installed) -> None:
    for _ in range(2):  # the first one adds kubectl's own annotation
        reported = kubectl.run("apply", "-k", str(MANIFESTS / "default")).stdout.splitlines()
    # Before 1.34 the API server adds `creationTimestamp: null` to claim templates, which no manifest can say.
    always = ["statefulset.apps/eventsink-router configured"] if older() else []
    assert [line for line in reported if not line.endswith(" unchanged")] == always


@pytest.mark.parametrize("file", SAMPLES, ids=lambda file: file.name)
def test_a_sample_can_be_applied_as_it_is(kubectl: Kubectl, namespace: str, file: Path) -> None:
    sample = next(yaml.safe_load_all(file.read_text()))["metadata"]["name"]
    objects = list(yaml.safe_load_all(file.read_text().replace(sample, namespace)))
    assert [obj["kind"] for obj in objects if obj["kind"] != "Secret"] == ["Namespace", "EventSink"]
    owner = (
        {"eventsink.dev/platform": "true"}
        if (tenant := objects[-1]["spec"]["tenant"]) == "*"
        else {"eventsink.dev/tenant": tenant}
    )
    assert objects[0]["metadata"]["labels"] == owner
    kubectl.apply(objects)
    assert kubectl.get("eventsink", objects[-1]["metadata"]["name"], namespace=namespace)["spec"] == objects[-1]["spec"]


def test_the_tenant_is_immutable_and_everything_else_can_be_changed(kubectl: Kubectl, namespace: str) -> None:
    kubectl.apply(eventsink(LEAST, namespace=namespace))
    sentence = "spec.tenant: Forbidden: the tenant of an EventSink cannot be changed; create another EventSink"
    for server_side in (False, True):
        changed = eventsink({**LEAST, "tenant": "other"}, namespace=namespace)
        assert sentence in kubectl.apply(changed, expect_failure=True, server_side=server_side)
    slack = {"tenant": "acme", "name": "Renamed", "slack": {"channel": "#alerts"}}
    kubectl.apply(eventsink(slack, namespace=namespace))
    assert kubectl.get("eventsink", "alerts", namespace=namespace)["spec"] == slack


def test_an_invalid_change_leaves_the_stored_spec_unchanged(kubectl: Kubectl, namespace: str) -> None:
    kubectl.apply(eventsink(LEAST, namespace=namespace))
    broken = {**LEAST, "webhook": {"url": "https://example.com/hook", "batch": 5, "format": "alertmanager"}}
    assert "remove batch" in kubectl.apply(eventsink(broken, namespace=namespace), expect_failure=True)
    assert kubectl.get("eventsink", "alerts", namespace=namespace)["spec"] == LEAST


def test_an_empty_patch_changes_nothing(kubectl: Kubectl, namespace: str) -> None:
    kubectl.apply(eventsink(LEAST, namespace=namespace))
    # The first write of any kind stores the default of the status.
    apply_status(kubectl, namespace, "eventsink-operator", operators(ready("", generation=1, now=NOW)))
    before = kubectl.get("eventsink", "alerts", namespace=namespace)
    kubectl.run("patch", "eventsink", "alerts", "-n", namespace, "--type=merge", "-p", "{}")
    assert kubectl.get("eventsink", "alerts", namespace=namespace) == before


def test_the_tenant_cannot_be_removed(kubectl: Kubectl, namespace: str) -> None:
    kubectl.apply(eventsink(LEAST, namespace=namespace))
    without = eventsink({"name": "Alerts", "webhook": LEAST["webhook"]}, namespace=namespace)
    assert "spec.tenant: Required value" in kubectl.apply(without, expect_failure=True)


def apply_status(kubectl: Kubectl, namespace: str, manager: str, status: EventSinkStatus) -> None:
    """Write a part of the status as the operator and the router do: each with its own field manager."""
    body = {key: value for key, value in eventsink(None, namespace=namespace).items() if key != "spec"}
    kubectl.run(
        *("apply", "--server-side", "--subresource=status", f"--field-manager={manager}", "-f", "-"),
        input=yaml.safe_dump({**body, "status": status.to_dict()}),
    )


SLACK = SlackStatus(team_id="T1", team_name="Acme", channel_id="C1", channel_name="alerts")


def operators(conditions: tuple[Condition, ...]) -> EventSinkStatus:
    return EventSinkStatus(
        observed_generation=1,
        conditions=conditions,
        type="webhook",
        spec_changed_time=format_time(NOW),
        **dict[str, Any](slack=SLACK),
    )


ROUTERS = EventSinkStatus(
    conditions=(
        Condition(type="Delivering", status="True", reason="Delivered", message="", last_transition_time=format_time(NOW)),
    ),
    delivery=DeliveryStatus(last_delivered_time=format_time(NOW), last_error="HTTP503: not now"),
)


def test_operator_and_router_write_the_status_without_conflict(kubectl: Kubectl, namespace: str) -> None:
    kubectl.apply(eventsink(LEAST, namespace=namespace))
    waiting = operators(stalled("TenantNotOwned", "Ask the platform team.", generation=1, now=NOW))
    apply_status(kubectl, namespace, "eventsink-operator", waiting)
    apply_status(kubectl, namespace, "eventsink-router", ROUTERS)
    stored = EventSinkStatus.model_validate(kubectl.get("eventsink", "alerts", namespace=namespace)["status"])
    assert {condition.type for condition in stored.conditions} == {"Ready", "Stalled", "Delivering"}
    assert stored.delivery == ROUTERS.delivery
    assert stored.destinations == waiting.destinations == {"slack": SLACK}

    accepted_now = operators(ready("Spec accepted and active.", generation=1, now=NOW, previous=stored.conditions))
    apply_status(kubectl, namespace, "eventsink-operator", accepted_now)
    stored = EventSinkStatus.model_validate(kubectl.get("eventsink", "alerts", namespace=namespace)["status"])
    assert {condition.type for condition in stored.conditions} == {"Ready", "Delivering"}
    kubectl.run("wait", "-n", namespace, "eventsink/alerts", "--for=condition=Ready", "--timeout=30s")


def test_kubectl_get_shows_tenant_type_and_conditions_by_each_of_its_names(kubectl: Kubectl, namespace: str) -> None:
    kubectl.apply(eventsink(LEAST, namespace=namespace))
    apply_status(kubectl, namespace, "eventsink-operator", operators(ready("", generation=1, now=NOW)))
    apply_status(kubectl, namespace, "eventsink-router", ROUTERS)
    for name in ("eventsinks", "eventsink", "esink", "eventsinks.v1alpha1.eventsink.dev"):
        header, row = kubectl.run("get", name, "-n", namespace).stdout.splitlines()
        assert header.split() == ["NAME", "TENANT", "TYPE", "READY", "DELIVERING", "AGE"]
        assert row.split()[:5] == ["alerts", "acme", "webhook", "True", "True"]


STALLED = stalled("InvalidURL", "", generation=1, now=NOW)
WELL = ready("", generation=1, now=NOW)


def delivering(status: Literal["True", "False"], reason: str) -> EventSinkStatus:
    condition = Condition(
        type="Delivering", status=status, reason=reason, message="", last_transition_time=format_time(NOW), observed_generation=1
    )
    return EventSinkStatus(conditions=(condition,))


@pytest.mark.parametrize(
    ("operator", "router", "shown"),
    [
        (WELL, delivering("True", "Delivered"), []),
        (WELL, delivering("False", "HTTP404"), ["HTTP404"]),
        (STALLED, delivering("True", "Delivered"), ["InvalidURL"]),
        (STALLED, delivering("False", "HTTP404"), ["InvalidURL"]),
    ],
    ids=["well", "not delivering", "not ready", "neither"],
)
def test_kubectl_get_wide_shows_the_reason_that_explains_the_problem(
    kubectl: Kubectl, namespace: str, operator: tuple[Condition, ...], router: EventSinkStatus, shown: list[str]
) -> None:
    kubectl.apply(eventsink({**LEAST, "suspend": True}, namespace=namespace))
    for _ in range(2):  # also once both have written before
        apply_status(kubectl, namespace, "eventsink-operator", operators(operator))
        apply_status(kubectl, namespace, "eventsink-router", router)
    header, row = kubectl.run("get", "esink", "-n", namespace, "-o", "wide").stdout.splitlines()
    assert header.split()[-2:] == ["SUSPENDED", "REASON"]
    assert row.split()[6:] == ["true", *shown]


def test_a_new_eventsink_shows_that_no_operator_has_seen_it(kubectl: Kubectl, namespace: str) -> None:
    kubectl.apply(eventsink(LEAST, namespace=namespace))
    assert kubectl.get("eventsink", "alerts", namespace=namespace)["status"] == {"observedGeneration": -1}
    apply_status(kubectl, namespace, "eventsink-router", ROUTERS)
    assert kubectl.get("eventsink", "alerts", namespace=namespace)["status"]["observedGeneration"] == -1
    apply_status(kubectl, namespace, "eventsink-operator", operators(WELL))
    assert kubectl.get("eventsink", "alerts", namespace=namespace)["status"]["observedGeneration"] == 1


def test_kubectl_explain_describes_the_fields(kubectl: Kubectl, crd_installed: None) -> None:
    webhook = " ".join(kubectl.run("explain", "eventsink.spec.webhook").stdout.split())
    assert "Post messages to an HTTP endpoint. Set exactly one of slack and webhook." in webhook
    assert "url <string> Where to post; http or https." in webhook
    assert "format <string> enum: cloudevents, alertmanager" in webhook
    assert "timeout <Object> How long one attempt may take, 1s to 60s. Default: 10s." in webhook
    spec = " ".join(kubectl.run("explain", "eventsink.spec").stdout.split())
    assert "tenant <string> -required- The tenant whose alerts are delivered" in spec
