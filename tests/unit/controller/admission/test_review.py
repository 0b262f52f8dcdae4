"""What is said of an EventSink that somebody applies, as tables."""

from __future__ import annotations

import copy
from collections.abc import Collection
from typing import Any

import pytest

from eventsink.controller.admission.assembly import SeenCluster
from eventsink.controller.admission.review import MAX_CHARACTERS, MAX_REPORTED, Fresh, Reviewer, Verdict, value_at
from eventsink.controller.cluster_state import ClusterState
from eventsink.controller.compile import MAX_BAD_MATCHERS
from eventsink.controller.config import OperatorSettings
from eventsink.controller.resolvers import Resolvers
from eventsink.controller.tenancy import Namespace
from eventsink.kube.api import SECRETS
from eventsink.kube.local import LocalApi
from tests.support.sinks import event_sink, signed

DENIED_URL = {"url": "https://denied.example.com/x"}
DENIED_HOST = "the platform does not allow the host denied.example.com (operator settings webhooks.allowedHosts and deniedHosts)"
URL_PROBLEM = f"spec.webhook.url: {DENIED_HOST}"
BAD_MATCHER = 'team=~"("'
MATCHER_PROBLEM = "spec.match.matchers[{}]: the regular expression is not valid RE2: missing ): ("
NOT_THERE = (
    "spec.webhook.signingSecretRefs[0]: Secret hook not found, create it with: "
    "kubectl -n acme create secret generic hook --from-literal=secret=..."
)
SLACK_APP = {"slackApp": {"clientId": "id", "clientSecretFile": "/nowhere"}}
CODE = {"channel": "#a", "oauthCodeSecretRef": {"name": "code", "key": "code"}}


class Cluster:
    """A reviewer, and what it knows of a cluster."""

    def __init__(self, **settings: Any) -> None:
        self.settings = OperatorSettings.model_validate(settings)
        self.state = ClusterState(lambda key: None, lambda: None, max_sinks=self.settings.tenancy.sinks_of)
        for name, tenant in (("acme", "acme"), ("acme-too", "acme"), ("globex", "globex"), ("free", ""), ("other-free", "")):
            self.label(name, tenant)
        marked = {"name": "ops", "uid": "ops", "labels": {"eventsink.dev/platform": "true"}}
        self.state.namespace_handler.upsert(("", "ops"), {"metadata": marked})
        self.fresh: Fresh | None = None
        self.reachable = True
        self.asked: list[tuple[str, list[str], bool]] = []
        self.version = 0

    def label(self, name: str, tenant: str) -> None:
        metadata = {"name": name, "uid": name, "labels": {"eventsink.dev/tenant": tenant} if tenant else {}}
        self.state.namespace_handler.upsert(("", name), {"metadata": metadata})

    def has_secret(self, name: str) -> None:
        self.state.secret_handler.upsert(("acme", name), {"metadata": {"resourceVersion": "1"}})

    def has_sink(self, obj: dict[str, Any]) -> None:
        self.version += 1
        versioned = {"resourceVersion": str(self.version), "uid": obj["metadata"]["name"]}
        self.state.see(obj | {"metadata": obj["metadata"] | versioned})

    async def review(self, new: dict[str, Any], old: dict[str, Any] | None = None) -> Verdict:
        async def confirm(namespace: str, secrets: Collection[str], *, owner: bool) -> Fresh | None:
            self.asked.append((namespace, sorted(secrets), owner))
            as_seen = Fresh(self.state.namespaces.get(namespace), frozenset())
            return (self.fresh or as_seen) if self.reachable else None

        resolvers = Resolvers(self.settings, LocalApi((SECRETS,)), lambda namespace: ())
        try:
            reviewer = Reviewer(resolvers, self.settings.tenancy.allow_unowned, SeenCluster(self.state), confirm)
            return await reviewer.review(new, old)
        finally:
            await resolvers.close(0)


