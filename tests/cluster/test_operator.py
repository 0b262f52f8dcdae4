"""The operator on a real API server, as a process with the permissions of its manifests."""

from __future__ import annotations

import base64
import json
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.controlplane import ControlPlane
from tests.support.cluster import SINKS_NAMESPACE, Installed, MakeNamespace
from tests.support.kubectl import Kubectl, condition
from tests.support.parts import start_operator
from tests.support.processes import RunningProcess
from tests.support.sinks import (
    OTHER_SECRET,
    SECRET,
    compiled,
    compiled_uids,
    event_sink,
    events_of,
    label,
    secret,
    signed,
    uid_of,
    wait_all_ready,
    wait_compiled,
)
from tests.support.waiting import wait_until

SOON_SECONDS = 10.0
"""Within this the operator must have applied a change of a Secret."""
GRACE_SECONDS = 4
CANARY = "canary-of-an-unrelated-secret"


@pytest.fixture(scope="module")
def operator(install_manifests: Installed, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningProcess]:
    folder = tmp_path_factory.mktemp("operator")
    with start_operator(install_manifests, folder, credentialGrace=f"{GRACE_SECONDS}s", sweepInterval="2s") as running:
        running.wait_ready()
        yield running


@pytest.fixture
def acme(make_namespace: MakeNamespace, operator: RunningProcess) -> str:
    """A namespace of the tenant acme."""
    return make_namespace("acme")


def wait_ready(kubectl: Kubectl, namespace: str, name: str = "alerts", **options: Any) -> dict[str, Any]:
    return kubectl.wait_condition("eventsink", name, "Ready", "True", namespace=namespace, **options)


def wait_not_ready(kubectl: Kubectl, namespace: str, reason: str, name: str = "alerts") -> dict[str, Any]:
    return kubectl.wait_condition("eventsink", name, "Ready", "False", reason=reason, namespace=namespace)


def conditions(kubectl: Kubectl, namespace: str, name: str = "alerts") -> dict[str, str]:
    found = kubectl.get("eventsink", name, namespace=namespace)
    return {one["type"]: one["status"] for one in found["status"]["conditions"]}


# ---- Secrets


def test_a_missing_secret_is_reported_with_the_command_to_create_it_and_creating_it_makes_the_sink_ready(
    kubectl: Kubectl, acme: str
) -> None:
    kubectl.apply(event_sink(acme, webhook=signed()))
    reported = wait_not_ready(kubectl, acme, "SecretNotFound")
    assert reported["message"] == (
        "spec.webhook.signingSecretRefs[0]: Secret hook not found, create it with: "
        f"kubectl -n {acme} create secret generic hook --from-literal=secret=..."
    )
    assert conditions(kubectl, acme) == {"Ready": "False", "Reconciling": "True"}
    assert compiled(kubectl, uid_of(kubectl, acme)) is None
    kubectl.run("-n", acme, "create", "secret", "generic", "hook", f"--from-literal=secret={SECRET}")
    wait_ready(kubectl, acme, deadline=SOON_SECONDS)
    assert conditions(kubectl, acme) == {"Ready": "True"}


def test_a_missing_key_is_reported_and_adding_it_makes_the_sink_ready(kubectl: Kubectl, acme: str) -> None:
    kubectl.apply([secret(acme, other="x"), event_sink(acme, webhook=signed())])
    reported = wait_not_ready(kubectl, acme, "SecretKeyNotFound")
    assert "the Secret hook has no key secret" in reported["message"]
    kubectl.apply(secret(acme, other="x", secret=SECRET))
    wait_ready(kubectl, acme, deadline=SOON_SECONDS)


def test_a_rotated_secret_reaches_the_compiled_sink(kubectl: Kubectl, acme: str) -> None:
    kubectl.apply([secret(acme, secret=SECRET), event_sink(acme, webhook=signed())])
    wait_ready(kubectl, acme)
    uid = uid_of(kubectl, acme)
    wait_compiled(kubectl, uid, lambda sink: sink["webhook"]["signingSecrets"] == [SECRET])
    kubectl.apply(secret(acme, secret=OTHER_SECRET))
    wait_compiled(kubectl, uid, lambda sink: sink["webhook"]["signingSecrets"] == [OTHER_SECRET], deadline=SOON_SECONDS)


