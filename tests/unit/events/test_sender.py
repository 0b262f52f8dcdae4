"""What waits is posted in order until the router has decided on it, and only then does the checkpoint move on."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import trustme
from prometheus_client import CollectorRegistry

from eventsink.events import posts as module
from eventsink.events.checkpoint import CONFIG_MAPS, Checkpoint
from eventsink.events.config import CheckpointSettings, SourceSettings
from eventsink.events.event import sent_of
from eventsink.events.metrics import EventsMetrics
from eventsink.events.posts import Poster
from eventsink.events.process import post_metrics
from eventsink.events.sender import Sender, encoded
from eventsink.events.window import Read, Window
from eventsink.kube.local import LocalApi
from eventsink.runtime.backoff import Backoff
from eventsink.runtime.settings import ConfigurationError
from tests.support.receiver import CannedResponse, Receiver
from tests.unit.events.events_made import event

DEADLINE_SECONDS = 30.0
PATH = "/v1/alerts/kubernetes-events"
TOKEN = "canary-token-5b1d"


@pytest.fixture
def router() -> Iterator[Receiver]:
    with Receiver() as running:
        yield running


@pytest.fixture(autouse=True)
def _without_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "BACKOFF", Backoff(first=0.001, longest=0.001))
    monkeypatch.setattr(module, "NOT_LEADING_SECONDS", 0.001)


def read(name: str, version: int, suppressed: int = 0, **members: Any) -> Read:
    return Read("", str(version), sent_of(event(name, version=version, **members)), f"uid-{name}", suppressed)


def accepted(rejected: int = 0) -> CannedResponse:
    reasons = [{"index": number, "reason": "no tenant owns it"} for number in range(rejected)]
    return CannedResponse(body=json.dumps({"accepted": 1, "rejected": reasons}).encode())


class Sending:
    """A sender to a router that responds as a test wants."""

    def __init__(
        self, router: Receiver, folder: Path, may_send: Callable[[], bool] = lambda: True, *, url: str | None = None
    ) -> None:
        token = folder / "token"
        token.write_text(TOKEN)
        self.window = Window()
        self.metrics = EventsMetrics(CollectorRegistry())
        self.checkpoint = Checkpoint(LocalApi([CONFIG_MAPS]), CheckpointSettings(), self.metrics)
        settings = SourceSettings(url=url or router.url(PATH), token_file=token)
        self.poster = Poster(settings, post_metrics(self.metrics), may_send=may_send)
        self.sender = Sender(self.poster, self.window, self.checkpoint)

    async def send(self, *reads: Read, until: Callable[[], object]) -> None:
        """Send these until it holds."""
        for one in reads:
            await self.window.put(one)
        task = asyncio.create_task(self.sender.run())
        try:
            async with asyncio.timeout(DEADLINE_SECONDS):
                while not until() and not task.done():
                    await asyncio.sleep(0.001)
        finally:
            task.cancel()
            await asyncio.wait([task])

    def position(self) -> str:
        return self.checkpoint.position("")

    def count(self, name: str) -> float:
        value: float = getattr(self.metrics, name).collect()[0].samples[0].value
        return value


def posted(router: Receiver) -> list[list[str]]:
    return [[one["metadata"]["name"] for one in request.json()["items"]] for request in router.requests()]


async def test_events_are_posted_with_the_token_and_then_the_checkpoint_moves_on(router: Receiver, tmp_path: Path) -> None:
    router.respond_with(accepted())
    sending = Sending(router, tmp_path)
    await sending.send(read("a", 11), read("b", 12), until=lambda: sending.position() == "12")
    [request] = router.requests(PATH)
    assert request.headers["authorization"] == f"Bearer {TOKEN}"
    assert posted(router) == [["a", "b"]]
    assert "managedFields" not in request.body.decode()
    assert sending.count("sent") == 2


async def test_what_the_router_does_not_take_now_is_sent_again_and_the_checkpoint_waits(router: Receiver, tmp_path: Path) -> None:
    router.respond_with(503, CannedResponse(disconnect=True), 500, 429)
    sending = Sending(router, tmp_path)
    await sending.send(read("a", 11), until=lambda: len(router.requests()) >= 6)
    assert sending.position() == ""
    assert sending.count("sending_failed") > 0
    assert sending.poster.problem is None
    router.respond_with(accepted())
    sending = Sending(router, tmp_path)
    await sending.send(read("a", 11), until=lambda: sending.position() == "11")
    assert posted(router) == [["a"]] * len(router.requests())


@pytest.mark.parametrize(
    ("status", "problem"), [(401, "router.tokenFile"), (404, "correct router.url"), (307, "the response is a redirect")]
)
async def test_what_somebody_has_to_correct_is_named_and_waited_for(
    router: Receiver, tmp_path: Path, status: int, problem: str, capfd: pytest.CaptureFixture[str]
) -> None:
    router.respond_with(CannedResponse(status, {"Location": "http://127.0.0.1:1/"}))
    sending = Sending(router, tmp_path)
    await sending.send(read("a", 11), until=lambda: len(router.requests()) >= 3)
    assert problem in (sending.poster.problem or "")
    assert sending.position() == ""
    assert TOKEN not in "".join(capfd.readouterr())


async def test_a_token_that_is_replaced_is_used_at_once(router: Receiver, tmp_path: Path) -> None:
    router.respond_with(401, 401, accepted())
    sending = Sending(router, tmp_path)

    def replace() -> str:
        if router.requests():
            (tmp_path / "token").write_text("another one")
        return sending.position()

    await sending.send(read("a", 11), until=replace)
    assert router.requests()[-1].headers["authorization"] == "Bearer another one"
    assert sending.poster.problem is None


async def test_one_event_that_the_router_cannot_read_does_not_keep_back_the_others(router: Receiver, tmp_path: Path) -> None:
    router.respond_with(413, 413, 413, accepted(), accepted())
    sending = Sending(router, tmp_path)
    await sending.send(*(read(name, 11 + n) for n, name in enumerate("abcd")), until=lambda: sending.position() == "14")
    assert posted(router) == [["a", "b", "c", "d"], ["a", "b"], ["a"], ["b"], ["c", "d"]]
    assert (sending.count("rejected"), sending.count("sent")) == (1, 3)


async def test_events_without_a_tenant_are_counted_and_not_sent_again(router: Receiver, tmp_path: Path) -> None:
    router.respond_with(CannedResponse(403, body=b'{"error": "no alert was accepted"}'), accepted(rejected=1))
    sending = Sending(router, tmp_path)
    await sending.send(read("a", 11), read("b", 12), until=lambda: sending.position() == "12")
    assert len(router.requests()) == 1
    await sending.send(read("c", 13), read("d", 14), until=lambda: sending.position() == "14")
    assert (sending.count("rejected"), sending.count("sent")) == (3, 1)


@pytest.mark.parametrize("status", [400, 403, 422])
async def test_what_a_proxy_before_the_router_refuses_is_sent_again(router: Receiver, tmp_path: Path, status: int) -> None:
    router.respond_with(CannedResponse(status, body=b"RBAC: access denied"))
    sending = Sending(router, tmp_path)
    await sending.send(read("a", 11), read("b", 12), until=lambda: len(router.requests()) >= 3)
    assert posted(router)[:3] == [["a", "b"]] * 3
    assert (sending.position(), sending.count("rejected")) == ("", 0)
    assert "something before the router" in (sending.poster.problem or "")


async def test_a_certificate_of_another_authority_is_named(tmp_path: Path) -> None:
    with Receiver(authority=trustme.CA()) as router:
        sending = Sending(router, tmp_path)
        await sending.send(read("a", 11), until=lambda: sending.poster.problem)
    assert "router.caFile" in (sending.poster.problem or "")


async def test_what_was_rejected_is_counted_also_if_the_response_comes_in_pieces(router: Receiver, tmp_path: Path) -> None:
    body = accepted(rejected=2).body

    async def respond(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"]}")
        writer.write(b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: %d\r\n\r\n" % len(body) + body[:20])
        await asyncio.sleep(0.1)  # so that the rest comes in a packet of its own
        writer.write(body[20:])
        writer.close()
        await writer.wait_closed()

    server = await asyncio.start_server(respond, "127.0.0.1", 0)
    async with server:
        sending = Sending(router, tmp_path, url=f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}{PATH}")
        await sending.send(*(read(name, 11 + n) for n, name in enumerate("abc")), until=lambda: sending.position() == "13")
    assert (sending.count("rejected"), sending.count("sent")) == (2, 1)


async def test_nothing_is_sent_while_it_is_not_sure_that_this_replica_leads(router: Receiver, tmp_path: Path) -> None:
    asked: list[bool] = []

    def may_send() -> bool:
        asked.append(len(asked) >= 5)
        return asked[-1]

    router.respond_with(accepted())
    sending = Sending(router, tmp_path, may_send)
    await sending.send(read("a", 11), until=lambda: sending.position() == "11")
    assert asked == [False] * 5 + [True]


async def test_what_is_not_sent_moves_the_checkpoint_on_without_a_request(router: Receiver, tmp_path: Path) -> None:
    sending = Sending(router, tmp_path)
    await sending.send(Read("", "99"), until=lambda: sending.position() == "99")
    assert router.requests() == []


def test_of_an_event_that_is_there_several_times_the_last_is_sent_with_all_that_were_left_out() -> None:
    reads = [read("a", 11, 3, series={"count": 2}), read("b", 12), Read("", "13"), read("a", 14, 4, series={"count": 5})]
    b, a = [json.loads(one) for one in encoded(reads)]
    assert (b["metadata"]["name"], a["metadata"]["name"], a["series"]) == ("b", "a", {"count": 5})
    assert a["metadata"]["annotations"] == {"eventsink.dev/suppressed": "7"}


def test_a_token_file_that_is_absent_is_named_at_the_start(router: Receiver, tmp_path: Path) -> None:
    settings = SourceSettings(url=router.url(PATH), token_file=tmp_path / "none")
    with pytest.raises(ConfigurationError, match=r"router\.tokenFile"):
        Poster(settings, post_metrics(EventsMetrics(CollectorRegistry())))