@pytest.fixture
def cluster() -> Cluster:
    return Cluster(webhooks={"deniedHosts": ["denied.example.com"]})


# ---- new EventSinks


@pytest.mark.parametrize(
    ("namespace", "tenant", "reason"),
    [
        ("acme", "acme", ""),
        ("acme", "globex", "this namespace belongs to the tenant acme and may not claim another"),
        ("free", "acme", "the tenant acme belongs to other namespaces"),
        ("free", "nobody", "no namespace owns the tenant nobody"),
        ("acme", "*", "only a sink in a namespace that the platform team has marked may receive the alerts of all tenants"),
        ("free", "*", "only a sink in a namespace that the platform team has marked may receive the alerts of all tenants"),
        ("ops", "*", ""),
    ],
)
async def test_a_claim_is_judged_by_the_labels_of_namespaces(cluster: Cluster, namespace: str, tenant: str, reason: str) -> None:
    verdict = await cluster.review(event_sink(namespace, tenant=tenant))
    assert (f"spec.tenant: {reason}" in verdict.message) if reason else verdict == Verdict()


async def test_a_namespace_that_was_marked_as_the_platforms_a_moment_ago_may_claim_all_tenants(cluster: Cluster) -> None:
    cluster.fresh = Fresh(Namespace("u", "", platform=True), frozenset())
    assert await cluster.review(event_sink("free", tenant="*")) == Verdict()


async def test_a_sink_beyond_the_quota_of_its_tenant_is_refused_and_may_be_changed_if_it_is_there() -> None:
    cluster = Cluster(tenancy={"maxSinks": 1})
    first, second = (
        event_sink("acme") | {"metadata": {"namespace": "acme", "name": name, "creationTimestamp": f"2026-01-0{day}T00:00:00Z"}}
        for day, name in ((1, "first"), (2, "second"))
    )
    assert await cluster.review(first) == Verdict()
    cluster.has_sink(first)
    verdict = await cluster.review(second)
    assert verdict.message.startswith("spec.tenant: the tenant acme has more sinks than the 1 that it may have")
    assert await cluster.review(event_sink("globex", tenant="globex")) == Verdict()
    cluster.has_sink(second)
    changed = copy.deepcopy(second)
    changed["spec"]["name"] = "Renamed"
    verdict = await cluster.review(changed, second)
    assert verdict.refusals == ()
    assert verdict.warnings[0].startswith("not accepted: spec.tenant: the tenant acme has more sinks")
    assert (await cluster.review(first | {"spec": changed["spec"]}, first)).refusals == ()


async def test_an_unowned_tenant_may_be_claimed_where_the_setting_allows_it() -> None:
    assert await Cluster(tenancy={"allowUnowned": True}).review(event_sink("free", tenant="nobody")) == Verdict()


