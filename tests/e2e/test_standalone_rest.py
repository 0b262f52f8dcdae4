"""The REST API of `eventsink run`: sinks that programs create are active at once, exist beside the documents, and survive kills."""

from __future__ import annotations

import json
import re
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from eventsink.client import Client, Conflict, InvalidRequest, NotFound, Slack, Unauthorized, Webhook
from tests.support.receiver import Receiver
from tests.support.rest import eventsink_command
from tests.support.slack import Slack as SlackServer
from tests.support.standalone import NAMESPACE, Standalone, secret, sink
from tests.support.waiting import wait_until

CANARY = "canary-of-standalone-rest"


@pytest.fixture
def standalone(tmp_path: Path) -> Iterator[Standalone]:
    one = Standalone(tmp_path)
    yield one
    if one.process is not None:
        one.process.close()
        assert CANARY not in one.process.log.read_text()


def test_the_first_start_creates_a_key_that_manages_sinks(standalone: Standalone, receiver: Receiver) -> None:
    standalone.start()
    assert (standalone.data / "rest-key").stat().st_mode & 0o777 == 0o600
    with standalone.rest() as client:
        made = client.create("default", "Alerts", Webhook(secret_url=receiver.url(f"/{CANARY}"), generate_signing_secret=True))
        assert (made.ready, made.reason) == (True, "")
        assert CANARY not in json.dumps(made.raw)
        standalone.post_alert("DiskFull", namespace="anything")
        assert receiver.wait_for(1)[0].json()["data"]["name"] == "DiskFull"

        assert client.test(made.id).delivered
        assert receiver.wait_for(2)[1].json()["data"]["name"] == "EventSinkTest"

        changed = client.update(made.id, destination=Webhook(secret_url=receiver.url("/elsewhere")))
        assert changed.ready
        standalone.post_alert("Again", namespace="anything")
        receiver.wait_for(lambda seen: any(one.json()["data"]["name"] == "Again" for one in seen), path="/elsewhere")

        client.delete(made.id)
        with pytest.raises(NotFound):
            client.get(made.id)
        assert list(client.list("default")) == []
        left = [file.name for folder in ("made", "objects") for file in (standalone.data / folder).rglob("*.json")]
        assert [name for name in left if name.startswith("rest-")] == []


def test_a_webhook_that_rejects_everything_is_said_to_until_a_message_arrives_and_one_that_rejects_some_is_not(
    standalone: Standalone, receiver: Receiver
) -> None:
    receiver.respond_with(400, path="/all")
    receiver.respond_with(*[200, 400] * 4, path="/some")
    standalone.start(dispatch={"concurrency": 1})

    def delivering(identifier: str) -> tuple[str, str]:
        with standalone.rest() as client:
            found = client.get(identifier).delivering
        assert found is not None
        return found.status, found.reason

    with standalone.rest() as client:
        everything = client.create("default", "Rejects all", Webhook(url=receiver.url("/all"))).id
        some = client.create("default", "Rejects some", Webhook(url=receiver.url("/some"))).id
    for number in range(8):
        standalone.post_alert(f"A{number}", namespace="anything")
    receiver.wait_for(8, path="/all")
    receiver.wait_for(8, path="/some")
    wait_until("all to be rejected", lambda: delivering(everything) == ("False", "HTTP400"))
    wait_until("some to arrive", lambda: delivering(some) == ("True", "Delivered"))
    dead = standalone.deliveries(state="dead")
    assert len(dead) == 12
    assert {(one["attempts"], one["reason"]) for one in dead} == {(1, "HTTP400")}
    receiver.respond_with(200, path="/all")
    standalone.post_alert("B", namespace="anything")
    wait_until("a message to arrive", lambda: delivering(everything) == ("True", "Delivered"))


def test_created_sinks_survive_a_kill_unchanged(standalone: Standalone, receiver: Receiver) -> None:
    standalone.start()
    with standalone.rest() as client:
        made = client.create("default", "Alerts", Webhook(secret_url=receiver.url("/hook"), signing_secret="whsec_" + "a" * 32))
        client.update(made.id, name="Renamed")
        before = client.get(made.id)
    standalone.running.kill9()
    standalone.start()
    with standalone.rest() as client:
        after = client.get(made.id)
        assert (after.name, after.ready) == ("Renamed", True)
        assert (after.id, after.created_at, after.updated_at, after.etag) == (
            before.id,
            before.created_at,
            before.updated_at,
            before.etag,
        )
        standalone.post_alert("DiskFull", namespace="anything")
        assert "webhook-signature" in receiver.wait_for(1)[0].headers


