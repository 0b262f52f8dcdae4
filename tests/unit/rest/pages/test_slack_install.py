"""Slack's browser flow: a link counts once, for a while, in the browser that opened it, for a key that still counts."""

from __future__ import annotations

import base64
import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

from eventsink.rest.access.callers import Caller, KeyCaller
from eventsink.rest.access.keys import make_key
from eventsink.rest.calls.facade import Written
from eventsink.rest.calls.responses import etag
from eventsink.rest.config import SlackInstallSettings
from eventsink.rest.errors import Conflicting, InvalidRequest, NotPermitted, Refused
from eventsink.rest.models import ChangedSink, CreateRequest, InstallRequest
from eventsink.rest.pages.slack_install import Opened, SlackInstall
from eventsink.runtime.settings import ConfigurationError
from tests.unit.rest.calls.test_responses import UID, obj

CODE = "canary-code"
SETTINGS = SlackInstallSettings(client_id="1.2", redirect_url="https://sinks.example.com/v1/slack/callback")
NEW = InstallRequest(tenant_id="acme", name="Alerts", channel="#alerts")


class Made:
    """Stands for the facade: notes what it is asked for."""

    def __init__(self) -> None:
        self.created: list[tuple[str, CreateRequest, str]] = []
        self.reconnected: list[tuple[str, str, str | None, str]] = []

    async def check_create(self, caller: Caller, request: CreateRequest) -> str:
        if not caller.may_touch(request.tenant_id):
            raise NotPermitted("no")
        return "acme"

    async def check_reconnect(self, caller: Caller, uid: str) -> dict[str, Any]:
        return obj()

    async def create(self, caller: Caller, request: CreateRequest, idempotency_key: str) -> Written:
        self.created.append((caller.name, request, idempotency_key))
        return _written()

    async def reconnect(self, caller: Caller, uid: str, code: str, channel: str | None, if_match: str) -> Written:
        self.reconnected.append((uid, code, channel, if_match))
        return _written()


def _written() -> Written:
    from eventsink.rest.calls.responses import answer_of

    spec = {"tenant": "acme", "name": "Alerts", "slack": {"channel": "#alerts"}}
    return Written(ChangedSink(event_sink=answer_of(obj(spec))), '"x"')


class Flow:
    def __init__(self, settings: SlackInstallSettings = SETTINGS, *tenants: str) -> None:
        self.now = 1_800_000_000.0
        self.facade = Made()
        _, record = make_key("test", tenants or ("acme",), datetime.now(UTC))
        self.callers: dict[str, Caller] = {f"key {record.id}": KeyCaller(record)}
        self.caller = KeyCaller(record)
        self.install = SlackInstall(settings, self.facade, self.callers.get, clock=lambda: self.now)  # type: ignore[arg-type]

    async def link(self, request: InstallRequest = NEW) -> str:
        answer = await self.install.begin(self.caller, request)
        assert answer.url.startswith("https://sinks.example.com/v1/slack/open?")
        return parse_qs(urlsplit(answer.url).query)["state"][0]

    async def finish(self, opened: Opened, *, code: str = CODE, error: str = "", cookies: dict[str, str] | None = None) -> str:
        state = parse_qs(urlsplit(opened.location).query)["state"][0]
        given = {opened.cookie: opened.value} if cookies is None else cookies
        return await self.install.finish(state, code, error, given)


async def test_a_person_connects_slack_and_the_sink_is_made() -> None:
    flow = Flow()
    opened = flow.install.open(await flow.link())
    query = parse_qs(urlsplit(opened.location).query)
    assert opened.location.startswith("https://slack.com/oauth/v2/authorize?")
    assert query["client_id"] == ["1.2"]
    assert query["redirect_uri"] == [SETTINGS.redirect_url]
    assert query["scope"] == ["chat:write,chat:write.public,channels:read,groups:read"]
    assert opened.secure
    sentence = await flow.finish(opened)
    assert "acme" in sentence
    assert "#alerts" in sentence
    ((name, request, key),) = flow.facade.created
    assert name == flow.caller.name
    assert key.startswith("slack-install-")
    assert request.event_sink_args.slack is not None
    assert request.event_sink_args.slack.slack_oauth_code == CODE


async def test_a_sink_is_connected_anew() -> None:
    flow = Flow()
    opened = flow.install.open(await flow.link(InstallRequest(id=UID, channel="#other")))
    await flow.finish(opened)
    assert flow.facade.reconnected == [(UID, CODE, "#other", etag(obj()))]


async def test_a_link_is_opened_once_and_finished_once() -> None:
    flow = Flow()
    link = await flow.link()
    opened = flow.install.open(link)
    with pytest.raises(InvalidRequest, match="used already"):
        flow.install.open(link)
    await flow.finish(opened)
    with pytest.raises(InvalidRequest, match="used already"):
        await flow.finish(opened)
    assert len(flow.facade.created) == 1


