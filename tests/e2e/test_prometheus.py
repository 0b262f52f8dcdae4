"""Real senders of Alertmanager's API in front of the router instead of an Alertmanager: Prometheus, a pair of them, and amtool."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from tests.support.debian import MonitoringPrograms
from tests.support.monitoring import Prometheus
from tests.support.parts import Router
from tests.support.receiver import Received, Receiver
from tests.support.rulers import router_of_rulers, wait_accepted

GRACE_SECONDS = 3
AMTOOL_SECONDS = 30
ALWAYS = {"alert": "DiskFull", "expr": "vector(1)", "labels": {"severity": "critical", "namespace": "acme"}}


@contextmanager
def router(folder: Path, receiver: Receiver, port: int = 0) -> Iterator[Router]:
    """A router whose alerts end soon after they were sent last."""
    state = {"resolveGrace": f"{GRACE_SECONDS}s", "resolveTimeout": "4s"}
    with router_of_rulers(folder, receiver, state=state, intake={"address": f"127.0.0.1:{port}"}) as running:
        yield running


def rules(*, firing: bool = True) -> list[dict[str, Any]]:
    return [{"name": "tests", "rules": [{**ALWAYS, "expr": "vector(1)" if firing else "vector(1) > 1"}]}]


@contextmanager
def prometheus(
    programs: MonitoringPrograms, router: Router, folder: Path, replica: str = "a", **credentials: Any
) -> Iterator[Prometheus]:
    """A Prometheus that posts to the router as an operator configures it."""
    target = f"127.0.0.1:{router.running.port_of('intake')}"
    given = {"path_prefix": "/v1/alerts/rules", **(credentials or {"authorization": {"credentials": router.token}})}
    configuration = {
        "global": {"evaluation_interval": "1s", "external_labels": {"replica": replica}},
        "alerting": {"alertmanagers": [{**given, "static_configs": [{"targets": [target]}]}]},
    }
    with Prometheus(programs, rules(), [], folder, configuration) as running:
        running.wait_up()
        yield running


def statuses(requests: list[Received]) -> list[str]:
    return [json.loads(one.body)["data"]["status"] for one in requests]


def test_a_pair_counts_as_one_and_its_alert_ends_when_neither_sends_it_although_the_router_was_killed(
    monitoring: MonitoringPrograms, receiver: Receiver, tmp_path: Path
) -> None:
    with ExitStack() as servers:
        with router(tmp_path, receiver) as running:
            basic = {"basic_auth": {"username": "prometheus", "password": running.token}}
            halves = [
                servers.enter_context(prometheus(monitoring, running, tmp_path / name, name, **credentials))
                for name, credentials in (("a", {}), ("b", basic))
            ]
            receiver.wait_for(1, path="/hook")
            wait_accepted(running, 4)
            port = running.running.port_of("intake")
            running.running.kill9()
        with router(tmp_path, receiver, port) as running:
            halves[0].write_rules(rules(firing=False))
            halves[0].reload()
            wait_accepted(running, 2 * GRACE_SECONDS)
            halves[1].kill9()  # nobody says that it has ended
            assert statuses(receiver.wait_for(2, path="/hook")) == ["firing", "resolved"]
            assert running.token not in running.running.text()


def test_amtool_adds_alerts_and_shows_why_one_is_rejected(
    monitoring: MonitoringPrograms, receiver: Receiver, tmp_path: Path
) -> None:
    with router(tmp_path, receiver) as running:
        host = f"127.0.0.1:{running.running.port_of('intake')}"

        def add(url: str, *arguments: str) -> subprocess.CompletedProcess[str]:
            command: list[str | Path] = [monitoring.amtool, "alert", "add", *arguments, f"--alertmanager.url={url}"]
            return subprocess.run(command, capture_output=True, text=True, timeout=AMTOOL_SECONDS)

        in_path = f"http://{host}/v1/alerts/rules/{running.token}"
        assert add(in_path, "Test", "namespace=acme", "--annotation=summary=a test").returncode == 0
        assert add(f"http://me:{running.token}@{host}/v1/alerts/rules", "Other", "namespace=acme").returncode == 0
        received = receiver.wait_for(4, path="/hook")  # nobody adds them again: both end after state.resolveTimeout
        assert sorted(statuses(received)) == ["firing", "firing", "resolved", "resolved"]
        assert json.loads(received[0].body)["data"]["summary"] == "a test"
        rejected = add(in_path, "Test", "namespace=nobody")
        assert rejected.returncode == 1
        assert "no tenant owns the alert's namespace" in rejected.stderr
        assert running.token not in running.running.text()
