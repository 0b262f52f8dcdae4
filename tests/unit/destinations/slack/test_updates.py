"""What follows a message when its alerts change: an edit, a reply, both or neither, each done once and in a form that Slack takes."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
import pytest

from eventsink.alerts.alert import Alert, Links, Severity, Status, epoch_micros
from eventsink.destinations.slack import updates
from eventsink.destinations.slack.config import SlackSettings
from eventsink.destinations.slack.parts import since_of
from eventsink.destinations.slack.replies import what_changed
from eventsink.destinations.slack.resolve import remark_of
from eventsink.destinations.slack.sender import SlackSender
from eventsink.destinations.slack.spec import SlackSpec, SlackStatus
from eventsink.destinations.slack.target import SlackTarget
from eventsink.destinations.slack.text import duration
from eventsink.destinations.slack.updates import announced, follow, latest
from eventsink.sinks.post import Post
from eventsink.sinks.sender import Delivered, Failed, FailureClass, Message, Outcome
from eventsink.sinks.shares import Limit, Share
from tests.unit.destinations.sender_contract import sink_of
from tests.unit.destinations.slack.slack_session import ScriptedResponse, ScriptedSession, slack_error

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)
ACCEPTED = {"ok": True, "channel": "C1", "ts": "2.2"}
TOKEN = SlackTarget(token="xoxb-1", team_id="T1", channel_id="C1")


def alert(pod: str, *, ended: bool = False, name: str = "PodDown", starts: datetime = NOON) -> Alert:
    return Alert(
        id=pod,
        fingerprint=pod,
        source="alertmanager",
        tenant="acme",
        status=Status.RESOLVED if ended else Status.FIRING,
        severity=Severity.CRITICAL,
        name=name,
        summary="",
        description="",
        namespace="shop",
        labels={"alertname": name, "namespace": "shop", "pod": pod},
        annotations={},
        starts_at=starts,
        ends_at=starts + timedelta(hours=1) if ended else None,
        links=Links(),
    )


def known(*alerts: Alert) -> updates.Known:
    return latest(alerts, [msgspec.json.encode(one) for one in alerts])


def changes(text: str) -> updates.Known:
    """`a-` has ended, `a+` fires."""
    return known(*(alert(one[:-1], ended=one.endswith("-")) for one in text.split()))


def post_of(*pods: str, open_alerts: str = "", digest: bool = False, shown: bool = True) -> Post:
    bodies = tuple(body for _, body in known(*(alert(pod) for pod in pods)).values())
    return Post(
        "C1/1.1", "m1", dict.fromkeys(open_alerts or pods, epoch_micros(NOON)), len(pods), digest, bodies if shown else (), id=7
    )


@pytest.mark.parametrize(
    ("sent", "expected"),
    [
        ("a+ b- c+", "a c, 3 shown"),
        ("a- b-", None),
        (" ".join(f"p{number}+" for number in range(25)), "25 open, 25 shown"),
        (" ".join(f"p{number}+" for number in range(26)), "26 open, digest"),
    ],
)
def test_a_new_message_is_recorded_with_what_fires_in_it(sent: str, expected: str | None) -> None:
    post = announced(changes(sent), "m1", "C1/1.1", "edit")
    if post is None:
        assert expected is None
        return
    named = " ".join(post.open) if len(post.open) < 5 else f"{len(post.open)} open"
    assert f"{named}, {'digest' if post.digest else f'{len(post.alerts)} shown'}" == expected
    assert (post.reference, post.message, post.total, post.id) == ("C1/1.1", "m1", len(sent.split()), 0)


def test_an_event_whose_count_grows_edits_its_message_and_is_a_reply_that_says_how_often_it_happened() -> None:
    once = msgspec.structs.replace(alert("a", name="BackOff"), status=Status.EVENT, count=1)
    post = announced(known(once), "m1", "C1/1.1", "edit")
    assert post is not None
    five_times = msgspec.structs.replace(once, count=5)
    plan = follow(post, known(once), known(five_times), "thread")
    assert plan.after == known(five_times)
    assert plan.reply is not None
    assert not plan.reply.to_channel
    assert what_changed(plan.post, [five_times]).headline == "🔴 5 times · BackOff · shop/a"
    assert since_of(five_times).endswith(", 5 times")
    assert announced(known(msgspec.structs.replace(once, count=0)), "m1", "C1/1.1", "edit") is None


def test_eleven_alerts_of_several_names_are_a_digest_and_what_is_not_edited_shows_nothing() -> None:
    names = [alert(f"p{number}", name=f"Name{number}") for number in range(11)]
    eleven, ten = announced(known(*names), "m", "r", "edit"), announced(known(*names[:10]), "m", "r", "edit")
    assert eleven is not None
    assert ten is not None
    assert (eleven.digest, ten.digest) == (True, False)
    replied_to = announced(changes("a+"), "m", "r", "thread")
    assert replied_to is not None
    assert (replied_to.alerts, replied_to.digest) == ((), False)


def test_alerts_that_are_too_long_to_be_recorded_are_replied_to(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(updates, "MAX_SHOWN_BYTES", 100)
    post = announced(changes("a+ b+"), "m", "r", "edit")
    assert post is not None
    assert (post.alerts, post.digest) == ((), False)


@pytest.mark.parametrize(
    ("post", "changed", "repeats", "shown", "replied", "still_open"),
    [
        (post_of("a", "b"), "a-", "thread", "a- b+", "a-", "b"),
        (post_of("a", "b"), "a- b-", "thread", "a- b-", "a- b-", ""),
        (post_of("a", "b", open_alerts="b"), "b-", "thread", "a+ b-", "b-", ""),
        (post_of("a", "b"), "b+", "thread", "a+ b+", "b+", "a b"),
        (post_of("a", "b"), "b+", "channel", "a+ b+", "b+ to channel", "a b"),
        (post_of("a", "b"), "a- b+", "channel", "a- b+", "a- b+ to channel", "b"),
        (post_of("a", "b"), "a-", "channel", "a- b+", "a-", "b"),
        (post_of("a", "b", shown=False), "a-", "thread", "", "a-", "b"),
        (post_of("a", "b", digest=True, shown=False), "a-", "thread", "", None, "b"),
        (post_of("a", "b", digest=True, shown=False), "a- b-", "thread", "", "", ""),
        (post_of("a", "b", digest=True, shown=False), "b+", "thread", "", "b+", "a b"),
    ],
)
def test_what_follows_a_post(
    post: Post, changed: str, repeats: updates.Repeats, shown: str, replied: str | None, still_open: str
) -> None:
    def named(alerts: updates.Known) -> str:
        return " ".join(name + ("-" if one.status is Status.RESOLVED else "+") for name, (one, _) in alerts.items())

    before = {one.identity: (one, body) for body in post.alerts for one in [msgspec.json.decode(body, type=Alert)]}
    plan = follow(post, before, changes(changed), repeats)
    assert named(plan.after) == shown
    found = None if plan.reply is None else named(plan.reply.changed) + (" to channel" if plan.reply.to_channel else "")
    assert found == replied
    assert " ".join(plan.post.open) == still_open
    assert (plan.post.id, plan.post.reference, plan.post.total) == (7, "C1/1.1", 2)


def test_an_alert_that_fires_since_a_later_time_is_shown_to_the_channel_and_stays_with_its_post() -> None:
    later = known(alert("a", starts=NOON + timedelta(hours=2)))
    plan = follow(post_of("a", "b"), known(alert("a"), alert("b")), later, "thread")
    assert plan.reply is not None
    assert plan.reply.to_channel
    assert plan.post.open["a"] > plan.post.open["b"]


class Following:
    """A sender with a post that it follows."""

    def __init__(self, script: Mapping[str, list[Any]] = {}, target: SlackTarget = TOKEN) -> None:
        self.slack = ScriptedSession({"chat.postMessage": [ACCEPTED], "chat.update": [ACCEPTED], **script})
        limit = Limit(1)
        share = Share("acme", (limit,), limit.most)
        self.sender = SlackSender(sink_of(target), target, SlackSettings(), self.slack.session, share)

    async def send(self, changed: str, post: Post | None, name: str = "m2") -> Outcome:
        return await self.sender.send(Message(name, [body for _, body in changes(changed).values()], post=post))

    def calls(self) -> str:
        return ", ".join(
            f"{one.method.partition('.')[2]}{' in thread' if one.form.get('thread_ts') else ''}" for one in self.slack.requests
        )


def failed(outcome: Outcome) -> Failed:
    assert isinstance(outcome, Failed)
    return outcome


def delivered(outcome: Outcome) -> Delivered:
    assert isinstance(outcome, Delivered)
    return outcome


async def test_a_post_is_edited_and_its_thread_says_what_changed() -> None:
    one = Following()
    outcome = delivered(await one.send("a-", post_of("a", "b")))
    assert one.calls() == "update, postMessage in thread"
    edit, reply = one.slack.requests
    assert (edit.form["channel"], edit.form["ts"], edit.form["parse"]) == ("C1", "1.1", "none")
    assert edit.form["text"].startswith("🔴 1 of 2 resolved · PodDown")
    assert (reply.form["thread_ts"], reply.form["reply_broadcast"]) == ("1.1", False)
    assert reply.form["text"] == "✅ 1 of 2 resolved · PodDown"
    assert outcome.reference == "C1/1.1"
    assert outcome.post is not None
    assert list(outcome.post.open) == ["b"]


async def test_a_repeat_that_changes_nothing_is_only_replied_to() -> None:
    one = Following()
    delivered(await one.send("a+", post_of("a")))
    assert one.calls() == "postMessage in thread"
    assert one.slack.requests[0].form["text"] == "🔴 Still firing (critical) · PodDown · shop/a"


async def test_a_retry_does_not_repeat_the_edit_that_was_made() -> None:
    one = Following({"chat.postMessage": [slack_error("ratelimited", 429, Retry_After="1"), ACCEPTED]})
    refused = failed(await one.send("a-", post_of("a")))
    assert (refused.failure, refused.of_edits) == (FailureClass.TRANSIENT, False)
    delivered(await one.send("a-", post_of("a")))
    assert one.calls() == "update, postMessage in thread, postMessage in thread"


async def test_edits_that_slack_refuses_for_now_are_told_from_other_messages() -> None:
    one = Following({"chat.update": [slack_error("ratelimited", 429, Retry_After="7")]})
    refused = failed(await one.send("a-", post_of("a")))
    assert (refused.failure, refused.retry_after, refused.of_edits) == (FailureClass.TRANSIENT, 7.0, True)


async def test_an_edit_whose_blocks_are_rejected_is_made_once_more_as_text_alone() -> None:
    one = Following({"chat.update": [slack_error("invalid_blocks"), ACCEPTED]})
    delivered(await one.send("a-", post_of("a")))
    assert one.calls() == "update, update, postMessage in thread"
    text_alone = one.slack.requests[1].form
    assert (text_alone["blocks"], text_alone["attachments"]) == ([], []), "what is left out would stay"
    assert one.slack.requests[2].form["blocks"], "the reply has blocks of its own"


async def test_an_edit_as_text_alone_has_as_many_bytes_as_slack_takes() -> None:
    pods = [f"p{number}" for number in range(20)]
    long = [msgspec.structs.replace(alert(pod, ended=True), summary=f"{pod} недоступен & " * 20) for pod in pods]
    one = Following({"chat.update": [slack_error("invalid_blocks"), ACCEPTED]})
    delivered(await one.sender.send(Message("m2", [msgspec.json.encode(each) for each in long], post=post_of(*pods))))
    text = one.slack.requests[1].form["text"]
    assert 3900 < len(text.encode()) <= 4000
    assert text.startswith("✅ 20 resolved after 1 h")


@pytest.mark.parametrize("error", sorted(updates.NOT_EDITABLE))
async def test_what_cannot_be_edited_is_posted_again_and_followed_there(error: str) -> None:
    one = Following({"chat.update": [slack_error(error)]})
    outcome = delivered(await one.send("a-", post_of("a", "b")))
    assert one.calls() == "update, postMessage"
    assert one.slack.requests[1].form["text"].startswith("🔴 1 of 2 resolved · PodDown"), "all that the message showed"
    assert outcome.post is not None
    assert (outcome.reference, outcome.post.reference, outcome.post.id) == ("C1/2.2", "C1/2.2", 7)


async def test_what_an_edit_would_have_shown_is_said_in_the_thread_though_slack_rejects_the_edit_for_good() -> None:
    one = Following({"chat.update": [slack_error("invalid_blocks"), slack_error("msg_too_long"), ACCEPTED]})
    outcome = delivered(await one.send("a-", post_of("a", "b")))
    assert one.calls() == "update, update, postMessage in thread"
    assert one.slack.requests[2].form["text"] == "✅ 1 of 2 resolved · PodDown"
    assert outcome.post is not None
    assert list(outcome.post.open) == ["b"]
    delivered(await one.send("b-", outcome.post, "m3"))
    assert one.calls().endswith("update, postMessage in thread"), "it is edited with the next change"
    assert one.slack.requests[3].form["text"].startswith("✅ 2 resolved"), "and shows what the first edit would have shown, too"


async def test_a_change_of_which_slack_takes_neither_edit_nor_reply_is_rejected() -> None:
    one = Following({"chat.update": [slack_error("invalid_blocks")], "chat.postMessage": [slack_error("invalid_blocks")]})
    assert failed(await one.send("a-", post_of("a", "b"))).failure is FailureClass.MESSAGE
    assert one.calls() == "update, update, postMessage in thread, postMessage in thread"


@pytest.mark.parametrize("error", sorted(updates.NO_THREAD))
async def test_a_reply_without_a_thread_is_a_message_in_the_channel(error: str) -> None:
    target = TOKEN.model_copy(update={"updates": "thread"})
    one = Following({"chat.postMessage": [slack_error(error), ACCEPTED]}, target)
    outcome = delivered(await one.send("a-", post_of("a", "b", shown=False)))
    assert one.calls() == "postMessage in thread, postMessage"
    assert one.slack.requests[1].form["text"].startswith("✅ Resolved after 1 h · PodDown")
    assert outcome.post is not None
    assert outcome.post.reference == "C1/2.2"


async def test_a_message_that_was_edited_before_the_sink_asked_for_threads_alone_stays_as_it_is() -> None:
    one = Following(target=TOKEN.model_copy(update={"updates": "thread"}))
    delivered(await one.send("a-", post_of("a", "b")))
    assert one.calls() == "postMessage in thread"


async def test_a_record_of_another_version_is_replied_to() -> None:
    one = Following()
    delivered(await one.send("a-", msgspec.structs.replace(post_of("a"), alerts=(b"{}",))))
    assert one.calls() == "postMessage in thread"


async def test_a_new_message_is_recorded_only_where_something_is_to_follow_it() -> None:
    assert delivered(await Following().send("a+", None)).post is not None
    messages = TOKEN.model_copy(update={"updates": "message"})
    assert delivered(await Following(target=messages).send("a+", None)).post is None


async def test_nothing_follows_a_message_that_slack_took_without_naming_it() -> None:
    nameless: dict[str, list[Any]] = {"chat.postMessage": [{"ok": True}]}
    assert delivered(await Following(nameless).send("a+", None)).post is None
    deleted = {**nameless, "chat.update": [slack_error("message_not_found")]}
    assert delivered(await Following(deleted).send("a-", post_of("a", "b"))).post is None


@pytest.mark.parametrize("method", ["chat.update", "chat.postMessage"])
@pytest.mark.parametrize(("status", "reason"), [(200, "InvalidResponse"), (503, "HTTP503")])
async def test_an_edit_or_a_reply_that_gets_no_response_of_slack_is_tried_again(method: str, status: int, reason: str) -> None:
    one = Following({method: [ScriptedResponse(status, {}, "<html>")]})
    refused = failed(await one.send("a-", post_of("a", "b")))
    assert (refused.failure, refused.reason) == (FailureClass.TRANSIENT, reason)


def test_only_a_token_whose_sink_asks_for_it_has_its_messages_followed() -> None:
    def parameters(**members: Any) -> tuple[bool, bool]:
        made = SlackTarget(**{"team_id": "T1", "channel_id": "C1", **members}).dispatch_parameters()
        return made.follows_posts, bool(made.edit_rate_limit_key)

    assert parameters(token="t") == (True, True)
    assert parameters(token="t", updates="thread") == (True, False)
    assert parameters(token="t", updates="message") == (False, False)
    assert parameters(webhook_url="https://hooks.slack.com/x") == (False, False)
    one, other = (SlackTarget(token="t", team_id="T1", channel_id=name).dispatch_parameters() for name in ("C1", "C2"))
    assert one.edit_rate_limit_key == other.edit_rate_limit_key, "Slack counts edits by workspace and app"
    assert "t" * 5 not in SlackTarget(token="t" * 5, team_id="T1").dispatch_parameters().edit_rate_limit_key


@pytest.mark.parametrize(
    ("spec", "posts_by_webhook", "says"),
    [
        ({"incomingWebhookSecretRef": {"name": "slack", "key": "url"}}, True, True),
        ({"incomingWebhookSecretRef": {"name": "slack", "key": "url"}, "updates": "thread"}, True, True),
        ({"incomingWebhookSecretRef": {"name": "slack", "key": "url"}, "updates": "message"}, True, False),
        ({"channel": "#alerts", "oauthCodeSecretRef": {"name": "slack", "key": "code"}}, True, True),
        ({"channel": "#alerts", "oauthCodeSecretRef": {"name": "slack", "key": "code"}}, None, False),
        ({"channel": "#alerts"}, None, False),
    ],
)
def test_a_sink_that_posts_by_an_incoming_webhook_says_that_it_cannot_edit(
    spec: dict[str, Any], posts_by_webhook: bool | None, says: bool
) -> None:
    remark = remark_of(SlackSpec.model_validate(spec), SlackStatus(channel_id="C1", incoming_webhook=posts_by_webhook))
    assert ("cannot edit messages" in remark) is says
    assert ("spec.slack.updates: message" in remark) is says


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0 s"), (59, "59 s"), (60, "1 min"), (3600, "1 h"), (3900, "1 h 5 min"), (86_399, "23 h 59 min"), (90_000, "1 d 1 h")],
)
def test_durations_are_short(seconds: int, text: str) -> None:
    assert duration(timedelta(seconds=seconds)) == text
