"""No template holds the event loop, whatever it does: it ends within its steps, the same way each time."""

from __future__ import annotations

import gc
import time
from collections.abc import Iterator
from contextlib import suppress

import pytest

from eventsink.templates.errors import InvalidTemplate, TemplateFailed
from eventsink.templates.template import read_template
from tests.support.templates import alert, variables

SECONDS = 0.2
"""Of a processor; 12 ms was the most on a quiet machine."""

LARGE = [alert(pod=f"api-{n}", description="x" * 60_000, annotations={"long": "y" * 60_000}) for n in range(100)]
HUNDRED = [alert(pod=f"api-{n}", description="x" * 3000) for n in range(100)]
ONE = [alert(description="x" * 3000)]


@pytest.fixture(autouse=True)
def no_garbage_collection() -> Iterator[None]:
    """What the other tests left behind is not part of what is measured."""
    gc.disable()
    yield
    gc.enable()


FOREVER = "{{% for i in (1..1000000000) %}}{}{{% endfor %}}".format
NEEDLE = "{% assign n = alert.description | slice: 5, 49 %}{% assign n = n | append: '.' | append: n %}"

ATTACKS = {
    "loops within loops": FOREVER(FOREVER(FOREVER(""))),
    "a loop that does nothing": FOREVER("{% continue %}"),
    "a loop backwards": "{% for i in (1..1000000000) reversed offset: 5 %}{% endfor %}",
    "loops one after another": "{% for i in (1..3000) %}{% endfor %}" * 100,
    "a text that doubles by capture": "{% assign a = 'aaaaaaaaaaaaaaaaaaaa' %}" + "{% capture a %}{{ a }}{{ a }}{% endcapture %}" * 80,
    "a text that doubles by append": FOREVER("{% assign a = a | append: a | append: 'a' %}"),
    "a text that grows by replace": FOREVER("{% assign a = a | append: 'a' | replace: 'a', 'aaaaaaaaaaaaaaaaaaaaaaaa' %}"),
    "a text that grows by join": FOREVER("{% assign a = alert.description | slice: 0, 2000 | split: '' | join: 'aaaaaaaaaaaaaaaaaa' %}"),
    "replace in a long text": FOREVER("{% assign a = alert.description | replace: 'x', 'y' %}"),
    "replace what nearly is there": NEEDLE + FOREVER("{% assign a = alert.description | replace: n, 'y' %}"),
    "look for what nearly is there": NEEDLE + FOREVER("{% if alert.description contains n %}{% endif %}"),
    "split and sort": FOREVER("{% assign a = alert.description | slice: 0, 2000 | split: '' | sort %}"),
    "sort by long texts": FOREVER("{% assign a = alerts | sort: 'description' %}"),
    "compare long texts": FOREVER("{% if alerts.first.description == alerts.last.description %}{% endif %}"),
    "find by long texts": FOREVER("{% assign a = alerts | where: 'description', alert.description %}"),
    "unique long texts": FOREVER("{% assign a = alerts | map: 'description' | uniq %}"),
    "a list that doubles": "{% assign a = alerts %}" + FOREVER("{% assign a = a | concat: a %}"),
    "a list in a list": FOREVER("{% if alerts contains 'x' or firing == alerts %}{% endif %}"),
    "JSON of everything": FOREVER("{% assign a = alerts | json %}"),
    "JSON of one": FOREVER("{% assign a = alert.labels | json %}"),
    "dates": FOREVER("{% assign a = alert.startsAt | date: '%A %B %F %H %I %M %S %T %V %Y %Z %a %b %d' %}"),
    "numbers": FOREVER("{% assign a = '1.5' | round: 3 | times: 1.7 | at_most: 5 %}"),
    "numbers of texts": FOREVER("{% assign a = alerts | sum: 'name' %}"),
    "percent-encoding": FOREVER("{% assign a = alert.description | url_encode %}"),
    "words": FOREVER("{% assign a = alert.description | squish | truncatewords: 9000 %}"),
    "letters": FOREVER("{% assign a = alert.description | upcase | capitalize %}"),
    "long conditions": FOREVER("{% if " + " and ".join(["true"] * 38) + " %}{% endif %}"),
    "many conditions": FOREVER("{% if false %}" + "{% elsif false %}" * 200 + "{% endif %}"),
    "many cases": FOREVER("{% case 'q' %}" + "{% when 1, 2, 3, 4, 5, 6, 7, 8 %}" * 100 + "{% endcase %}"),
    "long paths": FOREVER("{{ forloop" + ".parentloop" * 300 + " }}"),
    "paths within paths": FOREVER("{% if alert" + "[alert" * 30 + "]" * 30 + " %}{% endif %}"),
    "filters in a row": FOREVER("{% assign b = 'a' " + "| upcase " * 19 + "%}"),
    "output": FOREVER("{{ alert.description }}"),
    "blank output": FOREVER("{% capture x %}" + " " * 150 + "{% endcapture %}"),
    "many variables": "".join(f"{{% assign a{n} = alert.description | append: 'x' %}}" for n in range(75)),
}  # fmt: skip


