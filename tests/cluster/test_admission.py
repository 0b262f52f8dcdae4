"""The admission webhook on a real API server, with the configuration and the permissions of the manifests."""

from __future__ import annotations

import asyncio
import json
import ssl
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.soak.listeners import resident_bytes
from tests.support.admission import (
    CONFIGURATION,
    KIND,
    REFUSED,
    WEBHOOK_SECRET,
    admission_settings,
    applied,
    bundle,
    configuration,
    configured,
    dry_run,
    replace_configuration,
    wait_reviewing,
)
from tests.support.cluster import Installed, MakeNamespace
from tests.support.kubectl import Kubectl
from tests.support.parts import start_operator
from tests.support.ports import free_port
from tests.support.processes import RunningProcess
from tests.support.sinks import event_sink, label, secret, signed
from tests.support.waiting import wait_until

DENIED = "denied.example.com"
MAX_SINKS = 20
SETTINGS: dict[str, Any] = {
    "webhooks": {"deniedHosts": [DENIED]},
    "sweepInterval": "2s",
    "tenancy": {"maxSinks": MAX_SINKS},
}
BAD_URL = {"url": f"https://{DENIED}/x"}
URL_PROBLEM = (
    f"spec.webhook.url: the platform does not allow the host {DENIED} (operator settings webhooks.allowedHosts and deniedHosts)"
)
MATCHER_PROBLEM = "spec.match.matchers[0]: the regular expression is not valid RE2: missing ): ("

Start = Callable[[], RunningProcess]


@pytest.fixture(scope="module")
def port(install_manifests: Installed, kubectl: Kubectl) -> Iterator[int]:
    chosen = free_port()
    with configured(kubectl, chosen):
        yield chosen


def start(installed: Installed, folder: Path, port: int, **settings: Any) -> RunningProcess:
    leads = {"leaderElection": {"enabled": True}}  # as installed: another one waits
    return start_operator(installed, folder, admission=admission_settings(port), **(leads | SETTINGS | settings))


