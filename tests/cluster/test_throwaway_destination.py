"""The operator with a destination type that the package does not know, on a real API server with the CRD of that type."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.cluster import Installed, MakeNamespace, install_crd
from tests.support.kubectl import Kubectl
from tests.support.parts import start_operator
from tests.support.processes import RunningProcess
from tests.support.sinks import event_sink, secret, uid_of, wait_compiled
from tests.support.standalone import run

PROGRAM = "tests.support.eventsink_with_pager"
PAGER = {"service": "https://pager.example.com/", "keySecretRef": {"name": "pager", "key": "key"}, "team": "ops"}


@pytest.fixture
def operator(install_manifests: Installed, kubectl: Kubectl, tmp_path: Path) -> Iterator[RunningProcess]:
    file = tmp_path / "crd.yaml"
    file.write_text(run("crd", module=PROGRAM).stdout)
    kubectl.apply(file, server_side=True)
    try:
        with start_operator(install_manifests, tmp_path, module=PROGRAM) as running:
            running.wait_ready()
            yield running
    finally:
        install_crd(kubectl)


def test_a_sink_of_the_type_is_compiled_with_its_credential_and_reports_its_destination(
    operator: RunningProcess, kubectl: Kubectl, make_namespace: MakeNamespace
) -> None:
    acme = make_namespace("acme")
    kubectl.apply([secret(acme, "pager", key="key-1"), event_sink(acme, pager=PAGER)])
    kubectl.wait_condition("eventsink", "alerts", "Ready", "True", namespace=acme)
    compiled = wait_compiled(kubectl, uid_of(kubectl, acme), lambda sink: sink["pager"]["key"] == "key-1")
    assert (compiled["type"], compiled["dispatch"]["concurrency"]) == ("pager", 1)
    status = kubectl.get("eventsink", "alerts", namespace=acme)["status"]
    assert (status["type"], status["pager"]) == ("pager", {"team": "ops"})
    # Its Secret is watched, although only the type's own spec model declares the field as a credential.
    kubectl.apply(secret(acme, "pager", key="key-2"))
    wait_compiled(kubectl, uid_of(kubectl, acme), lambda sink: sink["pager"]["key"] == "key-2")


def test_the_api_server_checks_the_rules_of_the_type(
    operator: RunningProcess, kubectl: Kubectl, make_namespace: MakeNamespace
) -> None:
    acme = make_namespace("acme")
    night = event_sink(acme, pager={key: value for key, value in {**PAGER, "night": True}.items() if key != "team"})
    both = event_sink(acme, pager=PAGER, webhook={"url": "https://example.com/"})
    for document, sentence in ((night, "set team: at night a pager"), (both, "set exactly one of slack, webhook and pager")):
        assert sentence in kubectl.apply(document, expect_failure=True)
