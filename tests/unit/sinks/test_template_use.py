"""What templates cost is bounded by tenant, and the status says of each sink whether its templates work."""

from __future__ import annotations

import pytest

from eventsink.sinks.template_use import (
    MAX_PROBLEMS,
    REPORTED_SECONDS,
    TENANT_ASSURED_SECONDS,
    TENANT_SECONDS,
    TOTAL_SECONDS,
    TemplateProblem,
    TemplateReason,
    TemplateUse,
)


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def not_used() -> list[str]:
    return []


@pytest.fixture
def use(clock: Clock, not_used: list[str]) -> TemplateUse:
    return TemplateUse(not_used.append, clock)


def test_a_tenant_that_spent_its_share_waits_until_it_is_refilled(use: TemplateUse, clock: Clock) -> None:
    assert use.allows("acme")
    use.spend("acme", TENANT_SECONDS + 0.01)
    assert not use.allows("acme")
    assert use.allows("other")
    clock.now += 0.5
    assert use.allows("acme")


def test_what_all_tenants_may_spend_is_bounded_but_one_that_used_little_goes_on(use: TemplateUse) -> None:
    for number in range(int(TOTAL_SECONDS / TENANT_SECONDS) + 2):
        use.spend(f"busy-{number}", TENANT_SECONDS - 0.01)
    assert not use.allows("busy-0")
    use.spend("quiet", TENANT_ASSURED_SECONDS / 2)
    assert use.allows("quiet")


def test_a_failure_is_reported_until_it_works_again_after_a_while(use: TemplateUse, clock: Clock, not_used: list[str]) -> None:
    assert use.problem("u") is None
    use.failed("u", "old", "it divides by 0")
    use.worked("u")
    assert use.problem("u") == TemplateProblem(TemplateReason.FAILED, "it divides by 0")
    clock.now += REPORTED_SECONDS
    assert use.problem("u") is not None
    use.worked("u")
    assert use.problem("u") is None
    assert not_used == ["TemplateFailed"]


def test_another_template_ends_the_report_at_once(use: TemplateUse) -> None:
    use.failed("u", "old", "it divides by 0")
    use.opened("u", "old")
    assert use.problem("u") is not None
    use.opened("u", "new")
    assert use.problem("u") is None


def test_a_tenant_beyond_its_share_is_reported_at_its_sink(use: TemplateUse, not_used: list[str]) -> None:
    use.limited("u", "old", "it takes too long")
    assert use.problem("u") == TemplateProblem(TemplateReason.LIMITED, "it takes too long")
    assert not_used == ["TemplatesLimited"]


def test_what_is_remembered_is_bounded(use: TemplateUse) -> None:
    for number in range(MAX_PROBLEMS + 1):
        use.limited(f"u{number}", None, "it takes too long")
    assert use.problem("u0") is None
    assert use.problem(f"u{MAX_PROBLEMS}") is not None
