"""What a source format declares. Each is one module of this package, which ends in `FORMAT`, and one line of `registry`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum

from eventsink.alerts.alert import IncomingNotification, OversizedPayload, Severity, UnusablePayload
from eventsink.alerts.peer_json import without_lone_surrogates
from eventsink.runtime.turns import Steps


class Repeats(StrEnum):
    """Who decides when a sink is notified again of a firing alert that did not change, or of an event."""

    BY_SOURCE = "by the source"
    """A notification in which nothing is new is a repeat that the source intends (Alertmanager's `repeat_interval`)."""
    HEARTBEAT = "by the sink"
    """The source sends what fires all the time: a sink is notified again after its `repeatInterval`, and not at all without one."""
    NEVER = "never"
    """Events, which happen once: each id is notified once."""
    WHEN_GROWN = "when its count grows"
    """Events that their source counts: a sink is notified again when the count has grown, after its `repeatInterval`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Format:
    """How the notifications of a kind of source are read, and what they mean.

    A format knows neither tokens nor tenants, and of HTTP at most some headers: `parse` takes the bytes of one notification, whether the
    intake got them as the body of a request or a source that pulls (a watch) read them itself. Who sends, and whose alerts they are, is a
    matter of the source (`router.sources`), which names its format.
    """

    name: str
    """As a source's configuration names it."""
    parse: Callable[[bytes], IncomingNotification]
    """Reads one notification of valid JSON: see `read`. Raises UnusablePayload, and nothing else whatever the bytes are."""
    repeats: Repeats
    severities: Mapping[str, Severity]
    """The source's words for severity, in lower case; every other word means `unknown`."""
    steps: Callable[[bytes], Steps[IncomingNotification]] | None = None
    """The same as `parse`, with a step for each alert, where a notification may hold many."""
    url_suffixes: tuple[str, ...] = ()
    """Paths that clients of the format append to the URL that they are configured with, such as `/api/v2/alerts`."""
    headers: frozenset[bytes] = frozenset()
    """Headers that are part of a notification, as in `runtime.headers` ..."""
    enveloped: Callable[[Mapping[bytes, bytes], bytes], bytes] | None = None
    """... and what makes what `parse` reads of them and the body. Raises UnusablePayload."""
    api_errors: bool = False
    """Whether its clients read errors as Alertmanager's API has them: of what cannot be accepted 400, and each sentence as a JSON text."""
    grouped: bool = False
    """Whether a notification is a group in Alertmanager's webhook format, with its `group` and `envelope`. Sinks of groups get it as
    received; of any other format they get a group made of each alert."""

    replicas: bool = True
    """Of a format whose sources send what fires all the time: whether what one sender ends may still fire for another one, as for the two
    servers of a pair. Not if all senders say the same, and one follows another."""

    def __post_init__(self) -> None:
        for suffix in self.url_suffixes:
            if not suffix.startswith("/") or suffix.endswith("/"):
                raise ValueError(f"{self.name}: the URL suffix {suffix!r} must start with a slash and not end with one")

    def read(self, body: bytes) -> IncomingNotification:
        """Read one notification, also one with half a character in it, which is looked for only where it cannot be read.

        Raises
        ------
        UnusablePayload
            Nothing in it can be used.
        """
        try:
            return self.parse(body)
        except UnusablePayload as failure:
            repaired = _repaired(body, failure)
        return self.parse(repaired)

    def read_in_steps(self, body: bytes) -> Steps[IncomingNotification]:
        """As `read`, with a step for each alert; of a format that has steps."""
        assert self.steps is not None
        try:
            return (yield from self.steps(body))
        except UnusablePayload as failure:
            repaired = _repaired(body, failure)
        return (yield from self.steps(repaired))


def _repaired(body: bytes, failure: UnusablePayload) -> bytes:
    """What can be read instead of a body that could not be; raises the failure if that is not why."""
    if isinstance(failure, OversizedPayload) or (repaired := without_lone_surrogates(body)) is body:
        raise failure
    return repaired
