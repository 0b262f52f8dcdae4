"""A router behind a proxy: what `Delivering` says when the proxy is the trouble, and that delivery goes on once it is not."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import trustme
import yaml

from tests.support.cluster import Installed
from tests.support.kubectl import Kubectl
from tests.support.parts import Router, alert, apply_and_wait, cluster_router, notification, start_operator
from tests.support.processes import eventsink
from tests.support.proxy import ConnectProxy
from tests.support.receiver import Receiver
from tests.support.router_process import start_router
from tests.support.sinks import event_sink, secret
from tests.support.slack import Slack
from tests.support.waiting import wait_until

NAME = "hooks.example.com"
LOGIN = "router:canary-password"
KUBECONFIG = """
apiVersion: v1
kind: Config
current-context: c
contexts: [{name: c, context: {cluster: c, user: u}}]
clusters: [{name: c, cluster: {server: "https://127.0.0.1:1"}}]
users: [{name: u, user: {token: t}}]
"""
SOON = {"first": "50ms", "longest": "100ms", "sinkLongest": "100ms", "probeFirst": "100ms", "probeLongest": "200ms"}


def reported(router: Router) -> tuple[str, str]:
    """What `Delivering` of the only sink says: status and reason."""
    [sink] = router.admin("/v1/sinks")[1]["sinks"]
    return sink["delivering"], sink["reason"]


def wait_reported(router: Router, status: str, reason: str) -> None:
    wait_until(reason, lambda: reported(router) == (status, reason), show=lambda: reported(router))


def test_each_trouble_of_the_proxy_has_its_reason_and_delivery_goes_on_once_it_is_fixed(tmp_path: Path) -> None:
    file = tmp_path / "proxy"
    with Receiver() as receiver, ConnectProxy({NAME: "127.0.0.1"}, login=LOGIN) as proxy:
        file.write_text(f"http://router:canary-wrong@127.0.0.1:{proxy.port}\n")
        settings: dict[str, Any] = {
            # Only the proxy is at loopback as far as the router may know.
            "egress": {"allow": [], "proxy": {"urlFile": str(file)}},
            "dispatch": {"retry": SOON},
            "transport": {"idleTimeout": "50ms"},
        }
        with start_router(tmp_path, f"http://{NAME}:{receiver.port}/hook", **settings) as router:
            assert router.post(notification(alert("A", namespace="acme")))[0] == 200
            wait_reported(router, "False", "ProxyAuthenticationRequired")
            file.write_text(f"http://{LOGIN}@127.0.0.1:{proxy.port}\n")
            receiver.wait_for(1)
            wait_reported(router, "True", "Delivered")

            assert router.process is not None
            for response, reason in ((b"403 Forbidden", "ProxyRefused"), (b"503 Service Unavailable", "ProxyFailed")):
                proxy.response = b"HTTP/1.1 %s\r\nContent-Length: 0\r\n\r\n" % response
                proxy.end_tunnels()
                wait_until("the end of the connections", lambda: not proxy.tunnels)
                assert router.post(notification(alert(reason, namespace="acme"), group=reason))[0] == 200
                wait_reported(router, "False", reason)
                proxy.response = b""
                wait_reported(router, "True", "Delivered")
            sinks, metrics, log = str(router.admin("/v1/sinks")), router.metrics(), router.process.text()
    assert "canary" not in sinks + metrics + log
    assert b"CONNECT " in proxy.heads[0]


def test_without_a_proxy_it_says_that_and_goes_on_when_it_is_back(tmp_path: Path) -> None:
    with ConnectProxy() as gone:
        pass
    settings: dict[str, Any] = {"egress": {"allow": [], "proxy": {"url": gone.url}}, "dispatch": {"retry": SOON}}
    with Receiver() as receiver, start_router(tmp_path, f"http://{NAME}:{receiver.port}/hook", **settings) as router:
        assert router.post(notification(alert("A", namespace="acme")))[0] == 200
        wait_reported(router, "False", "ProxyUnreachable")


@pytest.mark.parametrize("name", ["HTTP_PROXY", "http_proxy"])
def test_a_proxy_of_the_environment_has_no_effect(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setenv(name, "http://127.0.0.1:1")
    with Receiver() as receiver, start_router(tmp_path, receiver.url("/hook")) as router:
        assert router.post(notification(alert("A", namespace="acme")))[0] == 200
        receiver.wait_for(1)


def test_a_private_authority_is_trusted_and_one_that_is_absent_stops_the_start(tmp_path: Path) -> None:
    authority = trustme.CA()
    settings: dict[str, Any] = {"egress": {"allow": ["127.0.0.0/8"], "caFile": str(tmp_path / "ca.crt")}}
    router = Router(tmp_path, settings)
    (tmp_path / "token").write_text(router.token)
    (tmp_path / "admin-token").write_text(router.admin_token)
    for part in ("router", "operator"):
        file = tmp_path / f"{part}.yaml"
        configuration = router.configuration() if part == "router" else settings
        kubeconfig = tmp_path / "kubeconfig"
        kubeconfig.write_text(KUBECONFIG)
        file.write_text(yaml.safe_dump({**configuration, "kubernetes": {"kubeconfig": str(kubeconfig)}}))
        with eventsink(part, "--config", file, folder=tmp_path, name=f"{part}-without") as process:
            assert process.wait() == 2
            assert "egress.caFile: " in process.text()
            assert "cannot be read: No such file" in process.text()
    authority.cert_pem.write_to_path(str(tmp_path / "ca.crt"))
    with (
        Receiver(authority=authority) as receiver,
        start_router(tmp_path, f"https://localhost:{receiver.port}/hook", **settings) as running,
    ):
        assert running.post(notification(alert("A", namespace="acme")))[0] == 200
        receiver.wait_for(1)


def test_operator_and_router_reach_slack_through_the_proxy(
    install_manifests: Installed, kubectl: Kubectl, namespace: str, tenant: str, tmp_path: Path
) -> None:
    authority = trustme.CA()
    authority.cert_pem.write_to_path(str(tmp_path / "ca.crt"))
    with Slack(authority=authority) as slack, ConnectProxy(login=LOGIN) as proxy:
        slack.add_workspace("T1")
        channel = slack.add_channel("T1", "alerts")
        (tmp_path / "proxy").write_text(f"http://{LOGIN}@127.0.0.1:{proxy.port}")
        settings: dict[str, Any] = {
            "slack": {"apiUrl": f"https://localhost:{slack.port}/api/"},
            # The stand-in for Slack is at loopback, too; without the proxy it would be reached as well.
            "egress": {
                "allow": ["127.0.0.0/8"],
                "proxy": {"urlFile": str(tmp_path / "proxy")},
                "caFile": str(tmp_path / "ca.crt"),
            },
        }
        router = cluster_router(install_manifests, tmp_path, **settings)
        with start_operator(install_manifests, tmp_path, **settings) as operator, router.start():
            token = {"name": "slack", "key": "token"}
            sink = event_sink(namespace, tenant=tenant, slack={"channel": "#alerts", "botTokenSecretRef": token})
            apply_and_wait(kubectl, router, secret(namespace, "slack", token=slack.issue_token("T1")), sink)
            asked = len(proxy.targets)
            assert asked >= 1
            assert router.post(notification(alert("A", namespace=namespace)))[0] == 200
            slack.wait_for(1, channel=channel)
            assert len(proxy.targets) > asked
            assert set(proxy.targets) == {f"localhost:{slack.port}"}

            proxy.response = b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n"
            proxy.end_tunnels()
            wait_until("the end of the connections", lambda: not proxy.tunnels)
            other = event_sink(
                namespace, "other", tenant=tenant, slack={"channel": "#alerts", "botTokenSecretRef": {**token, "name": "new"}}
            )
            kubectl.apply([secret(namespace, "new", token=slack.issue_token("T1")), other])
            reported = kubectl.wait_condition(
                "eventsink", "other", "Ready", "False", reason="SlackUnavailable", namespace=namespace
            )
            assert "the network's proxy does not connect to this host" in reported["message"]
            assert "(operator setting egress.proxy)" in reported["message"]
            assert (
                "canary"
                not in operator.text() + router.running.text() + kubectl.run("get", "eventsinks", "-A", "-o", "yaml").stdout
            )
