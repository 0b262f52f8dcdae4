"""The client against a scripted server: what is sent, what is retried and what is not, and the errors."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import requests
from click.testing import CliRunner

from eventsink.cli import main
from eventsink.client import (
    Client,
    Conflict,
    Delivery,
    EventSinkError,
    Forbidden,
    InvalidRequest,
    Match,
    NotFound,
    PreconditionFailed,
    ServiceUnavailable,
    Slack,
    TooManyRequests,
    Unauthorized,
    UnexpectedResponse,
    Webhook,
)

KEY = "esk_abc_canary-key"
ID = "6fa1c1f2-7d3b-4e0e-9d9b-0c5a1c8c4a11"
SINK = {
    "id": ID,
    "tenant_id": "acme",
    "name": "Alerts",
    "description": "",
    "event_sink_type": "Webhook",
    "configuration": {"Webhook": {"url": "https://example.com/hook"}},
    "created_at": "2024-05-09T20:01:32Z",
    "updated_at": "2024-05-10T20:01:32Z",
    "ready": True,
    "reason": "",
    "unheard_of": 1,
}
ONE = {"event_sink": SINK}


@dataclass
class Step:
    """One response; `cut`: the connection is closed instead."""

    status: int = 200
    body: Any = field(default_factory=lambda: ONE)
    headers: dict[str, str] = field(default_factory=dict)
    cut: bool = False


CUT = Step(cut=True)


class ScriptedRestServer:
    """Responds as scripted, with the last step repeated, and records the requests."""

    def __init__(self) -> None:
        self.script: list[Step] = []
        self.asked: list[tuple[str, str, dict[str, str], Any]] = []
        server = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def handle_one(self) -> None:
                length = int(self.headers.get("Content-Length", 0))
                content = self.rfile.read(length)
                headers = {name.lower(): value for name, value in self.headers.items()}
                server.asked.append((self.command, self.path, headers, json.loads(content) if content else None))
                step = server.script.pop(0) if len(server.script) > 1 else server.script[0]
                if step.cut:
                    self.close_connection = True
                    self.connection.close()
                    return
                body = step.body if isinstance(step.body, bytes) else json.dumps(step.body).encode()
                self.send_response(step.status)
                for name, value in {"Content-Length": str(len(body)), **step.headers}.items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(body)

            do_GET = do_POST = do_PUT = do_DELETE = handle_one  # noqa: N815

            def log_message(self, *_: object) -> None:
                pass

        self._http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._http.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._http.server_port}"
        self._thread = threading.Thread(target=self._http.serve_forever, kwargs={"poll_interval": 0.05})
        self._thread.start()

    def close(self) -> None:
        self._http.shutdown()
        self._thread.join(30)
        self._http.server_close()


@pytest.fixture
def server() -> Iterator[ScriptedRestServer]:
    made = ScriptedRestServer()
    yield made
    made.close()


@pytest.fixture
def waits(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Seconds that clients waited for; none is waited."""
    waited: list[float] = []
    monkeypatch.setattr(time, "sleep", waited.append)
    return waited


@pytest.fixture
def client(server: ScriptedRestServer, waits: list[float]) -> Iterator[Client]:
    with Client(server.url, KEY) as made:
        yield made


