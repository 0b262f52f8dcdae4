"""The monitoring that the end-to-end tests send alerts with works by itself."""

from __future__ import annotations

import datetime
from pathlib import Path

from tests.support.debian import MonitoringPrograms
from tests.support.monitoring import Alertmanager, Prometheus, alert, webhook_configuration
from tests.support.receiver import Received, Receiver


def test_a_rule_that_fires_and_resolves_reaches_a_webhook(monitoring: MonitoringPrograms, tmp_path: Path) -> None:
    always = {"alert": "AlwaysFiring", "expr": "vector(1)", "labels": {"severity": "critical"}}
    with (
        Receiver() as receiver,
        Alertmanager(monitoring, webhook_configuration(receiver.url("/in"), token="token-1"), tmp_path / "am") as alertmanager,
    ):
        alertmanager.wait_up()
        group = {"name": "tests", "rules": [always]}
        with Prometheus(monitoring, [group], [f"127.0.0.1:{alertmanager.port}"], tmp_path / "prom") as prometheus:
            prometheus.wait_up()
            [firing, *_] = receiver.wait_for(1, path="/in")
            assert firing.headers["authorization"] == "Bearer token-1"
            notification = firing.json()
            assert (notification["version"], notification["status"]) == ("4", "firing")
            assert notification["alerts"][0]["labels"] == {"alertname": "AlwaysFiring", "severity": "critical"}
            prometheus.write_rules([{"name": "tests", "rules": [{**always, "expr": "vector(1) > 1"}]}])
            prometheus.reload()
            receiver.wait_for(resolved, path="/in")


def test_alerts_posted_to_alertmanager_reach_a_webhook(monitoring: MonitoringPrograms, tmp_path: Path) -> None:
    now = datetime.datetime.now(datetime.UTC)
    with (
        Receiver() as receiver,
        Alertmanager(monitoring, webhook_configuration(receiver.url("/in")), tmp_path) as alertmanager,
    ):
        alertmanager.wait_up()
        alertmanager.post_alerts(alert("DiskFull", starts_at=now, severity="critical", annotations={"summary": "sda is full"}))
        [firing] = receiver.wait_for(1, path="/in")
        assert firing.json()["alerts"][0]["annotations"] == {"summary": "sda is full"}
        alertmanager.post_alerts(
            alert("DiskFull", starts_at=now, ends_at=datetime.datetime.now(datetime.UTC), severity="critical")
        )
        receiver.wait_for(resolved, path="/in")


def resolved(requests: list[Received]) -> bool:
    """Whether the newest notification reports a resolution."""
    return bool(requests) and requests[-1].json()["status"] == "resolved"
