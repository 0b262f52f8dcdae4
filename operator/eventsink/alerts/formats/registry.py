"""The source formats by name, as a source's configuration names them: one line each."""

from __future__ import annotations

from eventsink.alerts.formats import alertmanager, cloudevents, falco, grafana, kubernetes_events, prometheus
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
        # The next format goes here.
    )
}