def test_a_sink_is_made_and_read_as_an_object(server: ScriptedRestServer, client: Client) -> None:
    server.script = [Step(body={**ONE, "signing_secret": "whsec_canary"}, headers={"ETag": '"u.1"'})]
    destination = Webhook(
        url="https://example.com/hook", headers={"X-Team": "canary-header"}, generate_signing_secret=True, batch=5
    )
    made = client.create("acme", "Alerts", destination, match=Match(matchers=('team="a"',)), delivery=Delivery(max_age="1h"))
    assert (made.id, made.tenant_id, made.type, made.ready, made.etag) == (ID, "acme", "Webhook", True, '"u.1"')
    assert made.configuration == {"url": "https://example.com/hook"}
    assert made.created_at == datetime(2024, 5, 9, 20, 1, 32, tzinfo=UTC)
    assert made.signing_secret == "whsec_canary"
    assert made.raw["unheard_of"] == 1
    assert "canary" not in repr(made) + repr(destination) + repr(client)
    (method, path, headers, body) = server.asked[0]
    assert (method, path, headers["authorization"]) == ("POST", "/v1/event_sink", f"Bearer {KEY}")
    assert body == {
        "tenant_id": "acme",
        "name": "Alerts",
        "event_sink_args": {
            "Webhook": {
                "url": "https://example.com/hook",
                "headers": [{"name": "X-Team", "value": "canary-header"}],
                "generate_signing_secret": True,
                "batch": 5,
            }
        },
        "match": {"matchers": ['team="a"']},
        "delivery": {"max_age": "1h"},
    }


def test_an_update_sends_only_the_given_fields_and_none_clears_one(server: ScriptedRestServer, client: Client) -> None:
    server.script = [Step()]
    client.update(ID, match=None, destination=Webhook(timeout=None), if_match='"u.1"')
    client.update(ID, destination=Slack(channel="#a"), suspend=True)
    (_, path, headers, body), (_, _, other_headers, other) = server.asked
    assert path == f"/v1/event_sink/{ID}"
    assert body == {"id": ID, "match": None, "event_sink_args": {"Webhook": {"timeout": None}}}
    assert headers["if-match"] == '"u.1"'
    assert other == {"id": ID, "suspend": True, "event_sink_args": {"Slack": {"channel": "#a"}}}
    assert "if-match" not in other_headers


def test_a_listing_is_read_page_by_page(server: ScriptedRestServer, client: Client) -> None:
    server.script = [
        Step(body={"event_sinks": [SINK, SINK], "pagination": {"next_page_token": "t&1"}}),
        Step(body={"event_sinks": [SINK], "pagination": {"next_page_token": ""}}),
    ]
    found = client.list("acme", page_size=2)
    next(found)
    assert len(server.asked) == 1
    assert len(list(found)) == 2
    assert "pagination%5Bpage_token%5D=t%261" in server.asked[1][1]


def test_other_calls(server: ScriptedRestServer, client: Client) -> None:
    server.script = [
        Step(body={"id": ID, "tenant_id": "acme"}),
        Step(body={"delivered": False, "status": "4xx", "reason": "HTTP404", "message": "m", "seconds": 0.1, "delivery_id": "d"}),
        Step(body={"url": "https://x/y?state=canary", "expires_at": "2024-05-09T20:01:32Z"}),
    ]
    assert client.delete(ID).tenant_id == "acme"
    assert client.test(ID).reason == "HTTP404"
    link = client.install_slack(tenant_id="acme", name="n", channel="#c")
    assert "canary" not in repr(link)
    assert server.asked[2][3] == {"tenant_id": "acme", "name": "n", "channel": "#c"}


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (400, InvalidRequest),
        (401, Unauthorized),
        (403, Forbidden),
        (404, NotFound),
        (409, Conflict),
        (412, PreconditionFailed),
        (413, InvalidRequest),
        (415, InvalidRequest),
        (500, UnexpectedResponse),
    ],
)
def test_each_error_raises_its_own_exception_with_the_servers_message_and_is_not_retried(
    server: ScriptedRestServer, client: Client, waits: list[float], status: int, kind: type[EventSinkError]
) -> None:
    server.script = [Step(status, {"error": "a sentence"})]
    with pytest.raises(kind, match=r"^a sentence$") as caught:
        client.get(ID)
    assert type(caught.value) is kind
    assert caught.value.status == status
    assert (len(server.asked), waits) == (1, [])


