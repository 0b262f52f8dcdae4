"""What every program must pass that evaluates rules and posts its alerts to Alertmanager's API: subclass `RulerContract` and name it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

import pytest

from tests.support.debian import MonitoringPrograms
from tests.support.receiver import Receiver
from tests.support.rulers import Disk, Ruler, router_of_rulers, wait_accepted

FULL, EMPTY = 97, 12
"""Per cent of the disk: the rule fires above 90."""
RESENDS = 5
"""So often an alert is sent again before the test believes that nobody is notified of it."""


class RulerContract:
    """Subclasses say which program, and where its alerts link to."""

    ruler: ClassVar[type[Ruler]]
    link: ClassVar[str]
    """The beginning of `links.source`."""
    labels: ClassVar[Mapping[str, str]]
    """Labels that it adds to the rule's."""

    @pytest.mark.parametrize("token_in_path", [False, True], ids=["bearer", "path"])
    def test_a_rule_that_fires_notifies_once_and_so_does_its_end(
        self, token_in_path: bool, monitoring: MonitoringPrograms, receiver: Receiver, tmp_path: Path
    ) -> None:
        with router_of_rulers(tmp_path, receiver) as running, Disk.measured(monitoring, tmp_path / "prometheus", FULL) as disk:
            source = f"http://127.0.0.1:{running.running.port_of('intake')}/v1/alerts/rules"
            target, file = (f"{source}/{running.token}", None) if token_in_path else (source, tmp_path / "token")
            with self.ruler(disk, tmp_path / "ruler", target, file):
                [firing] = self.data(receiver, 1)
                assert (firing["status"], firing["severity"], firing["name"]) == ("firing", "critical", "DiskFull")
                assert (firing["tenant"], firing["namespace"]) == ("acme", "acme")
                assert firing["summary"] == "db-0 is 97 % full"
                assert firing["links"]["source"].startswith(self.link)
                assert firing["links"]["runbook"] == "https://runbooks.example.com/disk"
                own = {"alertname": "DiskFull", "severity": "page", "namespace": "acme", "disk": "db-0"}
                assert firing["labels"] == {**own, **self.labels}
                wait_accepted(running, RESENDS)
                disk.fill(EMPTY)
                _, resolved = self.data(receiver, 2)
                assert (resolved["status"], resolved["fingerprint"]) == ("resolved", firing["fingerprint"])
                assert resolved["startsAt"] == firing["startsAt"] < resolved["endsAt"]
            assert running.token not in running.running.text()

    @staticmethod
    def data(receiver: Receiver, count: int) -> list[dict[str, Any]]:
        """What the sink was sent, of which there are not more."""
        return [json.loads(one.body)["data"] for one in receiver.wait_for(count, path="/hook")]