@pytest.mark.parametrize("attack", ATTACKS)
def test_a_hostile_template_ends_soon_and_the_same_way_each_time(attack: str) -> None:
    source = ATTACKS[attack].replace("{% assign a = a |", "{% assign a = a | default: 'a' |")
    template = read_template(source)
    for alerts in (ONE, HUNDRED, LARGE):
        given, outcomes = variables(*alerts), set()
        for _ in range(2):
            began = time.thread_time()
            try:
                outcomes.add(template.render(given, limit=3000).text)
            except TemplateFailed as failed:
                outcomes.add(str(failed))
            assert time.thread_time() - began < SECONDS
        assert len(outcomes) == 1
        assert len(outcomes.pop()) <= 3000


UNREADABLE = {
    "nothing but spaces": "{{" + " " * 3990,
    "spaces in an empty tag": "{{" + " " * 3990 + "}}",
    "one long word": "{% " + "a" * 3990,
    "what opens and never closes": "{{" * 2000,
    "parentheses": "{{ " + "(" * 3990 + " }}",
    "quotes": "{{ " + "\"'" * 1900 + " }}",
    "raw": "{% raw %}" * 440,
    "blocks": "{% if true %}" * 300,
    "brackets": "{{ name" + "[" * 3900 + " }}",
    "conditions": "{% if " + " and ".join(["a"] * 600) + " %}{% endif %}",
    "tags in a liquid tag": "{% liquid\n" + "if a\n" * 700 + "%}",
    "outputs": "{{a}}" * 799,
    "cases": "{% case name %}" + "{% when 1,2,3,4,5,6,7,8 %}" * 140 + "{% endcase %}",
}


@pytest.mark.parametrize("source", UNREADABLE.values(), ids=list(UNREADABLE))
def test_a_hostile_template_is_read_or_rejected_soon(source: str) -> None:
    read_template("{{ name }}")  # python-liquid is loaded
    began = time.thread_time()
    with suppress(InvalidTemplate):
        read_template(source)
    assert time.thread_time() - began < SECONDS


def test_a_line_for_each_of_a_hundred_alerts_is_well_within_the_steps() -> None:
    source = "{% for a in alerts %}• *{{ a.name }}* {{ a.where }} since {{ a.startsAt | date: '%H:%M' }}: {{ a.summary | truncate: 80 }}\n"
    text = read_template(source + "{% endfor %}").render(variables(*HUNDRED), limit=100_000).text
    assert text.count("\n") == 100


@pytest.mark.parametrize(
    ("source", "says"),
    [
        ("{{ alert.description | append: alert.annotations.long }}", "append: it makes a text of more than 65,536 characters"),
        ("{{ alert.description | split: '' }}", "split: it makes a list of more than 2,000 entries"),
        (
            "{% capture a %}{{ alert.description }}{{ alert.description }}{% endcapture %}",
            "it captures a text of more than 65,536 characters",
        ),
    ],
)
def test_what_a_template_makes_is_bounded_and_the_failure_names_the_bound(source: str, says: str) -> None:
    with pytest.raises(TemplateFailed, match=says):
        read_template(source).render(variables(LARGE[0]), limit=70_000)


def test_looking_for_a_long_part_in_a_long_text_takes_more_steps_than_for_a_short_one() -> None:
    def most(part: str) -> int:
        for times in range(0, 400, 5):
            source = f"{{% for i in (1..{times}) %}}{{% assign a = alert.description | remove: '{part}' %}}{{% endfor %}}"
            try:
                read_template(source).render(variables(ONE[0]), limit=10)
            except TemplateFailed:
                return times
        return 400

    assert most("." * 100) < most(".") / 3
