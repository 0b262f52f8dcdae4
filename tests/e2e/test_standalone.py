"""`eventsink run` as a process of its own: documents in a folder, alerts in, signed webhooks out, through edits, kills and unmounts."""

from __future__ import annotations

import base64
import json
import os
import re
import secrets
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import standardwebhooks
import yaml

from tests.support.cluster import ROOT
from tests.support.parts import request
from tests.support.ports import free_ports
from tests.support.receiver import CannedResponse, Received, Receiver
from tests.support.slack import Slack
from tests.support.standalone import NAMESPACE, Standalone, run, secret, sink
from tests.support.waiting import wait_until

CANARY = f"canary-{secrets.token_hex(12)}"
"""Part of every credential of these tests: found in no log."""
SIGNING = "whsec_" + base64.b64encode(f"{CANARY}-signing".encode()).decode()


def name_of(received: Received) -> str:
    return str(received.json()["data"]["name"])


def alerts_named(*names: str) -> Callable[[list[Received]], bool]:
    return lambda seen: {name_of(one) for one in seen} >= set(names)


@pytest.fixture
def standalone(tmp_path: Path) -> Iterator[Standalone]:
    one = Standalone(tmp_path)
    yield one
    if one.process is not None:
        one.process.close()
        assert CANARY not in one.process.log.read_text()
        assert base64.b64encode(CANARY.encode()).decode().rstrip("=")[:-1] not in one.process.log.read_text()


def test_a_first_start_needs_a_document_and_nothing_else(standalone: Standalone, receiver: Receiver) -> None:
    standalone.put("team/sinks.yaml", sink("alerts", receiver.url("/hook"), namespace="default", tenant="default"))
    standalone.start()
    token = standalone.data / "alertmanager-token"
    assert standalone.logged("alerts are accepted")["token_files"] == [str(token)]
    assert token.stat().st_mode & 0o777 == 0o600
    standalone.post_alert("DiskFull", namespace="anything")
    receiver.wait_for(alerts_named("DiskFull"), path="/hook")
    assert standalone.running.terminate() == 0
    before = token.read_text()
    standalone.start()
    assert token.read_text() == before


def test_a_webhook_is_signed_with_the_secret_of_a_document(standalone: Standalone, receiver: Receiver) -> None:
    document = sink("alerts", receiver.url("/hook"))
    document["spec"]["webhook"]["signingSecretRefs"] = [{"name": "hook", "key": "secret"}]
    standalone.put("sinks.yaml", NAMESPACE, document, secret("hook", secret=SIGNING))
    standalone.start()
    standalone.post_alert("DiskFull")
    [received] = receiver.wait_for(1)
    standardwebhooks.Webhook(SIGNING).verify(received.body, dict(received.headers))
    standalone.logged("delivery to a sink", sink="acme/alerts", delivering="True")
    modes = {
        file.stat().st_mode & 0o077 for file in standalone.data.rglob("*") if file.is_file() and file.suffix in (".json", "")
    }
    assert modes == {0}


def test_a_change_of_a_sink_is_applied_without_a_restart(standalone: Standalone, receiver: Receiver) -> None:
    standalone.put("sinks.yaml", NAMESPACE, sink("alerts", receiver.url("/old")))
    standalone.start()
    standalone.post_alert("Before")
    receiver.wait_for(alerts_named("Before"), path="/old")
    standalone.put("sinks.yaml", NAMESPACE, sink("alerts", receiver.url("/new")))
    standalone.logged("sink accepted and active", sink="acme/alerts", generation=2)
    standalone.post_alert("After")
    receiver.wait_for(alerts_named("After"), path="/new")
    assert [name_of(one) for one in receiver.requests("/old")] == ["Before"]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("kind: [\n", {"event": "file rejected; its last good version stays active", "file": "sinks.yaml", "line": 2}),
        (
            "apiVersion: eventsink.dev/v1alpha1\nkind: EventSink\nmetadata: {name: Alerts}\n",
            {"event": "file rejected; its last good version stays active", "line": 3, "field": "metadata.name"},
        ),
        (
            "apiVersion: eventsink.dev/v1alpha1\nkind: EventSink\nmetadata: {name: alerts, namespace: acme}\n"
            f"spec:\n  tenant: acme\n  name: Alerts\n  webhook:\n    url: ftp://{CANARY}\n",
            {
                "event": "a sink is not ready",
                "file": "sinks.yaml",
                "line": 8,
                "field": "spec.webhook.url",
                "reason": "InvalidSpec",
            },
        ),
    ],
    ids=["not YAML", "invalid name", "invalid URL"],
)
def test_an_invalid_file_is_reported_by_line_and_field_and_its_last_good_version_stays_active_over_restarts(
    standalone: Standalone, receiver: Receiver, text: str, expected: dict[str, Any]
) -> None:
    standalone.put("owner.yaml", NAMESPACE)
    standalone.put("sinks.yaml", sink("alerts", receiver.url("/hook")))
    standalone.start()
    standalone.put_text("sinks.yaml", text)
    standalone.logged(**expected)
    standalone.post_alert("Still")
    receiver.wait_for(alerts_named("Still"))
    standalone.running.kill9()
    standalone.start()
    standalone.logged(**expected)
    standalone.post_alert("StillAfterTheRestart")
    receiver.wait_for(alerts_named("Still", "StillAfterTheRestart"))


