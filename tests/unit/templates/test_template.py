"""Templates are Liquid, as far as messages need it."""

from __future__ import annotations

from datetime import timedelta
from urllib.parse import quote

import msgspec
import pytest

from eventsink.alerts.alert import Severity
from eventsink.templates.context import MAX_ALERTS, VARIABLES
from eventsink.templates.template import KEPT, MAX_KEPT, MAX_KEPT_CHARACTERS, read_template
from tests.support.templates import alert, rendered, resolved, variables

TWO = [alert(pod="api-0"), alert(pod="api-1", severity=Severity.CRITICAL)]


@pytest.mark.parametrize(
    ("clusters", "text"),
    [
        (["prod-eu"], "prod-eu of prod-eu"),
        (["prod-eu", "prod-eu"], "prod-eu of prod-eu prod-eu"),
        (["prod-eu", "prod-us"], " of prod-eu prod-us"),
        (["prod-eu", ""], " of prod-eu "),
        ([""], " of "),
    ],
)
def test_the_cluster_is_named_and_empty_if_the_alerts_are_from_several(clusters: list[str], text: str) -> None:
    alerts = [alert(pod=f"api-{number}", cluster=cluster) for number, cluster in enumerate(clusters)]
    source = "{{ cluster }} of{% for one in alerts %} {{ one.cluster }}{% endfor %}"
    assert rendered(source, alerts) == text
    assert rendered("{{ alert.cluster }}", alerts) == clusters[0]


@pytest.mark.parametrize(
    ("source", "text"),
    [
        ("{{ name }} {{ status }} {{ severity }} {{ count }}", "KubePodCrashLooping firing high 1"),
        ("{{ alert.where }}: {{ alert.summary }}", "shop/api-0: api-0 restarts again and again."),
        ("{{ alert.labels.team }} {{ alert.labels['team'] }}", "checkout checkout"),
        ("{% assign key = 'team' %}{{ alert.labels[key] }}", "checkout"),
        ("{{ alert.links.runbook }}", "https://runbooks.example.com/crash"),
        ("{{ sink }} of {{ tenant }}", "shop/pager of acme"),
        ("[{{ alert.labels.nothing }}{{ alert.endsAt }}{{ alert.nothing.at.all }}]", "[]"),
        ("{{ alert.labels.nothing | default: 'none' }}", "none"),
        ("{% if alert.labels.nothing %}yes{% else %}no{% endif %}", "no"),
        ("{% if alert.labels.nothing == empty %}empty{% endif %}", "empty"),
        ("{% unless severity == 'low' %}wake up{% endunless %}", "wake up"),
        ("{% if count > 1 %}many{% elsif count == 1 %}one{% endif %}", "one"),
        ("{% if alert.annotations.value > 0.9 and count >= 1 %}high{% endif %}", "high"),
        ("{% if alert.summary contains 'again' or false %}again{% endif %}", "again"),
        ("{% case severity %}{% when 'critical', 'high' %}page{% else %}mail{% endcase %}", "page"),
        ("{% case severity %}{% when 'low' %}mail{% else %}other{% endcase %}", "other"),
        ("{% for i in (1..9) %}{% if i == 3 %}{% continue %}{% elsif i > 5 %}{% break %}{% endif %}{{ i }}{% endfor %}", "1245"),
        ("{% for i in (1..4) reversed limit: 3 offset: 1 %}{{ i }}{% endfor %}", "432"),
        ("{% for x in alert.labels.nothing %}x{% else %}none{% endfor %}", "none"),
        (
            "{% for i in (1..2) %}{% for j in (1..2) %}{{ forloop.parentloop.index }}{{ j }} {% endfor %}{% endfor %}",
            "11 12 21 22 ",
        ),
        ("{% capture x %}a {{ count }}{% endcapture %}{{ x | upcase }}", "A 1"),
        ("{% liquid\nassign a = 'b'\nif count == 1\necho a\nendif\n%}", "b"),
        ("{% comment %}{{ nothing }}{% endcomment %}{% # nothing %}a", "a"),
        ("{% raw %}{{ name }}{% endraw %}", "{{ name }}"),
        ("a  {%- if true -%}  b  {%- endif %}", "ab"),
        ("a{% if count == 1 %}\n{% assign x = 1 %}\n{% endif %}b", "ab"),
        ("{{ alert.annotations.value | times: 100 | round }} %", "95 %"),
        ("{{ name.__class__ }}{{ alert.labels.__class__.__mro__ }}{{ alert.items }}", ""),
    ],
)
def test_a_template_writes(source: str, text: str) -> None:
    assert rendered(source) == text


