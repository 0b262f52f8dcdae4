"""A destination type that the package does not know, registered with one line: from the manifest to the delivery, and through REST."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from eventsink.client import InvalidRequest
from tests.support.receiver import Receiver
from tests.support.standalone import NAMESPACE, Standalone, run, secret, sink
from tests.support.waiting import wait_until

PROGRAM = "tests.support.eventsink_with_pager"
KEY = "key-canary-of-the-pager"


def pager(service: str, **fields: Any) -> dict[str, Any]:
    document = sink("alerts", "")
    del document["spec"]["webhook"]
    document["spec"]["pager"] = {"service": service, "keySecretRef": {"name": "pager", "key": "key"}, **fields}
    return document


@pytest.fixture
def standalone(tmp_path: Path) -> Iterator[Standalone]:
    one = Standalone(tmp_path, module=PROGRAM)
    yield one
    if one.process is not None:
        one.process.close()
        assert KEY not in one.process.log.read_text()


def pages(receiver: Receiver, path: str) -> list[tuple[str, str, str]]:
    """(team, alert, status) of each page."""
    bodies = [one.json() for one in receiver.requests(path)]
    return [(body["team"], one["name"], one["status"]) for body in bodies for one in body["alerts"]]


def test_an_alert_reaches_a_sink_of_the_type_with_its_credential(standalone: Standalone, receiver: Receiver) -> None:
    standalone.put("sinks.yaml", NAMESPACE, pager(receiver.url("/page"), team="ops"), secret("pager", key=KEY))
    standalone.start()
    standalone.logged("sink accepted and active", sink="acme/alerts")
    standalone.post_alert("DiskFull")
    [received] = receiver.wait_for(1, path="/page")
    assert received.headers["pager-key"] == KEY
    assert pages(receiver, "/page") == [("ops", "DiskFull", "firing")]
    # A rotated credential is used without a restart, as for every type.
    standalone.put("sinks.yaml", NAMESPACE, pager(receiver.url("/page"), team="ops"), secret("pager", key=f"{KEY}-2"))
    standalone.logged("sink accepted and active", sink="acme/alerts", generation=1)
    wait_until(
        "the new key",
        lambda: [line["event"] for line in standalone.running.lines()].count("sink accepted and active") == 2,
    )
    standalone.post_alert("Again")
    assert receiver.wait_for(2, path="/page")[1].headers["pager-key"] == f"{KEY}-2"


def test_a_setting_of_the_type_is_applied_and_a_sink_that_breaks_it_is_reported(
    standalone: Standalone, receiver: Receiver
) -> None:
    standalone.put("sinks.yaml", NAMESPACE, pager(receiver.url("/page"), team="ops"), secret("pager", key=KEY))
    standalone.start(pagers={"deniedTeams": ["ops"]})
    reported = standalone.logged("a sink is not ready", sink="acme/alerts", field="spec.pager.team", reason="TeamNotAllowed")
    assert "nobody may page the team ops" in reported["message"]


def test_programs_create_and_change_a_sink_of_the_type_through_rest(standalone: Standalone, receiver: Receiver) -> None:
    standalone.start()
    with standalone.rest() as client:
        arguments = {"service": receiver.url("/page"), "key": KEY, "team": "ops"}
        made = client.create_from({"tenant_id": "default", "name": "Alerts", "event_sink_args": {"Pager": arguments}})
        assert (made.ready, made.type) == (True, "Pager")
        assert KEY not in json.dumps(made.raw)
        assert client.test(made.id).delivered
        assert pages(receiver, "/page")[0][0] == "ops"
        client.update_from(made.id, {"event_sink_args": {"Pager": {"team": "night"}}})
        standalone.post_alert("DiskFull", namespace="anything")
        wait_until("the page", lambda: ("night", "DiskFull", "firing") in pages(receiver, "/page"))
        with pytest.raises(InvalidRequest, match="lower-case letters"):
            client.update_from(made.id, {"event_sink_args": {"Pager": {"team": "OPS"}}})
        server = (
            "--server",
            f"http://127.0.0.1:{standalone.running.port_of('rest')}",
            "--key-file",
            standalone.data / "rest-key",
        )
        run("sinks", "update", made.id, "--pager-team=day", *server, module=PROGRAM)
        assert client.get(made.id).configuration["team"] == "day"


def test_validate_and_the_crd_have_the_rules_of_the_type(tmp_path: Path) -> None:
    good, two, night = (pager("http://pager.example.com/", **more) for more in ({}, {}, {"night": True}))
    two["spec"]["webhook"] = {"url": "https://example.com/"}
    night["metadata"]["name"] = "night"
    file = tmp_path / "sinks.yaml"
    file.write_text(yaml.safe_dump_all([good, secret("pager", key="no key")]))
    found = json.loads(run("validate", "-o", "json", file, module=PROGRAM).stdout)
    assert [(one["field"], one["message"]) for one in found["errors"]] == [
        ("spec.pager.keySecretRef", "a key of the paging service begins with key-")
    ]
    file.write_text(yaml.safe_dump_all([two, night]))
    found = json.loads(run("validate", "-o", "json", file, module=PROGRAM).stdout)
    assert [(one["field"], one["message"]) for one in found["errors"]] == [
        ("spec", "set exactly one of slack, webhook and pager; for a second destination create a second EventSink"),
        ("spec.pager.team", "set team: at night a pager needs to know whom to wake"),
    ]
    crd = yaml.safe_load(run("crd", module=PROGRAM).stdout)
    spec = crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"]
    assert spec["properties"]["pager"]["description"] == "Page somebody. Set exactly one of slack, webhook and pager."
    assert "has(self.pager)" in spec["x-kubernetes-validations"][0]["rule"]
    assert "pager" not in run("crd").stdout
