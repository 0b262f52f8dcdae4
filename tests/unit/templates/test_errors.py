"""What is wrong with a template is said where it is written, with its place and what to write instead."""

from __future__ import annotations

import pytest

from eventsink.templates.errors import InvalidTemplate, TemplateFailed
from eventsink.templates.template import MAX_TEMPLATE, read_template
from tests.support.templates import alert, rendered

GO = "templates are Liquid, not Go: write {{ commonLabels.alertname }}"


@pytest.mark.parametrize(
    ("source", "says"),
    [
        ("{{ name", "line 1, column 1: }} is missing"),
        ("a\n  {% if name }}", "line 2, column 3: %} is missing"),
        ("{% raw %}{{ name }}", "line 1, column 1: {% endraw %} is missing"),
        ("a {% if name %}b", "line 1, column 6: expected tag endif, found end of expression"),
        ("a{% endif %}", "line 1, column 5: unexpected tag endif: nothing that it belongs to is open"),
        ("{% for a in alerts %}{% endif %}", "line 1, column 25: unexpected tag endif"),
        ("{% include 'x' %}", "line 1, column 4: there is no tag include: write one of assign, break, capture"),
        ("{% render 'x' %}", "there is no tag render"),
        ("{% extends 'x' %}", "there is no tag extends"),
        ("{% tablerow a in alerts %}{% endtablerow %}", "there is no tag tablerow"),
        ("{% increment a %}", "there is no tag increment"),
        ("{% esle %}", "there is no tag esle"),
        ("{{ name | upper_case }}", "line 1, column 11: there is no filter upper_case"),
        ("{{ name | upcas }}", "there is no filter upcas: did you mean upcase?"),
        ("a\nbc {{ name | replace }}", "line 2, column 14: the filter replace takes 1 to 2 arguments"),
        ("{{ name | upcase: 1 }}", "the filter upcase takes no arguments"),
        ("{{ name | date }}", "the filter date takes 1 argument"),
        ("{{ name | default: 'x', allow_false: true }}", "the filter default takes no named arguments"),
        ("{{ alrets }}", "line 1, column 4: there is no variable alrets: did you mean alerts?"),
        ("{{ x }}", "there is no variable x: write one of alert, alerts, cluster, commonAnnotations"),
        ("{{ .CommonLabels.alertname }}", GO),
        ("{{ range .Alerts }}{{ end }}", GO),
        ("{{ $labels.pod }}", GO),
        ("{{ if eq 1 2 }}", GO),
        ("{{ name b }}", "line 1, column 9: expected end of expression, found word"),
        ("{{ }}", "line 1, column 1: expected a value, found end of expression"),
        ("{% if name = 'a' %}{% endif %}", "line 1, column 12: expected end of expression, found '='"),
        ("{% if (name) %}{% endif %}", "there are no parentheses: assign a part of the condition first"),
        ("{% if not name %}{% endif %}", "there is no not: write {% unless ... %}"),
        ("{{ name if severity }}", "write {% if ... %}"),
        ("{{ (1..3) }}", "write a range in {% for name in (1..9) %} only"),
        ("{{ 99999999999999999999 }}", "the number is larger than 1,000,000,000,000,000"),
        ("{{ 'a", "}} is missing"),
        ("{% %}", "write {% name ... %}"),
        ("{% if true %}" * 30, "there are more than 20 blocks within one another"),
        ("{{ name" + " | upcase" * 30 + " }}", "there are more than 20 filters in a row"),
        ("{% if " + " and ".join(["name"] * 60) + " %}{% endif %}", "nested too deeply"),
        ("{% if " + " and ".join(["1"] * 600) + " %}{% endif %}", "write simpler expressions"),
        ("{{ alert" + "[name" * 60 + "]" * 60 + " }}", "nested too deeply"),
        ("x" * (MAX_TEMPLATE + 1), "a template has at most 4,000 characters"),
    ],
)
def test_an_invalid_template_is_rejected_with_its_place_and_what_to_write(source: str, says: str) -> None:
    with pytest.raises(InvalidTemplate) as caught:
        read_template(source)
    assert says in str(caught.value)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 500


@pytest.mark.parametrize(
    ("source", "says"),
    [
        ("\n{{ 1 | divided_by: alert.nothing }}", "line 2, column 8: divided_by: it divides by 0"),
        ("{{ 1 | modulo: 0 }}", "line 1, column 8: modulo: it divides by 0"),
        ("{{ name | date: '%Q' }}", "line 1, column 11: date: a date has no %Q"),
        ("{{ name | date: alert.summary }}", "date: the format of a date has at most 64 characters"),
        ("{{ 999999999999 | times: 999999999999 }}", "times: a number is larger than 1,000,000,000,000,000"),
    ],
)
def test_a_failure_has_its_place_and_shows_nothing_of_an_alert(source: str, says: str) -> None:
    secret = "canary " * 20
    with pytest.raises(TemplateFailed) as caught:
        rendered(source, [alert(secret, summary=secret)])
    assert says in str(caught.value)
    assert "canary" not in str(caught.value)
