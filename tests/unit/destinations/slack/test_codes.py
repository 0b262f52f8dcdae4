"""An OAuth code is exchanged at most once, Slack's response is stored before it is used, and nobody else gets its token."""

from __future__ import annotations

import asyncio
import math
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
    granted,
    renewal_due,
)
from eventsink.destinations.slack.config import SlackAppSettings, SlackSettings
from eventsink.destinations.slack.tokens import StoredToken, TokenRecord, token_name
from eventsink.kube.api import Conflict, Unavailable
from eventsink.kube.lease import NotLeading
from eventsink.runtime.backoff import Backoff
from eventsink.sinks.egress import EgressGuard, EgressSettings
from eventsink.sinks.guarded import guarded_session
from eventsink.sinks.resolver import Resolver
from tests.support.slack import Slack
from tests.unit.destinations.slack.slack_session import Request, ScriptedResponse, ScriptedSession, slack_error

CODE = "canary-code-1"
GRANTED = {"ok": True, "access_token": "xoxb-canary", "team": {"id": "T1"}}
ROTATING = {**GRANTED, "access_token": "xoxe.xoxb-1", "refresh_token": "xoxe-1", "expires_in": 43200}
CONNECT = aiohttp.ClientConnectorError(cast(Any, None), OSError(111, "Connection refused"))
APP = {"client_id": "1.2", "client_secret": "canary-client-secret"}
DAY = 86400.0


