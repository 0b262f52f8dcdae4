"""Bodies that a sink's own template writes, and the check that no alert can make it write broken JSON. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import Any

import msgspec

from eventsink.alerts.alert import Alert, Group, Links, Severity, Status
from eventsink.alerts.limits import cut
from eventsink.alerts.place import place_of
from eventsink.runtime.patterns import Pattern, utf8
from eventsink.templates.context import context_of
from eventsink.templates.errors import InvalidTemplate, TemplateFailed
from eventsink.templates.template import read_template
from eventsink.templates.values import Value

DEFAULT_CONTENT_TYPE = "application/json"
MAX_BODY = 262_144
"""Characters that a template may write."""
_SHORT_TEXT, _SHORT_VALUE, _SHORT_LABELS = 1000, 200, 20
"""What is kept of an alert for which the template fails: characters of its texts and of one value, and labels and annotations."""
_NAMED = ("labels", "annotations", "commonLabels", "commonAnnotations")
_NEAR = 30
"""Characters that are shown before and behind what is no JSON."""
FORM = "application/x-www-form-urlencoded"
_FORM_BODY = Pattern(r"^[!$%&'()*+,./0-9:;=?@A-Z_a-z~-]*$")
"""What no text of the samples is before it is encoded."""
_decoder = msgspec.json.Decoder()


def is_json(content_type: str) -> bool:
    """Whether bodies of a media type are JSON."""
    kind = _kind(content_type)
    return kind == "application/json" or kind.endswith("+json")


def _kind(content_type: str) -> str:
    return content_type.partition(";")[0].strip().lower()


def written(source: str, content_type: str, alerts: Sequence[Alert], *, sink: str, tenant: str) -> bytes:
    """What the template writes of the alerts of one message.

    Where it fails for an alert that is alone, it is evaluated once more: with the alert's texts shortened, and a filter that cannot be computed
    gives nothing. Several are to be tried in smaller messages.

    Raises
    ------
    InvalidTemplate
        This version cannot read it.
    TemplateFailed
        It cannot be evaluated, or what it writes cannot be sent. The text holds nothing of any alert.
    """
    try:
        return _written(source, content_type, context_of(alerts, sink=sink, tenant=tenant, where=_where))
    except TemplateFailed:
        if len(alerts) > 1:
            raise
    variables = context_of([_shortened(alerts[0])], sink=sink, tenant=tenant, where=_where)
    return _written(source, content_type, variables, lenient=True)


def check_template(source: str, content_type: str, *, batch: int) -> None:
    """Check a template with alerts as they may come: one that says nothing, one with quotation marks and line breaks in each text and in every
    label and annotation that the template asks for, its end, an event, and several of them where messages have several.

    Raises
    ------
    InvalidTemplate
        It fails for one of them, or what it writes is no JSON or no form though the content type says so.
    """
    if problem := _problem(source, content_type, several=batch > 1):
        raise InvalidTemplate(problem)


@lru_cache(maxsize=256)
def _problem(source: str, content_type: str, *, several: bool) -> str:
    bodies = []
    for what, alerts in _SAMPLES:
        if len(alerts) == 1 or several:
            variables = context_of(alerts, sink="namespace/name", tenant="tenant", where=_where)
            try:
                bodies.append(_written(source, content_type, _asked_for(variables), shown=True))
            except TemplateFailed as failed:
                return f"for {what}, {failed}"
    if several and bodies[-1] == bodies[0] != bodies[1]:
        return "of several alerts it says what the first one is and leaves out the others: loop over alerts, or set batch to 1"
    return ""


def _written(
    source: str, content_type: str, variables: Mapping[str, Value], *, lenient: bool = False, shown: bool = False
) -> bytes:
    rendered = read_template(source).render(variables, limit=MAX_BODY, lenient=lenient)
    if not rendered.complete:
        raise TemplateFailed(f"it writes more than {MAX_BODY:,} characters")
    body = utf8(rendered.text.strip())
    if not body:
        raise TemplateFailed("it writes nothing")
    if is_json(content_type):
        try:
            _decoder.decode(body)
        except (msgspec.DecodeError, RecursionError) as error:
            raise TemplateFailed(_not_json(body, str(error), shown=shown)) from None
    elif shown and _kind(content_type) == FORM and not _FORM_BODY.search(rendered.text.strip()):
        raise TemplateFailed(
            "it writes no valid form: write each value with the filter url_encode, as in text={{ name | url_encode }}"
        )
    return body


def _not_json(body: bytes, error: str, *, shown: bool) -> str:
    """What to do; only of an alert of the samples, with what was written."""
    text = "it writes no valid JSON: write each value with the filter json and without quotation marks, as in {{ alert.summary | json }}"
    digits = error.rpartition("(byte ")[2].rstrip(")")
    if not shown or not digits.isdecimal():
        return text
    at = int(digits)
    near = body[max(0, at - _NEAR) : at + _NEAR].decode(errors="ignore")
    return f"{text}; the place is near {' '.join(near.split())!r}"


class _EveryName(dict[str, Value]):
    """Labels or annotations of a sample: each that a template asks for is there."""

    def get(self, name: str, default: Any = None) -> Any:
        return super().get(name, _TEXT)


def _asked_for(value: Any) -> Any:
    """The variables of a sample, in which each label and annotation has a text where the alert has any."""
    if isinstance(value, list):
        return [_asked_for(one) for one in value]
    if not isinstance(value, dict):
        return value
    return {
        name: _EveryName(one) if name in _NAMED and isinstance(one, dict) and one else _asked_for(one)
        for name, one in value.items()
    }


def _where(alert: Alert) -> str:
    return place_of(alert).text


def _shortened(alert: Alert) -> Alert:
    def some(texts: dict[str, str]) -> dict[str, str]:
        return {name: cut(value, _SHORT_VALUE) for name, value in [*texts.items()][:_SHORT_LABELS]}

    return msgspec.structs.replace(
        alert,
        summary=cut(alert.summary, _SHORT_TEXT),
        description=cut(alert.description, _SHORT_TEXT),
        labels=some(alert.labels),
        annotations=some(alert.annotations),
        group=None,
    )


_BEGAN = datetime(2026, 1, 1, tzinfo=UTC)
_BARE = Alert(
    id="0" * 32,
    fingerprint="0" * 32,
    source="source",
    tenant="tenant",
    status=Status.FIRING,
    severity=Severity.UNKNOWN,
    name="",
    summary="",
    description="",
    namespace="",
    labels={},
    annotations={},
    starts_at=_BEGAN,
    ends_at=None,
    links=Links(),
)
_TEXT = 'a "quoted" \\ text\nof \t two {lines}, [<é>]'
_FULL = msgspec.structs.replace(
    _BARE,
    id="1" * 32,
    fingerprint="1" * 32,
    severity=Severity.CRITICAL,
    cluster=_TEXT,
    name=_TEXT,
    summary=_TEXT,
    description=_TEXT,
    namespace=_TEXT,
    labels=dict.fromkeys(("alertname", "severity", "team", 'a "name"'), _TEXT),
    annotations=dict.fromkeys(("summary", "description", "value", 'a "name"'), _TEXT),
    links=Links(source=_TEXT, runbook=_TEXT, dashboard=_TEXT, silence=_TEXT),
    group=Group(key=_TEXT, receiver=_TEXT, labels={"alertname": _TEXT}, common_labels={"alertname": _TEXT}, external_url=_TEXT),
)
_ENDED = msgspec.structs.replace(_FULL, id="2" * 32, status=Status.RESOLVED, ends_at=_BEGAN + timedelta(hours=1))
_SAMPLES: tuple[tuple[str, list[Alert]], ...] = (
    ("an alert with quotation marks and line breaks in its texts", [_FULL]),
    ("an alert that says nothing but when it began", [_BARE]),
    ("a resolved alert", [_ENDED]),
    ("an event", [msgspec.structs.replace(_FULL, status=Status.EVENT)]),
    ("several alerts", [_FULL, _BARE, _ENDED]),
)
