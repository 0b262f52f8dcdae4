"""Slack messages follow their alerts through a real router and its queue: edited, replied to, and right after kill -9."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.parts import Router, alert, notification
from tests.support.router_process import start_router
from tests.support.slack import Posted, Slack
from tests.support.waiting import wait_until

TEAM = "T1"
QUICK = {"rateLimitInterval": "20ms", "retry": {"first": "20ms"}}


@pytest.fixture
def slack() -> Iterator[Slack]:
    with Slack(message_seconds=0) as running:
        running.add_workspace(TEAM, "Acme")
        running.add_channel(TEAM, "alerts")
        running.add_channel(TEAM, "others")
        yield running


def address(slack: Slack, channel: str = "alerts", **options: str) -> str:
    """A Slack sink for the router; the token is the same each time, as it is after a restart."""
    token = next(iter(slack.state.tokens), "") or slack.issue_token(TEAM)
    query = "&".join(f"{name}={value}" for name, value in options.items())
    return f"slack:{TEAM}/{slack.state.channel(channel).id}/{token}" + (f"#{query}" if query else "")


def start(folder: Path, slack: Slack, *addresses: str) -> Any:
    return start_router(folder, *(addresses or (address(slack),)), slack={"apiUrl": slack.api_url}, dispatch=QUICK)


def send(router: Router, *alerts: dict[str, Any], group: str = "g") -> None:
    status, response = router.post(notification(*alerts, group=group))
    assert (status, response["accepted"]) == (200, len(alerts))


def fires(pod: str, **members: str) -> dict[str, Any]:
    return alert("PodDown", namespace="acme", pod=pod, **members)


def ended(pod: str) -> dict[str, Any]:
    return alert("PodDown", status="resolved", namespace="acme", pod=pod)


def settled(router: Router) -> None:
    """Wait until nothing waits any more."""
    wait_until("all deliveries", lambda: "eventsink_router_deliveries_waiting 0.0" in router.metrics())


def colour(posted: Posted) -> str:
    return str(posted.body["attachments"][0]["color"])


def test_a_message_is_edited_from_firing_to_resolved_and_its_thread_says_what_changed(slack: Slack, tmp_path: Path) -> None:
    with start(tmp_path, slack) as router:
        send(router, fires("a"), fires("b"), fires("c"))
        [posted] = slack.wait_for(1)
        assert posted.text.startswith("🔴 3 firing · PodDown")
        firing = colour(posted)
        send(router, ended("a"), ended("b"), fires("c"))
        slack.wait_for(2)
        [shown] = slack.shown("alerts")
        assert shown.text.startswith("🔴 2 of 3 resolved · PodDown")
        assert colour(shown) == firing
        send(router, ended("a"), ended("b"), ended("c"))
        slack.wait_for(3)
        [shown] = slack.shown("alerts")
        assert shown.text.startswith("✅ 3 resolved after 1 h · PodDown")
        assert colour(shown) != firing
        assert [one.text for one in slack.replies(posted)] == ["✅ 2 of 3 resolved · PodDown", "✅ All resolved · PodDown"]
        settled(router)
        arrived = router.admin("/v1/deliveries?state=arrived&limit=100")[1]["deliveries"]
        assert len(arrived) == 6
        assert {one["message"] for one in arrived} == {arrived[0]["message"]}, "the command in the message finds all of it"
        assert {one["reference"] for one in arrived} == {f"{posted.channel}/{posted.ts}"}
        send(router, fires("a", starts_at="2026-01-01T14:00:00Z"))
        slack.wait_for(4)
        assert len(slack.shown("alerts")) == 2, "a new episode is a new message"
    assert slack.calls("chat.update") == 2


def test_each_way_to_follow_an_alert_does_what_it_says(slack: Slack, tmp_path: Path) -> None:
    for name in ("thread", "message", "unresolved"):
        slack.add_channel(TEAM, name)
    addresses = [
        address(slack, updates="thread", repeats="channel"),
        address(slack, "thread", updates="thread"),
        address(slack, "message", updates="message"),
        address(slack, "unresolved", resolved="false"),
    ]
    with start(tmp_path, slack, *addresses) as router:
        for change in (fires("a"), fires("a"), ended("a")):  # the second is a repeat
            send(router, change)
            settled(router)
        assert slack.calls("chat.update") == 0
        [announced] = slack.shown("alerts")
        repeat, end = slack.replies(announced)
        assert (repeat.text, repeat.body["reply_broadcast"]) == (announced.text, True)
        assert (end.text.split(" · ")[0], end.body["reply_broadcast"]) == ("✅ Resolved after 1 h", False)
        [announced] = slack.shown("thread")
        assert [one.text.split(" · ")[0] for one in slack.replies(announced)] == [
            "🔴 Still firing (critical)",
            "✅ Resolved after 1 h",
        ]
        assert not any(one.body["reply_broadcast"] for one in slack.replies(announced))
        assert [one.text.split(" · ")[0] for one in slack.shown("message")] == [
            "🔴 Critical",
            "🔴 Critical",
            "✅ Resolved after 1 h",
        ]
        [announced] = slack.shown("unresolved")
        assert len(slack.replies(announced)) == 1, "nothing of the end"
        send(router, fires("a", starts_at="2026-01-01T14:00:00Z"))
        settled(router)
        assert len(slack.shown("unresolved")) == 2, "another episode is another message"


def test_a_digest_is_not_edited_and_has_one_reply_when_all_in_it_has_ended(slack: Slack, tmp_path: Path) -> None:
    names = [f"Name{number}" for number in range(12)]
    with start(tmp_path, slack) as router:
        send(router, *(alert(name, namespace="acme") for name in names))
        [digest] = slack.wait_for(1)
        ends = [alert(name, status="resolved", namespace="acme") for name in names]
        send(router, *ends[:11], alert(names[11], namespace="acme"))
        settled(router)
        send(router, *ends)
        settled(router)
        assert [one.text for one in slack.replies(digest)] == ["✅ All 12 alerts of this message are resolved"]
    assert slack.calls("chat.update") == 0


def test_kill_9_between_the_post_and_the_edit_and_between_the_edit_and_the_reply_loses_nothing(
    slack: Slack, tmp_path: Path
) -> None:
    with start(tmp_path, slack) as router:
        send(router, fires("a"))
        [posted] = slack.wait_for(1)
        settled(router)
        router.running.kill9()
    slack.hang("chat.update", done=True)
    with start(tmp_path, slack) as router:
        send(router, ended("a"))
        wait_until("the edit", lambda: slack.edits("alerts"))
        router.running.kill9()
    slack.hang("chat.postMessage", done=True)
    with start(tmp_path, slack) as router:
        slack.wait_for(2)
        router.running.kill9()
    with start(tmp_path, slack) as router:
        settled(router)
        assert router.admin("/v1/deliveries?state=dead")[1]["deliveries"] == []
    [shown] = slack.shown("alerts")
    assert (shown.ts, shown.text.split(" · ")[0]) == (posted.ts, "✅ Resolved after 1 h")
    assert {one.text for one in slack.replies(posted)} == {shown.text}
    assert len(slack.replies(posted)) == 2, "the reply of which nobody saw the response is repeated, and nothing else"


def test_a_message_that_cannot_be_edited_any_more_is_posted_again_and_followed_there(slack: Slack, tmp_path: Path) -> None:
    with start(tmp_path, slack) as router:
        send(router, fires("a"), fires("b"))
        [posted] = slack.wait_for(1)
        slack.delete_message(posted)
        send(router, ended("a"), fires("b"))
        _, again = slack.wait_for(2)
        assert (again.thread, again.text.split(" · ")[0]) == ("", "🔴 1 of 2 resolved")
        send(router, ended("a"), ended("b"))
        slack.wait_for(3)
        assert [one.text.split(" · ")[0] for one in slack.replies(again)] == ["✅ All resolved"]
        assert slack.edits("alerts")[-1].ts == again.ts


def test_refused_edits_hold_no_new_message_and_the_newest_state_wins(slack: Slack, tmp_path: Path) -> None:
    with start(tmp_path, slack, address(slack), address(slack, "others")) as router:
        send(router, fires("a"), fires("b"))
        slack.wait_for(1, channel="alerts")
        settled(router)
        slack.fail("chat.update", "ratelimited", retry_after=2, times=2)
        send(router, ended("a"), fires("b"))
        wait_until("the refused edits", lambda: slack.calls("chat.update") == 1)
        send(router, fires("new"), group="h")
        slack.wait_for(lambda seen: [one for one in seen if "new" in one.text], channel="alerts", deadline=1.5)
        send(router, ended("a"), ended("b"))
        settled(router)
        [first, _] = slack.shown("alerts")
        assert first.text.startswith("✅ 2 resolved")
        assert [one.text.split(" · ")[0] for one in slack.edits("alerts")] == ["✅ 2 resolved after 1 h"]
        assert [one.text for one in slack.replies(first)] == ["✅ All resolved · PodDown"]


def test_the_end_of_an_alert_goes_to_the_channel_that_the_sink_names_now(slack: Slack, tmp_path: Path) -> None:
    with start(tmp_path, slack) as router:
        send(router, fires("a"))
        slack.wait_for(1)
        settled(router)
    with start(tmp_path, slack, address(slack, "others")) as router:
        send(router, ended("a"))
        settled(router)
    assert [one.text.split(" · ")[0] for one in slack.shown("others")] == ["✅ Resolved after 1 h"]
    assert [one.text.split(" · ")[0] for one in slack.messages("alerts")] == ["🔴 Critical"]
    assert slack.edits("alerts") == []
