"""Several alerts in one Slack message: of one name, of a few names, or so many that it is a digest."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Sequence
from typing import Any

from eventsink.alerts.alert import Alert, Status
from eventsink.alerts.place import place_of
from eventsink.destinations.slack.blocks import characters, context, context_markup, listed, run
from eventsink.destinations.slack.fields import common_fields, fields_blocks, line_fields
from eventsink.destinations.slack.form import FieldForm, SlackForm
from eventsink.destinations.slack.links import line_links, link_blocks, shared
from eventsink.destinations.slack.parts import (
    EMOJI,
    MAX_DESCRIPTION,
    MAX_NAME,
    MAX_SUMMARY,
    MAX_WHERE,
    NOISE,
    WELL_EMOJI,
    description_of,
    few,
    labels_line,
    resolved_after,
    severity_order,
    sign_of,
    summary_of,
    title_of,
    where_of,
)
from eventsink.destinations.slack.text import date, one_line, prose, with_links

MAX_LINE = 280
MAX_LISTED = 10
"""Alerts of several names that have a line each; more of them are counted by name."""
MAX_WORST = 3
"""Alerts that a digest shows all the same."""
MAX_LINES_MADE = 100
"""Alerts of one name of which a line is made, the worst first: 25 at most are shown, and each may cost as much as its labels are long."""
MAX_DISTINCT = 4
"""Labels that tell an alert from others of its name."""


def alike(
    alerts: Sequence[Alert], firing: Sequence[Alert], lookup: str, form: SlackForm, room: int
) -> tuple[list[str], list[dict[str, Any]]]:
    """Several of one name: what they share once, and a line for each with what tells it from the others; as `single`."""
    first = alerts[0]
    same_summary = {alert.summary for alert in alerts} == {first.summary}
    where = few(sorted({one_line(place_of(alert).namespace, MAX_WHERE) for alert in alerts} - {""}), 3)
    parts = [_count(alerts, firing), one_line(first.name, MAX_NAME), where, summary_of(first) if same_summary else ""]
    ordered = sorted(alerts, key=severity_order)
    fields, common = common_fields(alerts, form.fields), shared(first, alerts)
    lined = ordered[:MAX_LINES_MADE]
    texts = _distinct_lines(lined, form, fields, summary=not same_summary)
    links = [list(line_links(alert, form, common)) for alert in lined]
    counts = Counter(map(repr, zip(texts, links, strict=True)))
    lines = {
        repr(line): [*with_links(line[0] if (count := counts[repr(line)]) == 1 else f"{line[0]} ({count:,} times)"), *line[1]]
        for line in zip(texts, links, strict=True)
    }
    rest = "more, found with: " + lookup if lookup else "more"
    blocks = [listed(list(lines.values()), rest, further=len(ordered) - len(lined))]
    if len({alert.description for alert in alerts}) == 1 and (description := description_of(first, MAX_DESCRIPTION)):
        blocks.append(prose(description))
    blocks += fields_blocks(first, fields, room - characters(blocks))
    blocks.append(_since(alerts, firing))
    if labels := labels_line(alerts, form.labels(), where=False):
        blocks.append(context(labels))
    return parts, blocks + link_blocks(common, form, room - characters(blocks), silenced=bool(firing))


def _distinct_lines(alerts: Sequence[Alert], form: SlackForm, common: Collection[FieldForm], *, summary: bool) -> list[str]:
    """A line for each: where it is, and the other labels that are not the same for all; otherwise what it says. `common`: see `alike`."""
    names = {name for alert in alerts for name in alert.labels} - NOISE - form.labels()
    fields = [field for field in form.fields if field not in common]
    differing = {name for name in names if len({alert.labels.get(name, "") for alert in alerts}) > 1}
    places = [place_of(alert) for alert in alerts]
    foreign = frozenset[str]().union(*(place.of_exporter for place in places))
    if len({place.text for place in places}) > 1 or differing - foreign:
        differing -= foreign
    same_description = len({alert.description for alert in alerts}) == 1
    lines = []
    for alert, place in zip(alerts, places, strict=True):
        others = [f"{name}={alert.labels[name]}" for name in sorted(differing - place.labels) if alert.labels.get(name)]
        text = " ".join([one_line(place.text, MAX_WHERE), few(others, MAX_DISTINCT)]).strip()
        said = summary_of(alert) if summary else ""
        if not said and not differing and not same_description:
            said = one_line(description_of(alert, MAX_DESCRIPTION), MAX_SUMMARY)
        line = ": ".join(part for part in (text, said) if part) or title_of(alert)
        lines.append(" · ".join([f"{sign_of(alert)} {line}", *line_fields(alert, fields)]))
    return lines


def several(
    alerts: Sequence[Alert], firing: Sequence[Alert], lookup: str, form: SlackForm, room: int
) -> tuple[list[str], list[dict[str, Any]]]:
    """Of several names: a line each; of many alerts the worst, and how many there are of each name; as `single`."""
    by_name: dict[str, list[Alert]] = {}
    for alert in alerts:
        by_name.setdefault(alert.name, []).append(alert)
    parts = [_count(alerts, firing), f"{len(by_name):,} names", few(_top_names(by_name), 2)]
    common = common_fields(alerts, form.fields)
    fields = [field for field in form.fields if field not in common]
    digest = len(alerts) > MAX_LISTED
    blocks = []
    if full := sorted(firing if digest else alerts, key=severity_order)[: MAX_WORST if digest else MAX_LISTED]:
        lines = [_alert_line(alert, form, fields, description=digest) for alert in full]
        if digest:  # with its description, each is a paragraph
            lines = [[*line, run("\n")] for line in lines[:-1]] + lines[-1:]
        blocks.append(listed(lines, "more"))
    if digest:
        ordered = sorted((*_name_line(one), len(one)) for one in by_name.values())
        blocks.append(listed([[run(line)] for _, line, _ in ordered], "more names", [count for _, _, count in ordered]))
    blocks += fields_blocks(alerts[0], common, room - characters(blocks))
    blocks.append(_since(alerts, firing))
    if digest and lookup:
        blocks.append(context(f"All of them: {one_line(lookup, 300)}"))
    return parts, blocks


def _alert_line(alert: Alert, form: SlackForm, fields: Collection[FieldForm], *, description: bool) -> list[dict[str, Any]]:
    parts = [one_line(alert.name, MAX_NAME), where_of(alert), summary_of(alert)]
    said = " · ".join(part for part in parts if part) or title_of(alert)
    line = [*with_links(" · ".join([f"{sign_of(alert)} {said}", *line_fields(alert, fields)])), *line_links(alert, form)]
    if description and (said := one_line(description_of(alert, MAX_DESCRIPTION), MAX_LINE)):
        line += with_links(f"\n{said}")
    return line


def _name_line(alerts: Sequence[Alert]) -> tuple[tuple[int, int, str], str]:
    """(what it is ordered by, the line) of all alerts of one name."""
    firing = [alert for alert in alerts if alert.status is not Status.RESOLVED]
    name = title_of(alerts[0])
    namespaces = few(sorted({one_line(place_of(alert).namespace, MAX_WHERE) for alert in alerts} - {""}), 3)
    over = len(alerts) - len(firing)
    counts = f"{len(firing):,} × {name}" if firing else f"{over:,} × {name} resolved"
    if firing and over:
        counts += f", {over:,} resolved"
    worst = max(firing, key=lambda alert: alert.severity.rank).severity if firing else None
    sign = WELL_EMOJI if worst is None else EMOJI[worst]
    rank = -1 if worst is None else worst.rank
    return (-rank, -len(firing), name), f"{sign} {counts}" + (f" · {namespaces}" if namespaces else "")


def _top_names(by_name: dict[str, list[Alert]]) -> list[str]:
    ordered = sorted(by_name.values(), key=lambda alerts: _name_line(alerts)[0])
    return [title_of(alerts[0]) for alerts in ordered]


def _since(alerts: Sequence[Alert], firing: Sequence[Alert]) -> dict[str, Any]:
    """When the first began and, once all have ended, when the last did."""
    start = date(min(alert.starts_at for alert in alerts))
    ends = [alert.ends_at for alert in alerts if alert.ends_at is not None]
    return context_markup(f"since {start}" if firing or not ends else f"from {start} to {date(max(ends))}")


def _count(alerts: Sequence[Alert], firing: Sequence[Alert]) -> str:
    over = len(alerts) - len(firing)
    if not firing:
        return f"{over:,} r{resolved_after(alerts)[1:]}"
    return f"{over:,} of {len(alerts):,} resolved" if over else f"{len(firing):,} firing"
