"""The source formats by name, as a source's configuration names them: one line each."""

from __future__ import annotations

from eventsink.alerts.formats import (
    alertmanager,
    audit,
    cloudevents,
    falco,
    grafana,
    json,
    kubernetes_events,
    policy_report,
    policy_reporter,
    prometheus,
    trivy_operator,
)
from eventsink.alerts.formats.format import Format

FORMATS: dict[str, Format] = {
    one.name: one
    for one in (
        alertmanager.FORMAT,
        prometheus.FORMAT,
        grafana.FORMAT,
        falco.FORMAT,
        cloudevents.FORMAT,
        kubernetes_events.FORMAT,
        policy_reporter.FORMAT,
        policy_report.FORMAT,
        trivy_operator.FORMAT,
        audit.FORMAT,
        json.FORMAT,
        # The next format goes here.
    )
}