def test_an_invalid_secret_value_is_reported_but_not_shown_and_the_last_valid_one_stays_active(
    kubectl: Kubectl, acme: str
) -> None:
    kubectl.apply([secret(acme, secret=SECRET), event_sink(acme, webhook=signed())])
    wait_ready(kubectl, acme)
    kubectl.apply(secret(acme, secret="canary"))
    reported = wait_not_ready(kubectl, acme, "InvalidSecretValue")
    assert "canary" not in reported["message"]
    assert "the last accepted configuration (generation 1) stays active" in reported["message"]
    kept = compiled(kubectl, uid_of(kubectl, acme))
    assert kept is not None
    assert kept["webhook"]["signingSecrets"] == [SECRET]


def test_a_credential_missing_for_longer_than_the_grace_period_withdraws_the_sink(kubectl: Kubectl, acme: str) -> None:
    kubectl.apply([secret(acme, secret=SECRET), event_sink(acme, webhook=signed())])
    wait_ready(kubectl, acme)
    uid = uid_of(kubectl, acme)
    kubectl.delete("secret", "hook", namespace=acme)
    reported = wait_not_ready(kubectl, acme, "SecretNotFound")
    assert "stays active" in reported["message"]
    withdrawn = wait_compiled(kubectl, uid, lambda sink: "withdrawn" in sink)
    assert withdrawn["withdrawn"]["reason"] == "SecretNotFound"
    assert "webhook" not in withdrawn
    kubectl.wait_until(
        "eventsink", "alerts", lambda found: "deliveries are held" in condition(found, "Ready").get("message", ""), namespace=acme
    )
    kubectl.apply(secret(acme, secret=SECRET))
    wait_ready(kubectl, acme, deadline=SOON_SECONDS)
    wait_compiled(kubectl, uid, lambda sink: "withdrawn" not in sink and sink["webhook"]["signingSecrets"] == [SECRET])


def test_the_operator_holds_no_secret_that_no_sink_refers_to(
    kubectl: Kubectl, acme: str, operator: RunningProcess, control_plane: ControlPlane
) -> None:
    # Not by `apply`, which repeats the data in an annotation, and so in the metadata.
    kubectl.run("-n", acme, "create", "secret", "generic", "unrelated", f"--from-literal=key={CANARY}")
    kubectl.apply([secret(acme, secret=SECRET), event_sink(acme, webhook=signed())])
    wait_ready(kubectl, acme)
    assert not in_memory(operator.pid, [CANARY.encode(), base64.b64encode(CANARY.encode())])
    user = "system:serviceaccount:eventsink-system:eventsink-operator"
    read = {
        (request["objectRef"]["namespace"], request["objectRef"].get("name"))
        for request in control_plane.audited()
        if request["user"]["username"] == user
        and request["verb"] == "get"
        and request.get("objectRef", {}).get("resource") == "secrets"
    }
    assert (acme, "hook") in read
    assert (acme, "unrelated") not in read


def in_memory(pid: int, needles: list[bytes]) -> bool:
    """Whether a process holds any of these bytes in memory that it wrote."""
    with Path(f"/proc/{pid}/maps").open() as maps, Path(f"/proc/{pid}/mem").open("rb", buffering=0) as memory:
        for line in maps:
            span, rights = line.split()[:2]
            if not rights.startswith("rw"):
                continue
            start, end = (int(part, 16) for part in span.split("-"))
            try:
                memory.seek(start)
                content = memory.read(end - start)
            except (OSError, ValueError, OverflowError):
                continue
            if any(needle in content for needle in needles):
                return True
    return False


# ---- edits, deletion