def test_a_deleted_file_deletes_its_sinks_whose_deliveries_become_dead_letters(
    standalone: Standalone, receiver: Receiver
) -> None:
    receiver.respond_with(503, path="/gone")
    standalone.put("gone.yaml", sink("gone", receiver.url("/gone")))
    standalone.put("stays.yaml", NAMESPACE, sink("stays", receiver.url("/stays")))
    standalone.start()
    standalone.post_alert("DiskFull")
    receiver.wait_for(1, path="/gone")
    (standalone.documents / "gone.yaml").unlink()
    [dead] = wait_until("a dead letter", lambda: standalone.deliveries(state="dead"))
    assert dead["reason"] == "SinkDeleted"
    standalone.post_alert("Next")
    receiver.wait_for(alerts_named("DiskFull", "Next"), path="/stays")


def test_a_file_deleted_while_the_process_is_down_deletes_its_sinks_at_the_start(
    standalone: Standalone, receiver: Receiver
) -> None:
    receiver.respond_with(503)
    standalone.put("gone.yaml", sink("gone", receiver.url("/gone")))
    standalone.put("owner.yaml", NAMESPACE)
    standalone.start()
    standalone.post_alert("DiskFull")
    receiver.wait_for(1)
    standalone.running.kill9()
    (standalone.documents / "gone.yaml").unlink()
    standalone.start()
    [dead] = wait_until("a dead letter", lambda: standalone.deliveries(state="dead"))
    assert dead["reason"] == "SinkDeleted"


def test_the_same_sink_in_two_files_is_an_error_that_names_both(standalone: Standalone, receiver: Receiver) -> None:
    standalone.put("a.yaml", NAMESPACE, sink("alerts", receiver.url("/first")))
    standalone.start()
    standalone.put("b.yaml", sink("alerts", receiver.url("/second")))
    line = standalone.logged("file rejected; its last good version stays active", file="b.yaml", line=1)
    assert line["reason"] == "EventSink acme/alerts is also defined at a.yaml:8; remove one of the two"
    standalone.post_alert("DiskFull")
    receiver.wait_for(alerts_named("DiskFull"), path="/first")
    (standalone.documents / "a.yaml").unlink()
    standalone.logged("sink accepted and active", sink="acme/alerts", generation=2)


def test_a_new_secret_signs_without_a_restart(standalone: Standalone, receiver: Receiver) -> None:
    document = sink("alerts", receiver.url("/hook"))
    document["spec"]["webhook"]["signingSecretRefs"] = [{"name": "hook", "key": "secret"}]
    standalone.put("sinks.yaml", NAMESPACE, document)
    standalone.start()
    standalone.logged(
        "a sink is not ready", sink="acme/alerts", reason="SecretNotFound", field="spec.webhook.signingSecretRefs[0]"
    )
    for number, signing in enumerate((SIGNING, f"whsec_{base64.b64encode(f'{CANARY}-new-one-here'.encode()).decode()}")):
        standalone.put("secret.yaml", secret("hook", secret=signing))
        wait_until("the sink", partial(was_activated, standalone, number + 1))
        standalone.post_alert(f"Alert{number}")
        received = receiver.wait_for(number + 1)[-1]
        standardwebhooks.Webhook(signing).verify(received.body, dict(received.headers))