def test_sinks_from_documents_are_listed_and_can_only_be_changed_in_their_file(
    standalone: Standalone, receiver: Receiver
) -> None:
    document = sink("alerts", receiver.url("/hook"))
    document["spec"]["webhook"]["signingSecretRefs"] = [{"name": "hook", "key": "secret"}]
    standalone.put("team/sinks.yaml", NAMESPACE, document, secret("hook", secret=f"{CANARY}-{'a' * 32}"))
    standalone.start()
    with standalone.rest() as client:
        (shown,) = client.list("acme")
        assert (shown.name, shown.ready) == ("alerts", True)
        for change in (lambda: client.update(shown.id, name="x"), lambda: client.delete(shown.id)):
            with pytest.raises(Conflict, match=r"is defined in the file team/sinks\.yaml: change it there"):
                change()
        made = client.create("acme", "By program", Webhook(url=receiver.url("/made")))
        assert {one.id for one in client.list("acme")} == {shown.id, made.id}
        standalone.post_alert("DiskFull")
        receiver.wait_for(2)
        # A change of the document changes the sink's updated_at, which a restart keeps.
        document["spec"]["name"] = "Other"
        standalone.put("team/sinks.yaml", NAMESPACE, document, secret("hook", secret=f"{CANARY}-{'a' * 32}"))
        wait_until("the new name", lambda: client.get(shown.id).name == "Other")
        changed = client.get(shown.id)
        assert changed.created_at == shown.created_at
    standalone.running.terminate()
    standalone.start()
    with standalone.rest() as client:
        again = client.get(shown.id)
        assert (again.created_at, again.updated_at) == (changed.created_at, changed.updated_at)
        assert client.get(made.id).ready
        (standalone.documents / "team" / "sinks.yaml").rename(standalone.documents / "moved.yaml")

        def rejection() -> str:
            with pytest.raises(Conflict) as caught:
                client.update(shown.id, name="x")
            return str(caught.value)

        wait_until("the new file", lambda: "moved.yaml" in rejection())


def test_a_start_keeps_the_waiting_deliveries_of_a_created_sink_that_is_not_ready(
    standalone: Standalone, receiver: Receiver
) -> None:
    receiver.respond_with(503)
    standalone.start()
    with standalone.rest() as client:
        made = client.create("default", "Alerts", Webhook(url=receiver.url("/hook")))
    standalone.post_alert("DiskFull", namespace="anything")
    receiver.wait_for(1)
    standalone.running.kill9()
    # As if its compiled form was lost; it cannot be compiled again under these settings.
    (compiled,) = standalone.data.rglob(f"sink-{made.id}.json")
    compiled.unlink()
    standalone.start(webhooks={"deniedHosts": ["127.0.0.1"]})
    assert [one["state"] for one in standalone.deliveries()] == ["waiting"]
    receiver.respond_with(200)
    standalone.running.terminate()
    standalone.start()
    wait_until("the delivery", lambda: standalone.deliveries() == [])


def test_a_document_does_not_take_the_name_of_a_sink_that_a_program_created(standalone: Standalone, receiver: Receiver) -> None:
    standalone.start()
    with standalone.rest() as client:
        made = client.create("default", "Made", Webhook(url=receiver.url("/made")))
        (file,) = (standalone.data / "made").rglob("*.json")
        standalone.put("sinks.yaml", sink(file.stem, receiver.url("/document"), namespace="default", tenant="default"))
        standalone.logged("document ignored: a program created a sink of this name; rename the document")
        assert client.get(made.id).name == "Made"
        client.delete(made.id)
        wait_until("the document to become active", lambda: [one.name for one in client.list("default")] == [file.stem])


