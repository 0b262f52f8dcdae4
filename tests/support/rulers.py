"""Programs that evaluate rules over a Prometheus and send its alerts to a router."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import yaml

from tests.controlplane.go import find_or_build_program
from tests.controlplane.senders import THANOS, VMALERT
from tests.support.debian import MonitoringPrograms
from tests.support.monitoring import Prometheus
from tests.support.parts import Router
from tests.support.ports import free_port
from tests.support.processes import RunningProcess
from tests.support.receiver import Receiver
from tests.support.router_process import start_router
from tests.support.waiting import wait_until


@contextmanager
def router_of_rulers(folder: Path, receiver: Receiver, **settings: Any) -> Iterator[Router]:
    """A router with the source `rules`, of the format prometheus, which takes tokens in the path too, and a sink of the tenant acme."""
    source = {
        "name": "rules",
        "format": "prometheus",
        "tokenFiles": [str(folder / "token")],
        "pathToken": True,
        "tenant": {"namespaceOwner": {}},
        "dropLabels": ["replica"],
    }
    with start_router(folder, receiver.url("/hook"), sources=[source], **settings) as running:
        yield running


def accepted(router: Router) -> float:
    """How many alerts the router has accepted."""
    named = 'eventsink_router_alerts_accepted_total{source="rules"} '
    return sum(float(line.removeprefix(named)) for line in router.metrics().splitlines() if line.startswith(named))


def wait_accepted(router: Router, more: int) -> None:
    """Wait until the router has accepted so many alerts more."""
    before = accepted(router)
    wait_until(f"{more} more alerts", lambda: accepted(router) >= before + more)


class Disk:
    """How full a disk is, as a Prometheus says that a test changes."""

    def __init__(self, prometheus: Prometheus) -> None:
        self.prometheus = prometheus

    @classmethod
    @contextmanager
    def measured(cls, programs: MonitoringPrograms, folder: Path, percent: int) -> Iterator[Disk]:
        """Run the Prometheus."""
        with Prometheus(programs, cls._rules(percent), [], folder) as running:
            running.wait_up()
            yield cls(running)

    def fill(self, percent: int) -> None:
        """From now on it is this full."""
        self.prometheus.write_rules(self._rules(percent))
        self.prometheus.reload()

    @staticmethod
    def _rules(percent: int) -> list[dict[str, Any]]:
        recorded = {"record": "disk_used_percent", "expr": f"vector({percent})", "labels": {"namespace": "acme", "disk": "db-0"}}
        return [{"name": "measured", "rules": [recorded]}]


ALERT = {
    "alert": "DiskFull",
    "expr": "disk_used_percent > 90",
    "labels": {"severity": "page"},
    "annotations": {
        "summary": "{{ $labels.disk }} is {{ $value }} % full",
        "runbook_url": "https://runbooks.example.com/disk",
    },
}


class Ruler(RunningProcess):
    """A ruler that evaluates `ALERT` every second.

    Parameters
    ----------
    disk
        What it evaluates the rule over.
    folder
        Holds its files; made if it is absent.
    target
        URL of the router's source.
    token_file
        The source's token, if that is not in the path of `target`.
    """

    def __init__(self, disk: Disk, folder: Path, target: str, token_file: Path | None) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        rules = folder / "rules.yaml"
        rules.write_text(yaml.safe_dump({"groups": [{"name": "disks", "rules": [ALERT]}]}))
        super().__init__(self.command(disk, folder, rules, target, token_file), log=folder / "ruler.log")

    def command(self, disk: Disk, folder: Path, rules: Path, target: str, token_file: Path | None) -> list[str | Path]:
        """The program and its arguments."""
        raise NotImplementedError


class Vmalert(Ruler):
    """vmalert."""

    def command(self, disk: Disk, folder: Path, rules: Path, target: str, token_file: Path | None) -> list[str | Path]:
        """The program and its arguments."""
        return [
            find_or_build_program(VMALERT),
            f"-rule={rules}",
            f"-datasource.url={disk.prometheus.url}",
            f"-notifier.url={target}",
            f"-httpListenAddr=127.0.0.1:{free_port()}",
            "-external.url=http://vmalert.example.com",
            "-external.label=replica=a",
            "-evaluationInterval=1s",
            "-rule.evalDelay=0s",
            *([f"-notifier.bearerTokenFile={token_file}"] if token_file else []),
        ]


class ThanosRuler(Ruler):
    """Thanos Ruler."""

    def command(self, disk: Disk, folder: Path, rules: Path, target: str, token_file: Path | None) -> list[str | Path]:
        """The program and its arguments."""
        host, _, path = target.removeprefix("http://").partition("/")
        given = {"http_config": {"bearer_token_file": str(token_file)}} if token_file else {}
        alertmanagers = [{**given, "static_configs": [host], "scheme": "http", "path_prefix": f"/{path}", "api_version": "v2"}]
        configuration = folder / "alertmanagers.yaml"
        configuration.write_text(yaml.safe_dump({"alertmanagers": alertmanagers}))
        return [
            find_or_build_program(THANOS),
            "rule",
            f"--rule-file={rules}",
            f"--query={disk.prometheus.url.removeprefix('http://')}",
            f"--alertmanagers.config-file={configuration}",
            "--alert.query-url=http://thanos.example.com",
            "--alert.label-drop=replica",
            '--label=replica="a"',
            '--label=cluster="eu"',
            "--eval-interval=1s",
            "--resend-delay=1s",
            f"--data-dir={folder / 'data'}",
            f"--http-address=127.0.0.1:{free_port()}",
            f"--grpc-address=127.0.0.1:{free_port()}",
        ]
