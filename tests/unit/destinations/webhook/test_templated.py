"""What a webhook's own template writes can be sent, whatever alerts say; a template that could write anything else is rejected at once."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

import msgspec
import pytest

from eventsink.destinations.webhook.rendering import TemplateRenderer
from eventsink.destinations.webhook.sender import open_sender
from eventsink.destinations.webhook.success import SuccessWhen
from eventsink.destinations.webhook.target import WebhookTarget
from eventsink.destinations.webhook.templated import FORM, MAX_BODY, check_template, is_json, written
from eventsink.resources.eventsink import InvalidSpec, read_spec
from eventsink.sinks.sender import Delivered, Failed, FailureClass, Message, SenderContext
from eventsink.sinks.sink import Sink
from eventsink.sinks.target import Target
from eventsink.sinks.template_use import TENANT_SECONDS, TemplateReason, TemplateUse
from eventsink.templates.context import MAX_ALERTS
from eventsink.templates.errors import InvalidTemplate, TemplateFailed
from eventsink.templates.template import KEPT
from tests.support.templates import alert, resolved
from tests.unit.destinations.sender_contract import CANARY, ScriptedTransport, responded, sink_of
from tests.unit.destinations.webhook.contract import WebhookContract

JSON = "application/json"
TEMPLATE = '{"text": {{ alert.summary | json }}, "key": {{ alert.fingerprint | json }}, "status": {{ status | json }}}'
ENCODED = msgspec.json.encode(alert())


def body(source: str, *alerts: Any, content_type: str = JSON) -> bytes:
    return written(source, content_type, alerts or [alert()], sink="shop/pager", tenant="acme")


@pytest.mark.parametrize(
    ("content_type", "expected"),
    [
        (JSON, True),
        ("Application/JSON; charset=utf-8", True),
        ("application/vnd.acme+json", True),
        ("text/plain", False),
        ("application/jsonlines", False),
    ],
)
def test_bodies_of_some_media_types_are_json(content_type: str, expected: bool) -> None:
    assert is_json(content_type) is expected


def test_a_template_writes_the_body_of_alerts_and_of_their_ends() -> None:
    one = alert()
    expected = {"text": one.summary, "key": one.fingerprint, "status": "firing"}
    assert json.loads(body(TEMPLATE, one)) == expected
    assert json.loads(body(TEMPLATE, resolved(one))) == {**expected, "status": "resolved"}
    several = body("{{ alerts | map: 'fingerprint' | json }}", alert(pod="a"), alert(pod="b"))
    assert len(json.loads(several)) == 2
    assert body(" {{ alert.where }} ü\n", content_type="text/plain") == "shop/api-0 ü".encode()


def test_what_an_alert_says_cannot_break_the_json() -> None:
    hostile = '"}, {"text": "\\"\n\t\u0000 \U0001f525'
    assert json.loads(body(TEMPLATE, alert(summary=hostile)))["text"] == hostile


@pytest.mark.parametrize("source", ["{{ alert.summary | json }}", '"{{ alert.summary }}"'])
def test_a_lone_surrogate_is_sent_as_the_replacement_character(source: str) -> None:
    for content_type in (JSON, "text/plain"):
        assert set(msgspec.json.decode(body(source, alert(summary="\udfff"), content_type=content_type))) == {"\ufffd"}


QUOTED = "it writes no valid JSON: write each value with the filter json and without quotation marks"


@pytest.mark.parametrize(
    ("source", "content_type", "batch", "says"),
    [
        ('{"text": "{{ alert.summary }}"}', JSON, 1, f"for an alert with quotation marks and line breaks in its texts, {QUOTED}"),
        ('{"labels": "{{ alert.labels | json }}"}', JSON, 1, QUOTED),
        ('{"value": {{ alert.annotations.value | default: 1 }}}', JSON, 1, QUOTED),
        ('{"value": {{ alert.annotations.nothing }}}', JSON, 1, 'the place is near \'{"value": a '),
        ('{"shard": "{{ alert.labels.shard }}"}', JSON, 1, QUOTED),
        ('{"load": {{ alert.annotations["load/1m"] | default: 0 }}}', JSON, 1, QUOTED),
        ('{"team": "{{ commonLabels.squad }}"}', JSON, 1, QUOTED),
        ('{"namespace": "{{ alert.namespace }}"}', JSON, 1, QUOTED),
        ('{"where": "{{ alert.where }}"}', JSON, 1, QUOTED),
        ("plain text", JSON, 1, QUOTED),
        ("text={{ alert.summary }}&to=1", FORM, 1, "it writes no valid form: write each value with the filter url_encode"),
        ("text={{ alert.namespace }}", "Application/X-WWW-Form-Urlencoded; charset=utf-8", 1, "it writes no valid form"),
        ('{"a": 1,}', "application/vnd.acme+json; charset=utf-8", 1, QUOTED),
        ("{% if severity == 'critical' %}text{% endif %}", "text/plain", 1, "says nothing but when it began, it writes nothing"),
        ("{{ 1 | divided_by: alert.labels.n }}", "text/plain", 1, "line 1, column 8: divided_by: it divides by 0"),
        ("{% if status == 'resolved' %}{{ 1 | divided_by: 0 }}{% endif %}a", "text/plain", 1, "for a resolved alert, "),
        ("{% if status == 'event' %}{{ 1 | divided_by: 0 }}{% endif %}a", "text/plain", 1, "for an event, "),
        ("[{% for one in alerts %}{{ one.name | json }}{% endfor %}]", JSON, 10, f"for several alerts, {QUOTED}"),
        (TEMPLATE, JSON, 2, "of several alerts it says what the first one is and leaves out the others: loop over alerts"),
    ],
)
def test_a_template_that_some_alert_would_break_is_rejected(source: str, content_type: str, batch: int, says: str) -> None:
    with pytest.raises(InvalidTemplate) as error:
        check_template(source, content_type, batch=batch)
    assert says in str(error.value)


@pytest.mark.parametrize(
    ("source", "content_type", "batch"),
    [
        (TEMPLATE, JSON, 1),
        ("[{% for one in alerts %}{{ one.name | json }}{% unless forloop.last %},{% endunless %}{% endfor %}]", JSON, 10),
        ('{"value": {{ alert.annotations.value | plus: 0 | json }}, "labels": {{ commonLabels | json }}}', JSON, 10),
        ("{{ alert.where }} {{ alert.summary }} \u00fc{{ status }}", "text/plain", 1),
        (
            "text={{ alert.summary | url_encode }}&labels={{ alert.labels | json | url_encode }}&at={{ alert.startsAt }}\n",
            FORM,
            1,
        ),
        ("{{ count }} alerts, such as {{ alert.summary }}", "text/plain", 10),
        ("something fires", "text/plain", 10),
    ],
)
def test_a_template_that_no_alert_can_break_is_accepted(source: str, content_type: str, batch: int) -> None:
    check_template(source, content_type, batch=batch)


@pytest.mark.parametrize(
    ("webhook", "says"),
    [
        ({"template": '{"a": "{{ name }}"}'}, "spec.webhook.template: for an alert with quotation marks"),
        (
            {"template": "{{ nmae | json }}"},
            "spec.webhook.template: line 1, column 4: there is no variable nmae: did you mean name?",
        ),
        (
            {"template": "{{ name | json }}", "batch": 101},
            "spec.webhook.batch: a template is given at most 100 alerts: set batch to 100 or less",
        ),
        (
            {"template": "{{ name | json }}", "contentType": "text/plain", "format": "cloudevents"},
            "spec.webhook.format: remove format",
        ),
    ],
)
def test_a_spec_is_rejected_in_these_words(webhook: dict[str, Any], says: str) -> None:
    with pytest.raises(InvalidSpec) as error:
        read_spec({"tenant": "acme", "name": "A", "webhook": {"url": "https://example.com/", **webhook}})
    assert says in str(error.value)


def test_an_alert_that_is_too_long_for_its_template_is_sent_shortened() -> None:
    whole = json.loads(body("{{ alert.description | json }}", alert(description="é" * 50_000)))
    assert len(whole) == 50_000
    source = "{{ alert.description | json | append: alert.description | json }}"
    with pytest.raises(TemplateFailed, match="65,536"):
        body(source, alert(description="é" * 65_000), alert())
    assert len(json.loads(body(source, alert(description="é" * 65_000)))) == 2002


def test_a_filter_that_cannot_be_computed_of_some_alert_gives_nothing() -> None:
    source = '{"share": {{ 100 | divided_by: alert.labels.of | json }}, "text": {{ alert.summary | json }}}'
    assert json.loads(body(source, alert(labels={"of": "0"}))) == {"share": None, "text": alert().summary}


@pytest.mark.parametrize(
    ("source", "content_type", "says"),
    [
        (
            "{% for i in (1..100) %}{% for j in (1..2000) %}{{ i }}{% endfor %}{% endfor %}",
            "text/plain",
            "more than 20,000 steps",
        ),
        (f"{{% for i in (1..90) %}}{'x' * 3000}{{% endfor %}}", "text/plain", f"more than {MAX_BODY:,} characters"),
        ("{{ alert.labels.nothing }}", "text/plain", "it writes nothing"),
        ('"{{ alert.summary }}"', JSON, "it writes no valid JSON"),
    ],
)
def test_what_cannot_be_sent_is_an_error_with_nothing_of_the_alert(source: str, content_type: str, says: str) -> None:
    with pytest.raises(TemplateFailed) as error:
        body(source, alert(summary=f'{CANARY} "'), content_type=content_type)
    assert says in str(error.value)
    assert CANARY not in str(error.value)


# ---- in the router


class Still:
    """A clock that shares are not refilled by."""

    def __call__(self) -> float:
        return 0.0


@dataclass
class Rendering:
    """The templates of a process, and messages rendered with them."""

    use: TemplateUse
    not_used: list[str]

    async def render(self, source: str, *alerts: Any, timeout: float = 5.0) -> bytes | Failed:
        target = WebhookTarget(url="https://example.com/", template=source)
        encoded = [msgspec.json.encode(one) for one in alerts or [alert()]]
        return await TemplateRenderer(SINK, target, self.use).render(Message(id="m", alerts=encoded), timeout=timeout)


SINK: Sink = sink_of(WebhookTarget(url="https://example.com/"))


@pytest.fixture
def rendering() -> Rendering:
    not_used: list[str] = []
    return Rendering(TemplateUse(not_used.append, Still()), not_used)


async def test_a_template_is_read_before_it_is_rendered_and_kept(rendering: Rendering) -> None:
    source = '{"a": {{ alert.name | json }}, "read": "once"}'
    assert KEPT.get(source) is None
    assert await rendering.render(source) == b'{"a": "KubePodCrashLooping", "read": "once"}'
    assert KEPT.get(source) is not None
    assert rendering.use.problem(SINK.uid) is None


async def test_a_template_that_fails_makes_a_dead_letter_which_is_counted_and_reported(rendering: Rendering) -> None:
    failed = await rendering.render('"{{ alert.summary }}"', alert(summary=f'{CANARY}"'))
    assert isinstance(failed, Failed)
    assert (failed.failure, failed.reason) == (FailureClass.MESSAGE, "TemplateFailed")
    problem = rendering.use.problem(SINK.uid)
    assert problem is not None
    assert problem.reason is TemplateReason.FAILED
    assert problem.message.startswith(
        "some messages are dead letters, since the template failed: spec.webhook.template: it writes"
    )
    assert rendering.not_used == ["TemplateFailed"]
    assert CANARY not in f"{failed}{problem}"


async def test_of_several_alerts_only_those_count_that_fail_alone(rendering: Rendering) -> None:
    failed = await rendering.render('"{{ alert.summary }}"', alert(summary='"'), alert())
    assert isinstance(failed, Failed)
    assert (failed.failure, rendering.not_used, rendering.use.problem(SINK.uid)) == (FailureClass.MESSAGE, [], None)


async def test_no_alert_is_left_out_of_a_message_that_has_more_than_a_template_is_given(rendering: Rendering) -> None:
    alerts = [alert(pod=str(number)) for number in range(MAX_ALERTS + 1)]
    failed = await rendering.render("{{ alerts | map: 'id' | json }}", *alerts)
    assert isinstance(failed, Failed)
    assert (failed.failure, rendering.not_used) == (FailureClass.MESSAGE, []), "it is tried again in smaller messages"
    whole = await rendering.render("{{ alerts | map: 'id' | json }}", *alerts[1:])
    assert isinstance(whole, bytes)
    assert len(json.loads(whole)) == MAX_ALERTS


async def test_a_template_of_a_newer_version_holds_the_sink(rendering: Rendering) -> None:
    failed = await rendering.render("{% newer %}")
    assert isinstance(failed, Failed)
    assert (failed.failure, failed.reason) == (FailureClass.SINK, "TemplateUnreadable")
    assert "there is no tag newer" in failed.message


async def test_beyond_its_tenants_share_a_message_waits_and_is_sent_later(rendering: Rendering) -> None:
    rendering.use.spend(SINK.tenant, 2 * TENANT_SECONDS)
    failed = await rendering.render(TEMPLATE, timeout=0.01)
    assert isinstance(failed, Failed)
    assert (failed.failure, failed.reason) == (FailureClass.TRANSIENT, "TemplatesLimited")
    problem = rendering.use.problem(SINK.uid)
    assert problem is not None
    assert problem.reason is TemplateReason.LIMITED
    assert rendering.not_used == ["TemplatesLimited"]
    refilled = TemplateUse()
    refilled.spend(SINK.tenant, 1.5 * TENANT_SECONDS)
    assert not refilled.allows(SINK.tenant)
    assert isinstance(await Rendering(refilled, []).render(TEMPLATE), bytes)


class TestTemplateSender(WebhookContract):
    head = (b"PUT ",)

    def target(self, url: str, timeout: float) -> Target:
        return WebhookTarget(url=f"{url}{CANARY}?token={CANARY}", timeout=timeout, template=TEMPLATE, method="PUT")


async def test_a_message_has_the_method_the_content_type_and_a_signature_of_what_the_template_writes() -> None:
    transport = ScriptedTransport(responded(200))
    target = WebhookTarget(
        url="https://example.com/",
        template=TEMPLATE,
        content_type="application/vnd.acme+json",
        method="PATCH",
        signing_secrets=("x" * 32,),
    )
    sender = open_sender(sink_of(target), target, SenderContext(transport, None))  # type: ignore[arg-type]
    assert await sender.send(Message(id="m1", alerts=[ENCODED])) == Delivered(200)
    [(_, headers, sent)] = transport.posted
    assert transport.method == "PATCH"
    assert b"Content-Type: application/vnd.acme+json\r\n" in headers
    assert b"webhook-signature: v1," in headers
    assert sent == body(TEMPLATE)


async def test_a_message_that_waited_for_its_tenants_share_has_time_left_to_be_sent(monkeypatch: pytest.MonkeyPatch) -> None:
    waited: list[float] = []

    async def render(_: object, __: Message, *, timeout: float) -> bytes:
        waited.append(timeout)
        return b"{}"

    monkeypatch.setattr(TemplateRenderer, "render", render)
    target = WebhookTarget(url="https://example.com/", template=TEMPLATE, timeout=10.0)
    sender = open_sender(sink_of(target), target, SenderContext(ScriptedTransport(responded(200)), None))  # type: ignore[arg-type]
    assert await sender.send(Message(id="m1", alerts=[ENCODED])) == Delivered(200)
    assert waited == [5.0]


async def test_a_defect_in_rendering_ends_no_deliveries(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object, **__: object) -> bytes:
        raise KeyError(CANARY)

    monkeypatch.setattr("eventsink.destinations.webhook.rendering.written", broken)
    target = WebhookTarget(url="https://example.com/", template=TEMPLATE)
    sender = open_sender(sink_of(target), target, SenderContext(ScriptedTransport(), None))  # type: ignore[arg-type]
    failed = await sender.send(Message(id="m1", alerts=[ENCODED]))
    assert isinstance(failed, Failed)
    assert (failed.failure, failed.reason) == (FailureClass.TRANSIENT, "InternalError")
    assert CANARY not in str(failed)


def test_a_compiled_sink_that_an_older_router_would_misread_has_a_version_that_it_rejects() -> None:
    plain = WebhookTarget(url="https://example.com/")
    assert not plain.can_be_misread()
    for changed in ({"template": TEMPLATE}, {"method": "PUT"}, {"success_when": SuccessWhen(statuses=(202,))}):
        assert plain.model_copy(update=changed).can_be_misread()
