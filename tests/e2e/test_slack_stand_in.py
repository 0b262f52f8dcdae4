"""The stand-in for Slack that people can run in a cluster: sinks of Slack become Ready there, and its log shows their messages."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.cluster import ROOT
from tests.support.ports import free_port
from tests.support.standalone import NAMESPACE, Standalone, secret, sink
from tests.support.waiting import wait_until

PROGRAM = ROOT / "manifests" / "slack-stand-in" / "stand_in.py"


@pytest.mark.parametrize("credential", ["botTokenSecretRef", "incomingWebhookSecretRef"])
def test_a_slack_sink_delivers_to_the_stand_in(tmp_path: Path, credential: str) -> None:
    port = free_port()
    shown = tmp_path / "shown"
    with shown.open("w") as log:
        stand_in = subprocess.Popen([sys.executable, PROGRAM], env={**os.environ, "PORT": str(port)}, stdout=log)
    standalone = Standalone(tmp_path)
    webhook = credential == "incomingWebhookSecretRef"
    slack = {credential: {"name": "slack", "key": "value"}, **({} if webhook else {"channel": "#alerts"})}
    document = sink("alerts", "", slack=slack)
    del document["spec"]["webhook"]
    url = f"http://127.0.0.1:{port}"
    standalone.put("sinks.yaml", NAMESPACE, secret("slack", value=f"{url}/services/x" if webhook else "xoxb-any"), document)
    try:
        wait_until("the stand-in", lambda: reached(port))
        standalone.start(slack={"apiUrl": f"{url}/api/", "hookUrls": [f"{url}/services/"]})
        standalone.post_alert("DiskFull")
        where = "incoming webhook" if webhook else "C000000001"
        wait_until("the message", lambda: f"{where}: " in shown.read_text() and "DiskFull" in shown.read_text())
    finally:
        if standalone.process is not None:
            standalone.process.close()
        stand_in.kill()
        stand_in.wait(10)


def reached(port: int) -> bool:
    with socket.socket() as one:
        return one.connect_ex(("127.0.0.1", port)) == 0
