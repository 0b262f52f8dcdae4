"""A client of the REST facade, for programs in Python.

    from eventsink.client import Client, Slack, Webhook

    with Client("https://sinks.example.com", key) as client:
        made = client.create("acme", "Security alerts", Webhook(url="https://example.com/hook"))
        for sink in client.list("acme"):
            print(sink.id, sink.name, sink.ready, sink.reason)
        client.update(made.id, name="Security alerts, all of them")
        client.delete(made.id)

What the facade is away for, or asks to wait for, is tried again as long as that can do no harm (`Client`). What goes wrong is one of

EventSinkError                    all of them
  InvalidRequest                  400, 413, 415: the request; the sentence names the field
  Unauthorized                    401: no key, or a wrong one
  Forbidden                       403: the key may not touch this tenant
  NotFound                        404: there is no such sink, as far as this key may know
  Conflict                        409: somebody else changed it, or is in charge of it
    PreconditionFailed            412: it is not as `if_match` says
  RateLimited                     429, also after the last try
  Unavailable                     502, 503, 504 or no answer, also after the last try
  UnexpectedAnswer                anything else: is it the facade's address?

with the server's sentence as text. No text and no representation holds the key or a credential that was sent.
"""

from __future__ import annotations

import json
import random
import re
import secrets
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, fields
from datetime import datetime
from importlib import metadata
from typing import Any, ClassVar, Final, Self, TypeVar
from urllib.parse import quote, urlencode, urlsplit

import requests
from requests.auth import AuthBase

SINKS = "/v1/event_sink"
FIRST_WAIT_SECONDS = 0.5
LONGEST_WAIT_SECONDS = 30.0
"""Between two tries; a facade that asks to wait for longer is not tried again."""
MAX_ANSWER = 64 * 1024**2
_LOST = (None, 502, 503, 504)
"""Statuses after which the request may have been carried out all the same: somebody on the way there lost the answer, or got none."""


class EventSinkError(Exception):
    """Something went wrong; the text is a sentence."""

    def __init__(self, sentence: str, *, status: int | None = None, retry_after: float | None = None) -> None:
        super().__init__(sentence)
        self.status = status
        """Of the answer; None: there was none."""
        self.retry_after = retry_after
        """Seconds that the server asks to wait."""
        self.after_lost_answer = False
        """Whether a try before this one may have been carried out: its answer was lost."""


class InvalidRequest(EventSinkError):
    """The request cannot be carried out as it stands."""


class Unauthorized(EventSinkError):
    """No key, or a wrong one."""


class Forbidden(EventSinkError):
    """The key may not touch this tenant."""


class NotFound(EventSinkError):
    """There is no such sink, as far as this key may know."""


class Conflict(EventSinkError):
    """Somebody else changed the sink, or is in charge of it."""


class PreconditionFailed(Conflict):
    """The sink is not as `if_match` says."""


class RateLimited(EventSinkError):
    """Too many requests."""


class Unavailable(EventSinkError):
    """The facade, or what it needs, does not answer."""


class UnexpectedAnswer(EventSinkError):
    """No answer of the facade."""


_ERRORS: Mapping[int, type[EventSinkError]] = {
    400: InvalidRequest,
    401: Unauthorized,
    403: Forbidden,
    404: NotFound,
    409: Conflict,
    412: PreconditionFailed,
    413: InvalidRequest,
    415: InvalidRequest,
    429: RateLimited,
    502: Unavailable,
    503: Unavailable,
    504: Unavailable,
}


class Unset:
    """Nothing is said of a member: it stays as it is."""

    def __repr__(self) -> str:
        return "UNSET"

    def __bool__(self) -> bool:
        return False


UNSET: Final = Unset()


class _Request:
    """Base of what is sent: members that are UNSET are left out."""

    def to_json(self) -> dict[str, Any]:
        """As the API takes it."""
        given = {one.name: getattr(self, one.name) for one in fields(self) if not isinstance(getattr(self, one.name), Unset)}  # type: ignore[arg-type]
        return {name: list(value) if isinstance(value, tuple) else value for name, value in given.items()}