def was_activated(standalone: Standalone, times: int) -> bool:
    return [line["event"] for line in standalone.running.lines()].count("sink accepted and active") == times


def test_removing_a_document_from_its_file_deletes_its_sink_and_moving_it_to_another_file_does_not(
    standalone: Standalone, receiver: Receiver
) -> None:
    standalone.put("a.yaml", NAMESPACE, sink("moves", receiver.url("/moves")), sink("leaves", receiver.url("/leaves")))
    standalone.start()
    standalone.put("b.yaml", sink("moves", receiver.url("/moves")))
    standalone.put("a.yaml", NAMESPACE)
    line = standalone.logged("compiled sink removed")
    assert line["sink"] == "acme/leaves"
    standalone.post_alert("DiskFull")
    receiver.wait_for(alerts_named("DiskFull"), path="/moves")
    assert [line["sink"] for line in standalone.running.lines() if line["event"] == "compiled sink removed"] == ["acme/leaves"]
    assert not receiver.requests("/leaves")


def test_an_update_of_a_mounted_configmap_is_applied(standalone: Standalone, receiver: Receiver) -> None:
    mount = standalone.documents

    def publish(version: str, *documents: dict[str, Any]) -> None:
        folder = mount / f"..{version}"
        folder.mkdir()
        (folder / "sinks.yaml").write_text(yaml.safe_dump_all(documents))
        (mount / "..data_tmp").symlink_to(folder.name)
        os.replace(mount / "..data_tmp", mount / "..data")

    publish("1", NAMESPACE, sink("alerts", receiver.url("/old")))
    (mount / "sinks.yaml").symlink_to("..data/sinks.yaml")
    standalone.start()
    standalone.post_alert("Before")
    receiver.wait_for(alerts_named("Before"), path="/old")
    publish("2", NAMESPACE, sink("alerts", receiver.url("/new")))
    standalone.logged("sink accepted and active", sink="acme/alerts", generation=2)
    standalone.post_alert("After")
    receiver.wait_for(alerts_named("After"), path="/new")
    assert not [line for line in standalone.running.lines() if line["event"] == "compiled sink removed"]


def test_a_missing_or_empty_folder_deletes_no_sink(standalone: Standalone, receiver: Receiver) -> None:
    standalone.put("sinks.yaml", NAMESPACE, sink("alerts", receiver.url("/hook")))
    standalone.start()
    standalone.documents.rename(standalone.root / "elsewhere")
    standalone.logged("document folder unreadable or unmounted; its last contents stay active")
    standalone.documents.mkdir()
    standalone.running.kill9()
    standalone.start()
    standalone.logged("document folder unreadable or unmounted; its last contents stay active")
    standalone.post_alert("DiskFull")
    receiver.wait_for(alerts_named("DiskFull"))


def test_a_second_process_on_the_same_data_folder_does_not_start(standalone: Standalone, receiver: Receiver) -> None:
    standalone.put("sinks.yaml", sink("alerts", receiver.url("/hook")))
    first = standalone.start()
    second = standalone.start(ready=False)
    assert second.wait() == 1
    assert f"another process works with this data folder ({socket.gethostname()}, process {first.pid})" in second.text()
    second.close()
    standalone.process = first
    assert first.terminate() == 0


def test_kill_9_loses_nothing(standalone: Standalone, receiver: Receiver) -> None:
    receiver.respond_with(CannedResponse(503))
    standalone.put("sinks.yaml", NAMESPACE, sink("alerts", receiver.url("/hook")))
    standalone.start()
    names = [f"Alert{number}" for number in range(30)]
    for name in names:
        standalone.post_alert(name)
    standalone.running.kill9()
    receiver.respond_with(200)
    standalone.start()
    receiver.wait_for(alerts_named(*names))
    assert standalone.running.terminate() == 0


def test_a_sink_that_claims_another_tenant_is_rejected_as_in_a_cluster(standalone: Standalone, receiver: Receiver) -> None:
    standalone.put("sinks.yaml", NAMESPACE, sink("thief", receiver.url("/hook"), namespace="other"))
    standalone.start()
    line = standalone.logged("a sink is not ready", sink="other/thief", reason="TenantOwnedElsewhere", field="spec.tenant")
    assert line["line"] == 15
    standalone.post_alert("DiskFull")
    assert standalone.deliveries() == []


