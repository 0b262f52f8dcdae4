"""An OAuth code is exchanged at most once, what Slack answers is stored before it is used, and nobody else gets its token."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import aiohttp
import pytest

from eventsink.destinations.problem import Problem
from eventsink.destinations.slack import codes as slack_codes
from eventsink.destinations.slack.codes import (
    CLAIM_SECONDS,
    RENEW_AHEAD_SECONDS,
    SlackCodes,
    renewal_due,
)
from eventsink.destinations.slack.config import SlackAppSettings, SlackSettings
from eventsink.destinations.slack.tokens import StoredToken, TokenRecord, token_name
from eventsink.kube.api import Conflict, Unavailable
from eventsink.runtime.backoff import Backoff
from eventsink.sinks.egress import EgressGuard, EgressSettings
from eventsink.sinks.guarded import guarded_session
from tests.support.slack import Slack
from tests.unit.destinations.slack.slack_session import Request, ScriptedResponse, ScriptedSession, slack_error

CODE = "canary-code-1"
GRANTED = {"ok": True, "access_token": "xoxb-canary", "team": {"id": "T1"}}
ROTATING = {**GRANTED, "access_token": "xoxe.xoxb-1", "refresh_token": "xoxe-1", "expires_in": 43200}
CONNECT = aiohttp.ClientConnectorError(cast(Any, None), OSError(111, "Connection refused"))
APP = {"client_id": "1.2", "client_secret": "canary-client-secret"}
DAY = 86400.0


class MemoryStore:
    """A `TokenStore` that forgets with the process; `broken` makes the next calls of `replace` fail."""

    def __init__(self) -> None:
        self.records: dict[str, StoredToken] = {}
        self.broken = 0
        self.version = 0

    async def create(self, name: str, record: TokenRecord) -> StoredToken | None:
        return None if name in self.records else self._put(name, record)

    async def read(self, name: str) -> StoredToken | None:
        return self.records.get(name)

    async def replace(self, stored: StoredToken, record: TokenRecord) -> StoredToken:
        if self.broken:
            self.broken -= 1
            raise Unavailable(0, "Unavailable", "the API server is away")
        if self.records[stored.name].version != stored.version:
            raise Conflict(409, "Conflict", "changed")
        return self._put(stored.name, record)

    async def delete(self, stored: StoredToken) -> None:
        del self.records[stored.name]

    async def list(self) -> list[StoredToken]:
        return list(self.records.values())

    def _put(self, name: str, record: TokenRecord) -> StoredToken:
        self.version += 1
        self.records[name] = StoredToken(name, record, str(self.version))
        return self.records[name]


@dataclass
class World:
    """The codes of one operator; `restart` makes another over the same store."""

    folder: Path
    store: MemoryStore = field(default_factory=MemoryStore)
    slack: ScriptedSession = field(default_factory=ScriptedSession)
    now: float = 1_800_000_000.0
    codes: SlackCodes = field(init=False)

    def __post_init__(self) -> None:
        (self.folder / "secret").write_text("canary-client-secret")
        self.restart()

    def restart(self, **app: Any) -> None:
        settings = {"clientId": "1.2", "clientSecretFile": self.folder / "secret", "redirectUrl": "https://x/", **app}
        self.codes = SlackCodes(
            SlackAppSettings.model_validate(settings), SlackSettings(), self.store, self.slack.session, now=lambda: self.now
        )

    async def token(self, code: str = CODE, *, uid: str = "ns-1", tenant: str = "acme") -> str:
        return (await self.codes.token(code, namespace_uid=uid, tenant=tenant)).record.token

    async def problem(self, **who: str) -> Problem:
        with pytest.raises(Problem) as raised:
            await self.token(**who)
        assert "canary" not in raised.value.message
        return raised.value

    @property
    def exchanges(self) -> list[Request]:
        return self.slack.calls("oauth.v2.access")

    @property
    def record(self) -> TokenRecord:
        return self.store.records[token_name(CODE)].record


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> World:
    monkeypatch.setattr(slack_codes, "STORE_BACKOFF", Backoff(first=0.001, longest=0.01))
    made = World(tmp_path)
    made.slack.script["oauth.v2.access"] = [GRANTED]
    return made


async def test_a_code_is_exchanged_once_for_all_who_may_use_it_and_over_restarts(world: World) -> None:
    assert await asyncio.gather(*(world.token() for _ in range(5))) == ["xoxb-canary"] * 5
    world.restart()
    assert await world.token() == "xoxb-canary"
    assert len(world.exchanges) == 1
    assert world.exchanges[0].form == {**APP, "code": CODE, "redirect_uri": "https://x/"}


async def test_the_claim_is_stored_before_the_code_is_sent_and_the_answer_before_it_is_used(world: World) -> None:
    seen = []

    def answer(_: Request) -> dict[str, Any]:
        seen.append(world.record)
        return GRANTED

    world.slack.script["oauth.v2.access"] = [answer]
    world.store.broken = 3
    assert await world.token() == "xoxb-canary"
    assert [(one.token, one.namespace_uid, one.tenant) for one in seen] == [("", "ns-1", "acme")]
    assert world.record.token == "xoxb-canary"


async def test_an_answer_is_stored_although_the_record_was_changed_meanwhile(world: World) -> None:
    async def changed() -> dict[str, Any]:
        [stored] = await world.store.list()
        await world.codes.look(set())  # nobody is known to need it yet
        assert (await world.store.list()) == [stored]
        await world.store.replace(stored, stored.record.model_copy(update={"unused_since": world.now}))
        return GRANTED

    world.slack.script["oauth.v2.access"] = [lambda _: changed()]
    assert await world.token() == "xoxb-canary"
    assert world.record.token == "xoxb-canary"


async def test_an_answer_that_comes_after_the_caller_has_gone_is_stored(world: World) -> None:
    asked, release = asyncio.Event(), asyncio.Event()

    async def late() -> dict[str, Any]:
        asked.set()
        await release.wait()
        return GRANTED

    world.slack.script["oauth.v2.access"] = [lambda _: late()]
    waiting = asyncio.ensure_future(world.token())
    await asked.wait()
    waiting.cancel()
    await asyncio.gather(waiting, return_exceptions=True)
    release.set()
    await world.codes.finish(10)
    assert world.record.token == "xoxb-canary"


@pytest.mark.parametrize("who", [{"uid": "ns-made-anew"}, {"tenant": "other"}])
async def test_nobody_else_gets_the_token_of_a_code(world: World, who: dict[str, str]) -> None:
    await world.token()
    assert (await world.problem(**who)).reason == "CodeTaken"
    assert len(world.exchanges) == 1


async def test_a_claim_without_an_answer_is_waited_for_and_then_taken_for_spent(world: World) -> None:
    world.now += 1
    claim = TokenRecord(namespace_uid="ns-1", tenant="acme", claimed_at=world.now)
    await world.store.create(token_name(CODE), claim)
    problem = await world.problem()
    assert (problem.reason, problem.may_pass) == ("SlackUnavailable", True)
    assert problem.again_after is not None
    world.now += CLAIM_SECONDS
    problem = await world.problem()
    assert (problem.reason, problem.may_pass) == ("CodeSpent", False)
    assert not world.exchanges


async def test_a_claim_of_an_operator_that_is_gone_is_not_waited_for(world: World) -> None:
    claim = TokenRecord(namespace_uid="ns-1", tenant="acme", claimed_at=world.now)
    await world.store.create(token_name(CODE), claim)
    world.now += 1
    world.restart()
    assert (await world.problem()).reason == "CodeSpent"


@pytest.mark.parametrize(
    ("answer", "reason", "spent"),
    [
        (slack_error("invalid_code"), "CodeRefused", True),
        (slack_error("code_already_used"), "CodeRefused", True),
        ({"ok": True}, "CodeRefused", True),
        (slack_error("fatal_error"), "CodeSpent", True),
        (slack_error("internal_error", 500), "CodeSpent", True),
        (ScriptedResponse(502, {}, "<html>canary"), "CodeSpent", True),
        (TimeoutError(), "CodeSpent", True),
        (aiohttp.ServerDisconnectedError(), "CodeSpent", True),
        (CONNECT, "SlackUnavailable", False),
        (slack_error("ratelimited", 429, retry_after="7"), "SlackUnavailable", False),
        (slack_error("bad_client_secret"), "SlackNotConfigured", False),
        (slack_error("invalid_client_id"), "SlackNotConfigured", False),
        (slack_error("bad_redirect_uri"), "SlackNotConfigured", False),
    ],
)
async def test_a_failed_exchange_is_tried_again_only_where_the_code_is_as_good_as_before(
    world: World, answer: Any, reason: str, spent: bool
) -> None:
    world.slack.script["oauth.v2.access"] = [answer, GRANTED]
    assert (await world.problem()).reason == reason
    if spent:
        assert (await world.problem()).reason == reason
        assert len(world.exchanges) == 1
    else:
        assert await world.token() == "xoxb-canary"


async def test_without_an_app_of_the_platform_nothing_is_claimed(world: World) -> None:
    for app in ({"clientId": ""}, {"clientSecretFile": None}, {"clientSecretFile": "/none"}):
        world.restart(**app)
        assert (await world.problem()).reason == "SlackNotConfigured"
    assert not world.store.records


async def test_a_token_that_expires_is_renewed_ahead_of_its_end_and_stored_before_it_is_used(world: World) -> None:
    second = {**ROTATING, "access_token": "xoxe.xoxb-2", "refresh_token": "xoxe-2"}
    world.slack.script["oauth.v2.access"] = [ROTATING, second]
    await world.token()
    await world.codes.look({token_name(CODE)})
    assert len(world.exchanges) == 1
    world.now += 43200 - RENEW_AHEAD_SECONDS
    world.store.broken = 2
    await world.codes.look({token_name(CODE)})
    assert world.exchanges[1].form == {**APP, "grant_type": "refresh_token", "refresh_token": "xoxe-1"}
    assert (world.record.token, world.record.refresh_token) == ("xoxe.xoxb-2", "xoxe-2")
    assert world.record.expires_at == world.now + 43200
    await world.codes.look({token_name(CODE)})
    assert len(world.exchanges) == 2


async def test_a_renewal_that_fails_is_tried_again_until_slack_knows_the_refresh_token_no_more(world: World) -> None:
    failures = [TimeoutError(), slack_error("internal_error", 500), slack_error("invalid_refresh_token")]
    world.slack.script["oauth.v2.access"] = [ROTATING, *failures]
    await world.token()
    world.now += 43200
    for _ in range(5):
        await world.codes.look({token_name(CODE)})
    assert len(world.exchanges) == 4
    assert await world.token() == "xoxe.xoxb-1"  # it works to its end


@pytest.mark.parametrize(
    ("refresh", "expires_in", "due"),
    [
        ("", None, False),
        ("", 0.0, False),
        ("r", None, False),
        ("r", RENEW_AHEAD_SECONDS + 1, False),
        ("r", RENEW_AHEAD_SECONDS, True),
    ],
)
def test_only_what_expires_soon_and_can_be_renewed_is_renewed(refresh: str, expires_in: float | None, due: bool) -> None:
    expires = 1000.0 + expires_in if expires_in is not None else None
    record = TokenRecord(namespace_uid="n", tenant="t", claimed_at=0, token="x", refresh_token=refresh, expires_at=expires)
    assert renewal_due(record, 1000.0) is due


async def test_a_token_that_nobody_needs_is_kept_for_a_while_and_then_revoked(world: World) -> None:
    await world.token()
    await world.codes.look(set())
    world.now += 29 * DAY
    await world.codes.look(set())
    await world.codes.look({token_name(CODE)})  # a sink was made anew
    await world.codes.look(set())
    world.now += 29 * DAY
    await world.codes.look(set())
    assert await world.token() == "xoxb-canary"
    assert not world.slack.calls("auth.revoke")
    world.now += DAY
    world.slack.script["auth.revoke"] = [TimeoutError(), {"ok": True}]
    await world.codes.look(set())
    assert world.store.records
    await world.codes.look(set())
    assert not world.store.records
    assert len(world.slack.calls("auth.revoke")) == 2


def test_no_representation_of_a_record_shows_a_credential_and_no_name_tells_of_the_code() -> None:
    record = TokenRecord(namespace_uid="n", tenant="t", claimed_at=0, token="canary", refresh_token="canary")
    assert "canary" not in repr(StoredToken("n", record, "1"))
    assert CODE not in token_name(CODE)


async def test_codes_and_rotation_work_with_slack_as_it_answers_over_http(tmp_path: Path) -> None:
    store, now = MemoryStore(), 1_800_000_000.0
    (tmp_path / "secret").write_text("")
    with Slack() as slack:
        slack.add_workspace("T1")
        (tmp_path / "secret").write_text(slack.client_secret)
        code = slack.issue_code("T1", rotation=True, redirect_uri="https://example.com/done")
        app = SlackAppSettings(
            client_id=slack.client_id, client_secret_file=tmp_path / "secret", redirect_url="https://example.com/done"
        )
        async with guarded_session(EgressGuard(EgressSettings(allow=("127.0.0.0/8",))), timeout=10) as session:
            codes = SlackCodes(app, SlackSettings(api_url=slack.api_url), store, session, now=lambda: now)
            first = (await codes.token(code, namespace_uid="ns", tenant="acme")).record
            now += 43200 - RENEW_AHEAD_SECONDS
            await codes.look({token_name(code)})
            second = (await codes.token(code, namespace_uid="ns", tenant="acme")).record
            with pytest.raises(Problem, match="Slack rejected the code"):
                await SlackCodes(app, SlackSettings(api_url=slack.api_url), MemoryStore(), session).token(
                    code, namespace_uid="ns", tenant="acme"
                )
        assert slack.calls("oauth.v2.access") == 3
    assert first.token.startswith("xoxe.xoxb-")
    assert second.token.startswith("xoxe.xoxb-")
    assert (first.token, first.refresh_token) != (second.token, second.refresh_token)
    assert second.expires_at == now + 43200
