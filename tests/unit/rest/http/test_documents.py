"""The OpenAPI document and the page generated from it describe what is served."""

from __future__ import annotations

import json
import re
from html.parser import HTMLParser
from typing import Any

from eventsink.destinations.arguments import RestModel
from eventsink.rest.http.openapi import document
from eventsink.rest.http.operations import OPERATIONS
from eventsink.rest.pages.docs import message_page, reference_page


def test_every_reference_of_the_document_resolves() -> None:
    text = json.dumps(document())
    names = set(re.findall(r'"#/components/schemas/(\w+)"', text))
    assert names == set(document()["components"]["schemas"])


def test_every_object_is_described_and_closed() -> None:
    for name, schema in document()["components"]["schemas"].items():
        assert schema.get("description"), name
        assert schema.get("additionalProperties") is False, name


def test_every_example_is_valid() -> None:
    for one in OPERATIONS:
        for model, example in ((one.request, one.example), (one.response, one.response_example)):
            if model is not None and example is not None:
                assert issubclass(model, RestModel)
                model.model_validate_json(json.dumps(example))


class _Page(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []

    def handle_starttag(self, tag: str, attrs: Any) -> None:
        self.tags.append((tag, dict(attrs)))


def test_the_page_names_each_call_and_loads_nothing() -> None:
    text = reference_page(document())
    parsed = _Page()
    parsed.feed(text)
    ids = {attributes["id"] for _, attributes in parsed.tags if "id" in attributes}
    assert {one.name for one in OPERATIONS} <= ids
    for tag, attributes in parsed.tags:
        assert tag not in ("script", "link", "img", "iframe", "form")
        assert "src" not in attributes
        if "href" in attributes:
            target = str(attributes["href"])
            assert target == "openapi.json" or target.removeprefix("#") in ids


def test_a_message_is_escaped() -> None:
    assert "<script>" not in message_page("<script>", "<script>alert(1)</script>")