def test_an_invalid_edit_keeps_the_accepted_spec_active_and_the_status_reports_both(kubectl: Kubectl, acme: str) -> None:
    kubectl.apply(event_sink(acme, match={"matchers": ['team="a"']}))
    wait_ready(kubectl, acme)
    uid = uid_of(kubectl, acme)
    kubectl.apply(event_sink(acme, match={"matchers": ['team=~"("']}))
    reported = wait_not_ready(kubectl, acme, "InvalidMatcher")
    assert reported["message"] == (
        "spec.match.matchers[0]: the regular expression is not valid RE2: missing ): (; "
        "the last accepted configuration (generation 1) stays active"
    )
    assert conditions(kubectl, acme) == {"Ready": "False", "Stalled": "True"}
    kept = compiled(kubectl, uid)
    assert kept is not None
    assert kept["match"]["matchers"] == ['team="a"']
    kubectl.apply(event_sink(acme, match={"matchers": ['team="b"']}))
    wait_ready(kubectl, acme)
    wait_compiled(kubectl, uid, lambda sink: sink["match"]["matchers"] == ['team="b"'])
    # Other sinks of the tenant may have the same name for a while: it is accepted with a warning then, and again without.
    reasons = [one["reason"] for one in events_of(kubectl, uid)]
    assert set(reasons) == {"Accepted", "InvalidMatcher"}
    assert reasons.count("Accepted") >= 2
    assert reasons.count("InvalidMatcher") == 1


def test_an_unchanged_sink_gets_no_second_event_and_no_status_write(
    kubectl: Kubectl, acme: str, operator: RunningProcess
) -> None:
    kubectl.apply(event_sink(acme, webhook=signed()))
    wait_not_ready(kubectl, acme, "SecretNotFound")
    uid = uid_of(kubectl, acme)
    version = kubectl.get("eventsink", "alerts", namespace=acme)["metadata"]["resourceVersion"]
    kubectl.apply([secret(acme, "unrelated", a="b"), event_sink(acme, "second")])
    wait_ready(kubectl, acme, "second")
    swept = sweeps(operator)
    wait_until("two more sweeps", lambda: sweeps(operator) >= swept + 2)
    assert [one["reason"] for one in events_of(kubectl, uid)] == ["SecretNotFound"]
    assert kubectl.get("eventsink", "alerts", namespace=acme)["metadata"]["resourceVersion"] == version


def sweeps(operator: RunningProcess) -> float:
    """How many sweeps the operator has completed."""
    with urllib.request.urlopen(f"http://127.0.0.1:{operator.port_of('monitor')}/metrics", timeout=10) as response:
        lines = response.read().decode().splitlines()
    return float(
        next((line.split()[-1] for line in lines if line.startswith('eventsink_operator_sweeps_total{result="done"}')), "0")
    )


def test_deletion_removes_the_compiled_sink(kubectl: Kubectl, acme: str) -> None:
    kubectl.apply(event_sink(acme))
    wait_ready(kubectl, acme)
    uid = uid_of(kubectl, acme)
    assert compiled(kubectl, uid) is not None
    kubectl.delete("eventsink", "alerts", namespace=acme)
    kubectl.wait_gone("secret", f"sink-{uid}", namespace=SINKS_NAMESPACE)


def test_a_recreated_sink_inherits_nothing_from_the_deleted_one(kubectl: Kubectl, acme: str) -> None:
    kubectl.apply(event_sink(acme))
    wait_ready(kubectl, acme)
    former = uid_of(kubectl, acme)
    kubectl.delete("eventsink", "alerts", namespace=acme)
    kubectl.apply(event_sink(acme, webhook=signed(secret="not-there")))
    wait_not_ready(kubectl, acme, "SecretNotFound")
    kubectl.wait_gone("secret", f"sink-{former}", namespace=SINKS_NAMESPACE)
    assert compiled(kubectl, uid_of(kubectl, acme)) is None


def test_a_slack_sink_needs_a_credential_where_the_platform_has_no_workspace(kubectl: Kubectl, acme: str) -> None:
    kubectl.apply(event_sink(acme, slack={"channel": "#alerts"}))
    reported = wait_not_ready(kubectl, acme, "SlackNotConfigured")
    assert "name a credential" in reported["message"]
    assert kubectl.get("eventsink", "alerts", namespace=acme)["status"]["type"] == "slack"


