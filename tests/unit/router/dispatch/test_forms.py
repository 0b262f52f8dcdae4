"""What waits for a sink is sent in the form that the sink takes now, whatever it took when the alert came."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest

from eventsink.alerts.alert import Alert
from eventsink.router.dispatch.forms import Forms, UnreadableDelivery
from eventsink.router.dispatch.memory import without_body
from eventsink.router.dispatch.outgoing import Item, OutgoingMessage
from eventsink.router.planning.alert_states import StateChange
from eventsink.router.planning.assign import assign
from eventsink.router.planning.batch import BatchBuilder
from eventsink.router.queue.protocol import Batch, Delivery
from eventsink.router.sources import Source
from eventsink.sinks.sender import Delivered, Message
from eventsink.sinks.sink import Sink
from tests.support.parts import alert, notification
from tests.unit.router.dispatch.dispatching import MESSAGE, TRANSIENT, MakeDispatch
from tests.unit.router.sinks import sink, slack_sink, source

EVENTS = sink("s")
BATCHES = sink("s", webhook={"batch": 2})
OWNERS = {"acme": "acme", "globex": "globex"}
GROUPS = sink("s", webhook={"format": "alertmanager"})
SLACK = slack_sink("s")
SOURCES: dict[str, Source] = {
    "alertmanager": source(dropLabels=["replica"]),
    "other": source(name="other"),
}


def planned(to: Sink, *alerts: dict[str, Any], name: str = "alertmanager", whole: bool = True) -> tuple[Batch, list[Alert]]:
    """What is queued for a sink, and the alerts as other sinks get them; not `whole`: as from a source without groups."""
    source = SOURCES[name]
    parsed = source.format.parse(json.dumps(notification(*alerts)).encode())
    owned, _ = assign(source, parsed.numbered(), OWNERS)
    builder = BatchBuilder(parsed)
    if whole and builder.sends_received_group(to):
        builder.add_received_group(to, owned)
    else:
        builder.add_alerts(to, owned)
    return builder.build(StateChange()), [one.alert for one in owned]


def deliveries(batch: Batch) -> list[Delivery]:
    return [
        Delivery(n, f"d{n}", one.sink, one.tenant, one.key, one.status, payload.kind, payload.body, 0.0, 1e9)
        for n, one in enumerate(batch.deliveries, 1)
        for payload in [batch.payloads[one.payload]]
    ]


def messages(now: Sink, *waiting: Delivery) -> list[Message]:
    """The messages, which are the same where the bodies had to be read first."""
    forms = Forms(SOURCES)
    found = forms.messages(OutgoingMessage(waiting[0].id, [Item(one) for one in waiting]), {}, now)
    read = {one.seq: one.body for one in waiting}
    assert forms.messages(OutgoingMessage(waiting[0].id, [Item(without_body(one)) for one in waiting]), read, now) == found
    return found


ALERTS = [alert(name, namespace="acme", replica="a", starts_at=f"2026-01-01T12:00:0{n}Z") for n, name in enumerate("ABC")]


@pytest.mark.parametrize("before", [EVENTS, SLACK], ids=["events", "slack"])
def test_an_alert_becomes_a_group_of_its_own(before: Sink) -> None:
    batch, _ = planned(before, ALERTS[0])
    expected, _ = planned(GROUPS, ALERTS[0], whole=False)
    [message] = messages(GROUPS, *deliveries(batch))
    assert (message.id, message.group) == ("d1", deliveries(expected)[0].body)


@pytest.mark.parametrize(
    ("now", "ids", "batched"),
    [
        (EVENTS, ["d1-1", "d1-2", "d1-3"], False),
        (BATCHES, ["d1-1", "d1-2"], True),
        (SLACK, ["d1"], True),
    ],
    ids=["events", "batches", "slack"],
)
def test_a_group_becomes_its_alerts_with_the_ids_that_they_have_otherwise(now: Sink, ids: list[str], batched: bool) -> None:
    batch, alerts = planned(GROUPS, *ALERTS)
    found = messages(now, *deliveries(batch))
    assert [message.id for message in found] == ids
    assert {message.batched for message in found} == {batched}
    sent = [json.loads(one) for message in found for one in message.alerts]
    assert [(one["id"], one["fingerprint"], one["source"], one["tenant"]) for one in sent] == [
        (one.id, one.fingerprint, "alertmanager", "acme") for one in alerts
    ]
    assert messages(now, *deliveries(batch)) == found


def test_a_group_that_was_made_of_one_alert_becomes_that_alert() -> None:
    ended = alert("A", status="resolved", namespace="acme")
    batch, alerts = planned(GROUPS, ended, name="other", whole=False)
    [message] = messages(EVENTS, *deliveries(batch))
    [sent] = [json.loads(one) for one in message.alerts]
    assert (sent["id"], sent["fingerprint"], sent["status"], sent["source"]) == (
        alerts[0].id,
        alerts[0].fingerprint,
        "resolved",
        "other",
    )


def test_a_group_of_an_older_version_is_that_of_the_only_source_of_groups(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(SOURCES, "other")
    batch, alerts = planned(GROUPS, ALERTS[0])
    [one] = deliveries(batch)
    old = Delivery(1, "d1", one.sink, one.tenant, "0123456789abcdef", one.status, one.kind, one.body, 0.0, 1e9)
    [message] = messages(EVENTS, old)
    assert json.loads(message.alerts[0])["id"] == alerts[0].id


@pytest.mark.parametrize(("before", "now"), [(GROUPS, EVENTS), (EVENTS, GROUPS)])
def test_what_cannot_be_read_is_said_to_be_so(before: Sink, now: Sink) -> None:
    [one] = deliveries(planned(before, ALERTS[0])[0])
    damaged = Delivery(1, "d1", one.sink, one.tenant, one.key, one.status, one.kind, b"{", 0.0, 1e9)
    with pytest.raises(UnreadableDelivery):
        messages(now, damaged)


async def test_a_batch_that_waits_while_its_sink_begins_to_take_groups_is_sent_as_groups(make_dispatch: MakeDispatch) -> None:
    dispatch = make_dispatch(BATCHES, retry={"first": "1h", "longest": "1h"})
    dispatch.senders["s"].script = [TRANSIENT]
    await dispatch.start()
    batch, _ = planned(BATCHES, *ALERTS[:2])
    await dispatch.queue.put(batch)
    await dispatch.until(lambda: len(dispatch.senders["s"].sent) == 1)
    dispatch.directory.put(GROUPS)
    await dispatch.until_empty()
    groups = [json.loads(body) for _, bodies in dispatch.senders["s"].sent[1:] for body in bodies]
    assert [[one["labels"]["alertname"] for one in group["alerts"]] for group in groups] == [["A"], ["B"]]


async def test_a_group_that_waits_is_sent_as_alerts_of_which_one_rejected_does_not_keep_back_the_others(
    make_dispatch: MakeDispatch,
) -> None:
    dispatch = make_dispatch(GROUPS, retry={"first": "1h", "longest": "1h"})
    dispatch.senders["s"].script = [TRANSIENT, MESSAGE, Delivered(200), TRANSIENT]
    await dispatch.start()
    await dispatch.queue.put(planned(GROUPS, *ALERTS)[0])
    await dispatch.until(lambda: len(dispatch.senders["s"].sent) == 1)
    dispatch.directory.put(EVENTS)
    await dispatch.until(lambda: len(dispatch.senders["s"].sent) == 4)
    dispatch.directory.put(sink("s", generation=2))
    await dispatch.until_empty()
    sent = dispatch.senders["s"].sent[1:]
    assert [json.loads(body)["name"] for _, [body] in sent] == ["A", "B", "C", "A", "B", "C"]
    assert sent[:3] == sent[3:]
    assert await dispatch.dead() == []


def test_the_alerts_of_a_group_for_all_tenants_are_each_of_their_own_tenant_again() -> None:
    groups, events = (one.model_copy(update={"tenant": "*"}) for one in (GROUPS, EVENTS))
    mixed = [alert(name, namespace=name, starts_at="2026-01-01T12:00:00Z") for name in ("acme", "globex")]
    batch, alerts = planned(groups, *mixed)
    waiting = deliveries(batch)
    assert [one.tenant for one in waiting] == ["*"]
    made = Forms(SOURCES, lambda: OWNERS).messages(OutgoingMessage("d1", [Item(waiting[0])]), {}, events)
    found = [msgspec.json.decode(body, type=Alert) for message in made for body in message.alerts]
    assert [(one.tenant, one.id) for one in found] == [(one.tenant, one.id) for one in alerts]
    assert {one.tenant for one in alerts} == {"acme", "globex"}
