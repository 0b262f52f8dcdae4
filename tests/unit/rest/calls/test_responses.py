"""EventSinks become responses, whatever is in them, and show no credential."""

from __future__ import annotations

from typing import Any

import pytest

from eventsink.rest.calls.managers import managed_by
from eventsink.rest.calls.responses import etag, is_decided, is_rejected, response_of, updated_at

UID = "6fa1c1f2-7d3b-4e0e-9d9b-0c5a1c8c4a11"


def condition(kind: str, status: str, reason: str = "Accepted", message: str = "m") -> dict[str, Any]:
    return {"type": kind, "status": status, "reason": reason, "message": message, "lastTransitionTime": "2026-01-01T00:00:00Z"}


def obj(spec: Any = None, *, generation: int = 1, observed: int = 1, conditions: Any = None, **more: Any) -> dict[str, Any]:
    metadata = {
        "uid": UID,
        "name": "alerts",
        "namespace": "acme",
        "generation": generation,
        "creationTimestamp": "2026-01-01T00:00:00Z",
        **more.pop("metadata", {}),
    }
    ready = [condition("Ready", "True")] if conditions is None else conditions
    return {
        "metadata": metadata,
        "spec": spec if spec is not None else {"tenant": "acme", "name": "Alerts", "webhook": {"url": "https://example.com/"}},
        "status": {"observedGeneration": observed, "conditions": ready, **more},
    }


STALLED = [condition("Ready", "False", "InvalidURL", "spec.webhook.url: is wrong"), condition("Stalled", "True", "InvalidURL")]
WAITING = [condition("Ready", "False", "SecretNotFound", "m"), condition("Reconciling", "True", "SecretNotFound")]
STATES: list[tuple[str, dict[str, Any], bool, str, bool, bool]] = [
    ("accepted", obj(), True, "", True, False),
    ("never processed", obj(conditions=[], observed=0), False, "Pending: ", False, False),
    ("changed since", obj(generation=2), False, "Pending: ", False, False),
    ("rejected", obj(conditions=STALLED), False, "InvalidURL: event_sink_args.Webhook.url: is wrong", True, True),
    ("rejected before it was changed", obj(conditions=STALLED, generation=2), False, "Pending: ", False, False),
    ("waiting", obj(conditions=WAITING), False, "SecretNotFound: m", False, False),
]


@pytest.mark.parametrize(
    ("sink", "ready", "reason", "decided", "rejected"), [case[1:] for case in STATES], ids=[case[0] for case in STATES]
)
def test_ready_is_about_the_current_spec(sink: dict[str, Any], ready: bool, reason: str, decided: bool, rejected: bool) -> None:
    response = response_of(sink)
    assert response.ready is ready
    assert response.reason.startswith(reason)
    assert bool(response.reason) is not ready
    assert is_decided(sink) is decided
    assert is_rejected(sink) is rejected


def test_updated_at_counts_changes_of_the_sink_and_not_of_its_status() -> None:
    fields = [
        {"manager": "eventsink-rest", "time": "2026-01-02T00:00:00Z"},
        {"manager": "kubectl", "time": "2026-01-03T00:00:00Z"},
        {"manager": "eventsink-operator", "time": "2026-01-09T00:00:00Z", "subresource": "status"},
    ]
    assert updated_at(obj(metadata={"managedFields": fields})) == "2026-01-03T00:00:00Z"
    assert updated_at(obj()) == "2026-01-01T00:00:00Z"


def test_an_etag_stays_while_only_the_status_changes() -> None:
    assert etag(obj(observed=0, conditions=[])) == etag(obj())
    assert etag(obj(generation=2)) != etag(obj())
    assert etag(obj()).startswith('"')


def test_delivering_is_shown_as_the_router_reported_it() -> None:
    delivering = condition("Delivering", "False", "HTTP404", "gone")
    one = obj(
        conditions=[condition("Ready", "True"), delivering],
        delivery={"lastDeliveredTime": "2026-01-05T00:00:00Z", "lastError": "e"},
    )
    response = response_of(one).delivering
    assert response is not None
    assert response.model_dump() == {
        "status": "False",
        "reason": "HTTP404",
        "message": "gone",
        "last_delivered_at": "2026-01-05T00:00:00Z",
        "last_error": "e",
    }