@pytest.mark.parametrize(
    ("source", "text"),
    [
        (
            "{% for a in alerts %}{{ forloop.index }}/{{ forloop.length }} {{ a.where }} {% endfor %}",
            "1/2 shop/api-1 2/2 shop/api-0 ",
        ),
        ("{{ alerts | map: 'where' | join: ', ' }}", "shop/api-1, shop/api-0"),
        ("{{ alerts | where: 'severity', 'critical' | map: 'where' | first }}", "shop/api-1"),
        ("{{ alerts | sort: 'where' | map: 'where' | join }}", "shop/api-0 shop/api-1"),
        ("{% for pair in commonLabels limit: 1 offset: 2 %}{{ pair[0] }}={{ pair[1] }}{% endfor %}", "team=checkout"),
        ("{{ severity }} {{ alert.where }} {{ alerts.size }} {{ alerts.last.where }}", "critical shop/api-1 2 shop/api-0"),
    ],
)
def test_of_several_alerts_a_template_sees_the_worst_first(source: str, text: str) -> None:
    assert rendered(source, TWO) == text


@pytest.mark.parametrize(
    ("source", "text"),
    [
        ("'a-b' | upcase", "A-B"),
        ("'A' | downcase", "a"),
        ("'aB' | capitalize", "Ab"),
        ("' a ' | strip", "a"),
        ("' a' | lstrip", "a"),
        ("'a ' | rstrip", "a"),
        ("'a  b' | squish", "a b"),
        ("'a' | append: 'b' | prepend: 1", "1ab"),
        ("'aXbX' | replace: 'X', '-'", "a-b-"),
        ("'aXbX' | replace_first: 'X', '-'", "a-bX"),
        ("'aXbX' | remove: 'X'", "ab"),
        ("'aXbX' | remove_first: 'X'", "abX"),
        ("'abc' | replace: '', 'X'", "abc"),
        ("'a,b' | split: ',' | reverse | join: '+'", "b+a"),
        ("'abc' | split: '' | last", "c"),
        ("'abcdef' | slice: 2, 3", "cde"),
        ("'abcdef' | slice: -2, 2", "ef"),
        ("'abcdef' | truncate: 4, '…'", "abc…"),
        ("'a b c' | truncatewords: 2, '…'", "a b…"),
        ("'a b' | truncatewords: 2, '…'", "a b"),
        ("'c b a b' | split: ' ' | uniq | sort | join: ''", "abc"),
        ("'a,,b' | split: ',' | compact | size", "2"),
        ("'1,2' | split: ',' | sum", "3"),
        ("'a/b c&d' | url_encode", "a%2Fb%20c%26d"),
        ("'1\n2' | strip_newlines", "12"),
        ("7 | divided_by: 2", "3"),
        ("7 | divided_by: 2.0", "3.5"),
        ("2.5 | round", "3"),
        ("-2.5 | round", "-3"),
        ("1.005 | times: 100 | floor", "100"),
        ("1.2 | ceil | plus: 1 | minus: 5 | abs", "2"),
        ("7 | modulo: 4", "3"),
        ("7 | at_most: 4 | at_least: 5", "5"),
        ("'word' | plus: 1", "1"),
        ("alert.startsAt | date: '%d %b %Y, %H:%M'", "01 Mar 2026, 09:30"),
        ("1772357400 | date: '%F %T'", "2026-03-01 09:30:00"),
        ("1772357400 | date: '%s %%s %%%s'", "1772357400 %s %1772357400"),
        ("'2026-03-01T10:30:00+01:00' | date: '%H:%M'", "09:30"),
        ("'soon' | date: '%H:%M'", "soon"),
        ("alert.links | json", '{"source": "", "runbook": "https://runbooks.example.com/crash", "dashboard": "", "silence": ""}'),
        ("'\"ä\n' | json", '"\\"ä\\n"'),
        ("alert.nothing | json", "null"),
        ("true | json", "true"),
        ("alerts | concat: alerts | size", "2"),
    ],
)
def test_a_filter_writes(source: str, text: str) -> None:
    assert rendered(f"{{{{ {source} }}}}") == text


