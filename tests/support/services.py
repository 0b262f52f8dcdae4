"""Stand-ins for services that take webhooks, each as strict as its documentation: what it requires, allows and returns.

Read in November 2026: Microsoft Teams (Workflows, Adaptive Cards 1.4), Discord (execute webhook), Google Chat (incoming webhooks), PagerDuty
(Events API v2), Opsgenie (Alert API), Jira Service Management (Integration events), Telegram (Bot API sendMessage), ntfy (publish as JSON),
GitHub (create a repository dispatch event), Alertmanager (API v2).
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any
from urllib.parse import parse_qs, urlsplit

from eventsink.sinks.transport import Endpoint, Response


class Rejected(Exception):
    """The service does not take it: a status, and a body for tests to read."""

    def __init__(self, status: int, why: str) -> None:
        super().__init__(why)
        self.status = status


@dataclass(frozen=True)
class Request:
    """What a service was sent."""

    url: str
    method: str
    headers: Mapping[str, str]
    """Names in lower case."""
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


Service = Callable[[Request], tuple[int, bytes]]


@dataclass
class StandIn:
    """A `Transport` that leads to one service, whatever the host."""

    service: Service
    taken: list[Request] = field(default_factory=list)
    rejected: list[str] = field(default_factory=list)
    _endpoint: Endpoint | None = None
    _method: str = ""

    def client(self, endpoint: Endpoint, *, method: str = "POST", **_: Any) -> StandIn:
        self._endpoint, self._method = endpoint, method
        return self

    async def post(self, headers: bytes, body: bytes, *, timeout: float) -> Response:
        assert self._endpoint is not None
        lines = (line.partition(": ") for line in headers.decode().split("\r\n") if line)
        url = self._endpoint.origin + self._endpoint.target
        request = Request(url, self._method, {name.lower(): value for name, _, value in lines}, body)
        try:
            need(request.headers.get("content-type", "").partition(";")[0] == "application/json", "content type", 415)
            status, response = self.service(request)
        except Rejected as rejected:
            self.rejected.append(str(rejected))
            return Response(rejected.status, None, b'{"ok":false,"error":"rejected"}')
        self.taken.append(request)
        return Response(status, None, response)

    async def close(self) -> None:
        pass


def need(holds: object, why: str, status: int = 400) -> None:
    if not holds:
        raise Rejected(status, why)


def members(
    value: Any, where: str, required: Mapping[str, Any], optional: Mapping[str, Any] | None = None, status: int = 400
) -> None:
    """An object with these members and no others, each of a type and, of a text, up to a length: `str`, or `(str, 130)`."""
    need(isinstance(value, dict), f"{where} is no object", status)
    allowed = {**required, **(optional or {})}
    need(required.keys() <= value.keys(), f"{where} lacks {required.keys() - value.keys()}", status)
    need(value.keys() <= allowed.keys(), f"{where} has {value.keys() - allowed.keys()}", status)
    for name, one in value.items():
        kind, most = allowed[name] if isinstance(allowed[name], tuple) else (allowed[name], None)
        need(isinstance(one, kind), f"{where}.{name} is no {kind.__name__}", status)
        need(most is None or len(one) <= most, f"{where}.{name} is longer than {most}", status)
        need(name not in required or one != "", f"{where}.{name} is empty", status)


def time(text: str) -> datetime:
    try:
        moment = datetime.fromisoformat(text.replace("Z", "+00:00"))
    except ValueError:
        raise Rejected(400, "no time") from None
    need(moment.tzinfo is not None, "a time without a zone")
    return moment


def link(text: str) -> None:
    parts = urlsplit(text)
    need(parts.scheme in ("http", "https") and parts.netloc, f"no URL: {text!r}")


def teams(request: Request) -> tuple[int, bytes]:
    need(request.method == "POST", "method", 405)
    need(len(request.body) <= 28 * 1024, "more than 28 KB", 413)
    members(request.json, "message", {"type": str, "attachments": list})
    need(request.json["type"] == "message" and len(request.json["attachments"]) == 1, "one attachment")
    [attachment] = request.json["attachments"]
    members(attachment, "attachment", {"contentType": str, "content": dict}, {"contentUrl": type(None)})
    need(attachment["contentType"] == "application/vnd.microsoft.card.adaptive", "no Adaptive Card")
    card = attachment["content"]
    members(card, "card", {"type": str, "version": str, "body": list}, {"$schema": str, "msteams": dict, "actions": list})
    need(card["type"] == "AdaptiveCard" and card["version"] in ("1.2", "1.3", "1.4", "1.5"), "version")
    for element in card["body"]:
        if element.get("type") == "FactSet":
            members(element, "FactSet", {"type": str, "facts": list})
            for fact in element["facts"]:
                members(fact, "fact", {"title": str}, {"value": str})
            continue
        members(
            element,
            "TextBlock",
            {"type": str},
            {"text": str, "wrap": bool, "weight": str, "size": str, "color": str, "isSubtle": bool},
        )
        need(element["type"] == "TextBlock" and "text" in element, "an element without text")
        need(element.get("color") in (None, "Default", "Dark", "Light", "Accent", "Good", "Warning", "Attention"), "color")
        need(element.get("weight") in (None, "Default", "Lighter", "Bolder"), "weight")
        need(element.get("size") in (None, "Default", "Small", "Medium", "Large", "ExtraLarge"), "size")
    for action in card.get("actions", []):
        members(action, "action", {"type": str, "title": str, "url": str})
        need(action["type"] == "Action.OpenUrl", "action")
        link(action["url"])
    return 202, b""


def discord(request: Request) -> tuple[int, bytes]:
    need(request.method == "POST", "method", 405)
    content = {"content": (str, 2000), "username": (str, 80), "embeds": (list, 10), "allowed_mentions": dict, "tts": bool}
    members(request.json, "message", {}, content)
    need(request.json.get("content") or request.json.get("embeds"), "an empty message")
    need(request.json.get("allowed_mentions") == {"parse": []}, "somebody could be mentioned by what an alert says")
    total = 0
    for embed in request.json.get("embeds", []):
        texts = {"title": (str, 256), "description": (str, 4096), "url": str, "timestamp": str}
        members(embed, "embed", {}, {**texts, "color": int, "footer": dict, "fields": (list, 25)})
        total += len(embed.get("title", "")) + len(embed.get("description", ""))
        need(0 <= embed.get("color", 0) <= 0xFFFFFF, "color")
        if "timestamp" in embed:
            time(embed["timestamp"])
        if "footer" in embed:
            members(embed["footer"], "footer", {"text": (str, 2048)})
            total += len(embed["footer"]["text"])
        for one in embed.get("fields", []):
            members(one, "field", {"name": (str, 256), "value": (str, 1024)}, {"inline": bool})
            total += len(one["name"]) + len(one["value"])
    need(total <= 6000, f"{total} characters in all embeds")
    return 204, b""


def google_chat(request: Request) -> tuple[int, bytes]:
    need(request.method == "POST", "method", 405)
    need(request.headers["content-type"].lower() == "application/json; charset=utf-8", "content type")
    query = parse_qs(urlsplit(request.url).query)
    need({"key", "token"} <= query.keys(), "no key", 401)
    members(request.json, "message", {"text": (str, 4096)}, {"thread": dict})
    need("<users/" not in request.json["text"], "somebody could be mentioned by what an alert says")
    if "thread" in request.json:
        members(request.json["thread"], "thread", {"threadKey": (str, 4000)})
        need(query.get("messageReplyOption") == ["REPLY_MESSAGE_FALLBACK_TO_NEW_THREAD"], "the thread is ignored")
    return 200, json.dumps({"name": "spaces/x/messages/y"}).encode()


def pagerduty(request: Request) -> tuple[int, bytes]:
    """Documented is routing_key in the body (PagerDuty/developer-docs, docs/events-API-v2/02-Trigger-Events.md).

    The header X-Routing-Key is what PagerDuty's own client sent until its version 4.1.3; "an internal feature" (PagerDuty/pdpyras, #54).
    """
    need(request.url == "https://events.pagerduty.com/v2/enqueue" and request.method == "POST", "endpoint", 404)
    need(len(request.body) <= 512 * 1024, "more than 512 KB", 413)
    need(isinstance(request.json, dict), "no object")
    need(len(request.json.get("routing_key") or request.headers.get("x-routing-key", "")) == 32, "no routing key")
    members(
        request.json,
        "event",
        {"event_action": str, "payload": dict},
        {"routing_key": (str, 32), "dedup_key": (str, 255), "client": str, "client_url": str, "links": list, "images": list},
    )
    need(request.json["event_action"] in ("trigger", "acknowledge", "resolve"), "event_action")
    need(request.json["event_action"] == "trigger" or request.json.get("dedup_key"), "nothing to resolve")
    payload = request.json["payload"]
    texts = {"timestamp": str, "component": str, "group": str, "class": str, "custom_details": dict}
    members(payload, "payload", {"summary": (str, 1024), "source": str, "severity": str}, texts)
    need(payload["severity"] in ("critical", "error", "warning", "info"), "severity")
    time(payload["timestamp"])
    for one in request.json.get("links", []):
        members(one, "link", {"href": str}, {"text": str})
        link(one["href"])
    return 202, b'{"status":"success","message":"Event processed"}'


OPSGENIE = "https://api.opsgenie.com/v2/alerts"
JSM = "https://api.atlassian.com/jsm/ops/integration/v2/alerts"
"""Jira Service Management's own (developer.atlassian.com, Jira Service Management ops, Integration events, Create alert): the same contract."""


