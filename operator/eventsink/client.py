"""A client of the REST API, for programs in Python.

    from eventsink.client import Client, Slack, Webhook

    with Client("https://sinks.example.com", key) as client:
        created = client.create("acme", "Security alerts", Webhook(url="https://example.com/hook"))
        for sink in client.list("acme"):
            print(sink.id, sink.name, sink.ready, sink.reason)
        client.update(created.id, name="Security alerts, all of them")
        client.delete(created.id)

Requests that fail because the server is unavailable or asks to wait are retried where that is safe (`Client`). Errors are

EventSinkError                    base of all
  InvalidRequest                  400, 413, 415, 428: the request is invalid; the sentence names the field
  Unauthorized                    401: missing or invalid key
  Forbidden                       403: the key has no access to this tenant
  NotFound                        404: no such sink, or not visible to this key
  Conflict                        409: somebody else changed the sink, or something else manages it
    PreconditionFailed            412: the sink does not match `if_match`
  TooManyRequests                 429, after the last attempt
  ServiceUnavailable              502, 503, 504 or no response, after the last attempt
  UnexpectedResponse              anything else: is it the address of the REST API?

with the sentence of the server as text. No text and no representation contains the key or a credential that was sent.
"""

from __future__ import annotations

import json
import random
import re
import secrets
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields
from datetime import datetime
from importlib import metadata
from typing import Any, ClassVar, Final, Self, TypeVar, overload
from urllib.parse import quote, urlencode, urlsplit

import requests
from requests.auth import AuthBase

SINKS = "/v1/event_sink"
FIRST_WAIT_SECONDS = 0.5
LONGEST_WAIT_SECONDS = 30.0
"""Between two attempts; where the server asks to wait longer, there is no other attempt."""
MAX_RESPONSE = 64 * 1024**2
_LOST = (None, 502, 503, 504)
"""Statuses after which the request may have been carried out all the same: the response was lost on the way."""


class EventSinkError(Exception):
    """Something went wrong; the text is a sentence."""

    def __init__(self, sentence: str, *, status: int | None = None, retry_after: float | None = None) -> None:
        super().__init__(sentence)
        self.status = status
        """Of the response; None: there was none."""
        self.retry_after = retry_after
        """Seconds that the server asks to wait."""
        self.after_lost_response = False
        """Whether an earlier attempt may have been carried out: its response was lost."""


class InvalidRequest(EventSinkError):
    """The request is invalid."""


class Unauthorized(EventSinkError):
    """The key is missing or invalid."""


class Forbidden(EventSinkError):
    """The key has no access to this tenant."""


class NotFound(EventSinkError):
    """There is no such sink, or it is not visible to this key."""


class Conflict(EventSinkError):
    """Somebody else changed the sink, or something else manages it."""


class PreconditionFailed(Conflict):
    """The sink does not match `if_match`."""


class TooManyRequests(EventSinkError):
    """Too many requests."""


class ServiceUnavailable(EventSinkError):
    """The REST API, or something that it needs, does not respond."""


class UnexpectedResponse(EventSinkError):
    """Not a response of the REST API."""


_ERRORS: Mapping[int, type[EventSinkError]] = {
    400: InvalidRequest,
    401: Unauthorized,
    403: Forbidden,
    404: NotFound,
    409: Conflict,
    412: PreconditionFailed,
    413: InvalidRequest,
    415: InvalidRequest,
    428: InvalidRequest,
    429: TooManyRequests,
    502: ServiceUnavailable,
    503: ServiceUnavailable,
    504: ServiceUnavailable,
}


class Unset:
    """A field that is not sent: it stays as it is."""

    def __repr__(self) -> str:
        return "UNSET"

    def __bool__(self) -> bool:
        return False


UNSET: Final = Unset()


class _Request:
    """Base of what is sent: fields that are UNSET are omitted."""

    def to_json(self) -> dict[str, Any]:
        """The JSON object for the API."""
        given = {one.name: getattr(self, one.name) for one in fields(self) if not isinstance(getattr(self, one.name), Unset)}  # type: ignore[arg-type]
        return {name: list(value) if isinstance(value, tuple) else value for name, value in given.items()}


