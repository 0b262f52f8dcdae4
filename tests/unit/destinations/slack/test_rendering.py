"""The router uses a sink's templates as long as they work and its tenant's share lasts; every message is rendered in any case."""

from __future__ import annotations

import time
from typing import Any

import pytest
from structlog.testing import capture_logs

from eventsink.destinations.slack import rendering
from eventsink.destinations.slack.form import SlackForm, TemplateForm
from eventsink.destinations.slack.message import SlackMessage, render
from eventsink.destinations.slack.rendering import Renderer
from eventsink.destinations.slack.target import SlackTarget
from eventsink.sinks.sink import Sink
from eventsink.sinks.template_use import TENANT_SECONDS, TemplateReason, TemplateUse
from eventsink.templates.template import KEPT
from tests.support.templates import alert
from tests.unit.destinations.sender_contract import sink_of

SINK: Sink = sink_of(SlackTarget(token="t", team_id="T1", channel_id="C1"))
CANARY = "canary-of-an-alert"


class Still:
    """A clock that shares are not refilled by."""

    def __call__(self) -> float:
        return 0.0


@pytest.fixture
def not_used() -> list[str]:
    return []


@pytest.fixture
def use(not_used: list[str]) -> TemplateUse:
    return TemplateUse(not_used.append, Still())


def form(title: str) -> SlackForm:
    return SlackForm(template=TemplateForm(title=title))


async def test_templates_are_read_before_the_first_message_is_rendered(use: TemplateUse) -> None:
    source = "{{ name }} read in a thread"
    renderer = Renderer(SINK, form(source), use)
    await renderer.prepare()
    assert KEPT.get(source) is not None
    assert renderer.render([alert()]).headline == "🟠 KubePodCrashLooping read in a thread"
    assert use.problem(SINK.uid) is None


def test_what_the_built_in_parts_of_a_message_take_is_not_of_the_templates_share(
    use: TemplateUse, monkeypatch: pytest.MonkeyPatch
) -> None:
    def slow(*given: Any, **named: Any) -> SlackMessage:
        until = time.thread_time() + 1.5 * TENANT_SECONDS
        while time.thread_time() < until:
            pass
        return render(*given, **named)

    monkeypatch.setattr(rendering, "render", slow)
    assert Renderer(SINK, form("own words"), use).render([alert()]).headline == "🟠 own words"
    assert use.allows(SINK.tenant)


async def test_reading_templates_again_and_again_takes_of_the_tenants_share(use: TemplateUse) -> None:
    for number in range(500):  # more than are kept
        if not use.allows(SINK.tenant):
            break
        await Renderer(SINK, form(f"{number}" + "{{ name | size }}" * 50), use).prepare()
    assert not use.allows(SINK.tenant)


async def test_a_template_of_a_newer_version_is_no_reason_to_send_nothing(use: TemplateUse) -> None:
    renderer = Renderer(SINK, form("{% newer %}"), use)
    await renderer.prepare()
    assert "KubePodCrashLooping" in renderer.render([alert()]).headline
    problem = use.problem(SINK.uid)
    assert problem is not None
    assert "there is no tag newer" in problem.message


def test_a_failure_is_counted_reported_and_logged_without_anything_of_the_alert(use: TemplateUse, not_used: list[str]) -> None:
    renderer = Renderer(SINK, form("{{ name | divided_by: 0 }}"), use)
    with capture_logs() as logs:
        message = renderer.render([alert(CANARY, summary=CANARY)])
    assert CANARY in message.headline
    problem = use.problem(SINK.uid)
    assert problem is not None
    assert problem.reason is TemplateReason.FAILED
    assert "spec.slack.template.title: line 1, column 11: divided_by: it divides by 0" in problem.message
    assert not_used == ["TemplateFailed"]
    assert CANARY not in problem.message + str(logs)


def test_beyond_its_tenants_share_a_message_is_the_built_in_one(use: TemplateUse, not_used: list[str]) -> None:
    renderer = Renderer(SINK, form("own words"), use)
    use.spend(SINK.tenant, TENANT_SECONDS)
    assert "KubePodCrashLooping" in renderer.render([alert()]).headline
    problem = use.problem(SINK.uid)
    assert problem is not None
    assert problem.reason is TemplateReason.LIMITED
    assert not_used == ["TemplatesLimited"]


def test_what_evaluating_takes_is_counted(use: TemplateUse, not_used: list[str]) -> None:
    renderer = Renderer(SINK, form("{% for i in (1..99999999) %}{% endfor %}"), use)
    for _ in range(200):
        renderer.render([alert()])
        if not_used[-1] == "TemplatesLimited":
            break
    assert not_used[-1] == "TemplatesLimited"


def test_a_sink_without_templates_costs_its_tenant_nothing(use: TemplateUse) -> None:
    use.spend(SINK.tenant, TENANT_SECONDS)
    assert "KubePodCrashLooping" in Renderer(SINK, SlackForm(), use).render([alert()]).headline
    assert use.problem(SINK.uid) is None