def opsgenie(request: Request) -> tuple[int, bytes]:
    need(request.url in (OPSGENIE, JSM) and request.method == "POST", "endpoint", 404)
    need(request.headers.get("authorization", "").startswith("GenieKey "), "no key", 401)
    texts = {"alias": (str, 512), "description": (str, 15000), "entity": (str, 512), "source": (str, 100), "priority": str}
    members(request.json, "alert", {"message": (str, 130)}, {**texts, "tags": (list, 20), "details": dict, "note": str}, 422)
    need(request.json.get("priority", "P3") in ("P1", "P2", "P3", "P4", "P5"), "priority", 422)
    need(all(isinstance(tag, str) and len(tag) <= 50 for tag in request.json.get("tags", [])), "tags", 422)
    details = request.json.get("details", {})
    need(all(isinstance(value, str) for value in details.values()), "details", 422)
    need(sum(len(name) + len(value) for name, value in details.items()) <= 8000, "details", 422)
    return 202, b'{"result":"Request will be processed","took":0.1,"requestId":"x"}'


def telegram(request: Request) -> tuple[int, bytes]:
    need(request.url.startswith("https://api.telegram.org/bot") and request.url.endswith("/sendMessage"), "endpoint", 404)
    members(
        request.json,
        "message",
        {"chat_id": str, "text": (str, 4096)},
        {"link_preview_options": dict, "disable_notification": bool},
    )
    need(request.json["text"].strip(), "message text is empty")
    return 200, b'{"ok":true,"result":{"message_id":1}}'


