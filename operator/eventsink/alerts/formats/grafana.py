"""Grafana's webhook contact point, version 1: groups of Grafana-managed alerts.

Source of the format: Grafana's documentation, webhook notifier, and its `receivers/webhook` and `templates`. A notification is
Alertmanager's with another version and more members in each alert. It is rewritten into version 4, in which those members are annotations, so
that sinks of groups get a format that they know.
"""

from __future__ import annotations

from collections.abc import Mapping
from urllib.parse import parse_qsl, urlsplit

import msgspec

from eventsink.alerts.alert import IncomingAlert, IncomingNotification, UnusablePayload
from eventsink.alerts.alertmanager_group import VERSION as ALERTMANAGER_VERSION
from eventsink.alerts.formats import alertmanager
from eventsink.alerts.formats.format import Format, Repeats
from eventsink.alerts.limits import MAX_LABELS, MAX_URL_CHARACTERS
from eventsink.alerts.links import web_url
from eventsink.alerts.peer_json import members_of, text_of, texts_of
from eventsink.alerts.rule_alerts import check_size, not_json
from eventsink.alerts.severity import RULE_SEVERITIES
from eventsink.runtime.turns import Steps, at_once

VERSION = "1"
TEXTS = {
    "valueString": "value_string",
    "silenceURL": "silence_url",
    "dashboardURL": "dashboard_url",
    "panelURL": "panel_url",
    "imageURL": "image_url",
}
"""Members of an alert -> the annotations that they become, unless the alert has one of that name."""
VALUES = "values"
"""The annotation with all values of the alert; each has another one, `value.<name>`."""
RULE = "rule_uid"
"""The label with the uid of the alert's rule: since Grafana 12, two rules of one folder may have all other labels in common."""
_OWN_RULE = "__alert_rule_uid__"
_KEPT = ("status", "labels", "startsAt", "endsAt", "generatorURL", "fingerprint")
_OF_GROUP = ("receiver", "status", "groupKey", "groupLabels", "commonLabels", "commonAnnotations", "truncatedAlerts")

_alerts = msgspec.json.Decoder(list[msgspec.Raw])
_encoder = msgspec.json.Encoder()


def parse(body: bytes) -> IncomingNotification:
    """Read a notification.

    Raises
    ------
    OversizedPayload
        More would be made of it than `alerts.limits` allows.
    UnusablePayload
        Not JSON, another version, no alerts in it, or none that can be used.
    """
    return at_once(steps(body))


def steps(body: bytes) -> Steps[IncomingNotification]:
    """As `parse`."""
    check_size(body, "it holds too many members", "let Grafana send smaller groups (group by)")
    notification = yield from alertmanager.steps(_rewritten(body))
    return msgspec.structs.replace(notification, alerts=[_with_links(one) for one in notification.alerts])


def _rewritten(body: bytes) -> bytes:
    """The notification in Alertmanager's format. Its `externalURL` is left out: links to Alertmanager's pages would be made of it."""
    try:
        members = members_of(body)
        _check_version(text_of(members.get("version")))
        alerts = members.get("alerts")
        listed = [] if alerts is None else _alerts.decode(alerts)
    except msgspec.ValidationError:
        raise UnusablePayload("the body must be a JSON object with a list of alerts, as Grafana's webhook sends it") from None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise not_json(body) from None
    kept: dict[str, object] = {name: members[name] for name in _OF_GROUP if name in members}
    return _encoder.encode({**kept, "version": ALERTMANAGER_VERSION, "alerts": [_rewritten_alert(one) for one in listed]})


def _check_version(version: str) -> None:
    if version in (VERSION, f"{VERSION}.0"):
        return
    wanted = f'this source takes version "{VERSION}" of Grafana\'s webhook'
    if not version:
        raise UnusablePayload(f'{wanted}: the member "version" is absent')
    if version == ALERTMANAGER_VERSION:
        raise UnusablePayload(f'{wanted}: "{version}" is Alertmanager\'s; give the source the format alertmanager')
    raise UnusablePayload(f'{wanted}: the member "version" says "{alertmanager.shown_version(version)}"')


def _rewritten_alert(raw: msgspec.Raw) -> object:
    """An alert as Alertmanager writes it; one that cannot be read as it is, to be rejected by its index."""
    try:
        members = members_of(raw)
        annotations = texts_of(members.get("annotations"))
        for name, text in _annotations(members).items():
            annotations.setdefault(name, text)
        labels = _labels(members)
    except (ValueError, RecursionError):
        return raw
    return {**{name: members[name] for name in _KEPT if name in members}, **labels, "annotations": annotations}


def _labels(members: Mapping[str, msgspec.Raw]) -> dict[str, object]:
    """The member `labels`, with that of the rule; nothing, if the rule is not known."""
    labels = texts_of(members.get("labels"))
    rule = text_of(members.get("ruleUID")) or _rule_of(text_of(members.get("silenceURL")))
    return {"labels": {RULE: rule, **labels}} if labels and rule else {}


def _rule_of(silence: str) -> str:
    """The uid of the rule in Grafana's page for a silence, where a Grafana of 2025 says it."""
    if _OWN_RULE not in silence or len(silence) > MAX_URL_CHARACTERS:
        return ""
    try:
        matched = [value for name, value in parse_qsl(urlsplit(silence).query) if name == "matcher"]
    except ValueError:
        return ""
    return next((one.removeprefix(f"{_OWN_RULE}=") for one in matched if one.startswith(f"{_OWN_RULE}=")), "")


def _annotations(members: Mapping[str, msgspec.Raw]) -> dict[str, str]:
    """What Grafana says beside an alert's annotations."""
    values = texts_of(members.get("values"))
    found = {f"value.{name}": value for name, value in list(values.items())[:MAX_LABELS]}
    if values:
        found[VALUES] = ", ".join(f"{name}={value}" for name, value in values.items())
    for member, annotation in TEXTS.items():
        if text := text_of(members.get(member)):
            found[annotation] = text
    return found


def _with_links(alert: IncomingAlert) -> IncomingAlert:
    silence = web_url(alert.annotations.get(TEXTS["silenceURL"], ""))
    return msgspec.structs.replace(alert, links=msgspec.structs.replace(alert.links, silence=silence)) if silence else alert


FORMAT = Format(name="grafana", parse=parse, steps=steps, repeats=Repeats.BY_SOURCE, severities=RULE_SEVERITIES, grouped=True)
