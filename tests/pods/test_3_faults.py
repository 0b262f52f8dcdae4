"""Pods and nodes are lost under load; what was acknowledged is delivered."""

from __future__ import annotations

import os
import secrets
import shlex
import subprocess
import time
from datetime import datetime
from typing import Any

import pytest

from tests.pods.conftest import NODE_OFF, NODE_ON
from tests.pods.figures import measured
from tests.pods.installation import OPERATOR, ROUTER, Installation, ready, restarts
from tests.pods.load import assert_delivered, load, wait_refused
from tests.pods.workloads import FAULTS, RECEIVER_URL, RECEIVERS, SLACK, START_SECONDS, TENANT, Client, Receiver, pod
from tests.support.kubectl import Kubectl, condition
from tests.support.sinks import event_sink, secret, signed
from tests.support.waiting import wait_until

NODE_SECONDS = 120.0
"""Until the cluster has noticed that a node is off, or on again."""
CODES = 8
CLAIM_SECONDS = 150.0
"""Until it is known that the response to a code was lost: a minute, and the retries after it."""


@pytest.mark.parametrize("how", ["", "--grace-period=0 --force"], ids=["gracefully", "by-force"])
def test_a_deleted_router_is_replaced_by_one_that_starts_once_and_nothing_is_lost(
    kubectl: Kubectl, installation: Installation, client: Client, receiver: Receiver, sink: str, how: str
) -> None:
    before = installation.pod(ROUTER)
    with load(installation, client, f"load-{'forced' if how else 'graceful'}") as sent:
        started = time.monotonic()
        kubectl.run("delete", "pod", before["metadata"]["name"], "-n", installation.namespace, "--wait=false", *how.split())
        (after,) = installation.wait_ready(ROUTER, not_uid=before["metadata"]["uid"])
        took = time.monotonic() - started

    assert restarts(after) == 0, "the new pod ended once: it must wait for the queue's lock"
    assert_delivered(receiver, sink, sent.acknowledged)
    measured(
        f"router deleted {how or 'gracefully'}: ready after {took:.1f} s, intake out for {sent.outage:.1f} s, {len(sent.acknowledged)} alerts"
    )


@pytest.mark.parametrize(("signal", "seconds"), [("SIGTERM", 2.0), ("SIGKILL", 20.0)])
def test_another_operator_leads_soon_after_the_end_of_the_leader_and_exchanges_no_code_twice(
    kubectl: Kubectl, installation: Installation, receiver: Receiver, image: str, signal: str, seconds: float
) -> None:
    installation.wait_ready(OPERATOR, count=2)
    before, exchanged = lease(kubectl, installation), exchanges(kubectl)
    name = signal.lower()
    names = [f"code-{name}-{number}" for number in range(CODES)]
    references = {one: {"channel": "#alerts", "oauthCodeSecretRef": {"name": name, "key": one}} for one in names}
    kubectl.apply(
        [
            secret(TENANT, name, **{one: f"{secrets.token_hex(8)}" for one in names}),
            *(event_sink(TENANT, one, tenant=TENANT, slack=slack) for one, slack in references.items()),
        ]
    )
    ended = end(kubectl, image, leader(installation, before), signal)
    kubectl.apply(event_sink(TENANT, f"after-{name}", tenant=TENANT, webhook=signed(f"{RECEIVER_URL}/takeover")))

    after = wait_until("another leader", lambda: held_by_another(kubectl, installation, before), poll=0.2)
    handover = datetime.fromisoformat(after["acquireTime"]).timestamp() - ended
    kubectl.wait_condition("eventsink", f"after-{name}", "Ready", "True", namespace=TENANT)
    measured(f"{signal} to the operator's leader: another one led after {handover:.1f} s")
    assert handover < seconds
    for one in names:
        kubectl.wait_until("eventsink", one, settled, namespace=TENANT, deadline=CLAIM_SECONDS)
    reasons = [condition(kubectl.get("eventsink", one, namespace=TENANT), "Ready")["reason"] for one in names]
    measured(f"codes around {signal}: {len(names)}, of which {reasons.count('CodeSpent')} got lost with the leader")
    assert exchanges(kubectl) - exchanged <= CODES
    installation.wait_ready(OPERATOR, count=2)