def test_slack_sinks_by_code_and_by_token_and_the_code_is_exchanged_once_over_kills(standalone: Standalone) -> None:
    with Slack(message_seconds=0) as slack:
        slack.add_workspace("T1")
        for channel in ("by-code", "by-token"):
            slack.add_channel("T1", channel)
        client_secret = standalone.root / "client-secret"
        client_secret.write_text(slack.client_secret)
        settings: dict[str, Any] = {
            "slack": {"apiUrl": slack.api_url, "hookUrls": [slack.url]},
            "slackApp": {"clientId": slack.client_id, "clientSecretFile": str(client_secret)},
        }
        values = {"code": slack.issue_code("T1"), "token": slack.issue_token("T1")}
        standalone.put("secrets.yaml", NAMESPACE, secret("slack", **values))
        standalone.put(
            "sinks.yaml", *(slack_sink(*of) for of in (("code", "oauthCodeSecretRef"), ("token", "botTokenSecretRef")))
        )
        standalone.start(**settings)
        standalone.post_alert("Before")
        slack.wait_for(1, channel="by-code")
        slack.wait_for(1, channel="by-token")
        standalone.running.kill9()
        standalone.start(**settings)
        standalone.post_alert("After")
        slack.wait_for(2, channel="by-code")
        slack.wait_for(2, channel="by-token")
        assert slack.calls("oauth.v2.access") == 1
    log = standalone.running.log.read_text()
    assert not [name for name, value in values.items() if value in log]


def slack_sink(key: str, field: str) -> dict[str, Any]:
    document = sink(f"by-{key}", "")
    document["spec"]["slack"] = {"channel": f"#by-{key}", field: {"name": "slack", "key": key}}
    del document["spec"]["webhook"]
    return document


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["absent"], "folder not found"),
        ([".", "--data", "data"], "is inside the folder of documents"),
    ],
)
def test_an_unusable_folder_stops_the_start_with_a_sentence(
    arguments: list[str], sentence: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    ended = run("run", *arguments)
    assert ended.returncode == 2
    assert sentence in ended.stderr


def test_the_commands_of_the_page_deliver_an_alert(receiver: Receiver, tmp_path: Path) -> None:
    text = (ROOT / "docs" / "standalone.md").read_text()
    commands = re.findall(r"<!-- test: standalone -->\n```sh\n(.*?)```", text, re.DOTALL)
    assert len(commands) == 5
    intake, admin, rest, monitor = free_ports(4)
    script = "\n".join(commands)
    for shown, port in (("8080", intake), ("8082", rest), ("9090", monitor)):
        script = script.replace(f"127.0.0.1:{shown}", f"127.0.0.1:{port}")
    addresses = {"INTAKE": intake, "ADMIN": admin, "REST": rest, "MONITOR": monitor}
    # A command that fails ends the script, and with it the process in its background.
    script = f"trap 'kill $(jobs -p)' EXIT\n{script}\ntrap - EXIT\nkill -TERM $!\nwait $!\n"
    ended = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", script],
        cwd=tmp_path,
        env={
            **os.environ,
            "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
            "RECEIVER": receiver.url("/hook"),
            "EVENTSINK_ADMIN_SERVER": f"http://127.0.0.1:{admin}",
            **{f"EVENTSINK_STANDALONE__{part}__ADDRESS": f"127.0.0.1:{port}" for part, port in addresses.items()},
        },
        capture_output=True,
        text=True,
        timeout=90,
    )
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert '"event_sink_type":"Webhook"' in ended.stdout
    receiver.wait_for(alerts_named("DiskFull"), path="/hook")


