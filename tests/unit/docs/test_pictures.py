"""The pictures of the README are those that their scripts draw now."""

from __future__ import annotations

import re
from html import unescape
from xml.etree import ElementTree

import pytest

from scripts import draw_alert_path, record_demo
from tests.unit.docs.pages import ROOT

PICTURES = draw_alert_path.pictures()
RECORDING = record_demo.FILE.read_text(encoding="utf-8")


@pytest.mark.parametrize("name", PICTURES)
def test_the_committed_picture_is_what_the_script_draws(name: str) -> None:
    committed = (draw_alert_path.FOLDER / name).read_text(encoding="utf-8")
    assert committed == PICTURES[name], "run `make pictures` and commit the result"


@pytest.mark.parametrize("name", [*PICTURES, record_demo.FILE.name])
def test_a_picture_is_well_formed_and_loads_nothing(name: str) -> None:
    text = (draw_alert_path.FOLDER / name).read_text(encoding="utf-8")
    assert ElementTree.fromstring(text).tag == "{http://www.w3.org/2000/svg}svg"
    assert set(re.findall(r"https?://[^\s\"<]+", text)) <= {
        "http://www.w3.org/2000/svg",
        "http://127.0.0.1:8080/v1/alerts/alertmanager",
    }
    assert not re.search(r"xoxb-|whsec_|<script|href=", text)


def test_the_readme_shows_each_picture_with_its_alternative_text() -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    for name in [*PICTURES, record_demo.FILE.name]:
        assert f"docs/images/{name}" in readme
    assert draw_alert_path.ALT in " ".join(readme.split())


def test_the_recording_has_every_statement_of_the_demo() -> None:
    shown = re.sub(r"\s+", " ", unescape(re.sub(r"<[^>]+>", "", RECORDING)))
    source = (ROOT / "demo" / "__main__.py").read_text(encoding="utf-8")
    statements = re.findall(r'self\._(?:step|check)\(f?"((?:[^"\\]|\\.)*)"', source)
    assert len(statements) >= 15
    for statement in statements:
        for piece in re.split(r"\{[^}]*\}", statement):
            assert piece in shown, "run `make pictures` and commit the result"


def test_styled_output_becomes_spans_and_varying_values_are_replaced() -> None:
    output = "\x1b[1m\x1b[36m1. Go\x1b[0m on\n\n   POST http://127.0.0.1:40123/ /tmp/eventsink-demo-ab_1/x webhook-id: 0a1b-4\n"
    assert record_demo.lines_of(output) == [
        [("1. Go", frozenset({"1", "36"})), (" on", frozenset())],
        [],
        [("   POST http://127.0.0.1:8080/ /tmp/demo/x webhook-id: 3f9c01aa2b4d-4", frozenset())],
    ]