@pytest.mark.parametrize(
    "step", [Step(429, {"error": "s"}, {"Retry-After": "3"}), Step(503, {"error": "s"}, {"Retry-After": "3"})]
)
def test_a_response_with_retry_after_is_retried_after_that_time(
    server: ScriptedRestServer, client: Client, waits: list[float], step: Step
) -> None:
    server.script = [step, step, Step()]
    assert client.get(ID).id == ID
    assert waits == [3.0, 3.0]


def test_attempts_end_and_their_waits_grow(server: ScriptedRestServer, client: Client, waits: list[float]) -> None:
    server.script = [Step(503, {"error": "unavailable"})]
    with pytest.raises(ServiceUnavailable, match="unavailable"):
        client.get(ID)
    assert len(server.asked) == 5
    for number, wait in enumerate(waits):
        assert 0.25 * 2**number <= wait <= 0.5 * 2**number


def test_a_long_retry_after_is_not_waited_for(server: ScriptedRestServer, client: Client, waits: list[float]) -> None:
    server.script = [Step(429, {"error": "later"}, {"Retry-After": "3600"})]
    with pytest.raises(TooManyRequests) as caught:
        client.get(ID)
    assert (caught.value.retry_after, len(server.asked), waits) == (3600.0, 1, [])


def test_a_create_whose_response_was_lost_is_retried_with_the_same_idempotency_key(
    server: ScriptedRestServer, client: Client
) -> None:
    server.script = [CUT, Step()]
    client.create("acme", "a", Slack(channel="#c"))
    client.create("acme", "a", Slack(channel="#c"))
    keys = [headers["idempotency-key"] for _, _, headers, _ in server.asked]
    assert keys[0] == keys[1] != keys[2]


@pytest.mark.parametrize(
    "lost", [CUT, Step(502, b"<html>"), Step(503, {"error": "unavailable"}), Step(504, b"")], ids=["cut", "502", "503", "504"]
)
@pytest.mark.parametrize(
    "call",
    [
        lambda client: client.test(ID),
        lambda client: client.update(ID, destination=Webhook(generate_signing_secret=True)),
        lambda client: client.update(ID, destination=Webhook(signing_secret="x")),
        lambda client: client.update(ID, name="a", if_match='"u.1"'),
    ],
    ids=["test", "generate", "secret", "if-match"],
)
def test_calls_that_are_not_idempotent_are_not_retried_after_a_lost_response(
    server: ScriptedRestServer, client: Client, lost: Step, call: Callable[[Client], object]
) -> None:
    server.script = [Step(429, {"error": "wait"}, {"Retry-After": "1"}), lost, Step()]
    with pytest.raises(ServiceUnavailable):
        call(client)
    assert len(server.asked) == 2


def test_a_deletion_whose_response_was_lost_succeeds_when_the_sink_is_gone(server: ScriptedRestServer, client: Client) -> None:
    server.script = [CUT, Step(404, {"error": "gone"})]
    assert client.delete(ID).id == ID
    with pytest.raises(NotFound):
        client.delete(ID)


@pytest.mark.parametrize(
    "step",
    [
        Step(body=b"<html>"),
        Step(body=[]),
        Step(body={}),
        Step(body={"event_sink": {}}),
        Step(body={"event_sink": {**SINK, "created_at": 5}}),
        Step(404, b"<html>"),
        Step(302, b"", {"Location": "https://elsewhere.example.com/"}),
    ],
    ids=["html", "list", "empty", "no-sink", "time", "404", "redirect"],
)
def test_a_foreign_response_is_recognized_and_no_redirect_is_followed(
    server: ScriptedRestServer, client: Client, step: Step
) -> None:
    server.script = [step]
    with pytest.raises(UnexpectedResponse, match="address"):
        client.get(ID)
    assert len(server.asked) == 1


def test_a_missing_response_is_reported_without_key_and_path(waits: list[float]) -> None:
    with Client("http://127.0.0.1:1", KEY, retries=1) as client, pytest.raises(ServiceUnavailable) as caught:
        client.get("canary-id")
    assert str(caught.value) == "http://127.0.0.1:1 does not respond (ConnectionError)"
    assert caught.value.__cause__ is None
    assert len(waits) == 1