@dataclass(frozen=True)
class Match(_Request):
    """Which alerts to deliver; an alert must satisfy everything that is set."""

    min_severity: str | Unset | None = UNSET
    """informational, low, medium, high, critical or fatal."""
    sources: tuple[str, ...] | Unset | None = UNSET
    namespaces: tuple[str, ...] | Unset | None = UNSET
    """Kubernetes namespaces; `*` matches any characters."""
    matchers: tuple[str, ...] | Unset | None = UNSET
    """Label matchers as in Alertmanager."""
    expression: str | Unset | None = UNSET
    """A condition in CEL, such as `alert.labels.team == "payments"`."""
    active_times: tuple[Mapping[str, Any], ...] | Unset | None = UNSET
    """When alerts are sent: `{"times": [{"start_time": "08:00", "end_time": "18:00"}], "weekdays": ["monday:friday"],
    "location": "Europe/Berlin"}`; also `days_of_month`, `months` and `years`."""
    mute_times: tuple[Mapping[str, Any], ...] | Unset | None = UNSET
    """When they are not, in the same form."""
    outside_times: str | Unset | None = UNSET
    """wait or drop."""


@dataclass(frozen=True)
class Delivery(_Request):
    """How alerts are delivered; durations are texts such as 4h."""

    send_resolved: bool | Unset | None = UNSET
    repeat_interval: str | Unset | None = UNSET
    max_age: str | Unset | None = UNSET


@dataclass(frozen=True)
class Mute(_Request):
    """Alerts of which a sink is not notified for a time."""

    matchers: tuple[str, ...]
    """An alert that satisfies all of them is muted."""
    until: str | Unset = UNSET
    """RFC 3339, such as 2027-01-31T18:00:00Z."""
    start: str | Unset = UNSET
    """Since when, in the same form; at once by default."""
    comment: str | Unset = UNSET
    duration: str | Unset = UNSET
    """For `Client.mute`, instead of `until`: for how long from now on, such as 2h."""

    def to_json(self) -> dict[str, Any]:
        value = super().to_json()
        return {"from" if name == "start" else name: one for name, one in value.items()}


@dataclass(frozen=True)
class Webhook(_Request):
    """An HTTP endpoint. A new one needs exactly one of `url` and `secret_url`."""

    TYPE: ClassVar[str] = "Webhook"

    url: str | Unset = UNSET
    secret_url: str | Unset = field(default=UNSET, repr=False)
    """The same, if the URL itself is a credential: kept in a Secret."""
    headers: Mapping[str, str] | Unset | None = field(default=UNSET, repr=False)
    """Name -> value. In an update they replace all existing ones."""
    signing_secret: str | Unset | None = field(default=UNSET, repr=False)
    generate_signing_secret: bool | Unset = UNSET
    """Generate one: only `EventSink.signing_secret` of this response shows it."""
    format: str | Unset | None = UNSET
    """cloudevents or alertmanager."""
    batch: int | Unset | None = UNSET
    template: str | Unset | None = UNSET
    """Writes the body (Liquid), instead of a format."""
    content_type: str | Unset | None = UNSET
    """Of what the template writes."""
    method: str | Unset | None = UNSET
    """POST, PUT or PATCH."""
    success_when: Mapping[str, Any] | Unset | None = UNSET
    """What a response is that says that a message was taken: `{"statuses": [202]}`, `{"pointer": "/ok", "equals": "true"}`."""
    timeout: str | Unset | None = UNSET
    ca_certificate: str | Unset | None = UNSET
    """PEM."""
    client_certificate: str | Unset | None = UNSET
    """PEM, presented to the receiver (mTLS); together with `client_key`."""
    client_key: str | Unset | None = field(default=UNSET, repr=False)
    server_name: str | Unset | None = UNSET
    """What the receiver's certificate must be valid for, instead of the host of the URL."""
    auth: Mapping[str, Any] | Unset | None = field(default=UNSET, repr=False)
    """One of `{"basic": {"username": ..., "password": ...}}`, `{"bearer": {"token": ...}}` and
    `{"oauth2": {"token_url": ..., "client_id": ..., "client_secret": ..., "scopes": [...]}}`."""

    def to_json(self) -> dict[str, Any]:
        value = super().to_json()
        if isinstance(self.headers, Mapping):
            value["headers"] = [{"name": name, "value": text} for name, text in self.headers.items()]
        return value


