"""The operator's pure decisions: claims, compiling, statuses, and the queue of work."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import trustme

from eventsink.controller.cluster_state import ClusterState
from eventsink.controller.compile import compile_match, compile_sink, spec_problem
from eventsink.controller.status import SpecState, event_of, is_written, status_of
from eventsink.controller.store import read_compiled
from eventsink.controller.tenancy import Namespace, check_claim, owned_tenants, read_namespace, tenancy_document
from eventsink.controller.worker import TENANCY
from eventsink.controller.workqueue import WorkQueue
from eventsink.destinations.credentials import SecretValues
from eventsink.destinations.problem import Effect, Problem
from eventsink.destinations.slack.form import SlackForm, TemplateForm
from eventsink.destinations.webhook.config import WebhookPolicy
from eventsink.destinations.webhook.resolve import WebhookResolver, check
from eventsink.destinations.webhook.target import WebhookTarget
from eventsink.resources.eventsink import EventSink, InvalidSpec, read_eventsink
from eventsink.resources.model import references
from eventsink.sinks.sink import CompiledFrom, Sink, SinkTimeInterval
from eventsink.sinks.times import opening_times
from tests.support.sinks import event_sink

CANARY = "canary"
MADE_FROM = CompiledFrom(generation=1)
NAMESPACES = {
    "a1": Namespace("u1", "acme"),
    "a2": Namespace("u2", "acme"),
    "g": Namespace("u3", "globex"),
    "free": Namespace("u4", ""),
    "ops": Namespace("u5", "", platform=True),
    "a3": Namespace("u6", "acme", platform=True),
}
PEM = trustme.CA().cert_pem.bytes()


def obj(spec: dict[str, Any], **metadata: Any) -> dict[str, Any]:
    return {
        "apiVersion": "eventsink.dev/v1alpha1",
        "kind": "EventSink",
        "metadata": {"name": "s", "namespace": "n", "uid": "u", "generation": 1, "resourceVersion": "1", **metadata},
        "spec": {"tenant": "acme", "name": "S", **spec},
    }


def sink(**webhook: Any) -> EventSink:
    return read_eventsink(obj({"webhook": {"url": "https://hooks.example.com/x"} | webhook}))


def compiled(made: EventSink, secrets: SecretValues | None = None, **policy: Any) -> Sink:
    resolved = asyncio.run(WebhookResolver(WebhookPolicy(**policy)).resolve(made, secrets or {}, namespace_uid="", before=never))
    return compile_sink(made, resolved.target, MADE_FROM)


async def never() -> None:
    raise AssertionError("a webhook needs nothing that was compiled before")


def ref(key: str = "k", name: str = "c") -> dict[str, str]:
    return {"name": name, "key": key}


# ---- claims


@pytest.mark.parametrize(
    ("tenant", "namespace", "reason"),
    [
        ("acme", "a1", None),
        ("acme", "a2", None),
        ("acme", "g", "TenantMismatch"),
        ("acme", "free", "TenantOwnedElsewhere"),
        ("acme", "unknown", "TenantOwnedElsewhere"),
        ("nobody", "free", "TenantNotOwned"),
        ("nobody", "a1", "TenantMismatch"),
        ("*", "ops", None),
        ("*", "a3", None),
        ("acme", "a3", None),
        ("*", "a1", "NotPlatformNamespace"),
        ("*", "free", "NotPlatformNamespace"),
        ("*", "unknown", "NotPlatformNamespace"),
        ("acme", "ops", "TenantOwnedElsewhere"),
    ],
)
def test_who_may_claim_a_tenant(tenant: str, namespace: str, reason: str | None) -> None:
    if reason is None:
        check_claim(tenant, namespace, NAMESPACES, owned_tenants(NAMESPACES.values()), allow_unowned=False)
        return
    with pytest.raises(Problem) as raised:
        check_claim(tenant, namespace, NAMESPACES, owned_tenants(NAMESPACES.values()), allow_unowned=False)
    assert (raised.value.reason, raised.value.effect, raised.value.may_pass) == (reason, Effect.WITHDRAW, False)
    others = NAMESPACES.keys() - {namespace}
    assert not any(f" {other} " in raised.value.message or raised.value.message.endswith(f" {other}") for other in others)


def test_an_unowned_tenant_may_be_claimed_where_the_setting_allows_it() -> None:
    check_claim("nobody", "free", NAMESPACES, owned_tenants(NAMESPACES.values()), allow_unowned=True)
    with pytest.raises(Problem, match="only a sink in a namespace that the platform team has marked"):
        check_claim("*", "free", NAMESPACES, owned_tenants(NAMESPACES.values()), allow_unowned=True)
    with pytest.raises(Problem, match="belongs to other namespaces"):
        check_claim("acme", "free", NAMESPACES, owned_tenants(NAMESPACES.values()), allow_unowned=True)


def test_the_tenancy_names_owned_namespaces_only_and_those_of_the_platform() -> None:
    document = tenancy_document(NAMESPACES)
    assert document.owners == {"a1": "acme", "a2": "acme", "a3": "acme", "g": "globex"}
    assert document.platform == ("a3", "ops")


@pytest.mark.parametrize(
    ("labels", "platform"),
    [
        ({"eventsink.dev/platform": "true"}, True),
        ({"eventsink.dev/platform": "True"}, False),
        ({"eventsink.dev/platform": ""}, False),
        ({"eventsink.dev/tenant": "platform"}, False),
    ],
)
def test_only_one_value_of_the_label_marks_a_namespace_of_the_platform(labels: dict[str, str], platform: bool) -> None:
    assert read_namespace({"uid": "u", "labels": labels}).platform is platform


# ---- compiling


def test_defaults_are_filled_in() -> None:
    made = compiled(sink())
    assert isinstance(made.target, WebhookTarget)
    assert (made.target.format, made.target.batch, made.target.timeout, made.target.ca) == ("cloudevents", 1, 10.0, None)
    assert (made.delivery.max_age, made.delivery.send_resolved, made.suspend) == (259200.0, True, False)


URL = {"url": b"https://hooks.example.com/x"}
GIVEN = {"h": b"value", "origin": b"https://hooks.example.com"}
HEADER = {"name": "X-A", "valueFrom": {"secretKeyRef": ref("h", "eventsink-rest-s-01234567")}}
OWN_HEADER = {"name": "X-A", "valueFrom": {"secretKeyRef": ref("h", "own")}}


@pytest.mark.parametrize(
    ("webhook", "secrets", "allowed"),
    [
        ({"headers": [HEADER]}, {"eventsink-rest-s-01234567": GIVEN}, True),
        ({"headers": [HEADER], "url": "https://HOOKS.example.com:443/other"}, {"eventsink-rest-s-01234567": GIVEN}, True),
        ({"headers": [HEADER], "url": "https://thief.example.com/x"}, {"eventsink-rest-s-01234567": GIVEN}, False),
        ({"headers": [HEADER], "url": "http://hooks.example.com/x"}, {"eventsink-rest-s-01234567": GIVEN}, False),
        ({"headers": [HEADER], "url": "https://hooks.example.com:444/x"}, {"eventsink-rest-s-01234567": GIVEN}, False),
        ({"headers": [HEADER]}, {"eventsink-rest-s-01234567": {"h": b"value"}}, False),
        ({"headers": [HEADER], "urlSecretRef": ref("url", "own")}, {"eventsink-rest-s-01234567": GIVEN, "own": URL}, True),
        (
            {"headers": [HEADER], "urlSecretRef": ref("url", "eventsink-rest-s-01234567")},
            {"eventsink-rest-s-01234567": GIVEN | {"url": b"https://thief.example.com/"}},
            False,
        ),
        ({"headers": [OWN_HEADER], "urlSecretRef": ref("url", "own")}, {"own": URL | {"h": b"value"}}, True),
        (
            {"headers": [OWN_HEADER], "urlSecretRef": ref("url", "eventsink-rest-s-01234567")},
            {"own": {"h": b"value"}, "eventsink-rest-s-01234567": URL},
            False,
        ),
        (
            {"headers": [{"name": "X-A", "value": "v"}], "urlSecretRef": ref("url", "eventsink-rest-s-01234567")},
            {"eventsink-rest-s-01234567": URL},
            True,
        ),
    ],
    ids=[
        "the host that it was given for",
        "the same host, written differently",
        "another host",
        "another scheme",
        "another port",
        "a host that is not known",
        "a URL from a Secret, of the same host",
        "a URL that the REST API replaced",
        "a URL and a header from Secrets of the tenant",
        "a header of the tenant for a URL of the REST API",
        "a header that is no secret",
    ],
)
def test_a_header_goes_only_where_the_rest_api_cannot_redirect_it(
    webhook: dict[str, Any], secrets: dict[str, dict[str, bytes]], allowed: bool
) -> None:
    given = webhook if "urlSecretRef" in webhook else {"url": "https://hooks.example.com/x"} | webhook
    made = read_eventsink(obj({"webhook": given}))
    if allowed:
        assert compiled(made, secrets)
        assert check(made, secrets) == ()
        return
    for attempt in (compiled, check):
        with pytest.raises(Problem) as raised:
            attempt(made, secrets)
        assert (raised.value.reason, raised.value.effect) == ("HostMismatch", Effect.KEEP)
        assert raised.value.path == "spec.webhook.headers[0].valueFrom.secretKeyRef"


def test_every_field_of_a_spec_is_compiled() -> None:
    spec = {
        "description": "D",
        "suspend": True,
        "match": {"minSeverity": "high", "sources": ["am"], "namespaces": ["a-*"], "matchers": ['a="b"'], "expression": "true"},
        "delivery": {"sendResolved": False, "repeatInterval": "4h", "maxAge": "3d"},
        "webhook": {
            "urlSecretRef": ref("url"),
            "headers": [{"name": "X-A", "value": "plain"}, {"name": "Authorization", "valueFrom": {"secretKeyRef": ref("auth")}}],
            "signingSecretRefs": [ref("old"), ref("new")],
            "format": "cloudevents",
            "batch": 10,
            "timeout": "30s",
        },
    }
    made = read_eventsink(obj(spec))
    values = {
        "c": {
            "url": b"https://h.example.com/p\n",
            "auth": b"Bearer x\n",
            "old": b"old-old-old-old-old",
            "new": b"new-new-new-new-new\n",
        }
    }
    result = compiled(made, values)
    assert [one.path for one in references(made.spec)] == [
        "spec.webhook.urlSecretRef",
        "spec.webhook.headers[1].valueFrom.secretKeyRef",
        "spec.webhook.signingSecretRefs[0]",
        "spec.webhook.signingSecretRefs[1]",
    ]
    assert isinstance(result.target, WebhookTarget)
    assert result.target.url == "https://h.example.com/p"
    assert [(one.name, one.value) for one in result.target.headers] == [("X-A", "plain"), ("Authorization", "Bearer x")]
    assert result.target.signing_secrets == ("old-old-old-old-old", "new-new-new-new-new")  # one trailing newline is dropped
    assert (result.target.batch, result.target.timeout) == (10, 30.0)
    assert (result.delivery.repeat_interval, result.delivery.max_age, result.delivery.send_resolved) == (14400.0, 259200.0, False)
    assert (result.suspend, result.match.matchers, result.match.min_severity) == (True, ('a="b"',), "high")
    assert result.match.expression == "true"


def test_only_a_sink_that_an_older_router_would_misread_has_a_newer_version() -> None:
    plain = compiled(sink(), {})
    conditional = compiled(
        read_eventsink(obj({"match": {"expression": "true"}, "webhook": {"url": "https://h.example.com"}})), {}
    )
    assert (plain.version, conditional.version) == (1, 2)


def test_the_times_of_a_sink_are_compiled_for_routers_that_know_them_only() -> None:
    interval = {
        "times": [{"startTime": "08:00", "endTime": "18:00"}],
        "weekdays": ["monday:friday"],
        "daysOfMonth": ["-3:-1"],
        "months": ["december"],
        "years": ["2026"],
        "location": "Europe/Berlin",
    }
    spec = event_sink("acme")["spec"]
    plain = compiled(read_eventsink(obj(spec)))
    assert (plain.version, plain.times) == (1, None)
    match = {"activeTimes": [interval], "muteTimes": [{}], "outsideTimes": "drop"}
    timed = compiled(read_eventsink(obj(spec | {"match": match})))
    assert timed.version == 2, "a router that sends at any time must not read it"
    assert timed.times is not None
    assert timed.times.drop
    assert timed.times.mute == (SinkTimeInterval(),)
    assert Sink.model_validate_json(timed.to_json()).times == timed.times
    opening = opening_times(timed.times.model_copy(update={"mute": ()}))
    assert opening.when(datetime(2026, 12, 30, 8, tzinfo=UTC).timestamp()).open
    assert not opening.when(datetime(2026, 12, 28, 8, tzinfo=UTC).timestamp()).open


@pytest.mark.parametrize(
    ("webhook", "data", "reason", "sentence"),
    [
        ({"signingSecretRefs": [ref()]}, None, "SecretNotFound", "spec.webhook.signingSecretRefs[0]: Secret c not found"),
        ({"signingSecretRefs": [ref()]}, {}, "SecretKeyNotFound", "the Secret c has no key k"),
        ({"signingSecretRefs": [ref()]}, {"k": b"canary"}, "InvalidSecretValue", "a signing secret has 16 to 256 bytes"),
        ({"signingSecretRefs": [ref()]}, {"k": b"whsec_canary!!!!!!!!!!!!!!"}, "InvalidSecretValue", "is not base64"),
        ({"signingSecretRefs": [ref()]}, {"k": b"\xff\xfecanary-canary-canary"}, "InvalidSecretValue", "is not UTF-8 text"),
        ({"signingSecretRefs": [ref()]}, {"k": b"\n"}, "InvalidSecretValue", "the value of the key k is empty"),
        ({"signingSecretRefs": [ref()]}, {"k": b"canary" * 20_000}, "InvalidSecretValue", "more than 65536 bytes"),
        (
            {"headers": [{"name": "A", "valueFrom": {"secretKeyRef": ref()}}]},
            {"k": b"canary\r\nB: c"},
            "InvalidSecretValue",
            "line break",
        ),
        (
            {"headers": [{"name": "A", "valueFrom": {"secretKeyRef": ref()}}]},
            {"k": b"canary \n"},
            "InvalidSecretValue",
            "spaces at an end",
        ),
        ({"tls": {"caSecretRef": ref()}}, {"k": b"canary"}, "InvalidSecretValue", "holds no certificate in PEM form"),
        ({"url": None, "urlSecretRef": ref()}, {"k": b"canary.example.com"}, "InvalidURL", "must begin with http:// or https://"),
        ({"url": None, "urlSecretRef": ref()}, {"k": b"ftp://canary/"}, "InvalidURL", "must begin with http:// or https://"),
    ],
)
def test_an_invalid_credential_is_reported_by_field_and_without_its_value(
    webhook: dict[str, Any], data: dict[str, bytes] | None, reason: str, sentence: str
) -> None:
    given = {key: value for key, value in ({"url": "https://hooks.example.com/x"} | webhook).items() if value is not None}
    made = read_eventsink(obj({"webhook": given}))
    with pytest.raises(Problem) as raised:
        compiled(made, {"c": data} if data is not None else {})
    assert raised.value.reason == reason
    assert sentence in raised.value.message
    assert CANARY not in raised.value.message


def test_comments_beside_the_certificates_of_an_authority_may_be_in_any_language() -> None:
    result = compiled(sink(tls={"caSecretRef": ref()}), {"c": {"k": "# Autorité de certification\n".encode() + PEM}})
    assert isinstance(result.target, WebhookTarget)
    assert result.target.ca == f"# Autorit de certification\n{PEM.decode().rstrip()}"


def test_a_private_certificate_authority_is_compiled() -> None:
    result = compiled(sink(tls={"caSecretRef": ref()}), {"c": {"k": PEM}})
    assert isinstance(result.target, WebhookTarget)
    assert result.target.ca is not None
    assert "BEGIN CERTIFICATE" in result.target.ca


@pytest.mark.parametrize(
    ("policy", "url", "allowed"),
    [
        ({}, "http://a.example.com/", True),
        ({"allow_http": False}, "http://a.example.com/", False),
        ({"allow_http": False}, "https://a.example.com/", True),
        ({"allowed_hosts": ("*.example.com",)}, "https://A.EXAMPLE.com/", True),
        ({"allowed_hosts": ("*.example.com",)}, "https://example.com/", False),
        ({"allowed_hosts": ("*.example.com",)}, "https://example.com.evil.org/", False),
        ({"denied_hosts": ("a.example.com",), "allowed_hosts": ("*.example.com",)}, "https://a.example.com/", False),
    ],
)
def test_the_platforms_policy_decides_on_urls(policy: dict[str, Any], url: str, allowed: bool) -> None:
    if allowed:
        compiled(sink(url=url), **policy)
        return
    with pytest.raises(Problem) as raised:
        compiled(sink(url=url), **policy)
    assert (raised.value.reason, raised.value.effect) == ("URLNotAllowed", Effect.WITHDRAW)
    digests = [WebhookResolver(WebhookPolicy(**one)).policy_digest() for one in (policy, {})]
    assert digests[0] != digests[1]


def test_the_destination_is_the_url_and_nothing_else() -> None:
    one, same, other = compiled(sink()), compiled(sink(batch=5)), compiled(sink(url="https://hooks.example.com/y"))
    assert one.destination == same.destination != other.destination


# ---- statuses

NOW = datetime(2026, 1, 1, tzinfo=UTC)
PROBLEM = Problem("InvalidMatcher", "spec.match", "wrong")


def reported(
    state: SpecState, before: dict[str, Any] | None = None, *, generation: int = 1, now: datetime = NOW
) -> tuple[EventSink, Any]:
    raw = obj({"webhook": {"url": "https://hooks.example.com/x"}}, generation=generation)
    made = read_eventsink({**raw, "status": before or {}})
    return made, status_of(made, state, now)


@pytest.mark.parametrize(
    ("labels", "before", "reason", "is_recorded"),
    [
        ({}, False, "SecretNotFound", True),
        ({"app.kubernetes.io/managed-by": "eventsink-rest"}, False, "SecretNotFound", False),
        ({"app.kubernetes.io/managed-by": "eventsink-rest"}, True, "SecretNotFound", True),
        ({"app.kubernetes.io/managed-by": "eventsink-rest"}, False, "InvalidMatcher", True),
        ({"app.kubernetes.io/managed-by": "Helm"}, False, "SecretNotFound", True),
    ],
)
def test_no_event_is_recorded_while_a_new_sink_of_the_rest_api_waits_for_its_secret(
    labels: dict[str, str], before: bool, reason: str, is_recorded: bool
) -> None:
    _, accepted = reported(SpecState(None, type="webhook"))
    raw = obj({"webhook": {"url": "https://hooks.example.com/x"}})
    raw = {**raw, "metadata": {**raw["metadata"], "labels": labels}, "status": accepted.to_dict() if before else {}}
    made = read_eventsink(raw)
    status = status_of(made, SpecState(Problem(reason, "spec.webhook", "x"), type="webhook"), NOW)
    assert (event_of(made, status) is not None) is is_recorded


def test_two_sinks_of_a_tenant_with_one_name_are_warned_and_other_tenants_do_not_count() -> None:
    enqueued: list[tuple[str, str]] = []
    state = ClusterState(enqueued.append, lambda: None)
    for namespace, tenant in (("a", "acme"), ("b", "acme"), ("g", "globex")):
        state.namespace_handler.upsert(
            ("", namespace), {"metadata": {"uid": namespace, "labels": {"eventsink.dev/tenant": tenant}}}
        )
    spec = {"tenant": "acme", "name": "Alerts"}
    for number, namespace in enumerate(("a", "g")):
        state.see(
            {"metadata": {"namespace": namespace, "name": "s", "uid": namespace, "resourceVersion": str(number)}, "spec": spec}
        )
    assert tuple(state.namesakes(("a", "s"), "acme", "Alerts")) == (), "globex only claims the tenant"
    enqueued.clear()
    state.see({"metadata": {"namespace": "a", "name": "t", "uid": "t", "resourceVersion": "5"}, "spec": spec})
    assert tuple(state.namesakes(("a", "s"), "acme", "Alerts")) == (("a", "t"),)
    state.lose(("g", "s"), "g")
    state.lose(("a", "t"), "t")
    assert ("a", "s") in enqueued
    assert tuple(state.namesakes(("a", "s"), "acme", "Alerts")) == ()

    made, status = reported(SpecState(None, type="webhook", shares_name=True))
    event = event_of(made, status)
    assert event is not None
    assert event[0] == "Warning"
    assert "another EventSink of the tenant has the same name" in event[2]


def test_what_a_destination_cannot_do_is_said_in_ready_without_a_warning() -> None:
    made, status = reported(SpecState(None, type="slack", remark="an incoming webhook cannot edit messages"))
    ready = status.condition("Ready")
    assert ready is not None
    assert (ready.status, ready.message) == ("True", "spec accepted and active; an incoming webhook cannot edit messages")
    event = event_of(made, status)
    assert event is not None
    assert event[0] == "Normal"


def test_an_unchanged_state_is_reported_once_and_keeps_its_times() -> None:
    made, status = reported(SpecState(None, type="webhook"))
    assert not is_written(made, status, details=True)
    assert event_of(made, status) == ("Normal", "Accepted", "spec accepted and active")
    again, same = reported(SpecState(None, type="webhook"), status.to_dict(), now=NOW + timedelta(hours=1))
    assert is_written(again, same, details=True)
    assert event_of(again, same) is None
    newer, changed = reported(SpecState(None, type="webhook"), status.to_dict(), generation=2, now=NOW + timedelta(hours=1))
    assert not is_written(newer, changed, details=True)
    assert event_of(newer, changed) is None
    assert changed.condition("Ready").last_transition_time == "2026-01-01T00:00:00Z"
    assert changed.spec_changed_time == "2026-01-01T01:00:00Z"


@pytest.mark.parametrize(
    ("state", "kinds", "sentence"),
    [
        (
            SpecState(PROBLEM, 3),
            {"Ready": "False", "Stalled": "True"},
            "the last accepted configuration (generation 3) stays active",
        ),
        (
            SpecState(PROBLEM, 3, withdrawn=True),
            {"Ready": "False", "Stalled": "True"},
            "until then nothing is sent and deliveries are held",
        ),
        (SpecState(PROBLEM), {"Ready": "False", "Stalled": "True"}, "spec.match: wrong"),
        (SpecState(Problem("X", "spec", "m", may_pass=True)), {"Ready": "False", "Reconciling": "True"}, "spec: m"),
        (SpecState(None, suspended=True), {"Ready": "True"}, "suspended"),
    ],
)
def test_conditions_report_the_state_and_its_consequence(state: SpecState, kinds: dict[str, str], sentence: str) -> None:
    _, status = reported(state)
    assert {one.type: one.status for one in status.conditions} == kinds
    assert sentence in status.condition("Ready").message


# ---- the state and the queue


def metadata(name: str, version: str = "1", namespace: str = "n", **more: Any) -> dict[str, Any]:
    return {"metadata": {"name": name, "namespace": namespace, "uid": f"uid-{name}", "resourceVersion": version, **more}}


def test_a_change_of_a_secret_enqueues_only_the_sinks_that_refer_to_it() -> None:
    seen: list[tuple[str, str]] = []
    state = ClusterState(seen.append, lambda: None)
    state.uses(("n", "a"), ["s", "t"])
    state.uses(("n", "b"), ["t"])
    state.secret_handler.upsert(("n", "s"), metadata("s"))
    state.secret_handler.upsert(("other", "s"), metadata("s"))
    state.secret_handler.upsert(("n", "unrelated"), metadata("unrelated"))
    assert seen == [("n", "a")]
    state.uses(("n", "a"), [])
    seen.clear()
    state.secret_handler.delete(("n", "t"))
    assert seen == [("n", "b")]


def test_a_change_of_a_tenant_label_enqueues_the_sinks_of_the_namespace_and_the_tenant() -> None:
    seen: list[tuple[str, str]] = []
    tenancies: list[None] = []
    state = ClusterState(seen.append, lambda: tenancies.append(None))
    for namespace, tenant in (("n", "acme"), ("m", "acme"), ("m2", "globex")):
        state.see({**metadata("s", namespace=namespace), "spec": {"tenant": tenant}})
    seen.clear()
    label: dict[str, Any] = {"labels": {"eventsink.dev/tenant": "acme"}}
    state.namespace_handler.upsert(("", "n"), metadata("n", **label))
    assert sorted(seen) == [("m", "s"), ("n", "s")]
    state.namespace_handler.upsert(("", "n"), metadata("n", "2", **label))  # nothing that matters changed
    assert (len(seen), len(tenancies)) == (2, 1)


def test_whose_a_namespace_is_comes_before_the_sinks_that_it_concerns() -> None:
    seen: list[tuple[str, str]] = []
    state = ClusterState(seen.append, lambda: seen.append(TENANCY))
    state.see({**metadata("s"), "spec": {"tenant": "acme"}})
    seen.clear()
    state.namespace_handler.upsert(("", "n"), metadata("n", labels={"eventsink.dev/tenant": "acme"}))
    assert seen == [TENANCY, ("n", "s")]


def test_a_namespace_that_is_being_deleted_owns_its_tenant_until_it_is_gone_and_enqueues_nothing() -> None:
    seen: list[tuple[str, str]] = []
    tenancies: list[None] = []
    state = ClusterState(seen.append, lambda: tenancies.append(None))
    label: dict[str, Any] = {"labels": {"eventsink.dev/tenant": "acme"}}
    state.namespace_handler.upsert(("", "n"), metadata("n", **label))
    state.see({**metadata("s"), "spec": {"tenant": "acme"}})
    seen.clear()
    tenancies.clear()
    state.namespace_handler.upsert(("", "n"), metadata("n", "3", **label, deletionTimestamp="x"))
    assert (state.namespaces["n"].tenant, state.namespaces["n"].deleting) == ("acme", True)
    assert (seen, tenancies) == ([], [])
    state.namespace_handler.delete(("", "n"))
    assert (seen, tenancies) == ([("n", "s")], [None])


def test_an_eventsink_that_vanishes_while_a_list_is_read_is_not_taken_from_the_list_again() -> None:
    state = ClusterState(lambda _: None, lambda: None)
    state.see(metadata("s"))
    with state.listing():
        state.lose(("n", "s"), "uid-s")
        state.see(metadata("s"))
        state.see(metadata("other"))
        assert state.eventsinks.keys() == {("n", "other")}
        state.see(metadata("s", "2", uid="created-again"))
    assert state.eventsinks.keys() == {("n", "other"), ("n", "s")}


def test_an_older_state_of_an_eventsink_replaces_no_newer_one() -> None:
    seen: list[tuple[str, str]] = []
    state = ClusterState(seen.append, lambda: None)
    state.see(metadata("s", "10"))
    state.see(metadata("s", "9"))
    assert (len(seen), state.eventsinks["n", "s"].resource_version) == (1, "10")
    assert (state.knows(("n", "s"), "9"), state.knows(("n", "s"), "11")) == (True, False)
    state.see(metadata("s", "x"))  # not a number: no order can be seen
    assert state.eventsinks["n", "s"].resource_version == "x"


def test_a_sink_follows_its_tenant_and_a_tenant_is_owned_while_any_namespace_has_it() -> None:
    seen: list[tuple[str, str]] = []
    state = ClusterState(seen.append, lambda: None)
    for version, tenant in (("1", "acme"), ("2", "globex")):
        state.see({**metadata("s", version, namespace="m"), "spec": {"tenant": tenant}})
    state.see({**metadata("unreadable", namespace="m"), "spec": {"tenant": ["acme"]}})
    for namespace, tenant in (("n1", "acme"), ("n2", "acme"), ("n3", "globex")):
        seen.clear()
        state.namespace_handler.upsert(("", namespace), metadata(namespace, labels={"eventsink.dev/tenant": tenant}))
        assert seen == ([("m", "s")] if tenant == "globex" else [])
    state.namespace_handler.delete(("", "n1"))
    assert set(state.owned_tenants) == {"acme", "globex"}
    state.namespace_handler.delete(("", "n2"))
    assert set(state.owned_tenants) == {"globex"}
    state.lose(("m", "s"), state.eventsinks["m", "s"].uid)
    seen.clear()
    state.namespace_handler.delete(("", "n3"))
    assert (seen, set(state.owned_tenants)) == ([], set())


def test_marking_a_namespace_as_the_platforms_concerns_its_sinks_and_the_tenancy() -> None:
    seen: list[tuple[str, str]] = []
    tenancies: list[None] = []
    state = ClusterState(seen.append, lambda: tenancies.append(None))
    state.see({**metadata("s", namespace="ops"), "spec": {"tenant": "*"}})
    state.see({**metadata("other", namespace="shop"), "spec": {"tenant": "*"}})
    both = [("ops", "s"), ("shop", "other")]  # one of them may take the other's place in a quota
    for marked, concerned in ((False, both[:1]), (True, both), (True, []), (False, both)):
        seen.clear()
        labels = {"eventsink.dev/platform": "true"} if marked else {}
        state.namespace_handler.upsert(("", "ops"), metadata("ops", labels=labels))
        assert seen == concerned
    assert len(tenancies) == 2


def test_a_status_that_the_operator_wrote_itself_needs_no_other_look() -> None:
    seen: list[tuple[str, str]] = []
    state = ClusterState(seen.append, lambda: None)
    state.see(metadata("s", "1"))
    with state.writing_status(("n", "s")) as wrote:
        wrote("1", metadata("s", "2"))
    state.see(metadata("s", "2"))
    assert seen == [("n", "s")]
    state.see(metadata("s", "3"))  # somebody else's
    with state.writing_status(("n", "s")) as wrote:
        wrote("2", metadata("s", "2"))  # heard of late
    assert seen == [("n", "s")] * 2
    assert state.eventsinks["n", "s"].resource_version == "3"


def test_a_status_that_the_watch_shows_before_the_response_needs_no_other_look_unless_somebody_else_wrote_too() -> None:
    seen: list[tuple[str, str]] = []
    state = ClusterState(seen.append, lambda: None)
    state.see(metadata("s", "1"))
    with state.writing_status(("n", "s")) as wrote:
        state.see(metadata("s", "2"))
        wrote("1", metadata("s", "2"))
    assert seen == [("n", "s")]
    with state.writing_status(("n", "s")) as wrote:
        state.see(metadata("s", "3"))
        state.see(metadata("s", "4"))
        wrote("2", metadata("s", "3"))
    assert (len(seen), state.eventsinks["n", "s"].resource_version) == (2, "4")
    with state.writing_status(("n", "s")):
        state.see(metadata("s", "5"))  # and the write fails
    assert len(seen) == 3


def test_a_late_deletion_does_not_remove_a_re_created_eventsink() -> None:
    state = ClusterState(lambda _: None, lambda: None)
    state.see(metadata("s", uid="new"))
    state.lose(("n", "s"), "old")
    assert ("n", "s") in state.eventsinks
    state.lose(("n", "s"), "new")
    assert state.eventsinks == {}


def test_a_compiled_secret_with_unreadable_annotations_is_compiled_again() -> None:
    for notes in ({}, {"eventsink.dev/compiled-from": "{"}, {"eventsink.dev/compiled-from": '{"generation":"x"}'}):
        assert read_compiled("u", {"resourceVersion": "1", "annotations": notes}).made_from is None


async def test_a_key_is_worked_on_once_at_a_time_and_again_if_it_changed_meanwhile() -> None:
    queue: WorkQueue[str] = WorkQueue()
    for key in ("a", "b", "a"):
        queue.add(key)
    assert await queue.get() == "a"
    queue.add("a")
    assert await queue.get() == "b"
    assert len(queue) == 0  # "a" waits until it is done
    queue.done("a")
    assert await queue.get() == "a"
    queue.done("a")
    queue.done("b")
    assert queue.idle


async def test_a_key_that_changed_while_it_failed_is_worked_on_at_once() -> None:
    queue: WorkQueue[str] = WorkQueue()
    for _ in range(12):
        queue.add("a")
        assert await queue.get() == "a"
        queue.add("a")  # what failed may be fixed
        assert queue.failed("a") == 0.0
        assert await asyncio.wait_for(queue.get(), 10) == "a"
        queue.failed("a")


async def test_a_failing_key_is_retried_with_growing_waits() -> None:
    queue: WorkQueue[str] = WorkQueue(chance=lambda: 1.0)

    async def fail() -> float:
        queue.add("a")
        return queue.failed(await queue.get())

    waits = [await fail() for _ in range(12)]
    assert waits[:4] == [0.5, 1.0, 2.0, 4.0]
    assert waits[-1] == 300.0
    queue.add("a")
    queue.done(await queue.get())
    assert await fail() == 0.5


async def test_a_delayed_key_is_due_at_the_earliest_requested_time() -> None:
    queue: WorkQueue[str] = WorkQueue()
    queue.add_after("a", 3600)
    queue.add_after("a", 0.01)
    queue.add_after("a", 1800)
    async with asyncio.timeout(30):
        assert await queue.get() == "a"


def test_expressions_that_are_too_large_together_are_rejected_with_the_largest_of_them() -> None:
    matchers = [*(f'x=~"a{n}.{{100}}"' for n in range(6)), 'x=~"b.{150}"', 'team="a"']
    with pytest.raises(Problem) as raised:
        compile_match(read_eventsink(obj({"webhook": {"url": "https://a.example"}, "match": {"matchers": matchers}})).spec)
    assert (raised.value.reason, raised.value.path) == ("InvalidMatcher", "spec.match.matchers[6]")
    assert "and 5000 are allowed" in raised.value.sentence
    assert compile_match(
        read_eventsink(obj({"webhook": {"url": "https://a.example"}, "match": {"matchers": matchers[:4]}})).spec
    ).matchers == tuple(matchers[:4])


def test_a_template_that_cannot_be_read_is_rejected_with_its_place_and_what_to_write() -> None:
    slack = {"channel": "#a", "template": {"title": "{{ name }}", "body": "a\n{{ .Labels.team }}"}}
    with pytest.raises(InvalidSpec) as raised:
        read_eventsink(obj({"slack": slack}))
    problem = spec_problem(raised.value)
    assert (problem.reason, problem.path) == ("InvalidSpec", "spec.slack.template.body")
    assert problem.sentence.startswith("line 2, column 4: expected a value, found dot; templates are Liquid, not Go: write {{")


def test_a_template_travels_in_the_compiled_sink() -> None:
    template = {"title": "{{ name }}", "body": "*{{ alert.where }}*"}
    spec: Any = read_eventsink(obj({"slack": {"channel": "#a", "template": template}})).spec
    assert SlackForm.of(spec.slack).template == TemplateForm(**template)