def lease(kubectl: Kubectl, installation: Installation) -> dict[str, Any]:
    """What the operator's Lease says."""
    spec: dict[str, Any] = kubectl.get("lease", "eventsink-operator", namespace=installation.namespace)["spec"]
    return spec


def held_by_another(kubectl: Kubectl, installation: Installation, before: dict[str, Any]) -> dict[str, Any]:
    """The Lease, once somebody else than before has it."""
    now = lease(kubectl, installation)
    return now if now.get("holderIdentity", "") not in ("", before["holderIdentity"]) else {}


def leader(installation: Installation, lease: dict[str, Any]) -> dict[str, Any]:
    """The pod that holds the Lease."""
    [found] = [one for one in installation.pods(OPERATOR) if lease["holderIdentity"].startswith(one["metadata"]["name"])]
    return found


def end(kubectl: Kubectl, image: str, victim: dict[str, Any], signal: str) -> float:
    """Signal the program of a pod from its node; returns when, by the node's clock."""
    where = {"hostPID": True, "nodeName": victim["spec"]["nodeName"], "restartPolicy": "Never"}
    name = f"end-{signal.lower()}"
    kubectl.apply(pod(FAULTS, name, image, "/programs/end.py", victim["metadata"]["uid"], signal, **where))
    kubectl.run("wait", "-n", FAULTS, "--for=jsonpath={.status.phase}=Succeeded", f"pod/{name}", f"--timeout={START_SECONDS}s")
    return float(kubectl.run("logs", "-n", FAULTS, name).stdout)


def exchanges(kubectl: Kubectl) -> int:
    """How many codes the stand-in for Slack has exchanged."""
    return kubectl.run("logs", "-n", SLACK, "deployment/slack-stand-in").stdout.count("a code was exchanged")


def settled(sink: dict[str, Any]) -> bool:
    """Whether the code of a sink was exchanged, or is known to be lost."""
    ready = condition(sink, "Ready")
    return ready.get("status") == "True" or ready.get("reason") == "CodeSpent"


@pytest.mark.switches_nodes
def test_the_queue_survives_that_the_routers_node_is_switched_off(
    kubectl: Kubectl, installation: Installation, client: Client, receiver: Receiver, sink: str
) -> None:
    node = installation.pod(ROUTER)["spec"]["nodeName"]
    others = {
        one["spec"]["nodeName"]
        for one in (kubectl.get("pod", "receiver", namespace=RECEIVERS), kubectl.get("pod", "client", namespace=TENANT))
    }
    assert node not in others, "the receiver must be on another node than the router: these tests need two"
    receiver.respond_with(503)
    with load(installation, client, "load-node") as sent:
        wait_refused(receiver, sink, "load-node")
        switch(NODE_OFF, node)
        wait_until(f"{node} not to be ready", lambda: not ready(kubectl.get("node", node)), deadline=NODE_SECONDS)
        receiver.respond_with(200)
        switch(NODE_ON, node)
        installation.wait_ready(ROUTER, deadline=NODE_SECONDS)

    assert_delivered(receiver, sink, sent.acknowledged)
    measured(f"the router's node was off: intake out for {sent.outage:.1f} s, {len(sent.acknowledged)} alerts")
    installation.wait_ready(OPERATOR, count=2, deadline=NODE_SECONDS)


def switch(setting: str, node: str) -> None:
    """Run the command that switches a node off or on."""
    subprocess.run(shlex.split(os.environ[setting].replace("{}", node)), check=True, timeout=NODE_SECONDS)
