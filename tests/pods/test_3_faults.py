"""Pods and nodes are lost under load; what was acknowledged is delivered."""

from __future__ import annotations

import os
import shlex
import subprocess
import time

import pytest

from tests.pods.conftest import NODE_OFF, NODE_ON
from tests.pods.figures import measured
from tests.pods.installation import OPERATOR, ROUTER, Installation, ready, restarts
from tests.pods.load import assert_delivered, load, wait_refused
from tests.pods.workloads import RECEIVER_URL, RECEIVERS, TENANT, Client, Receiver
from tests.support.kubectl import Kubectl
from tests.support.sinks import event_sink, signed
from tests.support.waiting import wait_until

NODE_SECONDS = 120.0
"""Until the cluster has noticed that a node is off, or on again."""
LARGEST_OUTAGE_SECONDS = 20.0
"""Of the intake when a router is replaced; usually a few seconds."""


@pytest.mark.parametrize("how", ["", "--grace-period=0 --force"], ids=["gracefully", "by-force"])
def test_a_deleted_router_is_replaced_within_seconds_and_loses_nothing(
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
    assert sent.outage < LARGEST_OUTAGE_SECONDS


def test_another_operator_takes_over_when_the_leader_is_killed(
    kubectl: Kubectl, installation: Installation, receiver: Receiver
) -> None:
    installation.wait_ready(OPERATOR, count=2)
    leader = leader_of(kubectl, installation)

    started = time.monotonic()
    kubectl.run("delete", "pod", leader, "-n", installation.namespace, "--grace-period=0", "--force")
    kubectl.apply(event_sink(TENANT, "takeover", tenant=TENANT, webhook=signed(f"{RECEIVER_URL}/takeover")))
    kubectl.wait_condition("eventsink", "takeover", "Ready", "True", namespace=TENANT)

    measured(f"operator's leader killed: a new sink was Ready after {time.monotonic() - started:.1f} s")
    assert leader_of(kubectl, installation) != leader
    installation.wait_ready(OPERATOR, count=2)


def leader_of(kubectl: Kubectl, installation: Installation) -> str:
    """The pod that holds the operator's Lease."""

    def holder() -> str:
        identity = str(
            kubectl.get("lease", "eventsink-operator", namespace=installation.namespace)["spec"].get("holderIdentity", "")
        )
        names = [one["metadata"]["name"] for one in installation.pods(OPERATOR)]
        return next((name for name in names if name in identity), "")

    return wait_until("a leader among the operator's pods", holder, show=lambda: installation.pods(OPERATOR))


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