@pytest.mark.parametrize("cookies", [{}, {"eventsink_install_0": "x"}, None])
async def test_another_browser_cannot_finish_it(cookies: dict[str, str] | None) -> None:
    flow = Flow()
    opened = flow.install.open(await flow.link())
    other = flow.install.open(await flow.link())
    given = cookies if cookies is not None else {opened.cookie: other.value}
    with pytest.raises(NotPermitted, match="another browser"):
        await flow.finish(opened, cookies=given)
    assert flow.facade.created == []
    await flow.finish(opened)  # whom it belongs to still can


async def test_a_link_is_over_after_its_time() -> None:
    flow = Flow()
    link = await flow.link()
    opened = flow.install.open(await flow.link())
    flow.now += SETTINGS.lasts
    with pytest.raises(InvalidRequest, match="is over"):
        flow.install.open(link)
    with pytest.raises(InvalidRequest, match="is over"):
        await flow.finish(opened)


async def test_a_state_that_was_changed_is_none() -> None:
    flow = Flow()
    link = await flow.link()
    body, _, mac = link.partition(".")
    payload = json.loads(base64.urlsafe_b64decode(body + "=="))
    payload["request"]["tenant_id"] = "umbrella"
    forged = base64.urlsafe_b64encode(json.dumps(payload).encode()).decode().rstrip("=")
    opened = flow.install.open(await flow.link())
    bound = parse_qs(urlsplit(opened.location).query)["state"][0]
    for state in ("", ".", "x", body, f"{body}.", f"{forged}.{mac}", link[:-1], "é.é", "x" * 100_000, bound):
        with pytest.raises(InvalidRequest):
            flow.install.open(state)
        if state != bound:
            with pytest.raises(InvalidRequest):
                await flow.install.finish(state, CODE, "", {})
    with pytest.raises(InvalidRequest, match="another step"):
        await flow.install.finish(link, CODE, "", {})
    with pytest.raises(InvalidRequest):
        Flow().install.open(link)  # the key of another process
    assert flow.install.open(link)


async def test_what_slack_says_instead_of_a_code_changes_nothing() -> None:
    flow = Flow()
    with pytest.raises(InvalidRequest, match="not allowed to connect"):
        await flow.finish(flow.install.open(await flow.link()), code="", error="access_denied")
    with pytest.raises(InvalidRequest, match="no code"):
        await flow.finish(flow.install.open(await flow.link()), code="")
    assert flow.facade.created == []


async def test_a_key_that_was_revoked_meanwhile_changes_nothing() -> None:
    flow = Flow()
    opened = flow.install.open(await flow.link())
    flow.callers.clear()
    with pytest.raises(NotPermitted, match="revoked"):
        await flow.finish(opened)


@pytest.mark.parametrize(
    ("request_", "error", "sentence"),
    [
        (InstallRequest(tenant_id="acme", name="x"), InvalidRequest, "channel"),
        (InstallRequest(name="x", channel="#a"), InvalidRequest, "tenant_id"),
        (InstallRequest(id=UID, name="x"), InvalidRequest, "id: connects a sink anew"),
        (InstallRequest(tenant_id="umbrella", name="x", channel="#a"), NotPermitted, "no"),
        (
            InstallRequest(tenant_id="acme", name="x", channel="#a", description="\U0001f600" * 1024),
            InvalidRequest,
            "description",
        ),
    ],
)
async def test_a_link_that_would_lead_nowhere_is_not_given(request_: InstallRequest, error: type[Refused], sentence: str) -> None:
    with pytest.raises(error, match=sentence):
        await Flow().link(request_)


async def test_without_being_set_up_it_says_so() -> None:
    with pytest.raises(Conflicting, match=r"slackInstall\.clientId"):
        await Flow(SlackInstallSettings()).link()


async def test_replicas_share_a_key_by_file(tmp_path: Path) -> None:
    (tmp_path / "short").write_text("x")
    with pytest.raises(ConfigurationError, match="32 characters"):
        Flow(SETTINGS.model_copy(update={"state_key_file": tmp_path / "short"}))
    (tmp_path / "key").write_text("k" * 32)
    shared = SETTINGS.model_copy(update={"state_key_file": tmp_path / "key"})
    assert Flow(shared).install.open(await Flow(shared).link())


async def test_no_state_or_answer_shows_the_code() -> None:
    flow = Flow()
    opened = flow.install.open(await flow.link())
    sentence = await flow.finish(opened)
    assert CODE not in sentence + opened.location + repr(opened) + repr(flow.facade.created)
    assert opened.value not in repr(opened)