class MemoryStore:
    """A `TokenStore` in memory; `broken` makes the next calls of `replace` fail."""

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
            raise Unavailable(0, "Unavailable", "the API server is unavailable")
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
class CodesUnderTest:
    """The codes of one operator; `restart` makes another over the same store."""

    folder: Path
    store: MemoryStore = field(default_factory=MemoryStore)
    slack: ScriptedSession = field(default_factory=ScriptedSession)
    now: float = 1_800_000_000.0
    leads: bool = True
    codes: SlackCodes = field(init=False)

    def __post_init__(self) -> None:
        (self.folder / "secret").write_text("canary-client-secret")
        self.restart()

    def restart(self, **app: Any) -> None:
        settings = {"clientId": "1.2", "clientSecretFile": self.folder / "secret", "redirectUrl": "https://x/", **app}
        self.codes = SlackCodes(
            SlackAppSettings.model_validate(settings),
            SlackSettings(),
            self.store,
            self.slack.session,
            check_leader=self.check_leader,
            now=lambda: self.now,
        )

    async def lose_the_lead_once_claimed(self) -> None:
        """Another replica leads as soon as this one has claimed a code: it is not sent."""
        create = self.store.create

        async def paused(name: str, record: TokenRecord) -> StoredToken | None:
            self.leads = False
            return await create(name, record)

        self.store.create = paused  # type: ignore[method-assign]
        with pytest.raises(NotLeading):
            await self.token()
        self.store.create = create  # type: ignore[method-assign]

    def check_leader(self) -> None:
        if not self.leads:
            raise NotLeading

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
def under_test(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> CodesUnderTest:
    monkeypatch.setattr(slack_codes, "STORE_BACKOFF", Backoff(first=0.001, longest=0.01))
    made = CodesUnderTest(tmp_path)
    made.slack.script["oauth.v2.access"] = [GRANTED]
    return made


async def test_a_code_is_exchanged_once_for_concurrent_calls_and_across_restarts(under_test: CodesUnderTest) -> None:
    assert await asyncio.gather(*(under_test.token() for _ in range(5))) == ["xoxb-canary"] * 5
    under_test.restart()
    assert await under_test.token() == "xoxb-canary"
    assert len(under_test.exchanges) == 1
    assert under_test.exchanges[0].form == {**APP, "code": CODE, "redirect_uri": "https://x/"}


async def test_the_claim_is_stored_before_the_code_is_sent_and_the_response_before_it_is_used(under_test: CodesUnderTest) -> None:
    seen = []

    def response(_: Request) -> dict[str, Any]:
        seen.append(under_test.record)
        return GRANTED

    under_test.slack.script["oauth.v2.access"] = [response]
    under_test.store.broken = 3
    assert await under_test.token() == "xoxb-canary"
    assert [(one.token, one.namespace_uid, one.tenant) for one in seen] == [("", "ns-1", "acme")]
    assert under_test.record.token == "xoxb-canary"


async def test_a_response_is_stored_although_the_record_changed_meanwhile(under_test: CodesUnderTest) -> None:
    async def changed() -> dict[str, Any]:
        [stored] = await under_test.store.list()
        await under_test.codes.look(set())  # nobody is known to need it yet
        assert (await under_test.store.list()) == [stored]
        await under_test.store.replace(stored, stored.record.model_copy(update={"unused_since": under_test.now}))
        return GRANTED

    under_test.slack.script["oauth.v2.access"] = [lambda _: changed()]
    assert await under_test.token() == "xoxb-canary"
    assert under_test.record.token == "xoxb-canary"


async def test_a_response_that_arrives_after_its_caller_was_cancelled_is_stored(under_test: CodesUnderTest) -> None:
    asked, release = asyncio.Event(), asyncio.Event()

    async def late() -> dict[str, Any]:
        asked.set()
        await release.wait()
        return GRANTED

    under_test.slack.script["oauth.v2.access"] = [lambda _: late()]
    waiting = asyncio.ensure_future(under_test.token())
    await asked.wait()
    waiting.cancel()
    await asyncio.gather(waiting, return_exceptions=True)
    release.set()
    await under_test.codes.finish(10)
    assert under_test.record.token == "xoxb-canary"


async def test_a_response_is_stored_although_another_replica_leads_when_it_arrives(under_test: CodesUnderTest) -> None:
    def response(_: Request) -> dict[str, Any]:
        under_test.leads = False
        return GRANTED

    under_test.slack.script["oauth.v2.access"] = [response]
    await under_test.token()
    assert under_test.record.token == "xoxb-canary"


async def test_who_does_not_lead_claims_no_code_sends_none_and_marks_no_token(under_test: CodesUnderTest) -> None:
    await under_test.token()
    under_test.leads = False
    with pytest.raises(NotLeading):
        await under_test.codes.look(set())
    with pytest.raises(NotLeading):
        await under_test.token("canary-code-2")
    assert (len(under_test.store.records), under_test.record.unused_since, len(under_test.exchanges)) == (1, None, 1)


async def test_a_code_that_was_claimed_just_before_the_lead_was_lost_is_not_sent(under_test: CodesUnderTest) -> None:
    await under_test.lose_the_lead_once_claimed()
    assert not under_test.exchanges


async def test_a_code_that_was_claimed_and_not_sent_is_left_to_the_next_leader(under_test: CodesUnderTest) -> None:
    await under_test.lose_the_lead_once_claimed()
    under_test.now += 1
    under_test.leads = True
    under_test.restart()
    assert await under_test.token() == "xoxb-canary"


async def test_a_code_that_could_not_be_sent_before_the_lead_was_lost_is_left_to_the_next_leader(
    under_test: CodesUnderTest,
) -> None:
    under_test.slack.script["oauth.v2.access"] = [NotLeading(), GRANTED]
    with pytest.raises(NotLeading):
        await under_test.token()
    assert not under_test.store.records
    under_test.restart()
    assert await under_test.token() == "xoxb-canary"


async def test_a_claim_of_the_leader_before_whose_clock_was_ahead_counts_as_spent(under_test: CodesUnderTest) -> None:
    claim = TokenRecord(namespace_uid="ns-1", tenant="acme", claimed_at=under_test.now + 600)
    await under_test.store.create(token_name(CODE), claim)
    assert (await under_test.problem()).reason == "CodeSpent"


async def test_a_claim_of_the_leader_before_counts_as_spent_although_this_process_was_running(under_test: CodesUnderTest) -> None:
    under_test.now += 1
    await under_test.store.create(token_name(CODE), TokenRecord(namespace_uid="ns-1", tenant="acme", claimed_at=under_test.now))
    under_test.now += 1
    keeping = asyncio.ensure_future(under_test.codes.keep(set))  # it begins to lead
    await asyncio.sleep(0)
    assert (await under_test.problem()).reason == "CodeSpent"
    keeping.cancel()
    await asyncio.gather(keeping, return_exceptions=True)


@pytest.mark.parametrize("who", [{"uid": "ns-re-created"}, {"tenant": "other"}])
async def test_the_token_of_a_code_is_not_given_to_another_namespace_or_tenant(
    under_test: CodesUnderTest, who: dict[str, str]
) -> None:
    await under_test.token()
    assert (await under_test.problem(**who)).reason == "CodeTaken"
    assert len(under_test.exchanges) == 1


async def test_a_claim_without_a_response_is_waited_for_and_then_counts_as_spent(under_test: CodesUnderTest) -> None:
    under_test.now += 1
    claim = TokenRecord(namespace_uid="ns-1", tenant="acme", claimed_at=under_test.now)
    await under_test.store.create(token_name(CODE), claim)
    problem = await under_test.problem()
    assert (problem.reason, problem.may_pass) == ("SlackUnavailable", True)
    assert problem.again_after is not None
    under_test.now += CLAIM_SECONDS
    problem = await under_test.problem()
    assert (problem.reason, problem.may_pass) == ("CodeSpent", False)
    assert not under_test.exchanges


async def test_a_claim_of_an_earlier_process_counts_as_spent_at_once(under_test: CodesUnderTest) -> None:
    claim = TokenRecord(namespace_uid="ns-1", tenant="acme", claimed_at=under_test.now)
    await under_test.store.create(token_name(CODE), claim)
    under_test.now += 1
    under_test.restart()
    assert (await under_test.problem()).reason == "CodeSpent"


@pytest.mark.parametrize(
    ("response", "reason", "spent"),
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
async def test_a_failed_exchange_is_retried_only_if_the_code_is_still_valid(
    under_test: CodesUnderTest, response: Any, reason: str, spent: bool
) -> None:
    under_test.slack.script["oauth.v2.access"] = [response, GRANTED]
    assert (await under_test.problem()).reason == reason
    if spent:
        assert (await under_test.problem()).reason == reason
        assert len(under_test.exchanges) == 1
    else:
        assert await under_test.token() == "xoxb-canary"


async def test_without_a_configured_app_no_code_is_claimed(under_test: CodesUnderTest) -> None:
    for app in ({"clientId": ""}, {"clientSecretFile": None}, {"clientSecretFile": "/none"}):
        under_test.restart(**app)
        assert (await under_test.problem()).reason == "SlackNotConfigured"
    assert not under_test.store.records


async def test_a_rotated_token_is_renewed_before_it_expires_and_stored_before_it_is_used(under_test: CodesUnderTest) -> None:
    second = {**ROTATING, "access_token": "xoxe.xoxb-2", "refresh_token": "xoxe-2"}
    under_test.slack.script["oauth.v2.access"] = [ROTATING, second]
    await under_test.token()
    await under_test.codes.look({token_name(CODE)})
    assert len(under_test.exchanges) == 1
    under_test.now += 43200 - RENEW_AHEAD_SECONDS
    under_test.store.broken = 2
    await under_test.codes.look({token_name(CODE)})
    assert under_test.exchanges[1].form == {**APP, "grant_type": "refresh_token", "refresh_token": "xoxe-1"}
    assert (under_test.record.token, under_test.record.refresh_token) == ("xoxe.xoxb-2", "xoxe-2")
    assert under_test.record.expires_at == under_test.now + 43200
    await under_test.codes.look({token_name(CODE)})
    assert len(under_test.exchanges) == 2


async def test_a_failed_renewal_is_retried_until_slack_rejects_the_refresh_token(under_test: CodesUnderTest) -> None:
    failures = [TimeoutError(), slack_error("internal_error", 500), slack_error("invalid_refresh_token")]
    under_test.slack.script["oauth.v2.access"] = [ROTATING, *failures]
    await under_test.token()
    under_test.now += 43200
    for _ in range(5):
        await under_test.codes.look({token_name(CODE)})
    assert len(under_test.exchanges) == 4
    assert await under_test.token() == "xoxe.xoxb-1"  # it is valid until it expires


async def test_a_renewal_that_another_replica_made_meanwhile_is_kept_when_slack_rejects_this_one(
    under_test: CodesUnderTest,
) -> None:
    async def rejected() -> ScriptedResponse:
        [stored] = await under_test.store.list()
        other = {"token": "xoxe.xoxb-2", "refresh_token": "xoxe-2", "expires_at": under_test.now + 43200}
        await under_test.store.replace(stored, stored.record.model_copy(update=other))
        return slack_error("invalid_refresh_token")

    under_test.slack.script["oauth.v2.access"] = [ROTATING, lambda _: rejected()]
    await under_test.token()
    under_test.now += 43200 - RENEW_AHEAD_SECONDS
    await under_test.codes.look({token_name(CODE)})
    assert len(under_test.exchanges) == 2
    assert (under_test.record.token, under_test.record.refresh_token, under_test.record.error) == ("xoxe.xoxb-2", "xoxe-2", "")


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
def test_only_a_renewable_token_that_expires_soon_is_renewed(refresh: str, expires_in: float | None, due: bool) -> None:
    expires = 1000.0 + expires_in if expires_in is not None else None
    record = TokenRecord(namespace_uid="n", tenant="t", claimed_at=0, token="x", refresh_token=refresh, expires_at=expires)
    assert renewal_due(record, 1000.0) is due


async def test_an_unused_token_is_kept_for_30_days_and_then_revoked(under_test: CodesUnderTest) -> None:
    await under_test.token()
    await under_test.codes.look(set())
    under_test.now += 29 * DAY
    await under_test.codes.look(set())
    await under_test.codes.look({token_name(CODE)})  # a sink was re-created
    await under_test.codes.look(set())
    under_test.now += 29 * DAY
    await under_test.codes.look(set())
    assert await under_test.token() == "xoxb-canary"
    assert not under_test.slack.calls("auth.revoke")
    under_test.now += DAY
    under_test.slack.script["auth.revoke"] = [TimeoutError(), {"ok": True}]
    await under_test.codes.look(set())
    assert under_test.store.records
    await under_test.codes.look(set())
    assert not under_test.store.records
    assert len(under_test.slack.calls("auth.revoke")) == 2


def test_no_representation_of_a_record_shows_a_credential_and_no_name_the_code() -> None:
    record = TokenRecord(namespace_uid="n", tenant="t", claimed_at=0, token="canary", refresh_token="canary")
    assert "canary" not in repr(StoredToken("n", record, "1"))
    assert CODE not in token_name(CODE)


@pytest.mark.parametrize(
    ("response", "expected"),
    [
        (GRANTED, {"webhook_url": "", "error": ""}),
        (
            GRANTED
            | {
                "scope": "incoming-webhook",
                "team": {"id": "T1", "name": "Acme"},
                "incoming_webhook": {"url": "https://hooks.slack.com/x", "channel": "#alerts", "channel_id": "C1"},
            },
            {
                "scopes": ("incoming-webhook",),
                "team_id": "T1",
                "team_name": "Acme",
                "webhook_url": "https://hooks.slack.com/x",
                "webhook_channel": "alerts",
                "webhook_channel_id": "C1",
            },
        ),
        ({"ok": True, "incoming_webhook": {"url": "https://hooks.slack.com/x"}}, {"token": "", "error": ""}),
        (GRANTED | {"team": None, "incoming_webhook": [], "scope": 1}, {"team_id": "", "webhook_url": "", "scopes": ()}),
        ({"ok": True, "team": {"id": "T1"}}, {"error": "no_bot_token"}),
    ],
)
def test_what_slack_says_of_a_code_is_recorded(response: dict[str, Any], expected: dict[str, Any]) -> None:
    record = granted(TokenRecord(namespace_uid="n", tenant="acme", claimed_at=0), response, 0.0)
    assert {name: getattr(record, name) for name in expected} == expected


@pytest.mark.parametrize(
    ("expires_in", "expires_at"), [(10**400, 2_592_001.0), (math.inf, 2_592_001.0), (math.nan, 1.0), (-5, 1.0), (43200, 43201.0)]
)
def test_a_response_with_an_odd_lifetime_is_stored_all_the_same(expires_in: float, expires_at: float) -> None:
    response = ROTATING | {"expires_in": expires_in, "team": {"name": "half of a pair: \ud83d"}}
    record = granted(TokenRecord(namespace_uid="n", tenant="acme", claimed_at=0), response, 1.0)
    assert (record.token, record.expires_at, record.team_name) == ("xoxe.xoxb-1", expires_at, "half of a pair: \ufffd")
    assert TokenRecord.model_validate_json(record.to_json()) == record


def test_a_renewed_token_keeps_the_webhook_that_came_with_the_first() -> None:
    first = {"scope": "a, b", "incoming_webhook": {"url": "https://hooks.slack.com/x"}, "team": {"id": "T1"}}
    record = granted(TokenRecord(namespace_uid="n", tenant="acme", claimed_at=0), GRANTED | first, 0.0)
    renewed = granted(record, {"access_token": "xoxe.xoxb-2", "refresh_token": "r", "expires_in": 43200}, 1.0)
    assert (renewed.token, renewed.webhook_url, renewed.team_id, renewed.scopes) == (
        "xoxe.xoxb-2",
        "https://hooks.slack.com/x",
        "T1",
        ("a", "b"),
    )


async def test_codes_and_rotation_work_over_http(tmp_path: Path) -> None:
    store, now = MemoryStore(), 1_800_000_000.0
    (tmp_path / "secret").write_text("")
    with Slack() as slack:
        slack.add_workspace("T1")
        (tmp_path / "secret").write_text(slack.client_secret)
        code = slack.issue_code("T1", rotation=True, redirect_uri="https://example.com/done")
        app = SlackAppSettings(
            client_id=slack.client_id, client_secret_file=tmp_path / "secret", redirect_url="https://example.com/done"
        )
        resolver = Resolver()
        async with guarded_session(EgressGuard(EgressSettings(allow=("127.0.0.0/8",))), resolver, timeout=10) as session:
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
        await resolver.close()
    assert first.token.startswith("xoxe.xoxb-")
    assert second.token.startswith("xoxe.xoxb-")
    assert (first.token, first.refresh_token) != (second.token, second.refresh_token)
    assert second.expires_at == now + 43200
