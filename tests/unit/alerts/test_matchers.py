"""Matchers are read as Alertmanager reads them, and rejected with a sentence."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from eventsink.alerts.matchers import InvalidMatcher, parse_matcher

LABELS = {"alertname": "KubePodCrash", "team": "batch", "path": r"C:\new", "quote": 'say "hi"', "lines": "a\nb"}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('alertname="KubePodCrash"', True),
        ("alertname=KubePodCrash", True),
        (' alertname = "KubePodCrash" ', True),
        ('alertname="Kube"', False),
        ('alertname!="Kube"', True),
        ('alertname=~"Kube.+"', True),
        ('alertname=~"Kube"', False),  # the whole value, not a part of it
        ('alertname=~"Pod"', False),
        ('alertname=~"(?i)kube.*"', True),
        ('alertname!~"Kube.+"', False),
        ('alertname!~"Node.+"', True),
        ('team=~"a|batch"', True),
        ('absent=""', True),
        ('absent!=""', False),
        ('absent!="x"', True),
        ('absent=~".*"', True),
        ('absent=~".+"', False),
        ("absent=", True),
        (r'path="C:\\new"', True),
        (r'quote="say \"hi\""', True),
        (r'lines="a\nb"', True),
        (r'alertname=~"\\w+"', True),
        (r'alertname=~"\w+"', True),
    ],
)
def test_a_matcher_selects_alerts_by_labels(text: str, expected: bool) -> None:
    assert parse_matcher(text).matches(LABELS) is expected


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("", "write a matcher as"),
        ("alertname", "write a matcher as"),
        ('a b="c"', "write a matcher as"),
        ('1a="c"', "write a matcher as"),
        ('a=="c"', "put quotation marks around a value that contains quotation marks"),
        ('a="c', "closing quotation mark"),
        ('a="', "closing quotation mark"),
        ('a=c"d', "put quotation marks around a value"),
        ('a="b",c="d"', "one matcher per entry"),
        ('a="b\\"', "before each quotation mark"),
        ('a=~"("', "not valid RE2: missing )"),
        (r'a=~"(?=b)"', "not valid RE2"),
        (r'a=~"(b)\1"', "not valid RE2"),
        ('a=~"((a{1,100}){1,100}){1,100}"', "not valid RE2"),
        ('a="' + "x" * 2000 + '"', "at most 1024 characters"),
    ],
)
def test_an_invalid_matcher_is_rejected_with_an_explanation(text: str, sentence: str) -> None:
    with pytest.raises(InvalidMatcher) as error:
        parse_matcher(text)
    assert sentence in str(error.value)


@pytest.mark.parametrize("text", ["severity='critical'", "team==a", "team=a, region=b", r"job=~\w+"])
def test_what_the_crd_rejects_today_and_accepted_before_is_still_read(text: str) -> None:
    """A router that is upgraded keeps the sinks that were accepted by the rules of their time."""
    parse_matcher(text)


@given(st.text(max_size=50))
def test_any_value_can_be_quoted(value: str) -> None:
    escaped = value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
    matcher = parse_matcher(f'a="{escaped}"')
    assert matcher.value == value
    assert parse_matcher(str(matcher)) == matcher


@given(st.text(max_size=80))
def test_any_text_is_parsed_or_rejected(text: str) -> None:
    try:
        parse_matcher(text)
    except InvalidMatcher:
        pass
