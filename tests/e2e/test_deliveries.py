"""`eventsink deliveries` and `eventsink replay` against a running router."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner

from eventsink.cli import main
from eventsink.router.admin.client import AdminClient
from eventsink.router.admin.server import Admin
from tests.support.parts import Router, alert, notification, request
from tests.support.receiver import Receiver
from tests.support.router_process import start_router
from tests.support.waiting import wait_until
from tests.unit.docs.pages import in_text, marked, page


@pytest.fixture(scope="module")
def idle(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Router]:
    """A router with one sink, for tests that change nothing in it."""
    with start_router(tmp_path_factory.mktemp("idle"), "http://127.0.0.1:1/hook") as running:
        yield running


@pytest.fixture
def router(receiver: Receiver, tmp_path: Path) -> Iterator[Router]:
    """A router with one sink, whose receiver rejects messages with 400."""
    receiver.respond_with(400)
    with start_router(tmp_path, receiver.url("/hook")) as running:
        for number in range(3):
            assert running.post(notification(alert(f"A{number}", namespace="acme"), group=str(number)))[0] == 200
        wait_until("three dead letters", lambda: "eventsink_router_dead_letters 3.0" in running.metrics())
        yield running


def command(router: Router, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run `eventsink ARGUMENTS` against the router's admin API."""
    where = ["--server", router.admin_url, "--token-file", str(router.folder / "admin-token")]
    return subprocess.run([sys.executable, "-m", "eventsink", *arguments, *where], capture_output=True, text=True, timeout=60)


def test_dead_letters_are_shown_with_their_reason(router: Router) -> None:
    shown = command(router, "deliveries", "--state", "dead")
    lines = shown.stdout.splitlines()
    assert shown.returncode == 0
    assert lines[0].split() == ["ID", "AGE", "STATE", "TENANT", "SINK", "ALERT", "STATUS", "TRIES", "REASON"]
    assert sorted(line.split()[5] for line in lines[1:]) == ["A0", "A1", "A2"]
    assert {tuple(line.split()[2:5]) for line in lines[1:]} == {("dead", "acme", "acme/alerts")}
    assert {line.split()[-1] for line in lines[1:]} == {"HTTP400"}
    wide = command(router, "deliveries", "-o", "wide").stdout
    assert "responded with 400" in wide
    assert "/hook" not in wide
    found = json.loads(command(router, "deliveries", "-o", "json", "--sink", "acme/alerts", "--limit", "2").stdout)
    assert [one["reason"] for one in found] == ["HTTP400", "HTTP400"]
    assert command(router, "deliveries", "--reason", "MaxAge").stdout == ""


def test_what_a_sink_of_the_platform_gets_is_shown_and_replayed_by_the_tenant_of_the_alert(
    receiver: Receiver, tmp_path: Path
) -> None:
    receiver.respond_with(400)
    addresses = (receiver.url("/all#tenant=*"), receiver.url("/globex#tenant=globex"))
    with start_router(tmp_path, *addresses) as router:
        for tenant in ("acme", "globex"):
            assert router.post(notification(alert(f"Of-{tenant}", namespace=tenant), group=tenant))[0] == 200
        wait_until("three dead letters", lambda: "eventsink_router_dead_letters 3.0" in router.metrics())
        shown = [line.split() for line in command(router, "deliveries").stdout.splitlines()[1:]]
        assert sorted(one[3:6] for one in shown) == [
            ["acme", "acme/alerts", "Of-acme"],
            ["globex", "acme/alerts", "Of-globex"],
            ["globex", "acme/alerts-1", "Of-globex"],
        ]
        assert len(command(router, "deliveries", "--tenant", "globex").stdout.splitlines()) == 3
        receiver.respond_with(200)
        assert command(router, "replay", "--tenant", "acme").stdout == "1 dead letter will be delivered again\n"


def test_a_replay_delivers_again_under_the_same_id(router: Router, receiver: Receiver) -> None:
    dead = json.loads(command(router, "deliveries", "-o", "json").stdout)
    receiver.respond_with(200)
    tried = command(router, "replay", "--all", "--dry-run")
    assert len(tried.stdout.splitlines()) == 4
    one = command(router, "replay", dead[0]["id"])
    assert one.stdout == "1 dead letter will be delivered again\n"
    rest = command(router, "replay", "--sink", "acme/alerts")
    assert rest.stdout == "2 dead letters will be delivered again\n"
    seen = receiver.wait_for(6)
    assert {request.headers["webhook-id"] for request in seen[3:]} == {delivery["id"] for delivery in dead}
    wait_until("an empty queue", lambda: "eventsink_router_dead_letters 0.0" in router.metrics())
    assert command(router, "deliveries").stdout == ""


def test_the_commands_of_the_pages_do_what_they_say(router: Router, receiver: Receiver) -> None:
    dead = json.loads(command(router, "deliveries", "-o", "json").stdout)
    in_sentences = [one for name in ("queue.md", "status.md") for one in in_text(page(name), "eventsink")]
    shown = [one for one in in_sentences if one.startswith("eventsink deliveries ")]
    *blocks, replays = marked(page("queue.md"), "test: router")
    for text in (*shown, *blocks):
        assert "A0" in as_on_the_page(router, text, dead[0]["id"]) or "arrived" in text or "waiting" in text
    receiver.respond_with(200)
    wrote = as_on_the_page(router, replays.replace("HTTP413", "HTTP400"), dead[0]["id"])
    assert "3 dead letters will be delivered again" in wrote
    wait_until("an empty queue", lambda: "eventsink_router_dead_letters 0.0" in router.metrics())