@pytest.fixture(scope="module")
def operator(
    install_manifests: Installed, kubectl: Kubectl, port: int, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[RunningProcess]:
    with start(install_manifests, tmp_path_factory.mktemp("operator"), port) as running:
        running.wait_ready()
        wait_reviewing(kubectl)
        yield running


@contextmanager
def elsewhere(kubectl: Kubectl, port: int, other_port: int) -> Iterator[None]:
    """Have the API server call another port for a while."""
    before = bundle(kubectl)
    with configured(kubectl, other_port):
        yield
    replace_configuration(kubectl, configuration(kubectl, port, ca=before))
    wait_reviewing(kubectl)


@pytest.fixture
def acme(make_namespace: MakeNamespace, tenant: str, operator: RunningProcess) -> str:
    """A namespace of a tenant of this test alone."""
    return make_namespace(tenant)


# ---- what is refused


def test_everything_that_is_wrong_is_said_at_once_and_nothing_is_stored(kubectl: Kubectl, acme: str) -> None:
    sink = event_sink(acme, tenant="another", webhook=BAD_URL, match={"matchers": ['team=~"("']})
    result = applied(kubectl, sink)
    assert result.returncode == 1
    assert REFUSED in result.stderr
    for problem in ("spec.tenant: this namespace belongs to the tenant", URL_PROBLEM, MATCHER_PROBLEM):
        assert problem in result.stderr
    assert kubectl.find("eventsink", "alerts", namespace=acme) is None


def test_a_tenant_of_another_namespace_cannot_be_claimed(
    kubectl: Kubectl, acme: str, tenant: str, make_namespace: MakeNamespace
) -> None:
    mallory = make_namespace()
    result = applied(kubectl, event_sink(mallory, tenant=tenant))
    assert f"{REFUSED}spec.tenant: the tenant {tenant} belongs to other namespaces" in result.stderr
    assert acme not in result.stderr.replace(mallory, "")


def test_a_sink_beyond_the_quota_is_refused_and_accepted_as_soon_as_there_is_a_place(
    kubectl: Kubectl, acme: str, tenant: str
) -> None:
    sinks = [event_sink(acme, name=f"s{number}", tenant=tenant) for number in range(MAX_SINKS + 1)]
    *full, beyond = sinks
    kubectl.apply(full)
    for one in full:
        kubectl.wait_condition("eventsink", one["metadata"]["name"], "Ready", "True", namespace=acme)
    words = f"spec.tenant: the tenant {tenant} has more sinks than the {MAX_SINKS} that it may have"
    refused = applied(kubectl, beyond)
    assert (refused.returncode, f"{REFUSED}{words}" in refused.stderr) == (1, True)
    create_unreviewed(kubectl, beyond)
    condition = kubectl.wait_condition("eventsink", f"s{MAX_SINKS}", "Ready", "False", namespace=acme)
    assert condition["reason"] == "QuotaExceeded"
    assert condition["message"].startswith(words)
    kubectl.run("-n", acme, "delete", "eventsink", "s0")
    kubectl.wait_condition("eventsink", f"s{MAX_SINKS}", "Ready", "True", namespace=acme)


def test_a_dry_run_says_the_same_and_changes_nothing(kubectl: Kubectl, acme: str, tenant: str) -> None:
    wrong = event_sink(acme, tenant=tenant, webhook=BAD_URL)
    by_server = kubectl.run("apply", "--server-side", "--dry-run=server", "-f", "-", input=json.dumps(wrong), check=False)
    for refused in (dry_run(kubectl, wrong), by_server):
        assert refused.returncode == 1
        assert URL_PROBLEM in refused.stderr
    accepted = dry_run(kubectl, event_sink(acme, tenant=tenant))
    assert (accepted.returncode, accepted.stderr) == (0, "")
    assert kubectl.find("eventsink", "alerts", namespace=acme) is None


def test_the_words_are_those_of_validate_and_of_the_status(
    kubectl: Kubectl, acme: str, tenant: str, operator: RunningProcess, tmp_path: Path
) -> None:
    sink = event_sink(acme, tenant=tenant, match={"matchers": ['team=~"("']})
    file = tmp_path / "sink.yaml"
    file.write_text(yaml.safe_dump(sink))
    validated = subprocess.run(
        [sys.executable, "-m", "eventsink", "validate", str(file)], capture_output=True, text=True, timeout=60
    )
    assert MATCHER_PROBLEM in validated.stdout + validated.stderr
    assert REFUSED + MATCHER_PROBLEM in applied(kubectl, sink).stderr
    create_unreviewed(kubectl, sink)
    reported = kubectl.wait_condition("eventsink", "alerts", "Ready", "False", reason="InvalidMatcher", namespace=acme)
    assert reported["message"] == MATCHER_PROBLEM


def create_unreviewed(kubectl: Kubectl, sink: dict[str, Any]) -> None:
    """Create an EventSink as if no operator had been there."""
    before = kubectl.get(KIND, CONFIGURATION)
    kubectl.delete(KIND, CONFIGURATION)
    try:
        # The API server learns of the deletion a moment later.
        wait_until("creation", lambda: applied(kubectl, sink).returncode == 0, poll=0.2)
    finally:
        before["metadata"] = {"name": CONFIGURATION}
        kubectl.run("create", "-f", "-", input=json.dumps(before))
        wait_reviewing(kubectl)


# ---- what is only warned of


def test_a_secret_that_is_not_there_is_warned_of_with_the_command_to_create_it(kubectl: Kubectl, acme: str, tenant: str) -> None:
    result = applied(kubectl, event_sink(acme, tenant=tenant, webhook=signed()))
    assert result.returncode == 0
    assert result.stderr == (
        "Warning: spec.webhook.signingSecretRefs[0]: Secret hook not found, create it with: "
        f"kubectl -n {acme} create secret generic hook --from-literal=secret=...\n"
    )


def test_what_is_applied_together_is_not_warned_of_and_not_refused(
    kubectl: Kubectl, operator: RunningProcess, make_namespace: MakeNamespace, tenant: str
) -> None:
    for round_ in range(5):
        namespace = make_namespace()
        own = f"{tenant}-{round_}"
        labelled = {
            "apiVersion": "v1",
            "kind": "Namespace",
            "metadata": {"name": namespace, "labels": {"eventsink.dev/tenant": own}},
        }
        together = [labelled, secret(namespace, secret="x"), event_sink(namespace, tenant=own, webhook=signed())]
        text = yaml.safe_dump_all(together)
        result = kubectl.run("apply", "--server-side", "--force-conflicts", "-f", "-", input=text, check=False)
        assert (result.returncode, result.stderr) == (0, "")


def test_a_second_sink_of_the_same_name_in_a_tenant_is_warned_of(kubectl: Kubectl, acme: str, tenant: str) -> None:
    first, second = event_sink(acme, tenant=tenant), event_sink(acme, name="others", tenant=tenant)
    second["spec"]["name"] = first["spec"]["name"]
    assert applied(kubectl, first).stderr == ""
    kubectl.wait_condition("eventsink", "alerts", "Ready", "True", namespace=acme)
    result = applied(kubectl, second)
    assert result.returncode == 0
    assert f"Warning: spec.name: the tenant has another EventSink of the name alerts ({acme}/alerts)" in result.stderr


# ---- what is never blocked


def test_a_sink_that_is_wrong_already_can_be_labelled_suspended_and_deleted(kubectl: Kubectl, acme: str, tenant: str) -> None:
    wrong = event_sink(acme, tenant=tenant, webhook=BAD_URL)
    wrong["metadata"]["finalizers"] = ["example.com/finalizer"]
    create_unreviewed(kubectl, wrong)
    kubectl.run("-n", acme, "label", "eventsink", "alerts", "team=a")
    suspended = kubectl.run("-n", acme, "patch", "eventsink", "alerts", "--type=merge", "-p", '{"spec": {"suspend": true}}')
    assert suspended.stderr == f"Warning: not accepted: {URL_PROBLEM}\n"
    other = '{"spec": {"webhook": {"url": "https://denied.example.com/other"}}}'
    refused = kubectl.run("-n", acme, "patch", "eventsink", "alerts", "--type=merge", "-p", other, check=False)
    assert REFUSED + URL_PROBLEM in refused.stderr
    kubectl.run(
        "-n",
        acme,
        "patch",
        "eventsink",
        "alerts",
        "--subresource=status",
        "--type=merge",
        "-p",
        '{"status": {"type": "webhook"}}',
    )
    kubectl.delete("eventsink", "alerts", namespace=acme, wait=False)
    kubectl.run("-n", acme, "patch", "eventsink", "alerts", "--type=merge", "-p", '{"metadata": {"finalizers": null}}')
    wait_until("deletion", lambda: kubectl.find("eventsink", "alerts", namespace=acme) is None, poll=0.2)


def test_where_the_webhook_is_dead_everything_can_be_applied_and_the_status_reports_the_problem(
    kubectl: Kubectl, install_manifests: Installed, port: int, acme: str, tenant: str, tmp_path: Path
) -> None:
    other_port = free_port()
    with elsewhere(kubectl, port, other_port):
        with start(install_manifests, tmp_path, other_port) as running:
            running.wait_ready()
            wait_reviewing(kubectl)
            running.kill9()
        assert applied(kubectl, event_sink(acme, tenant=tenant, webhook=BAD_URL)).returncode == 0
        kubectl.wait_condition("eventsink", "alerts", "Ready", "False", reason="URLNotAllowed", namespace=acme)


# ---- certificates


def test_authorities_that_somebody_removed_are_published_again_and_nothing_else_is_the_operators(
    kubectl: Kubectl, operator: RunningProcess, port: int
) -> None:
    before, without = bundle(kubectl), configuration(kubectl, port)
    [webhook] = without["webhooks"]
    assert "caBundle" not in webhook["clientConfig"]
    replace_configuration(kubectl, without)
    wait_until("the authorities", lambda: bundle(kubectl) == before, poll=0.5, deadline=30)
    wait_reviewing(kubectl)
    found = json.loads(kubectl.run("get", KIND, CONFIGURATION, "-o", "json", "--show-managed-fields").stdout)
    [own] = [one for one in found["metadata"]["managedFields"] if one["manager"] == "eventsink-operator"]
    [of_webhook] = own["fieldsV1"]["f:webhooks"].values()
    assert of_webhook == {".": {}, "f:clientConfig": {"f:caBundle": {}}, "f:name": {}}


# ---- the operator's own


def test_refusals_are_counted_and_not_logged(kubectl: Kubectl, acme: str, tenant: str, operator: RunningProcess) -> None:
    applied(kubectl, event_sink(acme, tenant=tenant, webhook=BAD_URL))
    metrics = operator.metrics()
    assert 'eventsink_operator_admissions_total{outcome="refused"}' in metrics
    assert 'outcome="failed"' not in metrics
    assert "eventsink_operator_admission_certificate_expiry_timestamp_seconds" in metrics
    assert "failed permanently" not in operator.text()
    assert WEBHOOK_SECRET in operator.text()
    assert "PRIVATE KEY" not in operator.text()


def test_a_label_of_the_namespace_decides_also_when_it_was_changed_a_moment_ago(kubectl: Kubectl, acme: str, tenant: str) -> None:
    label(kubectl, acme, f"{tenant}-new")
    result = dry_run(kubectl, event_sink(acme, tenant=f"{tenant}-new"))
    assert (result.returncode, result.stderr) == (0, "")


def test_a_replica_that_waits_for_the_lead_reviews_too_with_the_same_certificate(
    kubectl: Kubectl, install_manifests: Installed, acme: str, tenant: str, port: int, tmp_path: Path
) -> None:
    before, other_port = bundle(kubectl), free_port()
    with elsewhere(kubectl, port, other_port), start(install_manifests, tmp_path, other_port) as standby:
        standby.wait_ready()
        wait_reviewing(kubectl)
        refused = dry_run(kubectl, event_sink(acme, tenant=tenant, webhook=BAD_URL))
        assert REFUSED + URL_PROBLEM in refused.stderr
        assert "eventsink_operator_leader 0.0" in standby.metrics()
        assert bundle(kubectl) == before


# ---- whoever else reaches the port


BAD_REQUESTS = 1_000
"""Each costs a TLS handshake; with 10,000 the process grew by 4 MB (measured once)."""
AT_ONCE = 8
MAX_GROWTH_BYTES = 24 * 1024**2


async def exchange(port: int, data: bytes, context: ssl.SSLContext | None) -> bytes:
    """Send bytes and return what comes back until the connection ends."""
    received = b""
    try:
        async with asyncio.timeout(20):
            reader, writer = await asyncio.open_connection("127.0.0.1", port, ssl=context)
            writer.write(data)
            while piece := await reader.read(65536):
                received += piece
            writer.transport.abort()
    except OSError:  # also of TLS: the server may end the connection while more is sent
        pass
    return received


def test_thousands_of_bad_requests_leave_no_memory_and_reviews_go_on(
    kubectl: Kubectl, acme: str, tenant: str, operator: RunningProcess, port: int
) -> None:
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    review = json.dumps({"request": {"uid": "u", "resource": {}, "object": {}}}).encode()
    head = b"POST /validate HTTP/1.1\r\nHost: h\r\nConnection: close\r\n"
    bad: list[tuple[bytes, ssl.SSLContext | None]] = [
        (b"GET /" + b"a" * 40_000 + b" HTTP/1.1\r\nHost: h\r\n\r\n", context),
        (head + b"X: " + b"a" * 40_000, context),
        (head + b"Content-Length: 99999999\r\n\r\n" + b"{" * 1000, context),
        (head + b"Content-Length: %d\r\n\r\n" % len(review) + review, context),
        (b"GET / HTTP/1.1\r\nHost: h\r\n\r\n", None),
    ]

    async def send(count: int) -> None:
        for number in range(count):
            response = await exchange(port, *bad[number % len(bad)])
            assert response[9:12] in (b"400", b"404", b"413", b"431", b"500", b"")

    async def send_all(count: int) -> None:
        async with asyncio.TaskGroup() as tasks:
            for _ in range(AT_ONCE):
                tasks.create_task(send(count // AT_ONCE))

    asyncio.run(send_all(AT_ONCE * len(bad)))
    before = resident_bytes(operator)
    asyncio.run(send_all(BAD_REQUESTS))
    assert resident_bytes(operator) - before < MAX_GROWTH_BYTES
    refused = dry_run(kubectl, event_sink(acme, tenant=tenant, webhook=BAD_URL))
    assert REFUSED + URL_PROBLEM in refused.stderr
    failures = [line for line in operator.lines() if line.get("event") == "an EventSink could not be reviewed at admission"]
    assert len(failures) <= 2, "a line a minute, whatever comes"


FLOOD_SECONDS = 8.0
MAX_FLOOD_GROWTH_BYTES = 96 * 1024**2
"""Bodies of 16 MiB, and what is read of eight, are in memory at most; the allocator keeps some of it."""


@pytest.mark.parametrize("peers", [1, 8])
def test_a_flood_of_forged_reviews_delays_neither_genuine_ones_nor_the_operator(
    kubectl: Kubectl, acme: str, tenant: str, operator: RunningProcess, port: int, peers: int
) -> None:
    before = resident_bytes(operator)
    command = [sys.executable, "-m", "tests.support.review_flood", str(port), str(FLOOD_SECONDS), str(peers)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as flood:
        number = 0
        while flood.poll() is None:
            number += 1
            refused = dry_run(kubectl, event_sink(acme, tenant=tenant, webhook=BAD_URL))
            assert REFUSED + URL_PROBLEM in refused.stderr, f"review {number}: {refused.stderr}"
            began = time.monotonic()
            assert operator.readiness()[0] == 200
            assert time.monotonic() - began < 2
            kubectl.apply(event_sink(acme, name=f"sink-{number}", tenant=tenant))
            kubectl.wait_condition("eventsink", f"sink-{number}", "Ready", "True", namespace=acme)
        given = json.loads(flood.communicate()[0])
    assert number
    assert min(given["200"], given["413"]) > 0, given
    assert resident_bytes(operator) - before < MAX_FLOOD_GROWTH_BYTES