@dataclass(frozen=True)
class Slack(_Request):
    """A Slack channel, and at most one credential. In an update, no credential."""

    TYPE: ClassVar[str] = "Slack"

    channel: str | Unset = UNSET
    """#name or id."""
    slack_oauth_code: str | Unset = field(default=UNSET, repr=False)
    bot_token: str | Unset = field(default=UNSET, repr=False)
    incoming_webhook_url: str | Unset = field(default=UNSET, repr=False)
    slack_fields: tuple[Mapping[str, Any], ...] | Unset | None = UNSET
    """What messages show: `{"label": "team"}`, `{"annotation": "value", "title": "Value"}`."""
    slack_buttons: tuple[Mapping[str, Any], ...] | Unset | None = UNSET
    """Buttons that open URLs in annotations: `{"text": "Logs", "url_annotation": "logs_url"}`."""
    slack_mentions: tuple[Mapping[str, Any], ...] | Unset | None = UNSET
    """Whom messages mention while alerts fire: `{"min_severity": "critical", "users": ["U0123456789"], "here": True}`."""
    slack_links: str | Unset | None = UNSET
    """buttons or text."""
    slack_team_id: str | Unset | None = UNSET
    """The workspace that has the channel, where the app is installed in a whole organisation (Enterprise Grid)."""
    slack_updates: str | Unset | None = UNSET
    """edit, thread or message."""
    slack_repeats: str | Unset | None = UNSET
    """thread or channel."""
    slack_template: Mapping[str, str] | Unset | None = UNSET
    """What messages say, in Liquid: `{"title": "{{ alert.where }}", "body": "{{ alert.description }}"}`."""


@dataclass(frozen=True)
class Delivering:
    """Whether messages arrive, as the router last reported it."""

    status: str
    """True, False or Unknown."""
    reason: str
    message: str
    last_delivered_at: datetime | None
    last_error: str


@dataclass(frozen=True)
class EventSink:
    """A sink, from a response. Fields that this version does not know are in `raw`."""

    id: str
    tenant_id: str
    name: str
    description: str
    type: str
    """Such as Slack or Webhook."""
    configuration: Mapping[str, Any]
    """What the API shows below the type: url, channel, ..."""
    created_at: datetime
    updated_at: datetime
    ready: bool
    """Whether the configuration shown here is accepted and active."""
    reason: str
    """Why it is not ready; empty when it is."""
    suspend: bool
    match: Mapping[str, Any]
    mutes: tuple[Mapping[str, Any], ...]
    """Each with `matchers`, `until`, and perhaps `from` and `comment`."""
    delivery: Mapping[str, Any]
    delivering: Delivering | None
    """None before anything was sent."""
    etag: str
    """For `if_match`; empty in listings."""
    signing_secret: str | None = field(repr=False)
    """The one that was generated, in the response to the request for it."""
    raw: Mapping[str, Any] = field(repr=False, compare=False)
    """The JSON object of the response."""

    @classmethod
    def of(cls, value: Mapping[str, Any], *, etag: str = "", signing_secret: str | None = None) -> Self:
        """From the API's JSON object.

        Raises
        ------
        KeyError, TypeError, ValueError
            It is not such an object.
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
            mutes=tuple(dict(one) for one in value.get("mutes") or ()),
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
    """Empty: the response to the first attempt was lost, and the sink was gone at the second."""


@dataclass(frozen=True)
class DeliveryTest:
    """The outcome of a test alert."""

    delivered: bool
    status: str
    """Class of the receiver's HTTP status, such as 2xx; empty if it did not respond."""
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
class _Response:
    value: Mapping[str, Any] = field(repr=False)
    headers: Mapping[str, str]


Result = TypeVar("Result")


class _Bearer(AuthBase):
    """Sends the key; as `auth`, so that no .netrc replaces it by another credential."""

    def __init__(self, key: str) -> None:
        self._key = key

    def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        request.headers["Authorization"] = f"Bearer {self._key}"
        return request