@pytest.mark.parametrize(
    ("settings", "spec", "refusal"),
    [
        (
            {"webhooks": {"allowHttp": False}},
            {"webhook": {"url": "http://example.com/"}},
            "spec.webhook.url: the platform allows https",
        ),
        ({"webhooks": {"allowedHosts": ["*.example.com"]}}, {"webhook": {"url": "https://example.org/"}}, "spec.webhook.url: "),
        ({"webhooks": {"allowedHosts": ["*.example.com"]}}, {"webhook": {"urlSecretRef": {"name": "hook", "key": "url"}}}, ""),
        ({}, {"match": {"matchers": [BAD_MATCHER]}}, MATCHER_PROBLEM.format(0)),
        ({}, {"match": {"matchers": ['a=~"(.{1000})+"']}}, "spec.match.matchers[0]: the regular expression is too large"),
        ({}, {"match": {"expression": 'alert.name = "x"'}}, "spec.match.expression: line 1, column 12: write == to compare"),
        ({}, {"slack": {"channel": "#a"}}, "spec.slack: name a credential"),
        ({"slack": {"tokenFile": "/nowhere"}}, {"slack": {"channel": "#a"}}, ""),
        ({}, {"slack": CODE}, "spec.slack.oauthCodeSecretRef: the platform has configured no Slack app"),
        (SLACK_APP, {"slack": CODE}, ""),
        ({}, {"slack": {"channel": "#a", "botTokenSecretRef": {"name": "slack", "key": "token"}}}, ""),
        ({"slack": {"tokenFile": "/nowhere", "channels": {"acme": ["#a"]}}}, {"slack": {"channel": "#a"}}, ""),
        ({"slack": {"tokenFile": "/nowhere", "channels": {"acme": ["a"]}}}, {"slack": {"channel": "#b"}}, "spec.slack.channel: "),
        (
            {"slack": {"tokenFile": "/nowhere", "channels": {"globex": ["#a"]}}},
            {"slack": {"channel": "#a"}},
            "spec.slack.channel: ",
        ),
        # Only Slack knows which name has which id.
        ({"slack": {"tokenFile": "/nowhere", "channels": {"acme": ["C0123456789"]}}}, {"slack": {"channel": "#a"}}, ""),
        ({"slack": {"tokenFile": "/nowhere", "channels": {"acme": ["#a"]}}}, {"slack": {"channel": "C0123456789"}}, ""),
    ],
)
async def test_what_settings_and_spec_alone_decide_is_refused(settings: Any, spec: Any, refusal: str) -> None:
    cluster = Cluster(**settings)
    for name in ("hook", "code", "slack"):
        cluster.has_secret(name)
    verdict = await cluster.review(event_sink("acme", **spec))
    assert verdict.message.startswith(refusal)
    assert bool(verdict.refusals) == bool(refusal)


async def test_all_problems_are_reported_at_once(cluster: Cluster) -> None:
    matchers = [BAD_MATCHER, 'team="a"', 'other=~"("']
    verdict = await cluster.review(event_sink("acme", tenant="globex", webhook=DENIED_URL, match={"matchers": matchers}))
    claim, *others = verdict.refusals
    assert claim.startswith("spec.tenant: ")
    assert others == [MATCHER_PROBLEM.format(0), MATCHER_PROBLEM.format(2), URL_PROBLEM]
    assert verdict.message == "; ".join(verdict.refusals)


async def test_what_an_older_crd_lets_pass_is_refused_with_every_field(cluster: Cluster) -> None:
    sink = event_sink("acme", webhook={"url": "https://example.com/", "batch": 0, "format": "xml"})
    assert [one.partition(": ")[0] for one in (await cluster.review(sink)).refusals] == [
        "spec.webhook.batch",
        "spec.webhook.format",
    ]


async def test_a_field_of_a_newer_crd_is_only_warned_of(cluster: Cluster) -> None:
    verdict = await cluster.review(event_sink("acme", webhook={"url": "https://example.com/", "colour": "red"}))
    assert verdict.refusals == ()
    assert [one.partition(": this version")[0] for one in verdict.warnings] == ["not accepted: spec.webhook.colour"]


async def test_a_message_names_a_bounded_number_of_problems(cluster: Cluster) -> None:
    headers = [{"name": f"{'@' * (n + 1)}", "value": "v"} for n in range(MAX_REPORTED + 4)]
    verdict = await cluster.review(event_sink("acme", webhook={"url": "https://example.com/", "headers": headers}))
    assert len(verdict.refusals) == MAX_REPORTED + 4
    assert verdict.message.count("the name of a header") == MAX_REPORTED
    assert verdict.message.endswith("; and 4 more")


async def test_the_name_of_an_unknown_field_is_not_repeated_at_any_length(cluster: Cluster) -> None:
    [warning] = (await cluster.review(changed(event_sink("acme"), **{"a" * 100_000: 1}))).warnings
    assert len(warning) <= MAX_CHARACTERS


