"""`eventsink events` as a process with the rights that manifests/ gives it, and Events that are created in bulk."""

from __future__ import annotations

import json
import ssl
import threading
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from http.client import HTTPException, HTTPSConnection
from itertools import product
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import yaml

from tests.controlplane import ControlPlane
from tests.support.cluster import MANIFESTS, SYSTEM_NAMESPACE
from tests.support.kubectl import Kubectl
from tests.support.parts import Router, merged, write_settings
from tests.support.processes import RunningProcess, eventsink
from tests.support.receiver import Receiver
from tests.support.router_process import start_router
from tests.support.waiting import DEADLINE_SECONDS, wait_until

WRITERS = 8
RETRY_SECONDS = 0.2
GROWN = 5
"""Events that grow while nobody follows."""
CHECKPOINT = ("configmap", "eventsink-events-checkpoint")
SHORT_LEASE = {"leaseDuration": "2s", "renewDeadline": "1500ms", "retryPeriod": "400ms"}


def install(plane: ControlPlane, admin: Kubectl) -> Path:
    """The ServiceAccount of the part with its rights; a kubeconfig of it."""
    admin.run("create", "namespace", SYSTEM_NAMESPACE, check=False)
    admin.run("apply", "-f", str(MANIFESTS / "components" / "kubernetes-events" / "rbac.yaml"))
    return plane.service_account_kubeconfig(SYSTEM_NAMESPACE, "eventsink-events")


def source(folder: Path, **members: Any) -> dict[str, Any]:
    """The source of the router."""
    own = {"name": "kubernetes-events", "format": "kubernetes-events", "tokenFiles": [str(folder / "token")]}
    return {**own, "tenant": {"namespaceOwner": {}}, **members}


def start_events(
    kubeconfig: Path, router: Router, folder: Path, *, name: str = "events", ready: bool = True, **settings: Any
) -> RunningProcess:
    """Start `eventsink events`; of several in one folder each has a name."""
    own = {
        "router": {
            "url": f"http://127.0.0.1:{router.running.port_of('intake')}/v1/alerts/kubernetes-events",
            "tokenFile": str(folder / "token"),
        },
        "checkpoint": {"namespace": SYSTEM_NAMESPACE, "interval": "1s"},
        "leaderElection": {"namespace": SYSTEM_NAMESPACE, **SHORT_LEASE},
        "monitor": {"address": "127.0.0.1:0"},
        "kubernetes": {"kubeconfig": str(kubeconfig)},
    }
    file = write_settings(folder / f"{name}.yaml", merged(own, settings))
    process = eventsink("events", "--config", file, folder=folder, name=name)
    if ready:
        process.wait_ready()
    return process


def made(name: str, namespace: str, *, about: str | None = None, count: int = 0, **members: Any) -> dict[str, Any]:
    """An Event about a pod, as a controller of today writes it."""
    series = {"series": {"count": count, "lastObservedTime": "2026-01-01T12:00:00.000000Z"}} if count else {}
    return {
        "apiVersion": "events.k8s.io/v1",
        "kind": "Event",
        "metadata": {"name": name, "namespace": namespace},
        "regarding": {"apiVersion": "v1", "kind": "Pod", "namespace": namespace, "name": about or name},
        "reason": "FailedScheduling",
        "action": "Scheduling",
        "note": "0/3 nodes are available",
        "type": "Warning",
        "reportingController": "default-scheduler",
        "reportingInstance": "default-scheduler-1",
        "eventTime": "2026-01-01T12:00:00.000000Z",
        **series,
        **members,
    }


def create_all(plane: ControlPlane, events: Sequence[Mapping[str, Any]], plural: str = "events") -> None:
    """Create these objects, several at a time, through whatever happens to the API server."""
    shares = [events[start::WRITERS] for start in range(WRITERS)]
    with ThreadPoolExecutor(WRITERS) as pool:
        for _ in pool.map(lambda share: _create(plane, share, plural), shares):
            pass


def _create(plane: ControlPlane, events: Sequence[Mapping[str, Any]], plural: str) -> None:
    with _connection(plane) as connection:
        for event in events:
            path = f"/apis/{event['apiVersion']}/namespaces/{event['metadata']['namespace']}/{plural}"
            until = time.monotonic() + DEADLINE_SECONDS
            while True:
                try:
                    connection.request("POST", path, json.dumps(event), {"Content-Type": "application/json"})
                    response = connection.getresponse()
                    text = response.read()
                    if response.status in (201, 409):  # it was created before the response was lost
                        break
                    assert response.status >= 429, text
                except (OSError, HTTPException):
                    connection.close()
                assert time.monotonic() < until, "the API server did not come back"
                time.sleep(RETRY_SECONDS)


