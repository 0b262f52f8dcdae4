"""Words for severity, and what they mean; each format's table is in docs/sources.md."""

from __future__ import annotations

from collections.abc import Mapping

from eventsink.alerts.alert import Severity

RULE_SEVERITIES: Mapping[str, Severity] = {
    "none": Severity.INFORMATIONAL,
    "debug": Severity.INFORMATIONAL,
    "info": Severity.INFORMATIONAL,
    "information": Severity.INFORMATIONAL,
    "informational": Severity.INFORMATIONAL,
    "notice": Severity.INFORMATIONAL,
    "ok": Severity.INFORMATIONAL,
    "low": Severity.LOW,
    "minor": Severity.LOW,
    "ticket": Severity.LOW,
    "p4": Severity.LOW,
    "medium": Severity.MEDIUM,
    "moderate": Severity.MEDIUM,
    "warn": Severity.MEDIUM,
    "warning": Severity.MEDIUM,
    "average": Severity.MEDIUM,
    "p3": Severity.MEDIUM,
    "high": Severity.HIGH,
    "major": Severity.HIGH,
    "error": Severity.HIGH,
    "err": Severity.HIGH,
    "p2": Severity.HIGH,
    "critical": Severity.CRITICAL,
    "crit": Severity.CRITICAL,
    "page": Severity.CRITICAL,
    "alert": Severity.CRITICAL,
    "p1": Severity.CRITICAL,
    "fatal": Severity.FATAL,
    "emergency": Severity.FATAL,
    "emerg": Severity.FATAL,
    "disaster": Severity.FATAL,
    "p0": Severity.FATAL,
}
"""Values of the label `severity` of Prometheus rules, in lower case. There is no standard: these are the words that rule collections use."""


def severity_of(word: str, severities: Mapping[str, Severity]) -> Severity:
    """The severity that a source's word means by a format's table; `unknown` for an absent or another word."""
    return severities.get(word.strip().lower(), Severity.UNKNOWN)
