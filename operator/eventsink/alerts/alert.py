"""The Alert that every source's notification is turned into, and what identifies it.

A source format (one module each) parses bytes into an `IncomingNotification` of `IncomingAlert`s. Once the tenant of each is known,
`IncomingAlert.identify` makes it an `Alert`, which has a fingerprint and an id and is what sinks match, store and send.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime, timedelta
from enum import StrEnum

import msgspec

from eventsink.alerts.limits import (
    MAX_ANNOTATION_CHARACTERS,
    MAX_ANNOTATIONS_CHARACTERS,
    MAX_CLUSTER_CHARACTERS,
    MAX_LABELS_CHARACTERS,
    MAX_MARKS,
    MAX_NAME_CHARACTERS,
    MAX_SUMMARY_CHARACTERS,
    MAX_VALUE_CHARACTERS,
    bounded,
    cut,
)
from eventsink.alerts.links import silence_url
from eventsink.alerts.peer_json import same_to_every_reader

CLUSTER_LABEL = "cluster"
FINGERPRINT_BYTES = 16
"""128 bits: no two series of one cluster collide by chance."""

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)


class Status(StrEnum):
    """Whether a condition holds (`firing`), has ended (`resolved`), or was a single occurrence (`event`)."""

    FIRING = "firing"
    RESOLVED = "resolved"
    EVENT = "event"


class Severity(StrEnum):
    """How bad it is, in rising order; `unknown` is outside the order and is never filtered out."""

    UNKNOWN = "unknown"
    INFORMATIONAL = "informational"
    LOW = "low"
    MEDIUM = "medium"
    HIGH = "high"
    CRITICAL = "critical"
    FATAL = "fatal"

    @property
    def rank(self) -> int:
        """0 for `unknown`, then 1 (`informational`) to 6 (`fatal`)."""
        return _RANKS[self]

    def passes(self, minimum: Severity | None) -> bool:
        """Whether an alert of this severity is shown to a sink that asks for at least `minimum`."""
        return minimum is None or self is Severity.UNKNOWN or self.rank >= minimum.rank


_RANKS = {severity: rank for rank, severity in enumerate(Severity)}


class Links(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Where a person can read on; every one is absent where the source does not give it."""

    source: str = ""
    """The page that raised the alert (Alertmanager: `generatorURL`)."""
    runbook: str = ""
    dashboard: str = ""
    silence: str = ""


class Group(msgspec.Struct, frozen=True, kw_only=True, rename="camel", omit_defaults=True):
    """The notification that an alert came in, where the source groups alerts."""

    key: str
    receiver: str = ""
    labels: dict[str, str] = {}
    common_labels: dict[str, str] = {}
    external_url: str = ""
    truncated: int = 0
    """How many alerts the source left out of the notification."""


class Alert(msgspec.Struct, frozen=True, kw_only=True, rename="camel", omit_defaults=True):
    """One alert of one tenant, as sinks match it, the queue stores it and CloudEvents carry it (`data`)."""

    id: str
    """Of fingerprint, startsAt and status: the two duplicates of a highly available pair have one id."""
    fingerprint: str
    """Of tenant, source and labels without the dropped ones; hex, 32 digits."""
    source: str
    tenant: str
    status: Status
    severity: Severity
    name: str
    summary: str
    description: str
    namespace: str
    """The Kubernetes namespace that it is about; empty where it is about none."""
    labels: dict[str, str]
    annotations: dict[str, str]
    starts_at: datetime
    ends_at: datetime | None
    """None while it is firing."""
    links: Links
    group: Group | None = None
    truncated: tuple[str, ...] = ()
    """What of it is not as the source sent it, since it exceeds a limit (`alerts.limits`): `labels` and `annotations` say that some are
    left out, `annotations.<name>`, `summary` or `group.key` that this one is cut, `links.source` or `group.externalUrl` that the URL is
    left out."""
    count: int = 0
    """How often it has happened so far, of an event that its source counts; 0: it counts nothing."""
    cluster: str = ""
    """The cluster that it is from, where the router has a name for its own: the value of its label `cluster`."""

    @property
    def identity(self) -> str:
        """What stays the same of it from one notification to the next: the fingerprint; of an event that happens once, the id."""
        return self.id if self.status is Status.EVENT and not self.count else self.fingerprint