class Client:
    """Calls the REST API; to be used by one thread at a time, and closed.

    429 is retried after the wait that the server asks for, else after one that doubles. So are 502, 503, 504 and a missing response,
    for calls that may be repeated: `create` sends an Idempotency-Key for that, while a test alert, or an update with a signing secret
    or `if_match`, is left to the caller.

    Parameters
    ----------
    server
        Address, such as https://sinks.example.com.
    key
        API key, or the token of a ServiceAccount where the server accepts those.
    timeout
        Seconds, for the connection and between two pieces of the response. A create waits about 10 s for its verdict.
    ca
        File with the certificates to check that of the server against; None: those of the system.
    retries
        Attempts beyond the first.

    Raises
    ------
    ValueError
        `server` or `key` is invalid.
    """

    def __init__(self, server: str, key: str, *, timeout: float = 30.0, ca: str | None = None, retries: int = 4) -> None:
        parts = urlsplit(server)
        if parts.scheme not in ("http", "https") or not parts.hostname or parts.query or parts.fragment or parts.username:
            raise ValueError("server: write an address such as https://sinks.example.com")
        if not re.fullmatch(r"[!-~]+", key):
            raise ValueError("key: write visible ASCII characters, without spaces and line breaks")
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
        mutes: Sequence[Mute] | Unset = UNSET,
        idempotency_key: str | None = None,
    ) -> EventSink:
        """Create a sink, and wait for its first verdict.

        Parameters
        ----------
        idempotency_key
            The same request with the same key creates nothing new; None: a new key.
        """
        body = {"tenant_id": tenant_id, "name": name, "event_sink_args": {destination.TYPE: destination.to_json()}}
        return self.create_from({**body, **_given(description, match, delivery, suspend, mutes)}, idempotency_key=idempotency_key)

    def create_from(self, body: Mapping[str, Any], *, idempotency_key: str | None = None) -> EventSink:
        """Create a sink from a request body of the API."""
        headers = {"Idempotency-Key": idempotency_key or f"client-{secrets.token_hex(16)}"}
        return _parsed(_changed, self._call("POST", SINKS, body, headers=headers))

    def list(self, tenant_id: str, *, page_size: int = 100) -> Iterator[EventSink]:
        """The sinks of a tenant, oldest first; read page by page on demand."""
        token = ""
        while True:
            query = {"tenant_id": tenant_id, "pagination[page_size]": str(page_size)}
            if token:
                query["pagination[page_token]"] = token
            response = self._call("GET", f"{SINKS}?{urlencode(query)}")
            yield from _parsed(lambda response: [EventSink.of(one) for one in response.value["event_sinks"]], response)
            token = _parsed(lambda response: _text((response.value.get("pagination") or {}).get("next_page_token", "")), response)
            if not token:
                return

    def get(self, id: str) -> EventSink:
        """One sink."""
        return _parsed(_changed, self._call("GET", _path(id)))

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
        mutes: Sequence[Mute] | Unset | None = UNSET,
        if_match: str | None = None,
    ) -> EventSink:
        """Change what is given; None clears.

        Parameters
        ----------
        if_match
            `etag` of the sink that the change is based on: PreconditionFailed if it was changed since.
        """
        body = _given(description, match, delivery, suspend, mutes)
        if not isinstance(name, Unset):
            body["name"] = name
        if not isinstance(destination, Unset):
            body["event_sink_args"] = {destination.TYPE: destination.to_json()}
        return self.update_from(id, body, if_match=if_match)

    def update_from(self, id: str, body: Mapping[str, Any], *, if_match: str | None = None) -> EventSink:
        """Change a sink with a request body of the API; its `id` may be omitted."""
        args = body.get("event_sink_args")
        destinations = args.values() if isinstance(args, Mapping) else ()
        rotates = any(
            isinstance(one, Mapping) and (one.get("signing_secret") or one.get("generate_signing_secret")) for one in destinations
        )
        headers = {"If-Match": if_match} if if_match is not None else {}
        response = self._call("PUT", _path(id), {"id": id, **body}, headers=headers, once=rotates or if_match is not None)
        return _parsed(_changed, response)

    def delete(self, id: str) -> Deleted:
        """Delete a sink."""
        try:
            response = self._call("DELETE", _path(id))
        except NotFound as error:
            if error.after_lost_response:
                return Deleted(id, "")
            raise
        return _parsed(lambda response: Deleted(_text(response.value["id"]), _text(response.value["tenant_id"])), response)

    def mute(self, id: str, mute: Mute, *, if_match: str | None = None) -> EventSink:
        """Add a mute to a sink; it replaces one with the same matchers and start."""
        headers = {"If-Match": if_match} if if_match is not None else {}
        response = self._call("POST", f"{_path(id)}/mute", mute.to_json(), headers=headers, once=if_match is not None)
        return _parsed(_changed, response)

    @overload
    def unmute(self, id: str, *, if_match: str | None = None) -> EventSink: ...

    @overload
    def unmute(self, id: str, index: int, *, if_match: str) -> EventSink: ...

    def unmute(self, id: str, index: int | None = None, *, if_match: str | None = None) -> EventSink:
        """Remove all mutes, or the one at that position of `EventSink.mutes`, where `if_match` is the `etag` beside them."""
        headers = {"If-Match": if_match} if if_match is not None else {}
        query = f"?{urlencode({'index': index})}" if index is not None else ""
        return _parsed(_changed, self._call("DELETE", f"{_path(id)}/mute{query}", headers=headers, once=if_match is not None))

    def test(self, id: str) -> DeliveryTest:
        """Send a test alert to a sink and wait for the outcome."""
        response = self._call("POST", f"{_path(id)}/test", {}, once=True)
        names = [one.name for one in fields(DeliveryTest)]
        return _parsed(lambda response: DeliveryTest(**{name: response.value[name] for name in names}), response)

    def install_slack(
        self,
        *,
        tenant_id: str | Unset = UNSET,
        name: str | Unset = UNSET,
        channel: str | Unset = UNSET,
        description: str | Unset = UNSET,
        id: str | Unset = UNSET,
    ) -> InstallLink:
        """A link for the browser of a person who connects Slack: for a new sink, or to reconnect that of `id`."""
        given = {"tenant_id": tenant_id, "name": name, "channel": channel, "description": description, "id": id}
        body = {member: value for member, value in given.items() if not isinstance(value, Unset)}
        response = self._call("POST", "/v1/slack/install", body)
        return _parsed(lambda response: InstallLink(_text(response.value["url"]), _time(response.value["expires_at"])), response)

    def _call(
        self,
        method: str,
        path: str,
        body: Mapping[str, Any] | None = None,
        *,
        headers: Mapping[str, str] | None = None,
        once: bool = False,
    ) -> _Response:
        """One call, with its attempts; `once`: no other attempt after one without a response."""
        lost = False
        for attempt in range(self._retries + 1):
            try:
                return self._attempt(method, path, body, headers or {})
            except EventSinkError as error:
                error.after_lost_response = lost
                wait = error.retry_after if error.retry_after is not None else _wait(attempt)
                lost = lost or error.status in _LOST
                # 503 may follow a write that was carried out and whose response the server did not get.
                again = isinstance(error, TooManyRequests) or (isinstance(error, ServiceUnavailable) and not once)
                if not again or attempt == self._retries or wait > LONGEST_WAIT_SECONDS:
                    raise
            self._sleep(wait)
        raise AssertionError("the last attempt returns or raises")

    def _attempt(self, method: str, path: str, body: Mapping[str, Any] | None, headers: Mapping[str, str]) -> _Response:
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
                    if len(content) > MAX_RESPONSE:
                        raise UnexpectedResponse(
                            f"{self._server} sent more than {MAX_RESPONSE} bytes", status=response.status_code
                        )
        except requests.RequestException as error:
            # Its own text may contain the whole address, with whatever is in it.
            raise ServiceUnavailable(f"{self._server} does not respond ({type(error).__name__})") from None
        value = _object(content)
        if response.status_code == 200 and value is not None:
            return _Response(value, response.headers)
        sentence = value.get("error") if value is not None else None
        kind = _ERRORS.get(response.status_code, UnexpectedResponse)
        if not isinstance(sentence, str):
            if kind not in (TooManyRequests, ServiceUnavailable):
                kind = UnexpectedResponse
            sentence = f"{self._server} returned {response.status_code}; is it the address of the REST API?"
        raise kind(sentence, status=response.status_code, retry_after=_retry_after(response.headers))