def as_on_the_page(router: Router, commands: str, identifier: str) -> str:
    """Run commands of a page, about a sink and a delivery that exist; returns what they wrote."""
    environment = {
        **os.environ,
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        "EVENTSINK_ADMIN_SERVER": router.admin_url,
        "EVENTSINK_ADMIN_TOKEN_FILE": str(router.folder / "admin-token"),
    }
    commands = commands.replace("acme/security-alerts", "acme/alerts").replace("3f9c01aa2b4d-1f", identifier)
    done = subprocess.run(["bash", "-euc", commands], env=environment, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, f"{commands}\n{done.stdout}{done.stderr}"
    return done.stdout


@pytest.mark.parametrize(
    ("arguments", "status", "sentence"),
    [
        (["replay"], 2, "say which dead letters: IDS, --tenant, --sink, --reason, or --all"),
        (["deliveries", "--state", "lost"], 2, "is not one of 'dead', 'waiting'"),
        (["deliveries", "--sink", "acme/none"], 1, "sink not found; name it as namespace/name"),
        (["deliveries", "--token-file", "/none"], 2, "the secret cannot be read"),
        (["deliveries", "--server", "http://127.0.0.1:1"], 1, "http://127.0.0.1:1 cannot be reached"),
    ],
)
def test_a_usage_error_is_reported_with_a_sentence_and_an_exit_status(
    idle: Router, arguments: list[str], status: int, sentence: str
) -> None:
    given = [*arguments]
    where = {"--server": idle.admin_url, "--token-file": str(idle.folder / "admin-token")}
    for option, value in where.items():
        if option not in given:
            given += [option, value]
    result = CliRunner().invoke(main, given)
    assert (result.exit_code, result.stdout) == (status, "")
    assert sentence in result.stderr


@pytest.mark.parametrize(
    ("path", "body", "status", "sentence"),
    [
        ("/v1/deliveries?state=lost", None, 400, "state is waiting, dead or arrived"),
        ("/v1/deliveries?limit=0", None, 400, "limit is a number from 1 to 1000"),
        ("/v1/deliveries?stat=dead", None, 400, "unknown parameter stat"),
        ("/v1/deliveries/replay", {}, 400, "say which dead letters"),
        ("/v1/deliveries/replay", {"everything": True}, 400, "everything: Extra inputs"),
        ("/v1/deliveries/replay", {"ids": []}, 400, "ids: List should have at least 1 item"),
        ("/v1/sinks/none/test", {}, 404, "sink not found; name one by the uid"),
        ("/v1/sinks/none/test", {"wait": 31}, 400, "wait: Input should be less than or equal to 30"),
        ("/v1/sinks/none/test", {"to": "x"}, 400, "to: Extra inputs"),
        ("/v1/none", None, 404, "nothing is served here"),
    ],
)
def test_an_invalid_admin_request_is_rejected_with_the_reason(
    idle: Router, path: str, body: dict[str, object] | None, status: int, sentence: str
) -> None:
    received, response = idle.admin(path, body)
    assert received == status
    assert sentence in response["error"]


@pytest.mark.parametrize(("method", "path"), [(method, path) for method, path, _ in Admin.CALLS])
def test_every_call_of_the_admin_api_needs_its_token(idle: Router, method: str, path: str) -> None:
    path, body = path.replace("{uid}", "none"), b"{}" if method == "POST" else None
    for token in ("", "wrong", idle.token):
        status, response = request(f"{idle.admin_url}{path}", token, body)
        assert (status, list(response)) == (401, ["error"])
    assert idle.admin(path, {} if method == "POST" else None)[0] in (200, 400, 404), "it is served"


def test_the_admin_api_shows_the_sinks_to_its_token(idle: Router) -> None:
    assert [one["sink"] for one in idle.admin("/v1/sinks")[1]["sinks"]] == ["acme/alerts"]


def test_a_test_alert_is_sent_to_one_sink_and_its_outcome_returned(router: Router, receiver: Receiver) -> None:
    uid = router.admin("/v1/sinks")[1]["sinks"][0]["uid"]
    client = AdminClient(router.admin_url, router.folder / "admin-token")
    rejected = client.test(uid)
    assert (rejected["delivered"], rejected["status"], rejected["reason"]) == (False, "4xx", "HTTP400")
    assert rejected["id"] in [one["id"] for one in client.deliveries({"state": "dead"}, limit=10)]
    receiver.respond_with(200)
    arrived = client.test(uid)
    assert (arrived["delivered"], arrived["status"], arrived["message"]) == (True, "2xx", "the test alert arrived")
    last = receiver.wait_for(5)[-1]
    assert (last.headers["webhook-id"], last.json()["data"]["name"]) == (arrived["id"], "EventSinkTest")
