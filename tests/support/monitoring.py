"""Prometheus and Alertmanager as running processes on loopback."""

from __future__ import annotations

import json
import urllib.request
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Protocol

import yaml

from tests.support.debian import MonitoringPrograms
from tests.support.ports import free_port
from tests.support.processes import RunningProcess

HTTP_TIMEOUT_SECONDS = 10


class AlertmanagerProgram(Protocol):
    """An Alertmanager of some version."""

    def alertmanager_command(self) -> list[str | Path]:
        """The start of the command that runs it."""
        ...


class Alertmanager(RunningProcess):
    """One Alertmanager, without a cluster of its own unless it is given one.

    Parameters
    ----------
    configuration
        The document of its configuration file.
    folder
        Holds its configuration, data and log; made if it is absent. Given again, it continues from what is there.
    port
        Of its API; absent: a free one.
    options
        More of its options; absent: those that leave it without a cluster.
    """

    def __init__(
        self,
        program: AlertmanagerProgram,
        configuration: Mapping[str, Any],
        folder: Path,
        *,
        port: int | None = None,
        options: Sequence[str] = ("--cluster.listen-address=",),
        log_level: str = "debug",
        name: str = "alertmanager",
    ) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        file = folder / "alertmanager.yml"
        file.write_text(yaml.safe_dump(dict(configuration)))
        self.port = port or free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        command: list[str | Path] = [
            *program.alertmanager_command(),
            f"--config.file={file}",
            f"--storage.path={folder / 'data'}",
            f"--web.listen-address=127.0.0.1:{self.port}",
            *options,
            f"--log.level={log_level}",
        ]
        super().__init__(command, log=folder / "alertmanager.log", name=name)

    def wait_up(self) -> None:
        """Wait until it takes alerts."""
        self.wait_ready(f"{self.url}/-/ready")

    def post_alerts(self, *alerts: Mapping[str, Any], timeout: float = HTTP_TIMEOUT_SECONDS) -> None:
        """Post alerts as a client of its v2 API does (see `alert`)."""
        _request(f"{self.url}/api/v2/alerts", json.dumps(list(alerts)).encode(), timeout=timeout)

    def silence(self, **labels: str) -> str:
        """Silence alerts with these labels for an hour; returns the silence's id."""
        now = datetime.now(UTC)
        silence = {
            "matchers": [{"name": name, "value": value, "isRegex": False, "isEqual": True} for name, value in labels.items()],
            "startsAt": now.isoformat(),
            "endsAt": (now + timedelta(hours=1)).isoformat(),
            "createdBy": "tests",
            "comment": "a test",
        }
        return str(json.loads(_request(f"{self.url}/api/v2/silences", json.dumps(silence).encode()))["silenceID"])

    def unsilence(self, silence: str) -> None:
        """Expire a silence."""
        _request(f"{self.url}/api/v2/silence/{silence}", method="DELETE")


class Prometheus(RunningProcess):
    """One Prometheus that evaluates rules, scrapes nobody unless it is configured to, and sends alerts to Alertmanagers.

    Parameters
    ----------
    rules
        Groups of rules, as the `groups` of a rule file.
    alertmanagers
        `host:port` of each.
    configuration
        Added to the configuration file, for example `scrape_configs` and `global`.
    """

    def __init__(
        self,
        programs: MonitoringPrograms,
        rules: Sequence[Mapping[str, Any]],
        alertmanagers: Iterable[str],
        folder: Path,
        configuration: Mapping[str, Any] | None = None,
    ) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._rules = folder / "rules.yml"
        self.write_rules(rules)
        file = folder / "prometheus.yml"
        targets = [{"targets": list(alertmanagers)}]
        document: dict[str, Any] = {
            "global": {"scrape_interval": "1s", "evaluation_interval": "1s"},
            "rule_files": [str(self._rules)],
            "alerting": {"alertmanagers": [{"static_configs": targets}]},
            **(configuration or {}),
        }
        file.write_text(yaml.safe_dump(document))
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        command: list[str | Path] = [
            programs.prometheus,
            f"--config.file={file}",
            f"--storage.tsdb.path={folder / 'data'}",
            f"--web.listen-address=127.0.0.1:{self.port}",
            "--web.enable-lifecycle",
            "--rules.alert.resend-delay=1s",
        ]
        super().__init__(command, log=folder / "prometheus.log", name="prometheus")

    def wait_up(self) -> None:
        """Wait until it evaluates rules."""
        self.wait_ready(f"{self.url}/-/ready")

    def write_rules(self, rules: Sequence[Mapping[str, Any]]) -> None:
        """Write the rule file; a running Prometheus reads it at `reload`."""
        self._rules.write_text(yaml.safe_dump({"groups": [dict(group) for group in rules]}))

    def reload(self) -> None:
        """Make it read its configuration and rules again."""
        _request(f"{self.url}/-/reload", b"")


def alert(
    name: str,
    *,
    starts_at: datetime | None = None,
    ends_at: datetime | None = None,
    annotations: Mapping[str, str] | None = None,
    **labels: str,
) -> dict[str, Any]:
    """An alert as Alertmanager's v2 API takes it; one whose `ends_at` has passed is resolved."""
    times = {"startsAt": starts_at, "endsAt": ends_at}
    return {
        "labels": {"alertname": name, **labels},
        "annotations": dict(annotations or {}),
        **{key: value.astimezone(UTC).isoformat() for key, value in times.items() if value is not None},
    }


def webhook_configuration(
    url: str, *, token: str | None = None, group_by: Sequence[str] = ("alertname",), repeat_interval: str = "4h"
) -> dict[str, Any]:
    """A configuration of Alertmanager that sends everything to one webhook, grouped, as soon as it comes."""
    webhook: dict[str, Any] = {"url": url, "send_resolved": True}
    if token is not None:
        webhook["http_config"] = {"authorization": {"type": "Bearer", "credentials": token}}
    return {
        "route": {
            "receiver": "webhook",
            "group_by": list(group_by),
            "group_wait": "1s",
            "group_interval": "1s",
            "repeat_interval": repeat_interval,
        },
        "receivers": [{"name": "webhook", "webhook_configs": [webhook]}],
    }


def _request(url: str, body: bytes | None = None, *, method: str = "POST", timeout: float = HTTP_TIMEOUT_SECONDS) -> bytes:
    request = urllib.request.Request(url, data=body, method=method, headers={"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=timeout) as response:
        received: bytes = response.read()
        return received
