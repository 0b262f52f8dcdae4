"""An HTTP session that responds as a test says, in place of Slack."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from typing import Any, cast

import aiohttp


@dataclass
class Request:
    """One request to Slack."""

    method: str
    """Name of the Web API's method, or the URL of an incoming webhook."""
    form: Mapping[str, Any]
    headers: Mapping[str, str]


@dataclass
class ScriptedResponse:
    """A response of Slack, with as much of aiohttp's interface as is used."""

    status: int
    headers: Mapping[str, str]
    content_given: Any

    @property
    def content_type(self) -> str:
        return "application/json"

    @property
    def content(self) -> ScriptedResponse:
        return self

    async def json(self) -> Any:
        if isinstance(self.content_given, str):
            raise json.JSONDecodeError("not JSON", "", 0)
        return self.content_given

    async def text(self) -> str:
        return self.content_given if isinstance(self.content_given, str) else json.dumps(self.content_given)

    async def iter_any(self) -> AsyncIterator[bytes]:
        yield (await self.text()).encode()

    async def __aenter__(self) -> ScriptedResponse:
        return self

    async def __aexit__(self, *_: object) -> None:
        return None


@dataclass
class ScriptedSession:
    """Responds to each method with the first step of its script, the last one for ever; an exception is raised."""

    script: dict[str, list[Any]] = field(default_factory=dict)
    requests: list[Request] = field(default_factory=list)
    closed: bool = False

    @property
    def session(self) -> aiohttp.ClientSession:
        return cast(aiohttp.ClientSession, self)

    def calls(self, method: str) -> list[Request]:
        return [one for one in self.requests if one.method == method]

    def request(self, _: str, url: str, **args: Any) -> _RequestContext:
        method = url.rpartition("/api/")[2]
        body = args.get("json") or args.get("data") or {}
        if isinstance(body, bytes):
            body = json.loads(body)
        self.requests.append(Request(method, {**(args.get("params") or {}), **body}, dict(args.get("headers") or {})))
        return _RequestContext(self, self.requests[-1])

    def post(self, url: str, **args: Any) -> _RequestContext:
        return self.request("POST", url, **args)


@dataclass
class _RequestContext:
    session: ScriptedSession
    request: Request

    async def __aenter__(self) -> ScriptedResponse:
        steps = self.session.script.get(self.request.method, [{"ok": True}])
        step = steps.pop(0) if len(steps) > 1 else steps[0]
        if callable(step):
            step = step(self.request)
        if asyncio.iscoroutine(step):
            step = await step
        if isinstance(step, Exception):
            raise step
        if isinstance(step, ScriptedResponse):
            return step
        return ScriptedResponse(200, {}, step)

    async def __aexit__(self, *_: object) -> None:
        return None


def slack_error(error: str, status: int = 200, **headers: str) -> ScriptedResponse:
    """A response with an error of Slack."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return ScriptedResponse(status, named, {"ok": False, "error": error})