def test_a_sink_of_the_platform_gets_the_alerts_of_all_tenants_which_name_their_tenant_and_the_cluster(
    standalone: Standalone, receiver: Receiver
) -> None:
    def marked(value: str) -> dict[str, Any]:
        labels = {"eventsink.dev/platform": value}
        return {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "ops", "labels": labels}}

    globex = {**NAMESPACE, "metadata": {"name": "globex", "labels": {"eventsink.dev/tenant": "globex"}}}
    of_all = sink("on-call", receiver.url("/all"), namespace="ops", tenant="*")
    standalone.put("tenants.yaml", NAMESPACE, globex, sink("alerts", receiver.url("/acme")))
    standalone.put("platform.yaml", marked("true"), of_all)
    standalone.start(cluster="prod-eu")
    standalone.post_alert("OfAcme", namespace="acme")
    standalone.post_alert("OfGlobex", namespace="globex", cluster="edge-1")
    seen = receiver.wait_for(alerts_named("OfAcme", "OfGlobex"), path="/all")
    found = {name_of(one): one.json() for one in seen}
    assert {name: (one["tenant"], one["cluster"], one["source"]) for name, one in found.items()} == {
        "OfAcme": ("acme", "prod-eu", "/eventsink/prod-eu/alertmanager"),
        "OfGlobex": ("globex", "edge-1", "/eventsink/edge-1/alertmanager"),
    }
    standalone.put("platform.yaml", marked("false"), of_all)
    standalone.logged("sink withdrawn", sink="ops/on-call", reason="NotPlatformNamespace")
    standalone.logged("delivery to a sink", sink="ops/on-call", reason="Withdrawn")
    standalone.post_alert("Later", namespace="acme")
    receiver.wait_for(alerts_named("OfAcme", "Later"), path="/acme")
    wait_until("the delivery to be held", lambda: standalone.deliveries(state="waiting", tenant="acme", sink="ops/on-call"))
    assert {name_of(one) for one in receiver.requests("/all")} == {"OfAcme", "OfGlobex"}
    assert {name_of(one) for one in receiver.requests("/acme")} == {"OfAcme", "Later"}


def json_source(standalone: Standalone, **mapping: Any) -> dict[str, Any]:
    """Settings with a source of a program that has a format of its own."""
    token = standalone.root / "uptime-token"
    token.write_text(f"{CANARY}-uptime")
    source = {"name": "uptime", "format": "json", "tokenFiles": [str(token)], "tenant": {"fixed": "acme"}, "mapping": mapping}
    return {"sources": [source]}


def test_the_json_of_any_program_arrives_as_alerts_by_the_mapping_of_its_source(
    standalone: Standalone, receiver: Receiver
) -> None:
    standalone.put("sinks.yaml", NAMESPACE, sink("alerts", receiver.url("/hook"), match={"minSeverity": "critical"}))
    mapping = {
        "items": "body.monitors",
        "name": '"MonitorDown"',
        "status": "item.up == false",
        "severity": 'item.public ? "critical" : "low"',
        "summary": 'item.name + " of " + body.site + " is down"',
        "labels": {"monitor": "item.name"},
    }
    standalone.start(**json_source(standalone, **mapping))

    def post(**monitor: Any) -> tuple[int, dict[str, Any]]:
        body = {"site": "eu", "monitors": [{"name": "intranet", "up": False, "public": False}, {"public": True, **monitor}]}
        url = f"http://127.0.0.1:{standalone.running.port_of('intake')}/v1/alerts/uptime"
        return request(url, f"{CANARY}-uptime", json.dumps(body).encode())

    assert post(name="shop", up=False)[0] == 200
    [fired] = receiver.wait_for(1, path="/hook")
    assert post(name="shop", up=True)[0] == 200
    _, ended = receiver.wait_for(2, path="/hook")
    found = [one.json()["data"] for one in (fired, ended)]
    assert [(one["name"], one["status"], one["severity"], one["tenant"], one["source"]) for one in found] == [
        ("MonitorDown", status, "critical", "acme", "uptime") for status in ("firing", "resolved")
    ]
    assert found[0]["summary"] == "shop of eu is down"
    assert found[0]["labels"]["monitor"] == "shop"
    assert found[0]["fingerprint"] == found[1]["fingerprint"]


def test_a_mapping_that_cannot_be_read_stops_the_start_with_the_source_and_the_member(standalone: Standalone) -> None:
    standalone.put("sinks.yaml", NAMESPACE)
    ended = standalone.start(ready=False, **json_source(standalone, severity="item.level >="))
    assert ended.wait() == 2
    assert "sources[0].mapping.severity: line 1" in ended.text()