@contextmanager
def _connection(plane: ControlPlane) -> Iterator[HTTPSConnection]:
    kubeconfig = yaml.safe_load(plane.admin_kubeconfig.read_text())
    user = kubeconfig["users"][0]["user"]
    context = ssl.create_default_context(cafile=str(plane.ca))
    context.load_cert_chain(user["client-certificate"], user["client-key"])
    connection = HTTPSConnection(urlsplit(plane.server).netloc, context=context, timeout=30)
    try:
        yield connection
    finally:
        connection.close()


class Arrived:
    """What a sink with batches was sent, in order."""

    def __init__(self, receiver: Receiver, path: str) -> None:
        self._receiver = receiver
        self._path = path
        self._read = 0
        self.alerts: list[dict[str, Any]] = []

    def __len__(self) -> int:
        return len(self.names())

    def names(self) -> list[str]:
        """Of what the alerts are about."""
        for request in self._receiver.requests(self._path)[self._read :]:
            self._read += 1
            self.alerts += [one["data"] for one in json.loads(request.body)]
        return [one["labels"]["name"] for one in self.alerts]

    def wait_for(self, *names: str) -> None:
        """Wait until it has all these, and nothing else."""
        wait_until("the Events at the sink", lambda: sorted(self.names()) == sorted(names), show=lambda: str(self.names()))


def leads(process: RunningProcess) -> bool:
    """Whether it is the one that sends."""
    return "eventsink_events_leader 1.0" in process.metrics()


def counted(process: RunningProcess, name: str) -> float:
    """What one of its counters says."""
    named = f"eventsink_events_{name}_total "
    return sum(float(line.removeprefix(named)) for line in process.metrics().splitlines() if line.startswith(named))


def through_failures(plane: ControlPlane, admin: Kubectl, account: Path, receiver: Receiver, folder: Path, count: int) -> None:
    """Create so many Events while the leader is killed, then the API server, then the next leader, and etcd forgets what was; each must reach
    the sink once, and those that grow while nobody follows once more."""
    admin.run("create", "namespace", "acme")
    events = [made(f"e{number}", "acme") for number in range(count)]
    acme = Arrived(receiver, "/acme")
    with start_router(folder, receiver.url("/acme#batch=1000&repeat=4"), sources=[source(folder)]) as router:
        first = start_events(account, router, folder, name="first")
        wait_until("that the first one leads", lambda: leads(first))
        second = start_events(account, router, folder, name="second")
        late = events[-count // 10 :]
        creating = threading.Thread(target=create_all, args=(plane, events[: -count // 10]))
        creating.start()
        wait_until("some Events", lambda: len(acme) > count // 10)
        first.kill9()
        wait_until("more Events, from the one that leads then", lambda: len(acme) > count // 4)
        plane.stop_api_server()
        plane.start_api_server()
        wait_until("more Events, after the outage", lambda: len(acme) > count // 2)
        second.kill9()
        creating.join()
        create_all(plane, late)  # while nobody follows
        grown = acme.names()[:GROWN]
        for name, times in product(grown, (5, 9)):
            series = {"series": {"count": times, "lastObservedTime": "2026-01-01T12:05:00.000000Z"}}
            admin.run("-n", "acme", "patch", "events.events.k8s.io", name, "--type", "merge", "-p", json.dumps(series))
        plane.compact()
        with start_events(account, router, folder, name="third") as third:
            wait_until(
                "all Events, and again those that grew",
                lambda: len(set(acme.names())) == count and len(acme) >= count + GROWN,
                show=lambda: str(len(acme)),
            )
            wait_until("that nothing waits", lambda: "eventsink_events_waiting 0.0" in third.metrics())
            assert counted(third, "relists") >= 1
    assert Counter(acme.names()) == {f"e{number}": 1 for number in range(count)} | dict.fromkeys(grown, 2)
    for name in grown:
        before, after = (one for one in acme.alerts if one["labels"]["name"] == name)
        assert (before["count"], after["count"]) == (1, 9)
        assert before["id"] == after["id"]
