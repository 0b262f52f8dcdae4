"""The operator with many EventSinks on a real API server, beside plain kopf handlers, in one run; and with a tenth of them, for the growth.

python -m tests.benchmarks.operator [SINKS | full]

A tenth of the sinks is in one namespace and uses one Secret there; the others are in namespaces of a hundred, each with a Secret.
"""

from __future__ import annotations

import asyncio
import base64
import math
import os
import re
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from eventsink.kube.api import NAMESPACES, SECRETS, Object
from eventsink.kube.http import HttpApi, connect
from eventsink.kube.settings import KubernetesSettings
from eventsink.resources.names import EVENTSINKS
from tests.controlplane import ControlPlane
from tests.support.cluster import SYSTEM_NAMESPACE, Installed, install, install_crd
from tests.support.kubectl import Kubectl
from tests.support.load import size
from tests.support.parts import start_operator
from tests.support.plain_kopf import DONE
from tests.support.processes import RunningProcess
from tests.support.sinks import OTHER_SECRET, SECRET, event_sink, label, secret, signed
from tests.support.waiting import wait_until

SHORT, FULL = 1_000, 10_000
BIG = "tenant-big"
OTHERS = 100
"""Sinks in each of the other namespaces."""
AT_ONCE = 12
DEADLINE_SECONDS = 1_800.0
ENOUGH = 4
"""Times the CPU of the operator's restart: that of the plain handlers is ended at it, since it does not end by itself at 10,000."""
OPERATOR = f"system:serviceaccount:{SYSTEM_NAMESPACE}:eventsink-operator"
READS = {"get", "list", "watch"}


@dataclass(frozen=True)
class Start:
    """Where something begins."""

    time: float
    cpu: float
    audited: int


@dataclass
class Cost:
    """What something took of one process."""

    seconds: float
    cpu: float
    requests: Counter[str]
    """Verb and resource -> requests, without those for the Lease."""

    @property
    def writes(self) -> int:
        return sum(count for what, count in self.requests.items() if what.split()[0] not in READS)

    def per(self, count: int) -> str:
        """Requests for each of so many."""
        shown = ", ".join(
            f"{what} {number / count:.2f}" for what, number in sorted(self.requests.items()) if number >= count / 100
        )
        return f"{sum(self.requests.values()) / count:.2f} requests each ({shown})"


