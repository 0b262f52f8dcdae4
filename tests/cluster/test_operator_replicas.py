"""Several operators, of which one leads: who works after a stop, a kill, a pause and an outage, and who writes nothing any more."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import yaml

from eventsink.runtime.process import ExitStatus
from tests.controlplane import ControlPlane
from tests.support.cluster import SYSTEM_NAMESPACE, Installed
from tests.support.kubectl import Kubectl
from tests.support.parts import merged, start_operator
from tests.support.processes import RunningProcess
from tests.support.sinks import compiled, compiled_uids, event_sink, secret, signed, uid_of, wait_all_ready
from tests.support.slack import Slack
from tests.support.stalled_link import StalledLink
from tests.support.waiting import wait_until

STOP_SECONDS = 2.0
KILL_SECONDS = 20.0
SHORT = {"leaseDuration": "4s", "renewDeadline": "3s", "retryPeriod": "500ms"}
"""A Lease that expires soon, for tests that are not about how long it takes."""
READS = {"get", "list", "watch"}
TEAM = "T1"
LEASE = "eventsink-operator"


@dataclass
class Replica:
    """One operator, and the token by which the API server knows it."""

    process: RunningProcess
    credential: str

    @property
    def leads(self) -> bool:
        return "eventsink_operator_leader 1.0" in self.process.metrics()

    def led_at(self) -> datetime:
        """When it began to lead; waits for it."""
        line = self.process.wait_logged("that it leads", lambda line: line.get("event") == "leading")
        return datetime.fromisoformat(line["time"])


StartReplica = Callable[..., Replica]


@pytest.fixture
def start(plane: ControlPlane, admin: Kubectl, installed: Installed, tmp_path: Path) -> Iterator[StartReplica]:
    """Starts replicas, each with a token of its own; the Lease of the test before is gone."""
    admin.run("-n", SYSTEM_NAMESPACE, "delete", "lease", LEASE, "--ignore-not-found")
    with ExitStack() as stack:
        count = 0

        def one(link: StalledLink | None = None, **settings: Any) -> Replica:
            nonlocal count
            count += 1
            folder = tmp_path / f"replica-{count}"
            folder.mkdir()
            issued = plane.service_account_kubeconfig(SYSTEM_NAMESPACE, "eventsink-operator")
            own = folder / "kubeconfig"
            server = api_port(issued)
            own.write_text(issued.read_text().replace(f":{server}", f":{link.port if link is not None else server}"))
            started = start_operator(
                replace(installed, operator=own), folder, **merged({"leaderElection": {"enabled": True}}, settings)
            )
            return Replica(stack.enter_context(started), credential_of(admin, own))

        yield one


def api_port(kubeconfig: Path) -> int:
    """Where the API server of a kubeconfig listens."""
    return urlsplit(str(yaml.safe_load(kubeconfig.read_text())["clusters"][0]["cluster"]["server"])).port or 443


def lease_of(admin: Kubectl) -> Any:
    """The Lease of the operators; None: there is none."""
    return admin.find("lease", LEASE, namespace=SYSTEM_NAMESPACE)


def credential_of(admin: Kubectl, kubeconfig: Path) -> str:
    """The id of the token in a kubeconfig, as the audit log shows it."""
    [user] = yaml.safe_load(kubeconfig.read_text())["users"]
    review = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenReview", "spec": {"token": user["user"]["token"]}}
    made = admin.run("create", "-o", "json", "-f", "-", input=json.dumps(review)).stdout
    [credential] = json.loads(made)["status"]["user"]["extra"]["authentication.kubernetes.io/credential-id"]
    return str(credential)


def writes(plane: ControlPlane, replica: Replica, start: int) -> list[tuple[str, str, int]]:
    """What a replica wrote or tried to write after the first `start` audited requests: verb, resource, status."""
    found = []
    for one in plane.audited()[start:]:
        extra = one["user"].get("extra", {}).get("authentication.kubernetes.io/credential-id", [])
        if replica.credential in extra and one["verb"] not in READS:
            found.append((one["verb"], one["objectRef"]["resource"], one["responseStatus"]["code"]))
    return found


def observed(admin: Kubectl, namespace: str) -> dict[str, int]:
    """The generation that the status of each EventSink is about."""
    found = admin.list("eventsink", namespace=namespace)
    return {one["metadata"]["name"]: int(one.get("status", {}).get("observedGeneration", -1)) for one in found}


def wait_ready(admin: Kubectl, namespace: str, name: str = "alerts") -> None:
    admin.wait_condition("eventsink", name, "Ready", "True", namespace=namespace)


def leader_and_other(*replicas: Replica) -> tuple[Replica, Replica]:
    """Both are ready, and exactly one leads."""
    for one in replicas:
        one.process.wait_ready()
    wait_until("a leader", lambda: any(one.leads for one in replicas))
    [leader] = [one for one in replicas if one.leads]
    [other] = [one for one in replicas if one is not leader]
    return leader, other


def test_of_two_that_start_at_once_one_writes_and_both_are_ready(
    plane: ControlPlane, admin: Kubectl, acme: str, start: StartReplica
) -> None:
    leader, other = leader_and_other(start(), start())
    admin.apply(event_sink(acme))
    wait_ready(admin, acme)
    assert ("create", "secrets", 201) in writes(plane, leader, 0)
    assert {resource for _, resource, _ in writes(plane, other, 0)} <= {"leases"}
    # kopf, which runs in every replica, has nothing to say about a usual start.
    assert not [line for one in (leader, other) for line in one.process.lines() if line["level"] != "info"]


def test_after_sigterm_another_one_works_within_two_seconds(admin: Kubectl, acme: str, start: StartReplica) -> None:
    leader, other = leader_and_other(start(), start())
    assert leader.process.terminate() == 0
    stopping = next(line for line in leader.process.lines() if line["event"] == "stopping")
    assert (other.led_at() - datetime.fromisoformat(stopping["time"])).total_seconds() < STOP_SECONDS
    admin.apply(event_sink(acme))
    wait_ready(admin, acme)
    assert other.process.terminate() == 0
    # Of a single replica, too, the Lease is released: the next one does not wait until it expires.
    alone = start()
    alone.process.wait_ready()
    started = next(line for line in alone.process.lines() if line["event"] == "listening")
    assert (alone.led_at() - datetime.fromisoformat(started["time"])).total_seconds() < KILL_SECONDS / 2


def test_after_kill_9_another_one_works_within_twenty_seconds(admin: Kubectl, acme: str, start: StartReplica) -> None:
    leader, other = leader_and_other(start(), start())
    admin.apply([event_sink(acme, f"s{number}") for number in range(20)])
    leader.process.wait_logged("a first active sink", lambda line: line.get("event") == "sink accepted and active")
    killed = datetime.now().astimezone()
    leader.process.kill9()
    assert (other.led_at() - killed).total_seconds() < KILL_SECONDS
    uids = wait_all_ready(admin, acme, [f"s{number}" for number in range(20)])
    assert set(uids.values()) <= compiled_uids(admin)


def test_a_paused_leader_that_goes_on_writes_nothing_and_ends_with_status_4(
    plane: ControlPlane, admin: Kubectl, acme: str, start: StartReplica
) -> None:
    leader, other = leader_and_other(start(leaderElection=SHORT), start(leaderElection=SHORT))
    admin.apply([event_sink(acme, f"s{number}") for number in range(40)])
    leader.process.wait_logged("a first active sink", lambda line: line.get("event") == "sink accepted and active")
    leader.process.pause()  # in the middle of its work
    other.led_at()
    wait_all_ready(admin, acme, [f"s{number}" for number in range(40)])
    # What it knows is old now: it would compile these differently, and delete one.
    admin.apply([event_sink(acme, f"s{number}", description="changed") for number in range(10)])
    admin.delete("eventsink", "s11", namespace=acme)
    admin.apply(event_sink(acme, "s11"))
    wait_ready(admin, acme, "s11")
    audited = len(plane.audited())
    leader.process.resume()
    assert leader.process.wait() == ExitStatus.LEASE_LOST
    assert leader.process.lines()[-1]["reason"] == "another replica leads: this one could not renew its Lease in time"
    assert set(writes(plane, leader, audited)) <= {("update", "leases", 409)}, "it may try to renew its Lease, and nothing else"
    assert compiled(admin, uid_of(admin, acme, "s11")) is not None


def test_an_outage_longer_than_the_lease_leaves_one_leader_that_works(
    plane: ControlPlane, admin: Kubectl, acme: str, start: StartReplica
) -> None:
    replicas = leader_and_other(start(leaderElection=SHORT), start(leaderElection=SHORT))
    plane.stop_api_server()
    try:
        wait_until("that nobody is sure to lead", lambda: not any(one.leads for one in replicas))
        assert [one.process.exit_code for one in replicas] == [None, None]
    finally:
        plane.start_api_server()

    def running() -> list[Replica]:
        return [one for one in replicas if one.process.exit_code is None]

    wait_until("one that leads again", lambda: [one for one in running() if one.leads])
    admin.apply(event_sink(acme))
    wait_ready(admin, acme)
    assert len([one for one in running() if one.leads]) == 1
    assert {one.process.exit_code for one in replicas} <= {None, int(ExitStatus.LEASE_LOST)}


def test_a_leader_whose_link_to_the_api_server_stalls_writes_nothing_when_what_it_had_sent_arrives(
    plane: ControlPlane, admin: Kubectl, installed: Installed, acme: str, start: StartReplica
) -> None:
    with StalledLink(api_port(installed.operator)) as link:
        leader = start(link, leaderElection=SHORT)
        wait_until("that it leads", lambda: leader.leads)
        other = start(leaderElection=SHORT)
        admin.apply([event_sink(acme, f"s{number}") for number in range(40)])
        leader.process.wait_logged("a first active sink", lambda line: line.get("event") == "sink accepted and active")
        link.stall()  # in the middle of its work
        other.led_at()
        wait_all_ready(admin, acme, [f"s{number}" for number in range(40)])
        admin.apply([event_sink(acme, f"s{number}", description="changed") for number in range(10)])
        changed = {f"s{number}": 2 for number in range(10)}
        wait_until("the changes", lambda: changed.items() <= observed(admin, acme).items(), poll=0.2)
        admin.apply(event_sink(acme, "last"))
        wait_ready(admin, acme, "last")
        audited = len(plane.audited())
        link.go_on()
        assert leader.process.wait() == ExitStatus.LEASE_LOST
        # What it had sent before arrives, and is refused; of an Event there is no version that it could be decided on.
        assert [one for one in writes(plane, leader, audited) if one[2] < 300 and one[1] != "events"] == []
        assert changed.items() <= observed(admin, acme).items()


def test_a_lease_that_is_deleted_stays_with_its_leader(admin: Kubectl, start: StartReplica) -> None:
    leader, other = leader_and_other(start(), start())
    before = lease_of(admin)
    admin.delete("lease", LEASE, namespace=SYSTEM_NAMESPACE)
    wait_until("the Lease", lambda: lease_of(admin) is not None)
    after = lease_of(admin)
    assert after["spec"]["holderIdentity"] == before["spec"]["holderIdentity"]
    assert (leader.leads, other.leads) == (True, False)
    assert not [line for line in other.process.lines() if line["event"] == "leading"]


@pytest.mark.parametrize("skew", [timedelta(minutes=-10), timedelta(minutes=10)])
def test_a_lease_of_somebody_with_another_clock_is_taken_when_it_has_not_changed_for_its_duration(
    admin: Kubectl, start: StartReplica, skew: timedelta
) -> None:
    time = f"{(datetime.now(UTC) + skew).replace(tzinfo=None).isoformat(timespec='microseconds')}Z"
    spec = {
        "holderIdentity": "gone",
        "leaseDurationSeconds": 3,
        "leaseTransitions": 2**31 - 1,
        "renewTime": time,
        "acquireTime": time,
    }
    metadata = {"name": LEASE, "namespace": SYSTEM_NAMESPACE, "annotations": {"garbage": "x" * 1000}}
    admin.apply({"apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": metadata, "spec": spec})
    replica = start()
    waiting = replica.process.wait_logged("whom it waits for", lambda line: line.get("event") == "another replica leads")
    assert waiting["holder"] == "gone"
    waited = replica.led_at() - datetime.fromisoformat(waiting["time"])
    assert 2.0 < waited.total_seconds() < KILL_SECONDS


@pytest.mark.parametrize("end", ["SIGTERM", "kill -9", "pause"])
def test_a_code_is_exchanged_once_whatever_becomes_of_the_leader(
    admin: Kubectl, acme: str, start: StartReplica, tmp_path: Path, end: str
) -> None:
    with Slack() as slack:
        slack.add_workspace(TEAM, "Acme")
        slack.add_channel(TEAM, "alerts")
        (tmp_path / "client-secret").write_text(slack.client_secret)
        settings = {
            "slack": {"apiUrl": slack.api_url, "hookUrls": [slack.url]},
            "slackApp": {"clientId": slack.client_id, "clientSecretFile": str(tmp_path / "client-secret")},
            "egress": {"allow": ["127.0.0.0/8"]},
            "leaderElection": SHORT,
        }
        leader, other = leader_and_other(start(**settings), start(**settings))
        if end == "kill -9":
            slack.hang("oauth.v2.access", done=True)
        sink = event_sink(acme, slack={"channel": "#alerts", "oauthCodeSecretRef": {"name": "slack", "key": "code"}})
        admin.apply([secret(acme, "slack", code=slack.issue_code(TEAM)), sink])
        wait_until("the exchange", lambda: slack.calls("oauth.v2.access"))
        match end:
            case "SIGTERM":
                assert leader.process.terminate() == 0
            case "kill -9":
                leader.process.kill9()
            case "pause":
                leader.process.pause()
                other.led_at()
                leader.process.resume()
                assert leader.process.wait() == ExitStatus.LEASE_LOST
        other.led_at()
        if end == "kill -9":
            # The response is lost, and nobody sends the code a second time.
            admin.wait_condition("eventsink", "alerts", "Ready", "False", reason="CodeSpent", namespace=acme)
        else:
            wait_ready(admin, acme)
        admin.apply(event_sink(acme, "last", webhook=signed(secret="none")))
        admin.wait_condition("eventsink", "last", "Ready", "False", reason="SecretNotFound", namespace=acme)
        assert slack.calls("oauth.v2.access") == 1
        assert other.process.terminate() == 0
