"""The router's name for its cluster: in each alert that does not name its own, and nowhere in what identifies one."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

import msgspec
import pytest

from eventsink.alerts.alert import Alert
from eventsink.destinations.slack.message import render
from eventsink.destinations.webhook import cloudevents
from eventsink.router.config import RouterSettings
from eventsink.router.directory import SinkChange
from eventsink.router.dispatch.forms import Forms
from eventsink.router.dispatch.outgoing import Item, OutgoingMessage
from eventsink.router.dispatch.sink_tests import marked_alert
from eventsink.router.planning.alert_states import StateChange
from eventsink.router.planning.assign import assign
from eventsink.router.planning.batch import BatchBuilder
from eventsink.router.planning.match import SinkIndex
from eventsink.router.queue.protocol import Delivery
from eventsink.router.sources import PostingSource
from eventsink.runtime.settings import ConfigurationError
from eventsink.standalone.config import StandaloneSettings
from tests.support.parts import alert, notification
from tests.unit.router.sinks import sink, source_settings

CLUSTER = "arn:aws:eks:eu-west-1:1:cluster/prod"
OWNERS = {"acme": "acme"}
GROUPS = sink("groups", webhook={"format": "alertmanager"})


def source(cluster: str = CLUSTER, **members: Any) -> PostingSource:
    return PostingSource(source_settings(**members), cluster=cluster)


def made(router: str = CLUSTER, drop: tuple[str, ...] = (), **labels: str) -> Alert:
    of = source(router, dropLabels=drop)
    incoming = of.format.parse(json.dumps(notification(alert("A", namespace="acme", **labels))).encode())
    [one], _ = assign(of, incoming.numbered(), OWNERS)
    return one.alert


def grouped(*alerts: dict[str, Any], cluster: str = CLUSTER) -> tuple[bytes, bytes, list[Alert]]:
    """What was posted, what a sink of groups gets, and the alerts."""
    of, posted = source(cluster), json.dumps(notification(*alerts)).encode()
    incoming = of.format.parse(posted)
    owned, _ = assign(of, incoming.numbered(), OWNERS)
    builder = BatchBuilder(incoming)
    builder.add_received_group(GROUPS, owned)
    return posted, builder.build(StateChange()).payloads[0].body, [one.alert for one in owned]


@pytest.mark.parametrize(
    ("cluster", "labels", "named", "label"),
    [
        (CLUSTER, {}, CLUSTER, CLUSTER),
        (CLUSTER, {"cluster": "edge-1"}, "edge-1", "edge-1"),
        (CLUSTER, {"cluster": ""}, CLUSTER, CLUSTER),
        ("", {"cluster": "edge-1"}, "", "edge-1"),
        ("", {}, "", None),
    ],
)
def test_an_alert_that_names_no_cluster_is_given_the_routers(
    cluster: str, labels: dict[str, str], named: str, label: str
) -> None:
    found = made(cluster, (), **labels)
    assert (found.cluster, found.labels.get("cluster")) == (named, label)


def test_the_name_is_no_part_of_what_identifies_an_alert_and_of_its_link_to_a_silence() -> None:
    named, unnamed = made(drop=("replica",), replica="a"), made("", drop=("replica",), replica="a")
    assert (named.id, named.fingerprint, named.links) == (unnamed.id, unnamed.fingerprint, unnamed.links)


def test_sinks_match_the_name() -> None:
    index = SinkIndex()
    for name, matcher in (("this", f'cluster="{CLUSTER}"'), ("pattern", 'cluster=~"arn:.+"'), ("other", 'cluster="edge-1"')):
        index.change(SinkChange(None, sink(name, match={"matchers": (matcher,)})))
    assert {one.name for one in index.matching(made())} == {"this", "pattern"}
    assert {one.name for one in index.matching(made(cluster="edge-1"))} == {"other"}


def test_a_group_has_the_name_as_a_label_unless_all_its_alerts_name_their_own() -> None:
    own = alert("A", namespace="acme", cluster="edge-1")
    posted, sent, _ = grouped(own)
    assert sent == posted
    _, sent, _ = grouped(own, alert("B", namespace="acme"))
    assert [one["labels"].get("cluster") for one in json.loads(sent)["alerts"]] == ["edge-1", CLUSTER]
    posted, sent, _ = grouped(alert("B", namespace="acme"), cluster="")
    assert sent == posted


def test_a_group_that_becomes_alerts_again_gives_the_same_alerts() -> None:
    _, sent, alerts = grouped(alert("A", namespace="acme"), alert("B", namespace="acme", cluster="edge-1"))
    waiting = Delivery(1, "d", GROUPS.uid, "acme", "alertmanager/x", "firing", GROUPS.dispatch.payload, sent, 0.0, 1e9)
    found = Forms({"alertmanager": source()}).messages(OutgoingMessage("d", [Item(waiting)]), {}, sink("groups"))
    again = [msgspec.json.decode(body, type=Alert) for message in found for body in message.alerts]
    assert [(one.id, one.fingerprint, one.cluster, one.links.silence) for one in again] == [
        (one.id, one.fingerprint, one.cluster, one.links.silence) for one in alerts
    ]


def test_a_cloud_event_has_it_in_its_source() -> None:
    named, unnamed = (json.loads(cloudevents.event(msgspec.json.encode(made(one)))) for one in (CLUSTER, ""))
    assert (named["source"], named["cluster"]) == (
        "/eventsink/arn%3Aaws%3Aeks%3Aeu-west-1%3A1%3Acluster%2Fprod/alertmanager",
        CLUSTER,
    )
    assert (unnamed["source"], "cluster" in unnamed, "cluster" in unnamed["data"]) == ("/eventsink/alertmanager", False, False)


def test_the_headline_in_slack_names_the_clusters_and_the_labels_below_do_not_again() -> None:
    message = render([made()], sink="acme/s", tenant="acme")
    assert f" · {CLUSTER} · A" in message.headline
    assert CLUSTER not in json.dumps(message.attachments[0]["blocks"])
    several = render([made(), made(cluster="edge-1")], sink="acme/s", tenant="acme")
    assert f" · {CLUSTER}, edge-1 · A" in several.headline


def test_a_test_alert_names_it_too() -> None:
    found = marked_alert(sink("s"), "test:1", datetime(2026, 1, 1, tzinfo=UTC), CLUSTER)
    assert (found.cluster, found.labels["cluster"]) == (CLUSTER, CLUSTER)


@pytest.mark.parametrize("name", ["prod eu", "prod\n", "-prod", "x" * 129])
def test_a_name_that_cannot_be_written_anywhere_is_an_error_at_the_start(name: str) -> None:
    with pytest.raises((ConfigurationError, ValueError), match="cluster"):
        RouterSettings(cluster=name)


def test_the_setting_is_that_of_the_standalone_router_too() -> None:
    assert StandaloneSettings(cluster=CLUSTER).router().cluster == CLUSTER