async def test_the_first_of_many_bad_matchers_are_named(cluster: Cluster) -> None:
    verdict = await cluster.review(event_sink("acme", match={"matchers": [f'team{n}=~"("' for n in range(32)]}))
    assert verdict.refusals == tuple(MATCHER_PROBLEM.format(n) for n in range(MAX_BAD_MATCHERS))


# ---- warnings


async def test_each_secret_that_is_not_there_is_warned_of_once(cluster: Cluster) -> None:
    hook = signed() | {"headers": [{"name": "X-A", "valueFrom": {"secretKeyRef": {"name": "hook", "key": "a"}}}]}
    verdict = await cluster.review(event_sink("acme", webhook=hook))
    assert verdict.refusals == ()
    assert [one.partition("Secret ")[2] for one in verdict.warnings] == [
        "hook not found, create it with: kubectl -n acme create secret generic hook --from-literal=a=..."
    ]
    cluster.has_secret("hook")
    assert await cluster.review(event_sink("acme", webhook=hook)) == Verdict()


@pytest.mark.parametrize(
    ("namespace", "name", "warned"),
    [("acme", "second", True), ("acme-too", "first", True), ("acme", "first", False)],
    ids=["same namespace", "another namespace of the tenant", "itself"],
)
async def test_a_second_sink_with_the_same_display_name_is_warned_of(
    cluster: Cluster, namespace: str, name: str, warned: bool
) -> None:
    cluster.has_sink(event_sink("acme", name="first"))
    sink = event_sink(namespace, name=name)
    sink["spec"]["name"] = "first"
    expected = "spec.name: the tenant has another EventSink of the name first (acme/first); give each a name of its own"
    assert (await cluster.review(sink)).warnings == ((expected,) if warned else ())


async def test_a_sink_that_only_claims_the_tenant_is_not_shown_to_it(cluster: Cluster) -> None:
    cluster.has_sink(event_sink("globex", name="first"))
    sink = event_sink("acme", name="second")
    sink["spec"]["name"] = "first"
    assert await cluster.review(sink) == Verdict()


async def test_a_name_that_was_changed_or_whose_sink_was_deleted_is_free_again(cluster: Cluster) -> None:
    cluster.has_sink(event_sink("acme", name="first"))
    assert cluster.state.named("acme", "first") == (("acme", "first"),)
    cluster.has_sink(event_sink("acme", name="first") | {"spec": {}})
    assert cluster.state.named("acme", "first") == ()
    cluster.has_sink(event_sink("acme", name="first"))
    cluster.state.lose(("acme", "first"), "first")
    assert cluster.state.named("acme", "first") == ()


# ---- what the watches have not shown yet


async def test_the_api_server_is_asked_before_a_claim_is_refused(cluster: Cluster) -> None:
    cluster.fresh = Fresh(Namespace("u", "nobody"), frozenset())
    assert await cluster.review(event_sink("free", tenant="nobody")) == Verdict()
    assert cluster.asked == [("free", [], True)]


async def test_the_api_server_is_asked_before_a_secret_is_called_missing(cluster: Cluster) -> None:
    cluster.fresh = Fresh(None, frozenset({"hook"}))
    assert await cluster.review(event_sink("acme", webhook=signed())) == Verdict()
    assert cluster.asked == [("acme", ["hook"], False)]


async def test_where_it_cannot_be_asked_nobody_is_refused_because_of_what_may_be_out_of_date(cluster: Cluster) -> None:
    cluster.reachable = False
    verdict = await cluster.review(event_sink("free", tenant="nobody", webhook=DENIED_URL))
    assert verdict.refusals == (URL_PROBLEM,), (
        "a URL is judged by the settings, a claim by a label that may just have been changed"
    )
    verdict = await cluster.review(event_sink("free", tenant="nobody"))
    assert verdict.refusals == ()
    assert verdict.warnings[0].startswith("not confirmed, see the status later: spec.tenant: no namespace owns the tenant nobody")
    assert (await cluster.review(event_sink("acme", webhook=signed()))).warnings == (NOT_THERE,)


