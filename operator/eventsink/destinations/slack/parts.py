"""What messages say of an alert: its name, where it is, since when, and what the source says of it, each once."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta

from eventsink.alerts.alert import CLUSTER_LABEL, Alert, Severity, Status
from eventsink.alerts.place import place_of
from eventsink.destinations.slack.text import date, duration, one_line, some_lines

MAX_NAME = 80
MAX_WHERE = 80
MAX_SUMMARY = 160
MAX_DESCRIPTION = 1200
"""A screen of a phone; the source has the rest."""
MAX_LABELS = 400
MAX_LASTED = timedelta(days=3650)
"""A start before that is none: a source that knows no time writes the year 1."""
EMOJI = {
    Severity.FATAL: "🚨",
    Severity.CRITICAL: "🔴",
    Severity.HIGH: "🟠",
    Severity.MEDIUM: "🟡",
    Severity.LOW: "🔵",
    Severity.INFORMATIONAL: "⚪",
    Severity.UNKNOWN: "❔",
}
WELL_EMOJI = "✅"
NOISE = frozenset(
    {"alertname", "severity", "namespace", "prometheus", "endpoint", "uid", "event_uid", "prometheus_replica", "replica"}
)


def title_of(alert: Alert) -> str:
    """The name, or else what identifies it best."""
    return one_line(alert.name, MAX_NAME) or one_line(alert.summary, MAX_NAME) or where_of(alert) or "without a name"


def where_of(alert: Alert) -> str:
    """The object in trouble."""
    return one_line(place_of(alert).text, MAX_WHERE)


def summary_of(alert: Alert) -> str:
    """The summary, where it says more than the name; where there is neither, the description."""
    summary = one_line(alert.summary or ("" if alert.name else alert.description), MAX_SUMMARY)
    return "" if same(summary, alert.name) else summary


def description_of(alert: Alert, most: int) -> str:
    """The description, where it says more than name and summary, which the headline has."""
    description = some_lines(alert.description, most)
    return "" if any(same(description, said) for said in (alert.name, summary_of(alert))) else description


def same(one: str, other: str) -> bool:
    """Whether two texts say the same, whatever their case and punctuation."""
    return " ".join(one.split()).rstrip(".").casefold() == " ".join(other.split()).rstrip(".").casefold()


def state_of(alert: Alert) -> str:
    """The severity; of what has ended, that it has, and how long it fired."""
    if alert.status is Status.RESOLVED:
        return resolved_after([alert])
    return "Alert" if alert.severity is Severity.UNKNOWN else alert.severity.value.capitalize()


def resolved_after(alerts: Sequence[Alert]) -> str:
    """That all of these have ended, and how long one of them or another fired."""
    ends = [alert.ends_at for alert in alerts if alert.ends_at is not None]
    lasted = max(ends) - min(alert.starts_at for alert in alerts) if ends else timedelta()
    return f"Resolved after {duration(lasted)}" if timedelta() < lasted <= MAX_LASTED else "Resolved"


def since_of(alert: Alert) -> str:
    """Its times, as markup."""
    if alert.status is Status.RESOLVED and alert.ends_at is not None:
        return f"from {date(alert.starts_at)} to {date(alert.ends_at)}"
    if alert.status is not Status.EVENT:
        return f"since {date(alert.starts_at)}"
    return f"since {date(alert.starts_at)}, {alert.count:,} times" if alert.count > 1 else f"at {date(alert.starts_at)}"


def sign_of(alert: Alert) -> str:
    """The emoji of its severity; of what has ended, that of all well."""
    return WELL_EMOJI if alert.status is Status.RESOLVED else EMOJI[alert.severity]


def severity_order(alert: Alert) -> tuple[bool, int]:
    """What alerts are ordered by: firing ones first, the most severe first."""
    return alert.status is Status.RESOLVED, -alert.severity.rank


def labels_line(alerts: Sequence[Alert], shown: frozenset[str], *, where: bool) -> str:
    """The labels that all have in common, without those that say nothing, are `shown` elsewhere, or that `where` has said."""
    common = common_of([alert.labels for alert in alerts])
    hidden = NOISE | shown
    if alerts[0].cluster:
        hidden |= {CLUSTER_LABEL}  # the headline has it
    for alert in alerts:
        hidden |= place_of(alert).of_exporter
        if where:
            hidden |= place_of(alert).labels
    pairs = [f"{name}={value}" for name, value in sorted(common.items()) if value and name not in hidden]
    return one_line("  ".join(pairs), MAX_LABELS)


def common_of(each: Sequence[dict[str, str]]) -> dict[str, str]:
    """The labels or annotations that all have, with the same value."""
    common = dict(each[0])
    for one in each[1:]:
        common = {name: value for name, value in common.items() if one.get(name) == value}
    return common


def few(texts: Sequence[str], most: int) -> str:
    """The first of some texts, each in a line, and how many more there are."""
    return ", ".join(one_line(text, MAX_WHERE) for text in texts[:most]) + (f" +{len(texts) - most}" if len(texts) > most else "")