@pytest.mark.parametrize(
    ("server", "key", "field"),
    [
        ("example.com", KEY, "server"),
        ("ftp://example.com", KEY, "server"),
        ("http://user@example.com", KEY, "server"),
        ("http://example.com", "canary\n", "key"),
        ("http://example.com", "", "key"),
    ],
)
def test_an_invalid_setting_is_named_without_its_value(server: str, key: str, field: str) -> None:
    with pytest.raises(ValueError, match=f"^{field}: ") as caught:
        Client(server, key)
    assert "canary" not in str(caught.value)


def test_no_netrc_replaces_the_key(
    server: ScriptedRestServer, client: Client, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "netrc").write_text("machine 127.0.0.1 login other password other\n")
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    assert requests.utils.get_netrc_auth(server.url) == ("other", "other")
    server.script = [Step()]
    client.get(ID)
    assert server.asked[0][2]["authorization"] == f"Bearer {KEY}"


# ---- eventsink sinks


@dataclass
class Terminal:
    """`eventsink sinks` with a key in a file."""

    server: ScriptedRestServer
    folder: Path

    def run(self, *arguments: str, status: int = 0, stdin: str | None = None) -> tuple[str, str]:
        """Output and errors of `eventsink sinks ARGUMENTS`."""
        environment = {"EVENTSINK_REST_SERVER": self.server.url, "EVENTSINK_REST_KEY_FILE": str(self.file("key", KEY + "\n"))}
        done = CliRunner().invoke(main, ["sinks", *arguments], env=environment, input=stdin)
        assert done.exit_code == status, done.output
        return done.stdout, done.stderr

    def file(self, name: str, content: str) -> Path:
        """A file of the test."""
        path = self.folder / name
        path.write_text(content)
        return path


@pytest.fixture
def terminal(server: ScriptedRestServer, tmp_path: Path, waits: list[float]) -> Terminal:
    return Terminal(server, tmp_path)


def test_the_command_lists_a_tenants_sinks_as_a_table_json_or_yaml(server: ScriptedRestServer, terminal: Terminal) -> None:
    server.script = [Step(body={"event_sinks": [SINK, {**SINK, "name": "Other"}]})]
    lines = terminal.run("list", "--tenant=acme")[0].splitlines()
    assert lines[0].split() == ["ID", "NAME", "TYPE", "TO", "READY", "DELIVERING", "UPDATED"]
    assert lines[1].split() == [ID, "Alerts", "Webhook", "https://example.com/hook", "True", "-", "2024-05-10T20:01:32Z"]
    assert [one["name"] for one in json.loads(terminal.run("list", "--tenant=acme", "-o", "json")[0])] == ["Alerts", "Other"]
    assert "name: Other" in terminal.run("list", "--tenant=acme", "-o", "yaml")[0]
    server.script = [Step(body={"event_sinks": []})]
    assert terminal.run("list", "--tenant=acme") == ("", "no sinks\n")


def test_the_command_creates_a_sink_from_options_and_prints_a_generated_secret_once(
    server: ScriptedRestServer, terminal: Terminal
) -> None:
    server.script = [Step(body={**ONE, "signing_secret": "whsec_x"})]
    header = terminal.file("header", "Bearer canary\n")
    output, errors = terminal.run(
        *("create", "--tenant=acme", "--name=Alerts", "--webhook-url=https://example.com/hook", "--matcher", 'team="a"'),
        *("--header-file", f"Authorization={header}", "--generate-signing-secret", "--min-severity=high", "--batch=3"),
    )
    assert output.splitlines()[-1] == "whsec_x"
    assert "shown only once" in errors
    assert server.asked[0][3] == {
        "tenant_id": "acme",
        "name": "Alerts",
        "match": {"min_severity": "high", "matchers": ['team="a"']},
        "event_sink_args": {
            "Webhook": {
                "url": "https://example.com/hook",
                "batch": 3,
                "headers": [{"name": "Authorization", "value": "Bearer canary"}],
                "generate_signing_secret": True,
            }
        },
    }