def test_a_rejected_sink_leaves_nothing(standalone: Standalone) -> None:
    standalone.put("ns.yaml", {**NAMESPACE, "metadata": {"name": "default", "labels": {"eventsink.dev/tenant": "acme"}}})
    standalone.start(webhooks={"deniedHosts": ["*.example.org"]})
    with standalone.rest() as client:
        with pytest.raises(InvalidRequest, match=r"event_sink_args\.Webhook\.url: "):
            client.create("acme", "Alerts", Webhook(url="https://hooks.example.org/"))
        with pytest.raises(InvalidRequest, match="tenant"):
            client.create("globex", "Alerts", Webhook(url="https://example.com/"))
        assert list(client.list("acme")) == []
    assert list((standalone.data / "made").rglob("*.json")) == []


def test_keys_are_created_and_revoked_while_the_process_runs(standalone: Standalone) -> None:
    standalone.start()
    records = standalone.data / "rest-keys.json"
    key = eventsink_command("keys", "create", "--name=x", "--tenant=acme", "--file", records).stdout.strip()
    server = f"http://127.0.0.1:{standalone.running.port_of('rest')}"
    with Client(server, key) as client:
        assert list(client.list("acme")) == []
        assert "x" in eventsink_command("keys", "list", "--file", records).stdout
        eventsink_command("keys", "revoke", key.split("_")[1], "--file", records)
        with pytest.raises(Unauthorized):
            list(client.list("acme"))
    standalone.running.terminate()
    first = (standalone.data / "rest-key").read_text()
    standalone.start()
    assert (standalone.data / "rest-key").read_text() == first
    records.write_text("{")
    with standalone.rest() as client, pytest.raises(Unauthorized):
        list(client.list("acme"))
    standalone.logged("API keys cannot be read: every key is rejected")


def test_a_slack_code_creates_a_sink_in_standalone_mode_too(standalone: Standalone) -> None:
    with SlackServer(lists_per_minute=0) as slack:
        slack.add_workspace("T1", "Acme")
        slack.add_channel("T1", "security-alerts")
        client_secret = standalone.root / "client-secret"
        client_secret.write_text(slack.client_secret)
        standalone.start(
            slack={"apiUrl": slack.api_url, "hookUrls": [slack.url]},
            slackApp={"clientId": slack.client_id, "clientSecretFile": str(client_secret)},
        )
        with standalone.rest() as client:
            made = client.create("default", "Alerts", Slack(channel="#security-alerts", slack_oauth_code=slack.issue_code("T1")))
            assert made.ready, made.reason
            assert client.test(made.id).delivered
        assert len(slack.messages("security-alerts")) == 1


def test_malformed_http_gets_400_and_leaves_nothing_in_the_log(standalone: Standalone) -> None:
    standalone.start(log={"format": "text"}, ready=False)
    wait_until(
        "the REST API to start", lambda: (standalone.data / "rest-key").exists() and "part=rest" in standalone.running.text()
    )
    port = int(re.findall(r"part=rest port=(\d+)", re.sub(r"\x1b\[[0-9;]*m", "", standalone.running.text()))[0])
    key = (standalone.data / "rest-key").read_text().strip()
    for request in (
        f"GET /v1/event_sink/x HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {key}\x01\r\n\r\n",
        f"GET /v1/slack/callback?code={CANARY}&state=\x01x HTTP/1.1\r\nHost: x\r\n\r\n",
        f"GET /v1/event_sink/{CANARY} HTTP/1.1\r\nHost: {CANARY}/\r\n\r\n",
        f"{CANARY}\r\n\r\n",
    ):
        with socket.create_connection(("127.0.0.1", port), timeout=30) as connection:
            connection.sendall(request.encode("latin-1"))
            assert b" 400 " in connection.recv(4096).split(b"\r\n")[0]
    with Client(f"http://127.0.0.1:{port}", key) as client:
        assert list(client.list("acme")) == []
    assert key not in standalone.running.text()
    assert "Traceback" not in standalone.running.text()


def test_the_namespace_of_another_tenant_gets_no_new_sinks(standalone: Standalone, receiver: Receiver) -> None:
    standalone.put("ns.yaml", {**NAMESPACE, "metadata": {"name": "default", "labels": {"eventsink.dev/tenant": "acme"}}})
    standalone.start()
    with standalone.rest() as client:
        assert client.create("acme", "Alerts", Webhook(url=receiver.url("/hook"))).ready
        with pytest.raises(InvalidRequest, match="no namespace belongs to this tenant"):
            client.create("globex", "Alerts", Webhook(url=receiver.url("/hook")))
