"""The router as a process: a failed start reports why and its exit status; the router is ready only when it knows its sinks."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.support.parts import Router
from tests.support.processes import RunningProcess, eventsink
from tests.support.router_process import start_router


def start(tmp_path: Path, **settings: Any) -> RunningProcess:
    """`eventsink router` with these settings over usable ones, and no cluster to reach."""
    router = Router(tmp_path, settings)
    (tmp_path / "token").write_text("t")
    (tmp_path / "admin-token").write_text("t")
    (tmp_path / "kubeconfig").write_text(yaml.safe_dump(KUBECONFIG))
    file = tmp_path / "router.yaml"
    file.write_text(yaml.safe_dump({"kubernetes": {"kubeconfig": str(tmp_path / "kubeconfig")}, **router.configuration()}))
    return eventsink("router", "--config", file, folder=tmp_path)


KUBECONFIG = {
    "apiVersion": "v1",
    "kind": "Config",
    "clusters": [{"name": "x", "cluster": {"server": "http://127.0.0.1:1"}}],
    "users": [{"name": "x", "user": {}}],
    "contexts": [{"name": "x", "context": {"cluster": "x", "user": "x"}}],
    "current-context": "x",
}


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"intake": {"adress": "x"}}, "intake.adress: there is no such setting; did you mean address?"),
        ({"intake": {"address": "nowhere"}}, "intake.address: write an address as host:port"),
        ({"sources": []}, "sources: name at least one source of alerts"),
        ({"sources": [{"name": "a", "tenant": {"fixed": "t"}}]}, "needs tokenFiles or tokenHashes"),
        (
            {"sources": [{"name": "a", "format": "x", "tokenFiles": ["/t"], "tenant": {"fixed": "t"}}]},
            "sources[0].format: no source format has this name; known formats: alertmanager",
        ),
        ({"egress": {"allow": ["10.0.0.1/8"]}}, "egress.allow: write networks in CIDR form"),
        ({"dispatch": {"retry": {"first": "soon"}}}, "dispatch.retry.first: write a duration"),
        ({"queue": {"maxWaiting": 0}}, "queue.maxWaiting"),
    ],
)
def test_an_invalid_setting_stops_the_start_with_an_explanation_and_status_2(
    tmp_path: Path, settings: dict[str, Any], sentence: str
) -> None:
    with start(tmp_path, **settings) as process:
        assert process.wait() == 2
        assert sentence in process.text()
        assert "router.yaml" in process.text()


@pytest.mark.parametrize(
    ("settings", "status", "sentence"),
    [
        ({"sources": [{"name": "a", "tokenFiles": ["/none"], "tenant": {"fixed": "t"}}]}, 2, "/none: the secret cannot be read"),
        ({"queue": {"path": "/none/queue.db"}}, 1, "check queue.path and its folder"),
        ({"admin": {"tokenFile": "/none"}}, 2, "/none: the secret cannot be read"),
        ({"kubernetes": {"kubeconfig": "/none"}}, 2, "kubernetes: no access to a cluster: /none cannot be used"),
        ({"intake": {"address": "192.0.2.1:8080"}}, 2, "intake.address: cannot listen there"),
        ({"monitor": {"address": "192.0.2.1:9090"}}, 2, "monitor.address: cannot listen there"),
        ({"intake": {"tlsCertificateFile": "/none", "tlsKeyFile": "/none"}}, 2, "cannot be used together"),
    ],
)
def test_a_resource_that_cannot_be_opened_stops_the_start_with_an_explanation(
    tmp_path: Path, settings: dict[str, Any], status: int, sentence: str
) -> None:
    with start(tmp_path, **settings) as process:
        assert process.wait() == status
        assert sentence in process.lines()[-1]["reason"]


def test_a_second_router_on_the_same_queue_does_not_start(tmp_path: Path) -> None:
    with start_router(tmp_path, "http://127.0.0.1:1/"), start(tmp_path) as second:
        assert second.wait() == 1
        assert "another process has this queue open" in second.lines()[-1]["reason"]


def test_without_the_api_server_the_router_runs_and_is_not_ready(tmp_path: Path) -> None:
    with start(tmp_path) as process:
        process.port_of("intake")
        with pytest.raises(TimeoutError, match="not listed yet: sinks, tenancy"):
            process.wait_ready(deadline=1.0)
        assert process.terminate() == 0


def test_an_unusable_command_line_ends_with_status_2(tmp_path: Path) -> None:
    for arguments in (["router", "--config", "/none"], ["nonsense"], ["router", "--nonsense"]):
        with eventsink(*arguments, folder=tmp_path) as process:
            assert process.wait() == 2
