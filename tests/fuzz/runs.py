"""Runs parsers as those do who use them: what comes of the bytes is used, too."""

from __future__ import annotations

import json
from collections.abc import Callable
from io import BytesIO
from typing import Any

import msgspec
import requests
from requests.adapters import BaseAdapter

from eventsink.alerts.alert import Alert
from eventsink.alerts.formats.alertmanager import FORMAT as ALERTMANAGER
from eventsink.alerts.formats.json import mapped_by
from eventsink.alerts.json_mapping import JsonMapping
from eventsink.alerts.matchers import parse_matchers
from eventsink.cel.condition import read_condition
from eventsink.cel.errors import EvaluationFailed
from eventsink.client import Client, EventSinkError
from eventsink.destinations.slack.channels import read_page
from eventsink.destinations.slack.codes import granted
from eventsink.destinations.slack.message import render
from eventsink.destinations.slack.terminal import terminal_lines
from eventsink.destinations.slack.tokens import TokenRecord
from eventsink.events.posts import error_of, rejected_of
from eventsink.rest.calls import paging
from eventsink.rest.http.messages import cookies, query_of
from eventsink.runtime.listener.messages import RequestHead
from tests.support.templates import alert

_MAPPED = mapped_by(
    JsonMapping(
        items="body.checks",
        name="item.check.name",
        status='item.state != "UP"',
        severity='item.state == "DOWN" ? "critical" : "low"',
        summary='item.check.name + " is " + item.state',
        namespace='item.check.tags.filter(tag, tag.startsWith("ns-"))[0]',
        labels={"host": "item.check.host", "count": "int(item.count)"},
        starts_at="item.since",
    )
)
_RECORD = TokenRecord(namespace_uid="u", tenant="acme", claimed_at=0.0)


def _json(data: bytes) -> Any:
    """None where a library would not get that far."""
    try:
        return json.loads(data)
    except (ValueError, RecursionError):
        return None


def evaluate(text: str) -> None:
    """A condition, about an alert."""
    condition = read_condition(text)
    try:
        condition.holds(alert())
    except EvaluationFailed:
        pass


def match(text: str) -> None:
    """Matchers, about labels."""
    for matcher in parse_matchers(text):
        matcher.matches({"a": "b", "team": "\u00e4\U0001f600"})


def read_mapped(data: bytes) -> object:
    """JSON of any program, as a mapping reads it."""
    return _MAPPED.parse(data)


def show(data: bytes) -> None:
    """A notification of Alertmanager as the router stores it, and in Slack."""
    stored = [
        msgspec.json.encode(one.identify(source="a", tenant="acme", cluster="c")) for one in ALERTMANAGER.parse(data).alerts[:8]
    ]
    if stored:
        message = render([msgspec.json.decode(one, type=Alert) for one in stored], sink="acme/a", tenant="acme")
        for body in (message.body(), message.plain_body()):
            json.dumps(body).encode()
            terminal_lines(body, width=80)


def exchange(data: bytes) -> None:
    """What Slack gives for a code."""
    if isinstance(response := _json(data), dict):
        record = granted(_RECORD, response, 1.8e9)
        assert TokenRecord.model_validate_json(record.to_json()) == record


def list_channels(data: bytes) -> object:
    """A page of Slack's channels."""
    return read_page(response) if isinstance(response := _json(data), dict) else None


def read_accepted(data: bytes) -> None:
    """What the router says of Events."""
    count, _ = rejected_of(data)
    assert count >= 0
    error_of(data)


def turn_page(text: str) -> object:
    """The token of a page."""
    return paging.after([], "acme", text)


def read_query(data: bytes) -> object:
    """The query of a call, and the cookies of a browser."""
    query, _, cookie = data.decode("latin-1").partition("\n")
    head = RequestHead("GET", "/", query, {b"cookie": cookie.encode("latin-1")}, "192.0.2.1")
    cookies(head)
    return query_of(head, {"tenant_id"})


class _Canned(BaseAdapter):
    """In place of a connection to the REST API."""

    def __init__(self, data: bytes) -> None:
        super().__init__()
        self._data = data

    def send(self, request: requests.PreparedRequest, *_: Any, **__: Any) -> requests.Response:
        response = requests.Response()
        response.status_code, response.raw, response.request = 200, BytesIO(self._data), request
        response.headers["ETag"] = '"a.1"'
        return response

    def close(self) -> None: ...


def call(data: bytes) -> None:
    """A response to each kind of call of a client."""
    calls: tuple[Callable[[Client], object], ...] = (
        lambda client: client.get("a"),
        lambda client: next(client.list("acme"), None),
        lambda client: client.delete("a"),
        lambda client: client.test("a"),
        lambda client: client.install_slack(id="a"),
    )
    for one in calls:
        with Client("http://a.example", "key", retries=0) as client:
            client._session.mount("http://", _Canned(data))  # noqa: SLF001  # no socket
            try:
                one(client)
            except EventSinkError:
                pass