@pytest.mark.parametrize(
    ("text", "written"),
    [
        ("a\ud800ä", "a\ufffdä"),
        ("\udc00", "\ufffd"),
        ("\udc00\ud800", "\ufffd\ufffd"),
        ("\ud83d\udd25", "\U0001f525"),
    ],
)
def test_json_holds_no_lone_surrogate_which_strict_readers_do_not_take(text: str, written: str) -> None:
    one = alert(summary=text, annotations={text: text})
    assert msgspec.json.decode(rendered("{{ alert.summary | json }}", [one]).encode()) == written
    for source in ("{{ alert.annotations | json }}", "{{ alert.annotations }}"):
        assert msgspec.json.decode(rendered(source, [one]).encode())[written] == written
    assert rendered("{{ alert.summary | url_encode }}", [one]) == quote(written)


def test_a_template_knows_what_ended_and_how_long_it_took() -> None:
    alerts = [resolved(alert(pod="api-0")), alert(pod="api-1")]
    source = "{{ status }} {{ firing | size }} {{ resolved | size }} {{ resolved.first.where }} {{ resolved.first.duration }}"
    assert rendered(source, alerts) == "firing 1 1 shop/api-0 42m"
    assert rendered("{{ status }} {{ alert.endsAt }}", [alerts[0]]) == "resolved 2026-03-01T10:12:00Z"
    early = resolved(alert(), timedelta(seconds=-5))
    assert rendered("[{{ alert.duration }}]", [early]) == "[]"


def test_of_many_alerts_the_lists_have_the_first_hundred_and_the_count_is_of_all() -> None:
    alerts = [*(resolved(alert(pod=f"b-{n}")) for n in range(90)), *(alert(pod=f"a-{n}") for n in range(60))]
    source = "{{ count }} {{ alerts | size }} {{ firing | size }} {{ resolved | size }}"
    assert rendered(source, alerts) == f"150 {MAX_ALERTS} 60 40"


def test_a_template_is_given_exactly_the_documented_variables() -> None:
    assert sorted(variables(alert())) == list(VARIABLES)


def test_alerts_of_several_names_have_no_common_name() -> None:
    alerts = [alert(), alert("KubeJobFailed", annotations={"value": "1"})]
    assert rendered("[{{ name }}] {{ commonLabels | json }} {{ commonAnnotations | json }}", alerts) == (
        '[] {"namespace": "shop", "pod": "api-0", "team": "checkout"} {}'
    )


def test_what_is_written_beyond_the_limit_is_missing() -> None:
    whole = read_template("{% for a in alerts %}{{ a.summary }}{% endfor %}").render(variables(*TWO), limit=40)
    assert (whole.text, whole.complete) == ("api-1 restarts again and again.api-0 res", False)
    assert read_template("ab").render({}, limit=2).complete


def test_what_is_captured_is_whole_however_little_may_be_written() -> None:
    source = "{% capture x %}{{ alert.summary }}{% endcapture %}{{ x | size }}"
    assert read_template(source).render(variables(alert()), limit=5).text == str(len(alert().summary))


def test_each_text_that_is_not_the_templates_own_is_shown_as_the_caller_says() -> None:
    source = "*{{ alert.summary }}* {% capture x %}{{ name }}{% endcapture %}{{ x }} {{ '*' | append: '*' }}"
    assert rendered(source, show=lambda text: f"<{text}>") == "*<api-0 restarts again and again.>* <KubePodCrashLooping> <**>"


def test_templates_are_kept_as_they_were_read_within_bounds() -> None:
    first = read_template("{{ name }}")
    assert read_template("{{ name }}") is first
    for number in range(MAX_KEPT + 10):
        read_template(f"{number}")
    assert len(KEPT) <= MAX_KEPT
    assert read_template("{{ name }}") is not first
    for number in range(MAX_KEPT_CHARACTERS // 3000 + 10):
        read_template(f"{number}" + "x" * 3000)
    assert len(KEPT) <= MAX_KEPT_CHARACTERS // 3000