def test_no_credential_and_no_value_of_a_header_is_shown() -> None:
    spec = {
        "tenant": "acme",
        "name": "Alerts",
        "webhook": {
            "urlSecretRef": {"name": "canary", "key": "canary"},
            "headers": [
                {"name": "X-Team", "value": "canary"},
                {"name": "Authorization", "valueFrom": {"secretKeyRef": {"name": "canary", "key": "canary"}}},
            ],
            "signingSecretRefs": [{"name": "canary", "key": "canary"}],
            "tls": {"caSecretRef": {"name": "canary", "key": "canary"}},
        },
    }
    shown = response_of(obj(spec, webhook={"origin": "https://example.com"}))
    assert "canary" not in shown.model_dump_json()
    assert shown.configuration.value.url == "https://example.com"
    assert shown.configuration.value.signed is True
    assert [one.name for one in shown.configuration.value.headers or ()] == ["X-Team", "Authorization"]


@pytest.mark.parametrize(
    "spec",
    [
        {},
        [],
        "text",
        {"tenant": 5, "name": ["x"], "webhook": "x"},
        {"tenant": "acme", "name": "a", "slack": [], "match": {"unknown": 1}, "delivery": "x"},
        {"tenant": "acme", "name": "a", "webhook": {"url": 5, "headers": "x", "batch": "many"}, "match": {"minSeverity": "loud"}},
        {"tenant": "acme", "name": "a", "slack": {"channel": None}, "suspend": "yes"},
    ],
)
def test_a_sink_that_breaks_every_rule_is_still_shown(spec: Any) -> None:
    assert response_of(obj(spec)).id == UID


MANAGED: list[tuple[str, dict[str, Any], str | None]] = [
    ("nobody", {}, None),
    ("the facade", {"labels": {"app.kubernetes.io/managed-by": "eventsink-rest"}}, None),
    ("a chart's label alone", {"labels": {"app.kubernetes.io/managed-by": "Helm"}}, "Helm"),
    ("a release", {"annotations": {"meta.helm.sh/release-name": "r"}}, "Helm (release r in the namespace acme)"),
    ("an application by annotation", {"annotations": {"argocd.argoproj.io/tracking-id": "a:b"}}, "Argo CD (Application a)"),
    ("an application by label", {"labels": {"argocd.argoproj.io/instance": "a"}}, "Argo CD (Application a)"),
    ("a common label that many set", {"labels": {"app.kubernetes.io/instance": "a"}}, None),
    ("a Kustomization", {"labels": {"kustomize.toolkit.fluxcd.io/name": "k"}}, "Flux (Kustomization k)"),
    (
        "a HelmRelease",
        {"labels": {"helm.toolkit.fluxcd.io/name": "h", "helm.toolkit.fluxcd.io/namespace": "n"}},
        "Flux (HelmRelease n/h)",
    ),
    ("a tool that left no labels", {"managedFields": [{"manager": "argocd-controller"}]}, "Argo CD"),
    ("a tool that wrote a status", {"managedFields": [{"manager": "argocd-controller", "subresource": "status"}]}, None),
    ("kubectl", {"managedFields": [{"manager": "kubectl-client-side-apply"}]}, None),
    ("a file", {"annotations": {"eventsink.dev/file": "team/sinks.yaml"}}, "the file team/sinks.yaml"),
]


@pytest.mark.parametrize(("metadata", "who"), [case[1:] for case in MANAGED], ids=[case[0] for case in MANAGED])
def test_the_manager_of_a_sink_is_named_with_where_to_change_it(metadata: dict[str, Any], who: str | None) -> None:
    sentence = managed_by(obj(metadata=metadata))
    if who is None:
        assert sentence is None
    else:
        assert sentence is not None
        assert who in sentence
        assert "change it" in sentence
