"""What the tests on real pods share: the cluster that KUBECONFIG names, the installation, and the pods of the tests.

The tests are one story: they run in the order of their files, on one installation, and the first failure ends the run.
"""

from __future__ import annotations

import base64
import os
import secrets
import subprocess
from collections.abc import Generator
from typing import Any

import pytest
import yaml

from tests.controlplane.binaries import kubectl as find_kubectl
from tests.controlplane.helm import find_or_build_helm
from tests.pods.diagnosis import diagnosis
from tests.pods.figures import figures
from tests.pods.installation import Installation, values
from tests.pods.workloads import (
    BROKEN,
    FAULTS,
    MONITORING,
    RECEIVER_URL,
    RECEIVERS,
    SLACK,
    START_SECONDS,
    TENANT,
    Client,
    Receiver,
    namespace,
    pod,
    programs,
    service,
)
from tests.support.cluster import ROOT, SYSTEM_NAMESPACE
from tests.support.kubectl import Kubectl
from tests.support.sinks import event_sink, secret, signed

SLACK_STAND_IN = ROOT / "manifests" / "slack-stand-in"
ADMINISTRATOR = pytest.StashKey[Kubectl]()
"""kubectl, for what is shown when a fixture fails."""
NODE_OFF, NODE_ON = "E2E_NODE_OFF", "E2E_NODE_ON"
"""Commands that switch a node off and on; `{}` in them is the node's name."""


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out what needs to switch nodes off where nobody said how that is done, and say so."""
    if NODE_OFF in os.environ and NODE_ON in os.environ:
        return
    left_out = [item for item in items if item.get_closest_marker("switches_nodes")]
    items[:] = [item for item in items if item not in left_out]
    config.hook.pytest_deselected(items=left_out)
    reporter = config.pluginmanager.getplugin("terminalreporter")
    if left_out and reporter is not None:
        reporter.write_line(f"{NODE_OFF} and {NODE_ON} are not set: no node is switched off and on")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Show pods, Events and logs when a test fails."""
    report = yield
    if report.failed and (kubectl := item.config.stash.get(ADMINISTRATOR, None)) is not None:
        report.sections.extend(diagnosis(kubectl))
    return report


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Show what was measured."""
    for line in figures():
        terminalreporter.write_line(f"measured: {line}")


@pytest.fixture(scope="session")
def image() -> str:
    """The image under test, which the nodes have."""
    name = os.environ.get("IMAGE", "")
    assert ":" in name, "IMAGE must name the image under test with its tag, such as IMAGE=eventsink:0.1.0"
    return name


@pytest.fixture(scope="session")
def kubectl(tmp_path_factory: pytest.TempPathFactory, pytestconfig: pytest.Config) -> Kubectl:
    """kubectl as the administrator of the cluster that KUBECONFIG names."""
    assert os.environ.get("KUBECONFIG"), "KUBECONFIG must name the kubeconfig of a cluster that these tests may use"
    file = tmp_path_factory.mktemp("cluster") / "kubeconfig"
    shown = subprocess.run(
        [find_kubectl(), "config", "view", "--raw", "--flatten", "--minify"],
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    file.touch(0o600)
    file.write_text(shown.stdout)
    pytestconfig.stash[ADMINISTRATOR] = Kubectl(file)
    return pytestconfig.stash[ADMINISTRATOR]


@pytest.fixture(scope="session")
def signing_secret() -> str:
    """The secret that the tenant's sinks sign with."""
    return "whsec_" + base64.b64encode(secrets.token_bytes(24)).decode()


@pytest.fixture(scope="session")
def namespaces(kubectl: Kubectl, image: str, signing_secret: str) -> list[str]:
    """All namespaces of the tests, with the receiver's Service and the stand-in for Slack; returns the addresses of both."""
    assert kubectl.find("namespace", SYSTEM_NAMESPACE) is None, (
        f"the namespace {SYSTEM_NAMESPACE} exists: another run or an installation uses this cluster; these tests need one for themselves"
    )
    kubectl.apply(
        [
            namespace(SYSTEM_NAMESPACE),
            namespace(RECEIVERS),
            namespace(MONITORING),
            namespace(TENANT, TENANT),
            namespace(BROKEN, BROKEN),
            {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": FAULTS}},
            *(programs(one) for one in (RECEIVERS, MONITORING, TENANT, BROKEN, FAULTS)),
            *(secret(one, "hook", secret=signing_secret) for one in (RECEIVERS, TENANT)),
            secret(SYSTEM_NAMESPACE, "slack-app", **{"client-secret": "stand-in"}),
            secret(SYSTEM_NAMESPACE, "slack-workspace", token="xoxb-stand-in"),
            service(RECEIVERS, "receiver", 8080),
            service(MONITORING, "alertmanager", 9093),
        ]
    )
    stand_in = list(yaml.safe_load_all(kubectl.run("kustomize", str(SLACK_STAND_IN)).stdout))
    for one in stand_in:
        if one["kind"] == "Deployment":
            one["spec"]["template"]["spec"]["containers"][0]["image"] = image
    kubectl.apply(stand_in)
    services = (("receiver", RECEIVERS), ("slack", SLACK))
    return [str(kubectl.get("service", name, namespace=where)["spec"]["clusterIP"]) for name, where in services]


@pytest.fixture(scope="session")
def installation(kubectl: Kubectl, image: str, namespaces: list[str]) -> Installation:
    """The release, installed."""
    installation = Installation(kubectl, find_or_build_helm(), values(image, namespaces))
    installation.install()
    return installation


@pytest.fixture(scope="session")
def client(kubectl: Kubectl, installation: Installation, image: str) -> Client:
    """A pod of the tenant, with a token for the REST API and that of the source."""
    token = {"projected": {"sources": [{"serviceAccountToken": {"audience": "eventsink-rest", "path": "token"}}]}}
    source = {"token": kubectl.get("secret", "eventsink-source-tokens", namespace=installation.namespace)["data"]["alertmanager"]}
    kubectl.apply({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "intake", "namespace": TENANT}, "data": source})
    mounts: dict[str, dict[str, Any]] = {"/rest": token, "/intake": {"secret": {"secretName": "intake"}}}
    made = pod(TENANT, "client", image, "-c", "import signal; signal.pause()", mounts=mounts)
    return Client(kubectl, started(kubectl, made))


@pytest.fixture(scope="session")
def receiver(kubectl: Kubectl, client: Client, image: str) -> Receiver:
    """The receiver, which starts with the installation and remembers everything."""
    command = ("/programs/receiver.py", "8080", "/hook/secret")
    started(kubectl, pod(RECEIVERS, "receiver", image, *command, mounts={"/hook": {"secret": {"secretName": "hook"}}}, port=8080))
    return Receiver(client)


def started(kubectl: Kubectl, made: dict[str, Any]) -> str:
    """Create a pod and wait until it is ready; returns its namespace."""
    where, name = made["metadata"]["namespace"], made["metadata"]["name"]
    kubectl.apply(made)
    kubectl.run("wait", "-n", where, "--for=condition=Ready", f"pod/{name}", f"--timeout={START_SECONDS}s")
    return str(where)


@pytest.fixture(scope="session")
def sink(kubectl: Kubectl, receiver: Receiver) -> str:
    """The path of a sink that gets the alerts named `load-...`."""
    spec = {"match": {"matchers": ['alertname=~"load-.+"']}, "webhook": signed(f"{RECEIVER_URL}/load")}
    kubectl.apply(event_sink(TENANT, "load", tenant=TENANT, **spec))
    kubectl.wait_condition("eventsink", "load", "Ready", "True", namespace=TENANT)
    return "/load"