class IncomingAlert(msgspec.Struct, frozen=True, kw_only=True):
    """One alert as a source format read it, before its tenant is known. Times are UTC."""

    status: Status
    severity: Severity
    name: str
    summary: str
    description: str
    namespace: str
    labels: dict[str, str]
    annotations: dict[str, str]
    starts_at: datetime
    ends_at: datetime | None
    links: Links
    group: Group | None
    truncated: tuple[str, ...] = ()
    """What the format has cut or left out: see `Alert.truncated`."""
    raw: msgspec.Raw | None = None
    """The alert's own JSON as the source wrote it, where the format is grouped; a view of `IncomingNotification.body`."""
    valid_for: float | None = None
    """Of a firing alert of a source that sends what fires all the time: it has ended if it is not sent again within so many seconds; None:
    the source did not say."""
    start_given: bool = True
    """Whether `starts_at` is the source's word; else it is when this arrived: of what fires already the earlier start counts, and an event is
    the same whenever it arrives."""
    count: int = 0
    """As in `Alert`."""

    def identify(self, *, source: str, tenant: str, dropped_labels: frozenset[str] = frozenset(), cluster: str = "") -> Alert:
        """Give the alert its tenant, its fingerprint and its id, and cut it down to the limits (`alerts.limits`).

        The fingerprint is of all labels, so that alerts that differ beyond the limits stay different.

        Parameters
        ----------
        source
            Name of the configured source that it came from.
        tenant
            The tenant whose alert it is.
        dropped_labels
            Names of labels in which two duplicates of one alert differ (`replica`); they do not count for the fingerprint.
        cluster
            The router's name for its cluster: the alert's label `cluster`, unless it came with one. It does not count for the fingerprint
            either, so that an alert stays the same when the cluster is given a name. Empty: it has none.
        """
        fingerprint = fingerprint_of(tenant, source, self.labels, dropped_labels)
        labels, cut_labels = bounded(self.labels, "labels", longest=MAX_VALUE_CHARACTERS, total=MAX_LABELS_CHARACTERS)
        annotations, cut_annotations = bounded(
            self.annotations, "annotations", longest=MAX_ANNOTATION_CHARACTERS, total=MAX_ANNOTATIONS_CHARACTERS
        )
        if cluster:
            if own := self.labels.get(CLUSTER_LABEL):
                cluster = cut(own, MAX_CLUSTER_CHARACTERS)
            else:
                labels = {**labels, CLUSTER_LABEL: cluster}
        links = self.links
        group = self.group
        if (
            links.silence
            and group is not None
            and group.external_url
            and dropped_labels
            and not dropped_labels.isdisjoint(self.labels)
        ):
            links = msgspec.structs.replace(links, silence=silence_url(group.external_url, self.labels, dropped_labels))
        name, summary = cut(self.name, MAX_NAME_CHARACTERS), cut(self.summary, MAX_SUMMARY_CHARACTERS)
        description, namespace = cut(self.description, MAX_ANNOTATION_CHARACTERS), cut(self.namespace, MAX_VALUE_CHARACTERS)
        marks = cut_labels + cut_annotations
        if name is not self.name or summary is not self.summary or description is not self.description:
            marks += self._marks_of_texts(name, summary, description)
        happened = self.starts_at if self.start_given or self.status is not Status.EVENT else _EPOCH
        return Alert(
            id=alert_id(fingerprint, happened, self.status),
            fingerprint=fingerprint,
            source=source,
            tenant=tenant,
            status=self.status,
            severity=self.severity,
            name=name,
            summary=summary,
            description=description,
            namespace=namespace,
            labels=labels,
            annotations=annotations,
            starts_at=self.starts_at,
            ends_at=self.ends_at,
            links=links,
            group=self.group,
            truncated=(marks + self.truncated)[:MAX_MARKS],
            count=self.count,
            cluster=cluster,
        )

    def _marks_of_texts(self, name: str, summary: str, description: str) -> tuple[str, ...]:
        """Which of the texts are cut that are not those of a label or an annotation, which has a mark of its own if it is cut."""
        elsewhere = {*self.labels.values(), *self.annotations.values()}
        return tuple(
            member
            for member, whole, kept in (
                ("name", self.name, name),
                ("summary", self.summary, summary),
                ("description", self.description, description),
            )
            if kept is not whole and whole not in elsewhere
        )