class Cluster:
    """A control plane with so many EventSinks in it."""

    def __init__(self, plane: ControlPlane, folder: Path, sinks: int) -> None:
        self.plane = plane
        self.folder = folder
        self.admin = Kubectl(plane.admin_kubeconfig)
        install_crd(self.admin)
        self.installed: Installed = install(plane, self.admin)
        self.big = sinks // 10
        rest = sinks - self.big
        self.namespaces = {BIG: self.big} | {f"tenant-{n}": min(OTHERS, rest - n * OTHERS) for n in range(-(-rest // OTHERS))}

    def create(self) -> float:
        """Create namespaces, Secrets and EventSinks; returns the seconds."""
        began = time.perf_counter()
        asyncio.run(self._create())
        return time.perf_counter() - began

    async def _create(self) -> None:
        api = await connect(KubernetesSettings(kubeconfig=self.plane.admin_kubeconfig), "benchmark")
        try:
            for name in self.namespaces:
                metadata = {"name": name, "labels": {"eventsink.dev/tenant": name}}
                await api.create(NAMESPACES, {"apiVersion": "v1", "kind": "Namespace", "metadata": metadata})
                await api.create(SECRETS, secret(name, secret=SECRET))
            await all_of(api, (self._sink(name, n) for name, count in self.namespaces.items() for n in range(count)))
        finally:
            await api.close()

    def _sink(self, namespace: str, number: int) -> Object:
        url = f"https://hooks.example.com/{namespace}/{number}"
        return event_sink(namespace, f"alerts-{number}", tenant=namespace, webhook=signed(url))

    def start(self) -> RunningProcess:
        """The operator, with the rights that are shipped."""
        return start_operator(self.installed, self.folder)

    @contextmanager
    def plain(self) -> Iterator[RunningProcess]:
        """The handlers of a tutorial, as administrator, whose compiled Secrets go to a namespace of their own."""
        admin = self.plane.admin_kubeconfig
        if self.admin.find("namespace", "plain") is None:
            self.admin.run("create", "namespace", "plain")
        command: list[str | Path] = [sys.executable, "-m", "tests.support.plain_kopf", "plain", admin]
        with RunningProcess(command, log=self.folder / "plain.log", environment={"KUBECONFIG": str(admin)}) as running:
            yield running

    def measure(self, process: RunningProcess, user: str, done: Callable[[], bool], start: Start) -> Cost:
        """What a process takes from the start until something is done."""
        wait_until("the end", done, deadline=DEADLINE_SECONDS, poll=0.25)
        seconds, used = time.perf_counter() - start.time, cpu(process.pid) - start.cpu
        requests: Counter[str] = Counter()
        for one in self.plane.audited()[start.audited :]:
            ref = one.get("objectRef", {})
            if one["user"]["username"] == user and ref.get("resource") not in ("leases", None):
                requests[f"{one['verb']} {ref['resource']}{'/status' if ref.get('subresource') else ''}"] += 1
        return Cost(seconds, used, requests)

    def mark(self, process: RunningProcess | None = None) -> Start:
        """From here on it counts; without a process, all of the one that is started next."""
        return Start(time.perf_counter(), cpu(process.pid) if process is not None else 0.0, len(self.plane.audited()))


async def all_of(api: HttpApi, objects: Iterable[Object]) -> None:
    """Create objects, several at once."""
    left = iter(objects)

    async def some() -> None:
        for obj in left:
            await api.create(EVENTSINKS, obj)

    await asyncio.gather(*(some() for _ in range(AT_ONCE)))


def cpu(pid: int) -> float:
    """Seconds of processor that a process took."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def memory(pid: int) -> int:
    """Bytes of a process that are in memory."""
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def reconciled(process: RunningProcess) -> Counter[str]:
    """Outcome -> how often."""
    found = re.findall(r'^eventsink_operator_reconciles_total\{outcome="(\w+)"\} (\S+)$', process.metrics(), re.MULTILINE)
    return Counter({outcome: int(float(count)) for outcome, count in found})


def idle(process: RunningProcess) -> bool:
    """Whether nothing waits to be reconciled."""
    return re.search(r"^eventsink_operator_workqueue_depth 0.0$", process.metrics(), re.MULTILINE) is not None


def more(process: RunningProcess, outcome: str, count: int) -> Callable[[], bool]:
    """Whether so many more reconciles had an outcome."""
    before = reconciled(process)[outcome]
    return lambda: reconciled(process)[outcome] >= before + count and idle(process)


@dataclass
class Results:
    """Of one size."""

    sinks: int
    empty: int
    first: Cost
    first_memory: int
    restart: Cost
    restart_memory: int

    @property
    def kilobytes(self) -> float:
        """Of memory for each sink, after a restart."""
        return (self.restart_memory - self.empty) / self.sinks / 1024


def run(sinks: int, say: Callable[[str], None], *, everything: bool) -> tuple[Results, Cost | None]:
    """The first pass and a restart over so many sinks; with `everything`, what happens between, too, and the restart of plain handlers."""
    with tempfile.TemporaryDirectory() as name, ControlPlane() as plane:
        cluster = Cluster(plane, Path(name), sinks)
        with cluster.start() as operator:
            operator.wait_ready()
            empty = memory(operator.pid)
            operator.terminate()
        say(f"{sinks} EventSinks created in {cluster.create():.0f} s")
        start = cluster.mark()
        with cluster.start() as operator:
            first = cluster.measure(operator, OPERATOR, all_ready(operator, sinks), start)
            first_memory = memory(operator.pid)
            say(f"first pass: {sinks / first.seconds:.0f}/s, {first.cpu / sinks * 1e3:.1f} ms CPU each, {first.per(sinks)}")
            if everything:
                between(cluster, operator, say)
            operator.terminate()
        start = cluster.mark()
        with cluster.start() as operator:
            restart = cluster.measure(operator, OPERATOR, all_ready(operator, sinks), start)
            restart_memory = memory(operator.pid)
            say(
                f"restart: {restart.seconds:.1f} s, {restart.cpu:.1f} s CPU, {restart.writes} writes, "
                f"{sum(restart.requests.values())} requests {dict(restart.requests)}"
            )
            operator.terminate()
        results = Results(sinks, empty, first, first_memory, restart, restart_memory)
        return results, plain(cluster, sinks, say, ENOUGH * restart.cpu) if everything else None


def between(cluster: Cluster, operator: RunningProcess, say: Callable[[str], None]) -> None:
    """What happens to an installation on a usual day, in the namespace with a tenth of all sinks."""
    count = cluster.big
    began = time.perf_counter()
    cluster.admin.run("get", "eventsinks", "--all-namespaces", timeout=120)
    say(f"kubectl get eventsinks -A: {time.perf_counter() - began:.1f} s")
    changes: list[tuple[str, Callable[[], None], str]] = [
        (f"a Secret of {count} sinks rotated", lambda: rotate(cluster), "ready"),
        (f"the label of a namespace of {count} sinks removed", lambda: label(cluster.admin, BIG, None), "withdrawn"),
        ("the label added again", lambda: label(cluster.admin, BIG, BIG), "ready"),
    ]
    for what, change, outcome in changes:
        done = more(operator, outcome, count)
        start = cluster.mark(operator)
        change()
        cost = cluster.measure(operator, OPERATOR, done, start)
        say(f"{what}: {cost.seconds:.1f} s, {cost.cpu / count * 1e3:.1f} ms CPU each, {cost.per(count)}")


def rotate(cluster: Cluster) -> None:
    """Change the signing secret of the large namespace."""
    data = base64.b64encode(OTHER_SECRET.encode()).decode()
    cluster.admin.run("-n", BIG, "patch", "secret", "hook", "--type=merge", "-p", f'{{"data":{{"secret":"{data}"}}}}')


def plain(cluster: Cluster, sinks: int, say: Callable[[str], None], restart_cpu: float) -> Cost:
    """A first pass of plain kopf handlers, and a restart, which ends when it has taken so much CPU; returns the restart's cost."""
    costs = []
    for what, most in (("first pass", math.inf), ("restart", restart_cpu)):
        start = cluster.mark()
        with cluster.plain() as process:

            def is_over(process: RunningProcess = process, start: Start = start, most: float = most) -> bool:
                return process.text().count(DONE) >= sinks or cpu(process.pid) - start.cpu >= most

            cost = cluster.measure(process, "admin", is_over, start)
            costs.append(cost)
            say(
                f"plain kopf handlers, {what}: {process.text().count(DONE)} handled in {cost.seconds:.1f} s, {cost.cpu:.1f} s CPU, "
                f"{cost.writes} writes, memory {memory(process.pid) / 2**20:.0f} MB"
            )
    return costs[-1]


def all_ready(process: RunningProcess, sinks: int) -> Callable[[], bool]:
    """Whether it has looked at so many sinks and found them ready; it may just have been started."""
    return lambda: reconciled(process)["ready"] >= sinks and idle(process)


def main(sinks: int) -> None:
    """Print a line for each."""
    few, _ = run(sinks // 10, lambda line: print(f"  {line}"), everything=False)
    many, other = run(sinks, print, everything=True)
    assert other is not None
    print(
        f"memory: {many.restart_memory / 2**20:.0f} MB after a restart, {many.first_memory / 2**20:.0f} MB after the first pass, "
        f"{many.empty / 2**20:.0f} MB without sinks: {many.kilobytes:.1f} KB a sink"
    )
    most = "" if other.cpu < ENOUGH * many.restart.cpu else "at most "
    print(
        f"restart: {most}{many.restart.cpu / other.cpu:.2f} times the CPU of plain kopf handlers, "
        f"{many.restart.writes} writes to {other.writes}"
    )
    growth = (many.first.cpu / many.sinks) / (few.first.cpu / few.sinks)
    print(f"growth: {growth:.2f} times the CPU of a sink in the first pass at {few.sinks}")


if __name__ == "__main__":
    main(size(SHORT, FULL))
