"""The filter sends what it is told to, and leaves to the API server what that can leave out by itself."""

from __future__ import annotations

from typing import Any

import pytest

from eventsink.events.config import FilterSettings
from eventsink.events.filters import Filter
from tests.unit.events.events_made import event

NODE = event(kind="Node", about="node-1", reason="NodeNotReady", type="Normal")


def passes(given: dict[str, Any], **settings: Any) -> bool:
    return Filter(FilterSettings.model_validate(settings)).passes(given)


def test_without_settings_warnings_are_sent_and_nodes_that_are_not_ready() -> None:
    assert passes(event())
    assert passes(NODE)
    assert not passes(event(type="Normal", reason="Pulled"))
    assert not passes(event(type=None))


@pytest.mark.parametrize(
    ("settings", "sent"),
    [
        ({"include": {"reasons": ["Back*"]}}, True),
        ({"include": {"reasons": ["Failed*", "BackOff"]}}, True),
        ({"include": {"reasons": ["Failed*"]}}, False),
        ({"include": {"kinds": ["Node"]}}, False),
        ({"include": {"kinds": ["Pod"], "namespaces": ["sho*"]}}, True),
        ({"include": {"kinds": ["Pod"], "namespaces": ["globex"]}}, False),
        ({"exclude": {"reasons": ["BackOff"]}}, False),
        ({"exclude": {"kinds": ["Node"]}}, True),
        ({"exclude": {"namespaces": ["kube-*"]}}, True),
        ({"exclude": {"namespaces": ["kube-*", "shop"]}}, False),
        ({"include": {"kinds": ["Pod"]}, "exclude": {"namespaces": ["shop"]}}, False),
        ({"types": ["Normal"], "alsoReasons": []}, False),
        ({"types": ["Normal"], "alsoReasons": ["Back*"]}, True),
    ],
)
def test_an_event_is_sent_if_it_is_included_and_not_excluded(settings: dict[str, Any], sent: bool) -> None:
    assert passes(event(), **settings) is sent


def test_namespaces_say_nothing_about_objects_that_are_in_none() -> None:
    assert passes(NODE, include={"namespaces": ["shop"]})
    assert passes(NODE, exclude={"namespaces": ["default", "*"]})
    assert not passes(NODE, exclude={"kinds": ["Node"]})


@pytest.mark.parametrize(
    ("settings", "selector"),
    [
        ({}, ""),
        ({"alsoReasons": []}, "type=Warning"),
        ({"types": ["Normal", "Warning"], "alsoReasons": []}, ""),
    ],
)
def test_the_api_server_leaves_out_what_is_of_another_type(settings: dict[str, Any], selector: str) -> None:
    assert Filter(FilterSettings.model_validate(settings)).field_selector == selector


@pytest.mark.parametrize("settings", [{"types": []}, {"types": ["warning"]}, {"include": {"kinds": ["Pod "]}}])
def test_a_filter_that_would_send_nothing_is_rejected(settings: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"list Warning, Normal or both|String should match pattern"):
        FilterSettings.model_validate(settings)
