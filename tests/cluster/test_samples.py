"""Each documented use is a file in manifests/samples: applied as it is, with real credentials in it, it becomes Ready."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from tests.support.cluster import ROOT, Installed
from tests.support.kubectl import Kubectl
from tests.support.parts import start_operator
from tests.support.slack import Slack

SAMPLES = sorted((ROOT / "manifests" / "samples").glob("*.yaml"))
DOCUMENTED = ("docs/eventsink.md", "docs/recipes.md", "docs/slack.md", "docs/webhooks.md")


@pytest.fixture(scope="module")
def slack(install_manifests: Installed, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Slack]:
    """The stand-in for Slack, beside an operator that has a workspace for everybody and a Slack app."""
    folder = tmp_path_factory.mktemp("operator")
    with ExitStack() as stack:
        slack = stack.enter_context(Slack())
        slack.add_workspace("T1", "Acme")
        slack.add_channel("T1", "alerts")
        (folder / "client-secret").write_text(slack.client_secret)
        (folder / "token").write_text(slack.issue_token("T1"))
        settings: dict[str, Any] = {
            "egress": {"allow": ["127.0.0.0/8"]},
            "slack": {"apiUrl": slack.api_url, "tokenFile": str(folder / "token")},
            "slackApp": {"clientId": slack.client_id, "clientSecretFile": str(folder / "client-secret")},
        }
        operator = stack.enter_context(start_operator(install_manifests, folder, **settings))
        operator.wait_ready()
        yield slack


@pytest.mark.parametrize("sample", SAMPLES, ids=lambda path: path.stem)
def test_every_sample_becomes_ready(kubectl: Kubectl, slack: Slack, sample: Path) -> None:
    text = sample.read_text()
    text = text.replace("xoxb-replace-with-yours", slack.issue_token("T1"))
    text = text.replace("code: replace-with-yours", f"code: {slack.issue_code('T1')}")
    applied = kubectl.run("apply", "-f", "-", "-o", "name", input=text).stdout.split()
    namespace = next(name.partition("/")[2] for name in applied if name.startswith("namespace/"))
    try:
        for name in applied:
            if name.startswith("eventsink."):
                kubectl.wait_condition("eventsink", name.partition("/")[2], "Ready", "True", namespace=namespace)
    finally:
        kubectl.run("delete", "namespace", namespace, "--wait=false")


@pytest.mark.parametrize("sample", SAMPLES, ids=lambda path: path.stem)
def test_every_sample_is_named_in_the_documentation(sample: Path) -> None:
    assert [page for page in DOCUMENTED if f"manifests/samples/{sample.name}" in (ROOT / page).read_text()] != []
