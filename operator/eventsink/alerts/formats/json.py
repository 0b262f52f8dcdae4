"""JSON of any program: a source's configuration says by expressions in CEL which part of it is which member of an alert (`json_mapping`)."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from functools import partial

import msgspec

from eventsink.alerts.alert import (
    IncomingAlert,
    IncomingNotification,
    Links,
    Rejection,
    Status,
    UnusablePayload,
)
from eventsink.alerts.formats.format import Format, Repeats
from eventsink.alerts.json_mapping import ERRORS, JsonMapping, MappedAlert, OfBody, items_of, without_nulls
from eventsink.alerts.limits import MAX_URL_CHARACTERS
from eventsink.alerts.links import web_url
from eventsink.alerts.rule_alerts import check_size, check_usable, not_json
from eventsink.alerts.severity import RULE_SEVERITIES
from eventsink.cel.errors import EvaluationFailed
from eventsink.runtime.turns import Steps, at_once

MAX_ITEMS = 5000
"""Alerts of one request, each of which takes about 50 us to be mapped; the others are left out."""
_any = msgspec.json.Decoder()


def parse(body: bytes, mapping: JsonMapping) -> IncomingNotification:
    """Read what was sent.

    Raises
    ------
    OversizedPayload
        More would be made of it than `alerts.limits` allows.
    UnusablePayload
        It is not JSON, the mapping finds no alerts in it, or none of them can be used.
    """
    return at_once(steps(body, mapping))


def steps(body: bytes, mapping: JsonMapping) -> Steps[IncomingNotification]:
    """As `parse`."""
    check_size(body, "it holds too many members", "send fewer alerts at once")
    try:
        found = without_nulls(_any.decode(body))
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise not_json(body) from None
    try:
        items = items_of(mapping, found)
    except EvaluationFailed as error:
        raise UnusablePayload(f"no alerts were found in the body by the source's mapping.items: {error}") from None
    left_out = len(items) - MAX_ITEMS
    items = items[:MAX_ITEMS]
    check_size(body, "it holds too many alerts", "send fewer at once", len(items))
    alerts: list[IncomingAlert] = []
    rejected: list[Rejection] = []
    of_body: OfBody = {}
    for index, item in enumerate(items):
        yield
        try:
            alerts.append(_alert(MappedAlert(mapping, item, found, of_body)))
        except ValueError as error:
            rejected.append(Rejection(index, str(error)))
    if left_out > 0:
        reason = f"this alert and those after it, {left_out} in all, were left out: send at most {MAX_ITEMS} at once"
        rejected.append(Rejection(MAX_ITEMS, reason))
        if alerts:
            alerts[0] = msgspec.structs.replace(alerts[0], truncated=(*alerts[0].truncated, "items"))
    if items:
        check_usable(alerts, rejected, "")
    return IncomingNotification(alerts=alerts, rejected=rejected)


def _alert(mapped: MappedAlert) -> IncomingAlert:
    name = mapped.text("name").strip()
    if not name:
        raise ValueError(mapped.errors[0] if mapped.errors else "name: it is absent or empty")
    namespace = mapped.text("namespace")
    own = {"alertname": name, "namespace": namespace, "id": mapped.text("id")}
    labels = {**mapped.texts("labels"), **{label: value for label, value in own.items() if value}}
    status = mapped.status()
    starts_at, ends_at = mapped.time("starts_at"), mapped.time("ends_at")
    now = datetime.now(UTC)
    url, word = mapped.text("url"), mapped.text("severity")
    if word:
        labels.setdefault("severity", word)
    severity, summary, description = mapped.severity(), mapped.text("summary"), mapped.text("description")
    annotations = mapped.texts("annotations")
    if mapped.errors:
        annotations[ERRORS] = "; ".join(dict.fromkeys(mapped.errors))
    return IncomingAlert(
        status=status,
        severity=severity,
        name=name,
        summary=summary or name,
        description=description,
        namespace=namespace,
        labels=labels,
        annotations=annotations,
        starts_at=starts_at or now,
        ends_at=(ends_at or now) if status is Status.RESOLVED else None,
        links=Links(source=web_url(url)),
        group=None,
        truncated=("links.source",) if len(url) > MAX_URL_CHARACTERS else (),
        start_given=starts_at is not None,
    )


def mapped_by(mapping: JsonMapping) -> Format:
    """The format with the mapping of a source. What fires and ends is repeated as the source sends it; events happen once."""
    repeats = Repeats.NEVER if mapping.status is None else Repeats.BY_SOURCE
    return replace(FORMAT, parse=partial(parse, mapping=mapping), steps=partial(steps, mapping=mapping), repeats=repeats)


_BY_NAMES = JsonMapping()
FORMAT = Format(
    name="json",
    parse=partial(parse, mapping=_BY_NAMES),
    steps=partial(steps, mapping=_BY_NAMES),
    repeats=Repeats.NEVER,
    severities=RULE_SEVERITIES,
)