async def test_it_is_not_asked_about_a_sink_with_which_all_is_well(cluster: Cluster) -> None:
    cluster.has_secret("hook")
    await cluster.review(event_sink("acme", webhook=signed()))
    await cluster.review(event_sink("acme", webhook=DENIED_URL))
    assert cluster.asked == []


# ---- changes


def changed(sink: dict[str, Any], **spec: Any) -> dict[str, Any]:
    new = copy.deepcopy(sink)
    new["spec"] |= spec
    return new


WRONG = event_sink("acme", webhook=DENIED_URL, match={"matchers": [BAD_MATCHER, 'a="b"']})
FOREIGN = event_sink("acme", tenant="globex")
STILL = (f"not accepted: {MATCHER_PROBLEM.format(0)}", f"not accepted: {URL_PROBLEM}")


@pytest.mark.parametrize(
    ("old", "new", "refused", "warnings"),
    [
        (WRONG, WRONG, (), ()),
        (WRONG, WRONG | {"metadata": WRONG["metadata"] | {"labels": {"team": "a"}}}, (), ()),
        (WRONG, changed(WRONG, suspend=True), (), STILL),
        (WRONG, changed(WRONG, webhook={"url": "https://denied.example.com/y"}), (URL_PROBLEM,), ()),
        (WRONG, changed(WRONG, webhook={"url": "https://example.com/"}), (), STILL[:1]),
        (
            WRONG,
            changed(WRONG, match={"matchers": ['a="b"', BAD_MATCHER]}),
            (),
            (f"not accepted: {MATCHER_PROBLEM.format(1)}", STILL[1]),
        ),
        (WRONG, changed(WRONG, match={"matchers": ['a=~"["']}), ("spec.match.matchers[0]: ",), ()),
        (WRONG, event_sink("acme"), (), ()),
        (event_sink("acme"), WRONG, (MATCHER_PROBLEM.format(0), URL_PROBLEM), ()),
        (FOREIGN, changed(FOREIGN, suspend=True), (), ("not accepted: spec.tenant: ",)),
        (FOREIGN, changed(FOREIGN, webhook=DENIED_URL), (URL_PROBLEM,), ()),
        (
            changed(WRONG, webhook={"url": "ftp://x"}),
            changed(WRONG, webhook={"url": "ftp://x"}, suspend=True),
            (),
            ("not accepted: spec.webhook.url: ",),
        ),
    ],
    ids=[
        "nothing",
        "a label",
        "suspended, still wrong",
        "another forbidden URL",
        "one of two problems fixed",
        "a wrong matcher moved",
        "another wrong matcher",
        "all fixed",
        "made wrong",
        "suspended, with a claim that was lost",
        "a claim that was lost, and a new problem",
        "what an older CRD let pass",
    ],
)
async def test_a_change_is_refused_only_for_what_it_makes_wrong(
    cluster: Cluster, old: dict[str, Any], new: dict[str, Any], refused: tuple[str, ...], warnings: tuple[str, ...]
) -> None:
    verdict = await cluster.review(new, old)
    for found, expected in ((verdict.refusals, refused), (verdict.warnings, warnings)):
        assert len(found) == len(expected)
        assert all(one.startswith(start) for one, start in zip(found, expected, strict=True))


async def test_a_sink_that_is_being_deleted_is_never_refused(cluster: Cluster) -> None:
    new = changed(event_sink("acme"), webhook=DENIED_URL)
    new["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z"
    assert await cluster.review(new, event_sink("acme")) == Verdict()


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("spec.webhook.url", "u"),
        ("spec.match.matchers[1]", "b"),
        ("spec.match.matchers[2]", None),
        ("spec.slack.channel", None),
        ("spec.match.matchers[x]", None),
    ],
)
def test_the_value_of_a_field_is_found_by_its_path(path: str, value: str | None) -> None:
    assert value_at({"spec": {"webhook": {"url": "u"}, "match": {"matchers": ["a", "b"]}}}, path) == value
