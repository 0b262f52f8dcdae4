"""The contract of every destination type: a sender takes a message and returns the outcome.

Each destination type's part `sender` has an `open_sender(sink, target, context)`, which `destinations.senders` finds by the sink's type. A
sender holds no queue, makes no retries and keeps no state about messages: the router decides from the failure's class what to do next.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Protocol, TypeVar

import aiohttp
import msgspec

from eventsink.runtime.settings import Settings
from eventsink.sinks.post import Post
from eventsink.sinks.shares import Bound, Limit
from eventsink.sinks.template_use import TemplateUse
from eventsink.sinks.transport import Transport, TransportErrorKind

SettingsModel = TypeVar("SettingsModel", bound=Settings)

SESSION_CONNECTIONS = 50
"""Open at once in all of the session that the senders share. One tenant alone gets half of them."""
MAX_SEND_RESPONSE_BYTES = 1024 * 1024
"""Of one response to a request of that session: it repeats the message at most."""
MAX_SEND_SECONDS = 60.0
"""A request of the session that the senders share is cut off after so long, whatever a sender's own timeout is."""


class FailureClass(StrEnum):
    """What a failure says about the future of the message and of its sink (docs/status.md, Delivering)."""

    TRANSIENT = "transient"
    """The same message may succeed later: retry with back-off."""
    MESSAGE = "message"
    """This message can never succeed, others can: dead letter."""
    SINK = "sink"
    """Nothing can succeed until somebody fixes the sink: hold its queue and probe slowly."""


FAILURES_OF_SINK = frozenset(
    {
        TransportErrorKind.TLS,
        TransportErrorKind.CLIENT_CERTIFICATE,
        TransportErrorKind.TLS_VERSION,
        TransportErrorKind.WRONG_PROTOCOL,
        TransportErrorKind.EGRESS,
        TransportErrorKind.PROXY_AUTHENTICATION,
        TransportErrorKind.PROXY_REFUSED,
    }
)
"""Of no response: the kinds that stay until somebody fixes the sink or its receiver; all others are transient."""


class Delivered(msgspec.Struct, frozen=True, gc=False):
    """The destination took the message."""

    status_code: int | None = None
    reference: str = ""
    """The destination's own name for the message, where it gives one (Slack: channel and timestamp)."""
    post: Post | None = None
    """What later messages are to follow, where `DispatchParameters.follows_posts` asks for it: a new one, or that of the message as it is from
    now on; None: nothing is changed of it."""


class Failed(msgspec.Struct, frozen=True, gc=False):
    """The destination did not take the message, or it is not known to have."""

    failure: FailureClass
    reason: str
    """CamelCase, of a small fixed set (a metric label and a condition's reason): `HTTP503`, `Timeout`, `ConnectionRefused`."""
    message: str
    """A sentence for a person; shows of a URL its scheme and host only, and nothing of the receiver's response."""
    status_code: int | None = None
    retry_after: float | None = None
    """Seconds that the receiver asked to wait."""
    of_edits: bool = False
    """Whether that wait is for changes of messages alone: new ones may leave meanwhile."""


Outcome = Delivered | Failed


class Message(msgspec.Struct, frozen=True, gc=False):
    """What is sent at once: some alerts, or one group as the source wrote it.

    A retry carries the same id and the same content.
    """

    id: str
    alerts: Sequence[bytes] = ()
    """JSON of each `Alert` (camelCase), oldest first; empty where `group` is set."""
    group: bytes | None = None
    """A notification in Alertmanager's webhook format (version 4), for sinks of that format."""
    batched: bool = False
    """Sent as a list even where it is one alert: the sink asked for more than one in a message."""
    post: Post | None = None
    """The message that announced these alerts, all of them; None: none did, or nothing is recorded of it."""


@dataclass(frozen=True, slots=True)
class SenderContext:
    """What all senders of a process share. They use it and close none of it."""

    transport: Transport
    """Outgoing HTTP for everything that is one POST."""
    session: aiohttp.ClientSession
    """Behind the same egress guard, for libraries that bring their own HTTP calls; whoever uses it bounds each call itself, and takes a
    unit of `session_limit` for it."""
    session_limit: Limit = field(default_factory=lambda: Limit(SESSION_CONNECTIONS))
    """The connections of the session, which are shared out by tenant."""
    on_wait: Callable[[Bound], None] = lambda _bound: None
    """Called when a message has to wait for a connection of the session, with what it waits for."""
    on_plain: Callable[[str], None] = lambda _reason: None
    """Called when a receiver rejected the form of a message, with the reason as in `Failed`, and it is sent in its plainest form."""
    templates: TemplateUse = field(default_factory=TemplateUse)
    """What sinks' templates cost, and which fail."""
    settings: Sequence[Settings] = ()
    """What the destination types declare as `ROUTER_SETTINGS`."""

    def settings_of(self, model: type[SettingsModel]) -> SettingsModel:
        """A type's own settings; its defaults where the process has none."""
        return next((one for one in self.settings if isinstance(one, model)), model())


class Sender(Protocol):
    """One open destination of one compiled sink."""

    async def send(self, message: Message) -> Outcome:
        """Send once and return the outcome.

        Never raises but `asyncio.CancelledError`: whatever goes wrong is a `Failed`. Bounded by the sink's own timeout.
        """
        ...

    async def close(self) -> None:
        """Give back what the sender holds. Calls of `send` under way may be cut off."""
        ...