def ntfy(request: Request) -> tuple[int, bytes]:
    need(urlsplit(request.url).path == "/" and request.method in ("POST", "PUT"), "JSON is published to the root", 404)
    need(request.headers.get("authorization", "").startswith("Bearer tk_"), "no token", 401)
    members(
        request.json,
        "message",
        {"topic": (str, 64)},
        {"message": str, "title": (str, 250), "tags": list, "priority": int, "click": str, "markdown": bool},
    )
    need(len(request.json.get("message", "").encode()) <= 4096, "a message of more than 4,096 bytes becomes an attachment")
    need(1 <= request.json.get("priority", 3) <= 5, "priority")
    need(all(isinstance(tag, str) for tag in request.json.get("tags", [])), "tags")
    return 200, b'{"id":"x","event":"message"}'


def github(request: Request) -> tuple[int, bytes]:
    path = urlsplit(request.url).path.split("/")
    need(len(path) == 5 and path[1] == "repos" and path[4] == "dispatches" and request.method == "POST", "endpoint", 404)
    need(request.headers.get("authorization", "").startswith("Bearer "), "no token", 401)
    need(request.headers.get("user-agent"), "requests without a User-Agent are rejected", 403)
    members(request.json, "event", {"event_type": (str, 100)}, {"client_payload": dict}, 422)
    need(len(request.json.get("client_payload", {})) <= 10, "more than 10 members", 422)
    need(len(json.dumps(request.json.get("client_payload", {}))) < 65_536, "more than 64 KB", 422)
    return 204, b""


def alertmanager(request: Request) -> tuple[int, bytes]:
    need(urlsplit(request.url).path == "/api/v2/alerts" and request.method == "POST", "endpoint", 404)
    need(isinstance(request.json, list) and request.json, "no list of alerts")
    for one in request.json:
        optional = {"annotations": dict, "generatorURL": str, "startsAt": str, "endsAt": str}
        members(one, "alert", {"labels": dict}, optional)
        need(one["labels"], "no labels")
        for texts in (one["labels"], one.get("annotations", {})):
            need(all(name and isinstance(value, str) for name, value in texts.items()), "labels")
        if one.get("generatorURL"):
            link(one["generatorURL"])
        need(
            "startsAt" not in one or "endsAt" not in one or time(one["startsAt"]) <= time(one["endsAt"]), "ends before it starts"
        )
    return 200, b""


SERVICES: Mapping[str, Service] = {
    "teams": teams,
    "discord": discord,
    "google-chat": google_chat,
    "pagerduty": pagerduty,
    "opsgenie": opsgenie,
    "telegram": telegram,
    "ntfy": ntfy,
    "github": github,
    "to-alertmanager": alertmanager,
}
"""Name of a recipe -> the service that it is for."""