def _given(
    description: str | Unset | None,
    match: Match | Unset | None,
    delivery: Delivery | Unset | None,
    suspend: bool | Unset,
    mutes: Sequence[Mute] | Unset | None,
) -> dict[str, Any]:
    written = [one.to_json() for one in mutes] if mutes is not None and not isinstance(mutes, Unset) else mutes
    members = {"description": description, "match": match, "delivery": delivery, "suspend": suspend, "mutes": written}
    given = {name: value for name, value in members.items() if not isinstance(value, Unset)}
    return {name: value.to_json() if isinstance(value, _Request) else value for name, value in given.items()}


def _path(id: str) -> str:
    return f"{SINKS}/{quote(id, safe='')}"


def _wait(attempt: int) -> float:
    """Seconds before the next attempt: twice as long each time, and different for each client."""
    return float(min(LONGEST_WAIT_SECONDS, FIRST_WAIT_SECONDS * 2**attempt) * random.uniform(0.5, 1.0))  # noqa: S311


def _retry_after(headers: Mapping[str, str]) -> float | None:
    text = headers.get("Retry-After", "")
    return float(text) if re.fullmatch("[0-9]{1,9}", text) else None


def _object(content: bytes) -> Mapping[str, Any] | None:
    try:
        value = json.loads(content)
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) else None


def _parsed(read: Callable[[_Response], Result], response: _Response) -> Result:
    try:
        return read(response)
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError):
        raise UnexpectedResponse("not a response of the REST API; is this its address?", status=200) from None


def _changed(response: _Response) -> EventSink:
    secret = response.value.get("signing_secret")
    return EventSink.of(
        response.value["event_sink"],
        etag=response.headers.get("ETag", ""),
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
        raise TypeError("not text")
    return value


def _time(value: Any) -> datetime:
    return datetime.fromisoformat(_text(value))
