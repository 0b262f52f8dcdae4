"""What counts as a URL that a browser opens, and the link to a silence."""

from __future__ import annotations

from urllib.parse import quote, unquote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from eventsink.alerts.links import is_web_url, percent_encoded, silence_url, web_url

URLS = [
    "https://runbooks.example.com/KubePodCrashLooping",
    "http://prometheus:9090/graph?g0.expr=up%7Bjob%3D%22a%22%7D#x",
    "HTTPS://x.example.com",
    "http://10.0.0.1:9090/",
    "http://[2001:db8::1]:9090/a",
    "https://user@x.example.com/",
    "https://bücher.example/",
    "https://a_b.example.com:443?x",
]
NONE = [
    "",
    "http://",
    "https:///path",
    "http://?x=y",
    "http://:9090/graph",
    "http:x.example.com",
    "//x.example.com",
    "/graph",
    "TODO",
    "see https://x.example.com",
    "https://x.example.com/a b",
    "https://x.example.com/\n",
    "javascript:alert(1)",
    "ftp://x.example.com",
]
PLACEHOLDERS = [
    "http://<host>/graph",
    "https://{{ host }}",
    "http://$HOST/",
    "http://x:port/",
    "http://[::1",
    "https://x.example.com:99999/",
]


@pytest.mark.parametrize("url", URLS)
def test_an_absolute_http_url_with_a_host_is_one_whatever_the_case_of_its_scheme(url: str) -> None:
    assert web_url(url) == url
    assert is_web_url(url)


@pytest.mark.parametrize("text", [one for one in NONE if one != one.strip()] + [f" {URLS[0]}\n"])
def test_space_around_a_url_is_not_part_of_it(text: str) -> None:
    assert web_url(text) == text.strip()
    assert not is_web_url(text)


@pytest.mark.parametrize("text", [one for one in NONE if one == one.strip()])
def test_nothing_else_is_one(text: str) -> None:
    assert web_url(text) == ""
    assert not is_web_url(text)


@pytest.mark.parametrize("text", PLACEHOLDERS)
def test_a_placeholder_is_none(text: str) -> None:
    assert not is_web_url(text)


def test_a_url_that_is_too_long_is_left_out() -> None:
    assert web_url("https://x.example.com/", 10) == ""


def filter_of(url: str) -> str:
    return unquote(url.partition("#/silences/new?filter=")[2])


@pytest.mark.parametrize(
    ("labels", "expected"),
    [
        ({"b": "2", "alertname": "A"}, '{alertname="A",b="2"}'),
        ({"path": 'C:\\x "y"\nz'}, r'{path="C:\\x \"y\"\nz"}'),
        ({"host.name": "a"}, '{"host.name"="a"}'),
        ({"größe": "1", "a:b_c9": "2", 'q"': "3"}, r'{a:b_c9="2","größe"="1","q\""="3"}'),
        ({"a": "x,y}", "b": ""}, '{a="x,y}",b=""}'),
    ],
)
def test_a_silence_has_the_labels_as_matchers_that_alertmanager_reads(labels: dict[str, str], expected: str) -> None:
    assert filter_of(silence_url("http://am:9093", labels)) == expected


def test_a_silence_is_for_the_alerts_of_all_replicas() -> None:
    labels = {"alertname": "A", "prometheus_replica": "prometheus-0", "replica": "1", "ruler": "b"}
    assert filter_of(silence_url("http://am:9093", labels)) == '{alertname="A",ruler="b"}'
    assert filter_of(silence_url("http://am:9093", labels, frozenset({"ruler"}))) == '{alertname="A"}'


@pytest.mark.parametrize(
    ("external", "page"),
    [
        ("http://am:9093", "http://am:9093/#/silences/new?filter="),
        ("http://am:9093/", "http://am:9093/#/silences/new?filter="),
        ("https://x.example.com/am/?org=1", "https://x.example.com/am/?org=1#/silences/new?filter="),
        ("https://x.example.com/am#/alerts", "https://x.example.com/am/#/silences/new?filter="),
        ("https://x.example.com?org=1#/alerts?x", "https://x.example.com/?org=1#/silences/new?filter="),
    ],
)
def test_a_silence_keeps_the_query_of_the_external_url(external: str, page: str) -> None:
    assert silence_url(external, {"a": "b"}) == f"{page}%7Ba%3D%22b%22%7D"


def test_a_silence_with_labels_that_are_too_long_is_none() -> None:
    assert silence_url("http://am:9093", {"a": "x" * 3000}) == ""
    assert silence_url("", {"a": "b"}) == ""


@given(st.text() | st.text("%/ \"='aé", max_size=40))
def test_percent_encoding_is_that_of_the_standard_library(text: str) -> None:
    try:
        expected = quote(text, safe="")
    except UnicodeEncodeError:
        with pytest.raises(UnicodeEncodeError):
            percent_encoded(text)
    else:
        assert percent_encoded(text) == expected
