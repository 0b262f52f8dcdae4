"""Slack's browser flow: a link works once, until it expires, in the browser that opened it, for a key that is still valid."""

from __future__ import annotations

import base64
import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, cast
from urllib.parse import parse_qs, urlsplit

import pytest

from eventsink.destinations.slack.arguments import SlackCodeArgs
from eventsink.rest.access.callers import Caller, KeyCaller
from eventsink.rest.access.keys import make_key
from eventsink.rest.access.reviews import KubernetesCaller, KubernetesReviews
from eventsink.rest.calls.facade import ChangeResult
from eventsink.rest.calls.responses import etag, response_of
from eventsink.rest.config import SlackInstallSettings
from eventsink.rest.errors import Conflict, Forbidden, InvalidRequest, RestError
from eventsink.rest.models import ChangedSink, CreateRequest, UpdateRequest
from eventsink.rest.pages.slack_install import InstallRequest, Opened, SlackInstall
from eventsink.runtime.settings import ConfigurationError
from tests.unit.rest.calls.test_responses import UID, obj

CODE = "canary-code"
SETTINGS = SlackInstallSettings(client_id="1.2", redirect_url="https://sinks.example.com/v1/slack/callback")
SLACK = {"tenant": "acme", "name": "Alerts", "slack": {"channel": "#alerts"}}
NEW = InstallRequest(tenant_id="acme", name="Alerts", channel="#alerts")


class FakeFacade:
    """Replaces the facade: records its calls."""

    def __init__(self) -> None:
        self.created: list[tuple[str, CreateRequest, str]] = []
        self.updated: list[tuple[str, UpdateRequest, str]] = []
        self.spec: dict[str, Any] = SLACK

    async def check_create(self, caller: Caller, request: CreateRequest) -> None:
        if not caller.may_touch(request.tenant_id):
            raise Forbidden("no")

    async def read_for_update(self, caller: Caller, uid: str) -> dict[str, Any]:
        return obj(self.spec)

    async def create(self, caller: Caller, request: CreateRequest, idempotency_key: str) -> ChangeResult:
        self.created.append((caller.name, request, idempotency_key))
        return _result()

    async def update(self, caller: Caller, uid: str, request: UpdateRequest, if_match: str) -> ChangeResult:
        self.updated.append((uid, request, if_match))
        return _result()


def _result() -> ChangeResult:
    return ChangeResult(ChangedSink(event_sink=response_of(obj(SLACK))), '"x"')


class Flow:
    def __init__(self, settings: SlackInstallSettings = SETTINGS, *tenants: str) -> None:
        self.now = 1_800_000_000.0
        self.facade = FakeFacade()
        _, record = make_key("test", tenants or ("acme",), datetime.now(UTC))
        self.callers: dict[str, Caller] = {f"key {record.id}": KeyCaller(record)}
        self.caller = KeyCaller(record)
        self.install = SlackInstall(settings, self.facade, self.callers.get, clock=lambda: self.now)  # type: ignore[arg-type]

    async def link(self, request: InstallRequest = NEW) -> str:
        response = await self.install.begin(self.caller, request)
        assert response.url.startswith("https://sinks.example.com/v1/slack/open?")
        return parse_qs(urlsplit(response.url).query)["state"][0]

    async def finish(self, opened: Opened, *, code: str = CODE, error: str = "", cookies: dict[str, str] | None = None) -> str:
        state = parse_qs(urlsplit(opened.location).query)["state"][0]
        given = {opened.cookie: opened.value} if cookies is None else cookies
        return await self.install.finish(state, code, error, given)


async def test_a_person_connects_slack_and_the_sink_is_created() -> None:
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
    assert request.event_sink_args.value.slack_oauth_code == CODE


@pytest.mark.parametrize(("channel", "expected"), [("#other", "#other"), (None, "#alerts")])
async def test_an_existing_sink_is_reconnected_and_keeps_its_channel_unless_another_is_given(
    channel: str | None, expected: str
) -> None:
    flow = Flow()
    opened = flow.install.open(await flow.link(InstallRequest(id=UID, channel=channel)))
    await flow.finish(opened)
    ((uid, request, if_match),) = flow.facade.updated
    assert (uid, request.id, if_match) == (UID, UID, etag(obj()))
    assert request.event_sink_args is not None
    assert request.event_sink_args.value == SlackCodeArgs(channel=expected, slack_oauth_code=CODE)


@pytest.mark.parametrize("wanted", [NEW, InstallRequest(id=UID)])
async def test_only_a_key_can_request_a_link(wanted: InstallRequest) -> None:
    of_kubernetes = KubernetesCaller("acme:bot", {}, cast(KubernetesReviews, None))
    with pytest.raises(Forbidden, match="only API keys can request a link"):
        await Flow().install.begin(of_kubernetes, wanted)