def test_an_incoming_webhook_of_slack_is_compiled_once_its_secret_is_there(kubectl: Kubectl, acme: str) -> None:
    kubectl.apply(event_sink(acme, slack={"incomingWebhookSecretRef": {"name": "slack", "key": "url"}}))
    wait_not_ready(kubectl, acme, "SecretNotFound")
    kubectl.apply(secret(acme, "slack", url="https://hooks.example.com/services/T1/B1/x"))
    reported = wait_not_ready(kubectl, acme, "InvalidSecretValue")
    assert "must begin with https://hooks.slack.com/" in reported["message"]
    kubectl.apply(secret(acme, "slack", url="https://hooks.slack.com/services/T1/B1/x\n"))
    wait_ready(kubectl, acme)
    found = compiled(kubectl, uid_of(kubectl, acme))
    assert found is not None
    assert found["slack"]["webhookUrl"] == "https://hooks.slack.com/services/T1/B1/x"


# ---- tenancy


def test_a_tenant_may_have_several_namespaces(kubectl: Kubectl, make_namespace: MakeNamespace, operator: RunningProcess) -> None:
    for namespace in (make_namespace("shared"), make_namespace("shared")):
        kubectl.apply(event_sink(namespace, tenant="shared"))
        wait_ready(kubectl, namespace)


def test_a_tenant_that_no_namespace_owns_is_rejected_with_the_command_to_label_one(
    kubectl: Kubectl, make_namespace: MakeNamespace, operator: RunningProcess
) -> None:
    namespace = make_namespace()
    kubectl.apply(event_sink(namespace, tenant="nobody"))
    reported = wait_not_ready(kubectl, namespace, "TenantNotOwned")
    assert reported["message"].endswith(f"kubectl label namespace {namespace} eventsink.dev/tenant=nobody")
    assert conditions(kubectl, namespace) == {"Ready": "False", "Stalled": "True"}
    label(kubectl, namespace, "nobody")
    wait_ready(kubectl, namespace)


def test_another_tenant_cannot_be_claimed_and_its_owner_is_not_disclosed(
    kubectl: Kubectl, make_namespace: MakeNamespace, operator: RunningProcess
) -> None:
    owner, thief, other = make_namespace("victim"), make_namespace(), make_namespace("third")
    kubectl.apply(event_sink(thief, tenant="victim"))
    reported = wait_not_ready(kubectl, thief, "TenantOwnedElsewhere")
    assert owner not in reported["message"]
    kubectl.apply(event_sink(other, tenant="victim"))
    reported = wait_not_ready(kubectl, other, "TenantMismatch")
    assert "belongs to the tenant third" in reported["message"]
    assert compiled(kubectl, uid_of(kubectl, thief)) is None
    assert compiled(kubectl, uid_of(kubectl, other)) is None


def test_removing_the_tenant_label_withdraws_the_sink_at_once_and_adding_it_activates_the_sink(
    kubectl: Kubectl, make_namespace: MakeNamespace, operator: RunningProcess
) -> None:
    namespace = make_namespace("mover")
    kubectl.apply(event_sink(namespace, tenant="mover"))
    wait_ready(kubectl, namespace)
    uid = uid_of(kubectl, namespace)
    label(kubectl, namespace, None)
    withdrawn = wait_compiled(kubectl, uid, lambda sink: "withdrawn" in sink)
    assert (withdrawn["withdrawn"]["reason"], "webhook" in withdrawn) == ("TenantNotOwned", False)
    reported = wait_not_ready(kubectl, namespace, "TenantNotOwned")
    assert reported["message"].endswith("until then nothing is sent and deliveries are held")
    label(kubectl, namespace, "mover")
    wait_ready(kubectl, namespace)
    wait_compiled(kubectl, uid, lambda sink: "withdrawn" not in sink and "webhook" in sink)
    assert [one["reason"] for one in events_of(kubectl, uid)].count("TenantNotOwned") == 1


def test_a_sink_of_all_tenants_is_active_only_while_its_namespace_is_marked_as_the_platforms(
    kubectl: Kubectl, make_namespace: MakeNamespace, operator: RunningProcess
) -> None:
    namespace = make_namespace("oncall")
    kubectl.apply(event_sink(namespace, tenant="*"))
    reported = wait_not_ready(kubectl, namespace, "NotPlatformNamespace")
    command = f"kubectl label namespace {namespace} eventsink.dev/platform=true"
    assert command in reported["message"]
    kubectl.run(*command.split()[1:])
    wait_ready(kubectl, namespace)
    uid = uid_of(kubectl, namespace)
    wait_compiled(kubectl, uid, lambda sink: sink["tenant"] == "*" and "webhook" in sink)
    wait_until("namespace in the tenancy", lambda: namespace in tenancy(kubectl).get("platform", []), poll=0.2)
    kubectl.run("label", "namespace", namespace, "eventsink.dev/platform-")
    wait_until("namespace gone from the tenancy", lambda: namespace not in tenancy(kubectl).get("platform", []), poll=0.2)
    withdrawn = wait_compiled(kubectl, uid, lambda sink: "withdrawn" in sink)
    assert (withdrawn["withdrawn"]["reason"], "webhook" in withdrawn) == ("NotPlatformNamespace", False)
    wait_not_ready(kubectl, namespace, "NotPlatformNamespace")