class Rejection(msgspec.Struct, frozen=True):
    """One alert of a usable notification that could not be used: its index there, and a sentence that says why."""

    index: int
    reason: str


class Round(msgspec.Struct, frozen=True):
    """What a source says that sends everything that fires in one round of notifications, so that what it has left out has ended."""

    id: str
    """The same where it begins and where it ends."""
    ends: bool


class IncomingNotification(msgspec.Struct, frozen=True, kw_only=True):
    """What a source sent at once: alerts, the group they came in, and what could not be used."""

    alerts: list[IncomingAlert]
    rejected: list[Rejection]
    group: Group | None = None
    body: bytes = b""
    """With a group in Alertmanager's webhook format: the very bytes of the notification, for a sink that gets all of it."""
    body_checked: bool | None = None
    """Whether every reader reads the same in `body`; None: not looked at yet."""
    absent: frozenset[int] = frozenset()
    """Indices of what is `null` in it: it counts as not being there."""
    round: Round | None = None
    """That a round begins or ends: such a notification holds no alerts."""

    def positions(self) -> list[int]:
        """For each of `alerts`, its index in the notification."""
        skipped = {one.index for one in self.rejected} | self.absent
        return [index for index in range(len(self.alerts) + len(skipped)) if index not in skipped]

    def numbered(self) -> list[tuple[int, IncomingAlert]]:
        """Each of `alerts` with its index in the notification."""
        if not (self.rejected or self.absent):
            return list(enumerate(self.alerts))
        return list(zip(self.positions(), self.alerts, strict=True))

    def passes_on_body(self) -> bool:
        """Whether `body` may go to a sink as it is: no reader finds another alert in it than this one did."""
        return bool(self.body) and (same_to_every_reader(self.body) if self.body_checked is None else self.body_checked)


class UnusablePayload(ValueError):
    """A notification of which nothing can be used: not JSON, another version, no alert in it.

    Its text is shown to the source (in a 4xx response) and names what is wrong; of the payload it
    repeats nothing but the version.
    """


class OversizedPayload(UnusablePayload):
    """A notification of which too much would be made (`alerts.limits.may_be_made_of`); nothing was made of it yet."""


def fingerprint_of(tenant: str, source: str, labels: Mapping[str, str], dropped: Iterable[str] = frozenset()) -> str:
    """128-bit BLAKE2b over tenant, source and the sorted labels without `dropped`, as 32 hex digits.

    Each part is preceded by its length in bytes, so that no two different inputs are hashed as one.
    """
    pairs = sorted(labels.items())
    if dropped:
        dropped = frozenset(dropped)
        pairs = [pair for pair in pairs if pair[0] not in dropped]
    pairs.insert(0, (tenant, source))
    text = "".join([f"{len(name)}:{name}{len(value)}:{value}" for name, value in pairs])
    if not text.isascii():
        text = "".join([f"{len(name.encode())}:{name}{len(value.encode())}:{value}" for name, value in pairs])
    return hashlib.blake2b(text.encode(), digest_size=FINGERPRINT_BYTES).hexdigest()


def alert_id(fingerprint: str, starts_at: datetime, status: Status) -> str:
    """32 hex digits of fingerprint, startsAt (microseconds) and status."""
    text = f"{fingerprint}:{epoch_micros(starts_at)}:{status}"
    return hashlib.blake2b(text.encode(), digest_size=FINGERPRINT_BYTES).hexdigest()


def epoch_micros(time: datetime) -> int:
    """Microseconds since 1970-01-01T00:00:00Z of an aware time."""
    return (time - _EPOCH) // _MICROSECOND


def from_epoch_micros(micros: int) -> datetime:
    """The reverse of `epoch_micros`."""
    return _EPOCH + micros * _MICROSECOND