def test_the_command_mutes_and_unmutes(server: ScriptedRestServer, terminal: Terminal) -> None:
    server.script = [Step(body=ONE)]
    terminal.run("mute", ID, "--matcher", 'a="1"', "--matcher", 'b="2"', "--for=2h", "--comment=why")
    terminal.run(
        "mute", ID, "--matcher", 'a="1"', "--from=2027-01-01T00:00:00Z", "--until=2027-01-02T00:00:00Z", "--if-match", '"e"'
    )
    terminal.run("unmute", ID)
    terminal.run("unmute", ID, "--index=3", "--if-match", '"e"')
    assert [(one[0], one[1].removeprefix(f"/v1/event_sink/{ID}")) for one in server.asked] == [
        ("POST", "/mute"),
        ("POST", "/mute"),
        ("DELETE", "/mute"),
        ("DELETE", "/mute?index=3"),
    ]
    assert server.asked[0][3] == {"matchers": ['a="1"', 'b="2"'], "duration": "2h", "comment": "why"}
    assert server.asked[1][3] == {"matchers": ['a="1"'], "from": "2027-01-01T00:00:00Z", "until": "2027-01-02T00:00:00Z"}
    assert server.asked[3][2]["if-match"] == '"e"'
    assert "say with --if-match in which list" in terminal.run("unmute", ID, "--index=3", status=2)[1]
    for ends in ((), ("--for=2h", "--until=2027-01-02T00:00:00Z")):
        assert "exactly one of --for and --until" in terminal.run("mute", ID, "--matcher", 'a="1"', *ends, status=2)[1]


def test_the_command_changes_what_slack_messages_show(server: ScriptedRestServer, terminal: Terminal) -> None:
    server.script = [Step(body=ONE)]
    terminal.run(
        *("update", ID, "--slack-field=label:team", "--slack-field", "annotation:value=Current value", "--slack-links=text"),
        *("--slack-button", "Logs=logs_url", "--slack-mention=critical:here,U012,S345", "--slack-mention=U678"),
        *("--slack-updates=thread", "--slack-repeats=channel"),
    )
    assert server.asked[0][3] == {
        "id": ID,
        "event_sink_args": {
            "Slack": {
                "slack_fields": [{"label": "team"}, {"annotation": "value", "title": "Current value"}],
                "slack_buttons": [{"text": "Logs", "url_annotation": "logs_url"}],
                "slack_mentions": [
                    {"min_severity": "critical", "users": ["U012"], "groups": ["S345"], "here": True},
                    {"users": ["U678"]},
                ],
                "slack_links": "text",
                "slack_updates": "thread",
                "slack_repeats": "channel",
            }
        },
    }


def test_the_command_creates_a_sink_from_a_file_that_options_override(server: ScriptedRestServer, terminal: Terminal) -> None:
    server.script = [Step(body={"event_sink": {**SINK, "ready": False, "reason": "Waiting: soon"}})]
    document = "{tenant_id: acme, name: A, event_sink_args: {Slack: {channel: '#a'}}}"
    code = terminal.file("code", "canary-code\n")
    _, errors = terminal.run("create", "-f", "-", "--name=B", "--slack-code-file", str(code), stdin=document)
    assert errors == "not ready: Waiting: soon\n"
    assert server.asked[0][3] == {
        "tenant_id": "acme",
        "name": "B",
        "event_sink_args": {"Slack": {"channel": "#a", "slack_oauth_code": "canary-code"}},
    }