@dataclass(frozen=True)
class Match(_Request):
    """Which alerts are wanted; all that is set has to be fulfilled."""

    min_severity: str | Unset | None = UNSET
    """informational, low, medium, high, critical or fatal."""
    sources: tuple[str, ...] | Unset | None = UNSET
    namespaces: tuple[str, ...] | Unset | None = UNSET
    """Kubernetes namespaces; `*` stands for any characters."""
    matchers: tuple[str, ...] | Unset | None = UNSET
    """Label matchers as in Alertmanager."""


@dataclass(frozen=True)
class Delivery(_Request):
    """How the sink is told; durations are texts such as 4h."""

    send_resolved: bool | Unset | None = UNSET
    repeat_interval: str | Unset | None = UNSET
    max_age: str | Unset | None = UNSET


@dataclass(frozen=True)
class Webhook(_Request):
    """An HTTP endpoint. Of a new one, exactly one of `url` and `secret_url` is given."""

    TYPE: ClassVar[str] = "Webhook"

    url: str | Unset = UNSET
    secret_url: str | Unset = field(default=UNSET, repr=False)
    """The same, where the URL itself is a credential: kept in a Secret."""
    headers: Mapping[str, str] | Unset | None = field(default=UNSET, repr=False)
    """Name -> value. In an update they replace all that were there."""
    signing_secret: str | Unset | None = field(default=UNSET, repr=False)
    generate_signing_secret: bool | Unset = UNSET
    """Have one made: `EventSink.signing_secret` of the answer shows it, once."""
    format: str | Unset | None = UNSET
    """cloudevents or alertmanager."""
    batch: int | Unset | None = UNSET
    timeout: str | Unset | None = UNSET
    ca_certificate: str | Unset | None = UNSET
    """PEM."""

    def to_json(self) -> dict[str, Any]:
        value = super().to_json()
        if isinstance(self.headers, Mapping):
            value["headers"] = [{"name": name, "value": text} for name, text in self.headers.items()]
        return value


@dataclass(frozen=True)
class Slack(_Request):
    """A Slack channel, and at most one credential. In an update, the channel alone."""

    TYPE: ClassVar[str] = "Slack"

    channel: str | Unset = UNSET
    """#name or id."""
    slack_oauth_code: str | Unset = field(default=UNSET, repr=False)
    bot_token: str | Unset = field(default=UNSET, repr=False)
    incoming_webhook_url: str | Unset = field(default=UNSET, repr=False)


@dataclass(frozen=True)
class Delivering:
    """Whether messages arrive, as the router told it last."""

    status: str
    """True, False or Unknown."""
    reason: str
    message: str
    last_delivered_at: datetime | None
    last_error: str


@dataclass(frozen=True)
class EventSink:
    """A sink, as the facade answered it. Members that this version does not know are in `raw`."""

    id: str
    tenant_id: str
    name: str
    description: str
    type: str
    """Slack or Webhook."""
    configuration: Mapping[str, Any]
    """What the API shows below the type: url, channel, ..."""
    created_at: datetime
    updated_at: datetime
    ready: bool
    """Whether it is in force as it is shown here."""
    reason: str
    """Why it is not ready; empty when it is."""
    suspend: bool
    match: Mapping[str, Any]
    delivery: Mapping[str, Any]
    delivering: Delivering | None
    """None before anything was sent."""
    etag: str
    """For `if_match`; empty in listings."""
    signing_secret: str | None = field(repr=False)
    """The one that was made, in the answer to what asked for it."""
    raw: Mapping[str, Any] = field(repr=False, compare=False)
    """The object as it was answered."""

    @classmethod
    def of(cls, value: Mapping[str, Any], *, etag: str = "", signing_secret: str | None = None) -> Self:
        """From the API's JSON object.

        Raises
        ------
        KeyError, TypeError, ValueError
            It is none.
        """
        delivering = value.get("delivering")
        return cls(
            id=_text(value["id"]),
            tenant_id=_text(value["tenant_id"]),
            name=_text(value["name"]),
            description=_text(value["description"]),
            type=_text(value["event_sink_type"]),
            configuration=dict(value["configuration"][value["event_sink_type"]]),
            created_at=_time(value["created_at"]),
            updated_at=_time(value["updated_at"]),
            ready=value["ready"] is True,
            reason=_text(value["reason"]),
            suspend=value.get("suspend") is True,
            match=dict(value.get("match") or {}),
            delivery=dict(value.get("delivery") or {}),
            delivering=_delivering(delivering) if delivering is not None else None,
            etag=etag,
            signing_secret=signing_secret,
            raw=value,
        )


