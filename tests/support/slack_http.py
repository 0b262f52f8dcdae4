"""How the stand-in for Slack reads requests and writes responses: of the Web API in JSON, of incoming webhooks as one word."""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from typing import Any
from urllib.parse import parse_qsl, urlsplit

from tests.support.receiver import CannedResponse, Received
from tests.support.slack_content import SlackError

HOOK_STATUSES = {
    "invalid_payload": 400,
    "no_text": 400,
    "user_not_found": 400,
    "action_prohibited": 403,
    "channel_not_found": 404,
    "no_service": 404,
    "channel_is_archived": 410,
    "ratelimited": 429,
    "rollup_error": 500,
}


def arguments(request: Received) -> dict[str, Any]:
    """The arguments of a call of the Web API: of the query, then of a JSON object or a form."""
    found: dict[str, Any] = dict(parse_qsl(urlsplit(request.path).query, keep_blank_values=True))
    found.pop("token", None)  # a token in a URL would be in logs: apps made since 2021 cannot do it
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if not request.body:
        return found
    if kind == "application/json":
        try:
            body = json.loads(request.body)
        except ValueError:
            raise SlackError("invalid_json") from None
        if not isinstance(body, dict):
            raise SlackError("json_not_object")
        body.pop("token", None)
        return found | body
    if kind == "application/x-www-form-urlencoded":
        try:
            return found | dict(parse_qsl(request.body.decode(), keep_blank_values=True))
        except ValueError:
            raise SlackError("invalid_form_data") from None
    raise SlackError("invalid_post_type" if kind else "missing_post_type")


def parsed(content: Mapping[str, Any]) -> dict[str, Any]:
    """A message's arguments, with blocks and attachments read where a form carries them as JSON."""
    found = dict(content)
    for name, error in (("blocks", "invalid_blocks_format"), ("attachments", "invalid_attachments")):
        value = found.get(name)
        if isinstance(value, str) and value:
            try:
                found[name] = json.loads(value)
            except ValueError:
                raise SlackError(error) from None
    return found


def payload(request: Received) -> dict[str, Any]:
    """The message of an incoming webhook: JSON, or a form with JSON in `payload`."""
    text = request.body
    if request.headers.get("content-type", "").startswith("application/x-www-form-urlencoded"):
        text = dict(parse_qsl(request.body)).get(b"payload", b"")
    try:
        found = json.loads(text)
    except ValueError:
        raise SlackError("invalid_payload") from None
    if not isinstance(found, dict):
        raise SlackError("invalid_payload")
    return found


def bearer(form: Mapping[str, Any], request: Received) -> str | None:
    kind, _, token = request.headers.get("authorization", "").partition(" ")
    if kind.lower() == "bearer":
        return token.strip()
    found = form.get("token")
    return found if isinstance(found, str) else None


def basic(request: Received) -> tuple[str, str] | None:
    kind, _, value = request.headers.get("authorization", "").partition(" ")
    if kind.lower() != "basic":
        return None
    try:
        user, _, password = base64.b64decode(value, validate=True).decode().partition(":")
    except ValueError:
        return "", ""
    return user, password


def json_response(content: Mapping[str, Any] | SlackError, headers: Mapping[str, str] | None = None) -> CannedResponse:
    status, more = 200, {"Content-Type": "application/json; charset=utf-8", **(headers or {})}
    if isinstance(content, SlackError):
        if content.retry_after is not None:
            status, more["Retry-After"] = 429, str(content.retry_after)
        content = {"ok": False, "error": content.error, **content.details}
    return CannedResponse(status, more, json.dumps(content).encode())


def text_response(word: str, status: int, retry_after: int | None = None) -> CannedResponse:
    headers = {"Content-Type": "text/html"}
    if status == 429:
        headers["Retry-After"] = str(retry_after or 1)
        word = "rate_limited"
    return CannedResponse(status, headers, word.encode())