def test_the_command_shows_updates_and_deletes(server: ScriptedRestServer, terminal: Terminal) -> None:
    server.script = [Step(headers={"ETag": '"u.1"'})]
    assert json.loads(terminal.run("get", ID, "-o", "json")[0])["etag"] == '"u.1"'
    terminal.run("update", ID, "--suspend", "--slack-channel=#b", "--if-match", '"u.1"')
    assert server.asked[1][3] == {"id": ID, "suspend": True, "event_sink_args": {"Slack": {"channel": "#b"}}}
    server.script = [Step(body={"id": ID, "tenant_id": "acme"})]
    assert terminal.run("delete", ID)[0] == f"sink {ID} deleted\n"


def test_the_command_tests_a_sink_and_its_exit_status_is_the_outcome(server: ScriptedRestServer, terminal: Terminal) -> None:
    outcome = {"delivered": True, "status": "2xx", "reason": "", "message": "", "seconds": 0.123, "delivery_id": "d"}
    server.script = [Step(body=outcome)]
    assert terminal.run("test", ID)[0] == "delivered in 0.12 s (2xx)\n"
    server.script = [Step(body={**outcome, "delivered": False, "status": "4xx", "reason": "HTTP404", "message": "status 404"})]
    assert terminal.run("test", ID, status=1)[1] == "not delivered: HTTP404: status 404\n"
    assert json.loads(terminal.run("test", ID, "-o", "json", status=1)[0])["reason"] == "HTTP404"


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["create", "--name=A", "--webhook-url=https://x"], "--tenant is missing, and so is tenant_id in a file (-f)"),
        (["create", "--tenant=acme", "--webhook-url=https://x"], "--name is missing"),
        (["create", "--tenant=acme", "--name=A"], "say where to deliver"),
        (
            ["create", "--tenant=acme", "--name=A", "--webhook-url=https://x", "--slack-channel=#a"],
            "use the options of one type only (Slack or Webhook)",
        ),
        (["update", ID], "say what to change"),
        (["update", ID, "--header-file", "X"], "--header-file: write NAME=FILE"),
        (["update", ID, "--slack-field", "team"], "--slack-field: write label:NAME or annotation:NAME"),
        (["update", ID, "--slack-button", "Logs"], "--slack-button: write TEXT=ANNOTATION"),
        (["update", ID, "--slack-mention", "critical:@here"], "--slack-mention: write here and ids"),
        (["update", ID, "--signing-secret-file", "/none"], "/none: the secret cannot be read"),
        (["get", ID, "--server", "x"], "--server: write an address"),
        (["get", ID, "--key-file", "/none"], "/none: the secret cannot be read"),
    ],
    ids=" ".join,
)
def test_a_mistake_on_the_command_line_is_reported_before_any_request(
    server: ScriptedRestServer, terminal: Terminal, arguments: list[str], sentence: str
) -> None:
    output, errors = terminal.run(*arguments, status=2)
    assert output == ""
    assert sentence in errors
    assert server.asked == []


def test_the_help_writes_what_options_take_as_they_take_it(terminal: Terminal) -> None:
    shown = terminal.run("create", "--help")[0]
    assert "--slack-field label:NAME[=TITLE]|annotation:NAME[=TITLE]" in shown
    assert "--slack-mention [SEVERITY:]here|ID,..." in shown


@pytest.mark.parametrize(
    "document",
    ["[]", "{", "a: b: c", "event_sink_args: []\nx: y", "{match: [a]}", "{event_sink_args: x}", "{description: 2026-01-01}"],
)
def test_a_file_without_a_request_is_an_error(terminal: Terminal, document: str) -> None:
    assert "the file of -f" in terminal.run("create", "-f", "-", stdin=document, status=2)[1]


def test_an_error_prints_the_servers_message_with_exit_status_1(server: ScriptedRestServer, terminal: Terminal) -> None:
    server.script = [Step(409, {"error": "Helm manages it"})]
    assert terminal.run("delete", ID, status=1)[1] == "Error: Helm manages it\n"