@dataclass(frozen=True)
class Deleted:
    """What was deleted."""

    id: str
    tenant_id: str
    """Empty: it was gone when the answer to the first try was lost."""


@dataclass(frozen=True)
class DeliveryTest:
    """What became of a test alert."""

    delivered: bool
    status: str
    """Class of the receiver's HTTP status, such as 2xx; empty where it did not answer."""
    reason: str
    message: str
    seconds: float
    delivery_id: str


@dataclass(frozen=True)
class InstallLink:
    """Where a person connects Slack."""

    url: str = field(repr=False)
    expires_at: datetime


@dataclass(frozen=True)
class _Answer:
    value: Mapping[str, Any] = field(repr=False)
    headers: Mapping[str, str]


Result = TypeVar("Result")


class _Bearer(AuthBase):
    """Sends the key; as `auth`, so that no .netrc puts another credential in its place."""

    def __init__(self, key: str) -> None:
        self._key = key

    def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        request.headers["Authorization"] = f"Bearer {self._key}"
        return request


class Client:
    """Calls the facade; to be used by one thread at a time, and closed.

    429 is tried again, after as long as the server asks for, else after a wait that doubles. So are 502, 503, 504 and what got no
    answer at all, where twice does what once does: `create` sends an Idempotency-Key for that, while a test alert, or an update with
    a signing secret or `if_match`, is left to the caller.

    Parameters
    ----------
    server
        Address, such as https://sinks.example.com.
    key
        API key, or the token of a ServiceAccount where the facade takes those.
    timeout
        Seconds, for the connection and between two pieces of the answer. A create waits about 10 s for its verdict.
    ca
        File with the certificates that the server's is checked against; None: those of the system.
    retries
        Tries beyond the first.

    Raises
    ------
    ValueError
        `server` or `key` is none.
    """

    def __init__(self, server: str, key: str, *, timeout: float = 30.0, ca: str | None = None, retries: int = 4) -> None:
        parts = urlsplit(server)
        if parts.scheme not in ("http", "https") or not parts.hostname or parts.query or parts.fragment or parts.username:
            raise ValueError("server: write an address such as https://sinks.example.com")
        if not re.fullmatch(r"[!-~]+", key):
            raise ValueError("key: write visible ASCII characters, without spaces and line ends")
        self._server = server.rstrip("/")
        self._timeout = timeout
        self._retries = retries
        self._session = requests.Session()
        self._session.auth = _Bearer(key)
        self._session.headers["User-Agent"] = f"eventsink-client/{metadata.version('eventsink')}"
        self._session.verify = ca if ca is not None else True
        self._sleep: Callable[[float], None] = time.sleep

    def __repr__(self) -> str:
        return f"Client({self._server})"

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close its connections."""
        self._session.close()

    def create(
        self,
        tenant_id: str,
        name: str,
        destination: Slack | Webhook,
        *,
        description: str | Unset = UNSET,
        match: Match | Unset = UNSET,
        delivery: Delivery | Unset = UNSET,
        suspend: bool | Unset = UNSET,
        idempotency_key: str | None = None,
    ) -> EventSink:
        """Make a sink, and wait for its first verdict.

        Parameters
        ----------
        idempotency_key
            The same request with the same key makes nothing new; None: one of its own.
        """
        body = {"tenant_id": tenant_id, "name": name, "event_sink_args": {destination.TYPE: destination.to_json()}}
        return self.create_from({**body, **_given(description, match, delivery, suspend)}, idempotency_key=idempotency_key)

    def create_from(self, body: Mapping[str, Any], *, idempotency_key: str | None = None) -> EventSink:
        """Make a sink from a body as the API takes it."""
        headers = {"Idempotency-Key": idempotency_key or f"client-{secrets.token_hex(16)}"}
        return _understood(_changed, self._ask("POST", SINKS, body, headers=headers))

    def list(self, tenant_id: str, *, page_size: int = 100) -> Iterator[EventSink]:
        """The sinks of a tenant, oldest first; read page by page as they are asked for."""
        token = ""
        while True:
            query = {"tenant_id": tenant_id, "pagination[page_size]": str(page_size)}
            if token:
                query["pagination[page_token]"] = token
            answer = self._ask("GET", f"{SINKS}?{urlencode(query)}")
            yield from _understood(lambda answer: [EventSink.of(one) for one in answer.value["event_sinks"]], answer)
            token = _understood(lambda answer: _text((answer.value.get("pagination") or {}).get("next_page_token", "")), answer)
            if not token:
                return

    def get(self, id: str) -> EventSink:
        """One sink."""
        return _understood(_changed, self._ask("GET", _path(id)))

    def update(
        self,
        id: str,
        *,
        name: str | Unset = UNSET,
        description: str | Unset | None = UNSET,
        destination: Slack | Webhook | Unset = UNSET,
        match: Match | Unset | None = UNSET,
        delivery: Delivery | Unset | None = UNSET,
        suspend: bool | Unset = UNSET,
        if_match: str | None = None,
    ) -> EventSink:
        """Change what is given; None takes away.

        Parameters
        ----------
        if_match
            `etag` of the sink that the change is about: PreconditionFailed if it was changed since.
        """
        body = _given(description, match, delivery, suspend)
        if not isinstance(name, Unset):
            body["name"] = name
        if not isinstance(destination, Unset):
            body["event_sink_args"] = {destination.TYPE: destination.to_json()}
        return self.update_from(id, body, if_match=if_match)

    def update_from(self, id: str, body: Mapping[str, Any], *, if_match: str | None = None) -> EventSink:
        """Change a sink by a body as the API takes it; its `id` may be left out."""
        args = body.get("event_sink_args")
        webhook = args.get("Webhook") if isinstance(args, Mapping) else None
        rotates = isinstance(webhook, Mapping) and bool(webhook.get("signing_secret") or webhook.get("generate_signing_secret"))
        headers = {"If-Match": if_match} if if_match is not None else {}
        answer = self._ask("PUT", _path(id), {"id": id, **body}, headers=headers, once=rotates or if_match is not None)
        return _understood(_changed, answer)

    def delete(self, id: str) -> Deleted:
        """Delete a sink."""
        try:
            answer = self._ask("DELETE", _path(id))
        except NotFound as error:
            if error.after_lost_answer:
                return Deleted(id, "")
            raise
        return _understood(lambda answer: Deleted(_text(answer.value["id"]), _text(answer.value["tenant_id"])), answer)

    def test(self, id: str) -> DeliveryTest:
        """Send a test alert to a sink and wait for what becomes of it."""
        answer = self._ask("POST", f"{_path(id)}/test", {}, once=True)
        names = [one.name for one in fields(DeliveryTest)]
        return _understood(lambda answer: DeliveryTest(**{name: answer.value[name] for name in names}), answer)

    def install_slack(
        self,
        *,
        tenant_id: str | Unset = UNSET,
        name: str | Unset = UNSET,
        channel: str | Unset = UNSET,
        description: str | Unset = UNSET,
        id: str | Unset = UNSET,
    ) -> InstallLink:
        """A link for the browser of a person who connects Slack: a new sink, or that of `id` anew."""
        given = {"tenant_id": tenant_id, "name": name, "channel": channel, "description": description, "id": id}
        body = {member: value for member, value in given.items() if not isinstance(value, Unset)}
        answer = self._ask("POST", "/v1/slack/install", body)
        return _understood(lambda answer: InstallLink(_text(answer.value["url"]), _time(answer.value["expires_at"])), answer)

    def _ask(
        self,
        method: str,
        path: str,
        body: Mapping[str, Any] | None = None,
        *,
        headers: Mapping[str, str] | None = None,
        once: bool = False,
    ) -> _Answer:
        """One call, with its tries; `once`: not again after a try that was not answered."""
        lost = False
        for attempt in range(self._retries + 1):
            try:
                return self._try(method, path, body, headers or {})
            except EventSinkError as error:
                error.after_lost_answer = lost
                wait = error.retry_after if error.retry_after is not None else _wait(attempt)
                lost = lost or error.status in _LOST
                # 503 may come of a write that was carried out and whose answer the facade did not get.
                again = isinstance(error, RateLimited) or (isinstance(error, Unavailable) and not once)
                if not again or attempt == self._retries or wait > LONGEST_WAIT_SECONDS:
                    raise
            self._sleep(wait)
        raise AssertionError("the last try returns or raises")

    def _try(self, method: str, path: str, body: Mapping[str, Any] | None, headers: Mapping[str, str]) -> _Answer:
        try:
            with self._session.request(
                method,
                self._server + path,
                data=json.dumps(body).encode() if body is not None else None,
                headers={**headers, **({"Content-Type": "application/json"} if body is not None else {})},
                timeout=self._timeout,
                allow_redirects=False,
                stream=True,
            ) as response:
                content = b""
                for piece in response.iter_content(64 * 1024):
                    content += piece
                    if len(content) > MAX_ANSWER:
                        raise UnexpectedAnswer(
                            f"{self._server} answered more than {MAX_ANSWER} bytes", status=response.status_code
                        )
        except requests.RequestException as error:
            # Its own text may hold the whole address, with whatever stands in it.
            raise Unavailable(f"{self._server} does not answer ({type(error).__name__})") from None
        value = _object(content)
        if response.status_code == 200 and value is not None:
            return _Answer(value, response.headers)
        sentence = value.get("error") if value is not None else None
        kind = _ERRORS.get(response.status_code, UnexpectedAnswer)
        if not isinstance(sentence, str):
            if kind not in (RateLimited, Unavailable):
                kind = UnexpectedAnswer
            sentence = f"{self._server} answered {response.status_code}; is it the address of the facade?"
        raise kind(sentence, status=response.status_code, retry_after=_retry_after(response.headers))


def _given(
    description: str | Unset | None, match: Match | Unset | None, delivery: Delivery | Unset | None, suspend: bool | Unset
) -> dict[str, Any]:
    members = {"description": description, "match": match, "delivery": delivery, "suspend": suspend}
    given = {name: value for name, value in members.items() if not isinstance(value, Unset)}
    return {name: value.to_json() if isinstance(value, _Request) else value for name, value in given.items()}


def _path(id: str) -> str:
    return f"{SINKS}/{quote(id, safe='')}"


def _wait(attempt: int) -> float:
    """Seconds before the next try: twice as long each time, and never the same for many clients."""
    return float(min(LONGEST_WAIT_SECONDS, FIRST_WAIT_SECONDS * 2**attempt) * random.uniform(0.5, 1.0))  # noqa: S311


def _retry_after(headers: Mapping[str, str]) -> float | None:
    text = headers.get("Retry-After", "")
    return float(text) if re.fullmatch("[0-9]{1,9}", text) else None


def _object(content: bytes) -> Mapping[str, Any] | None:
    try:
        value = json.loads(content)
    except ValueError:
        return None
    return value if isinstance(value, dict) else None


def _understood(read: Callable[[_Answer], Result], answer: _Answer) -> Result:
    try:
        return read(answer)
    except (KeyError, TypeError, ValueError, AttributeError):
        raise UnexpectedAnswer("the answer is none of the facade; is it its address?", status=200) from None


def _changed(answer: _Answer) -> EventSink:
    secret = answer.value.get("signing_secret")
    return EventSink.of(
        answer.value["event_sink"],
        etag=answer.headers.get("ETag", ""),
        signing_secret=_text(secret) if secret is not None else None,
    )


def _delivering(value: Mapping[str, Any]) -> Delivering:
    last = value.get("last_delivered_at")
    return Delivering(
        _text(value["status"]),
        _text(value["reason"]),
        _text(value["message"]),
        _time(last) if last is not None else None,
        _text(value.get("last_error") or ""),
    )


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError("no text")
    return value


def _time(value: Any) -> datetime:
    return datetime.fromisoformat(_text(value))