def test_a_tenant_moves_to_another_namespace(kubectl: Kubectl, make_namespace: MakeNamespace, operator: RunningProcess) -> None:
    old, new = make_namespace("moving"), make_namespace()
    for namespace in (old, new):
        kubectl.apply(event_sink(namespace, tenant="moving"))
    wait_ready(kubectl, old)
    wait_not_ready(kubectl, new, "TenantOwnedElsewhere")
    label(kubectl, old, None)
    wait_not_ready(kubectl, new, "TenantNotOwned")
    label(kubectl, new, "moving")
    wait_ready(kubectl, new)
    wait_not_ready(kubectl, old, "TenantOwnedElsewhere")
    assert "webhook" not in wait_compiled(kubectl, uid_of(kubectl, old), lambda sink: "withdrawn" in sink)


def test_a_recreated_namespace_without_its_label_does_not_own_the_tenant(
    kubectl: Kubectl, make_namespace: MakeNamespace, operator: RunningProcess
) -> None:
    namespace = make_namespace("phoenix")
    kubectl.apply(event_sink(namespace, tenant="phoenix"))
    wait_ready(kubectl, namespace)
    former = uid_of(kubectl, namespace)
    kubectl.run("delete", "namespace", namespace, "--timeout=60s")
    kubectl.wait_gone("secret", f"sink-{former}", namespace=SINKS_NAMESPACE)
    kubectl.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace}})
    kubectl.run("wait", "--for=create", "serviceaccount/default", "-n", namespace, "--timeout=60s")
    kubectl.apply(event_sink(namespace, tenant="phoenix"))
    wait_not_ready(kubectl, namespace, "TenantNotOwned")


def test_the_tenancy_document_follows_the_labels(
    kubectl: Kubectl, make_namespace: MakeNamespace, operator: RunningProcess
) -> None:
    namespace = make_namespace("documented")
    wait_until("owner in the tenancy", lambda: owners(kubectl).get(namespace) == "documented", poll=0.2)
    label(kubectl, namespace, None)
    wait_until("no owner in the tenancy", lambda: namespace not in owners(kubectl), poll=0.2)


def owners(kubectl: Kubectl) -> dict[str, str]:
    found: dict[str, str] = tenancy(kubectl)["owners"]
    return found


def tenancy(kubectl: Kubectl) -> dict[str, Any]:
    found = kubectl.get("secret", "tenancy", namespace=SINKS_NAMESPACE)
    result: dict[str, Any] = json.loads(base64.b64decode(found["data"]["tenancy.json"]))
    return result


def test_a_deleted_namespace_takes_its_compiled_sinks_along_and_nothing_is_withdrawn_or_reported_before(
    kubectl: Kubectl, install_manifests: Installed, operator: RunningProcess, make_namespace: MakeNamespace
) -> None:
    namespace = make_namespace("deleted")
    names = [f"s{number}" for number in range(100)]
    kubectl.apply(
        [secret(namespace, secret=SECRET), *(event_sink(namespace, name, tenant="deleted", webhook=signed()) for name in names)]
    )

    uids = set(wait_all_ready(kubectl, namespace, names).values())
    before = len(operator.lines())
    # A sweep reads the list while what is in it is deleted (every two seconds here): nothing of it may be taken up again.
    kubectl.run("delete", "namespace", namespace, "--timeout=60s")

    wait_until("the compiled sinks to be gone", lambda: not compiled_uids(kubectl) & uids, deadline=SOON_SECONDS)
    events = {line["event"] for line in operator.lines()[before:]}
    assert events == {"compiled sink removed"}
