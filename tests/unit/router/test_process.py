"""The router as a process: a failed start reports why and its exit status; the router is ready only when it knows its sinks."""

from __future__ import annotations

import socket
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.support.parts import Router, alert, notification, request
from tests.support.processes import RunningProcess, eventsink
from tests.support.receiver import Receiver
from tests.support.router_process import start_router
from tests.support.waiting import wait_until

NOBODY = "http://127.0.0.1:1/"


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


def monitored(process: RunningProcess, path: str) -> tuple[int, dict[str, Any]]:
    """What the monitor responds."""
    return request(f"http://127.0.0.1:{process.port_of('monitor')}{path}", "", None)


def wait_for_the_queue(process: RunningProcess, holder: RunningProcess) -> None:
    """Until `/readyz` says that the process waits for the other one."""
    waits_for = f"waiting for {socket.gethostname()}, process {holder.pid}, which has "
    wait_until(
        "the reason why it is not ready",
        lambda: monitored(process, "/readyz")[1]["failing"].get("queue", "").startswith(waits_for),
    )


@pytest.mark.parametrize("end", [RunningProcess.terminate, RunningProcess.kill9])
def test_a_router_waits_until_the_one_before_has_ended_and_delivers_what_it_left(
    tmp_path: Path, end: Callable[[RunningProcess], object]
) -> None:
    with Receiver() as receiver, start_router(tmp_path, receiver.url("/"), log="first.log") as first:
        receiver.respond_with(503)
        assert first.post(notification(alert("Left", namespace="acme")))[0] == 200
        receiver.wait_for(2)  # by now, it is retried
        with start_router(tmp_path, receiver.url("/"), ready=False) as second:
            wait_for_the_queue(second.running, first.running)
            assert monitored(second.running, "/readyz")[0] == 503
            assert monitored(second.running, "/healthz")[0] == 200, "the kubelet must not restart it for that"
            receiver.respond_with(200)
            end(first.running)
            ended = time.monotonic()
            second.running.wait_ready()
            assert time.monotonic() - ended < 5.0
            receiver.wait_for(3)


def test_a_setting_that_kept_a_delivery_back_is_effective_at_once_when_it_is_corrected(tmp_path: Path) -> None:
    with Receiver() as receiver:
        with start_router(tmp_path, receiver.url("/"), egress={"allow": []}) as router:
            router.post(notification(alert("A", namespace="acme")))
            wait_until("the held sink", lambda: "eventsink_router_sinks_held 1.0" in router.metrics())
            assert router.running.terminate() == 0
        with start_router(tmp_path, receiver.url("/")):
            receiver.wait_for(1, deadline=10.0)  # the first probe of a held sink comes after 30 s


def test_a_router_that_waits_for_another_one_stops_in_order(tmp_path: Path) -> None:
    with start_router(tmp_path, NOBODY, log="first.log") as first, start_router(tmp_path, NOBODY, ready=False) as second:
        wait_for_the_queue(second.running, first.running)
        assert second.running.terminate() == 0
        assert monitored(first.running, "/readyz")[0] == 200


def test_a_router_that_has_waited_for_too_long_says_who_has_the_queue(tmp_path: Path) -> None:
    with (
        start_router(tmp_path, NOBODY, log="first.log") as first,
        start_router(tmp_path, NOBODY, ready=False, queue={"lockTimeout": "100ms"}) as second,
    ):
        assert second.running.wait() == 1
        reason = second.running.lines()[-1]["reason"]
        assert f"another process has this queue open ({socket.gethostname()}, process {first.running.pid})" in reason
        assert "queue.lockTimeout" in reason


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