async def test_a_webhook_sink_cannot_be_connected_to_slack() -> None:
    flow = Flow()
    opened = flow.install.open(await flow.link(InstallRequest(id=UID)))
    flow.facade.spec = {"tenant": "acme", "name": "Alerts", "webhook": {"url": "https://example.com/"}}
    with pytest.raises(InvalidRequest, match="id: not a Slack sink"):
        await flow.link(InstallRequest(id=UID))
    with pytest.raises(InvalidRequest, match="id: not a Slack sink"):
        await flow.finish(opened)
    assert flow.facade.updated == []


async def test_a_link_is_opened_once_and_finished_once() -> None:
    flow = Flow()
    link = await flow.link()
    opened = flow.install.open(link)
    with pytest.raises(InvalidRequest, match="already used"):
        flow.install.open(link)
    await flow.finish(opened)
    with pytest.raises(InvalidRequest, match="already used"):
        await flow.finish(opened)
    assert len(flow.facade.created) == 1


@pytest.mark.parametrize("cookies", [{}, {"eventsink_install_0": "x"}, None])
async def test_another_browser_cannot_finish_it(cookies: dict[str, str] | None) -> None:
    flow = Flow()
    opened = flow.install.open(await flow.link())
    other = flow.install.open(await flow.link())
    given = cookies if cookies is not None else {opened.cookie: other.value}
    with pytest.raises(Forbidden, match="another browser"):
        await flow.finish(opened, cookies=given)
    assert flow.facade.created == []
    await flow.finish(opened)  # its own browser still can


async def test_a_link_expires() -> None:
    flow = Flow()
    link = await flow.link()
    opened = flow.install.open(await flow.link())
    flow.now += SETTINGS.lasts
    with pytest.raises(InvalidRequest, match="has expired"):
        flow.install.open(link)
    with pytest.raises(InvalidRequest, match="has expired"):
        await flow.finish(opened)


async def test_a_forged_or_incomplete_state_is_rejected() -> None:
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


async def test_an_error_from_slack_changes_nothing() -> None:
    flow = Flow()
    with pytest.raises(InvalidRequest, match="access was denied"):
        await flow.finish(flow.install.open(await flow.link()), code="", error="access_denied")
    with pytest.raises(InvalidRequest, match="no code"):
        await flow.finish(flow.install.open(await flow.link()), code="")
    assert flow.facade.created == []


async def test_a_key_that_was_revoked_meanwhile_changes_nothing() -> None:
    flow = Flow()
    opened = flow.install.open(await flow.link())
    flow.callers.clear()
    with pytest.raises(Forbidden, match="revoked"):
        await flow.finish(opened)


@pytest.mark.parametrize(
    ("request_", "error", "sentence"),
    [
        (InstallRequest(tenant_id="acme", name="x"), InvalidRequest, "channel"),
        (InstallRequest(name="x", channel="#a"), InvalidRequest, "tenant_id"),
        (InstallRequest(id=UID, name="x"), InvalidRequest, "id: reconnects a sink"),
        (InstallRequest(tenant_id="umbrella", name="x", channel="#a"), Forbidden, "no"),
        (
            InstallRequest(tenant_id="acme", name="x", channel="#a", description="\U0001f600" * 1024),
            InvalidRequest,
            "description",
        ),
    ],
)
async def test_a_link_for_an_invalid_request_is_not_created(
    request_: InstallRequest, error: type[RestError], sentence: str
) -> None:
    with pytest.raises(error, match=sentence):
        await Flow().link(request_)


async def test_without_configuration_the_error_names_the_settings() -> None:
    with pytest.raises(Conflict, match=r"slackInstall\.clientId"):
        await Flow(SlackInstallSettings()).link()


async def test_replicas_share_a_key_by_file(tmp_path: Path) -> None:
    (tmp_path / "short").write_text("x")
    with pytest.raises(ConfigurationError, match="32 characters"):
        Flow(SETTINGS.model_copy(update={"state_key_file": tmp_path / "short"}))
    (tmp_path / "key").write_text("k" * 32)
    shared = SETTINGS.model_copy(update={"state_key_file": tmp_path / "key"})
    assert Flow(shared).install.open(await Flow(shared).link())


async def test_no_state_or_page_shows_the_code() -> None:
    flow = Flow()
    opened = flow.install.open(await flow.link())
    sentence = await flow.finish(opened)
    assert CODE not in sentence + opened.location + repr(opened) + repr(flow.facade.created)
    assert opened.value not in repr(opened)
