"""Which Events are sent: by type, reason, kind and namespace. Pure."""

from __future__ import annotations

from eventsink.events.config import FilterSettings, SelectionSettings
from eventsink.events.event import subject_of, text_of
from eventsink.kube.api import Object
from eventsink.runtime.patterns import Wildcards


class Filter:
    """Decides by the settings."""

    def __init__(self, settings: FilterSettings) -> None:
        self._types = frozenset(settings.types)
        self._also = Wildcards(settings.also_reasons)
        self._include = _Selection(settings.include)
        self._exclude = _Selection(settings.exclude)
        self.field_selector = "" if settings.also_reasons or len(self._types) != 1 else f"type={settings.types[0]}"
        """What the API server can leave out by itself; empty: nothing."""

    def passes(self, event: Object) -> bool:
        """Whether an Event is sent."""
        subject = subject_of(event)
        if text_of(event.get("type")) not in self._types and not self._also.match(subject.reason):
            return False
        reason, kind, namespace = subject.reason, subject.kind, subject.namespace
        return self._include.has_all(reason, kind, namespace) and not self._exclude.has_any(reason, kind, namespace)


class _Selection:
    def __init__(self, settings: SelectionSettings) -> None:
        self._reasons = _wildcards(settings.reasons)
        self._kinds = _wildcards(settings.kinds)
        self._namespaces = _wildcards(settings.namespaces)

    def has_all(self, reason: str, kind: str, namespace: str) -> bool:
        return (
            (self._reasons is None or self._reasons.match(reason))
            and (self._kinds is None or self._kinds.match(kind))
            and (self._namespaces is None or not namespace or self._namespaces.match(namespace))
        )

    def has_any(self, reason: str, kind: str, namespace: str) -> bool:
        return bool(
            (self._reasons is not None and self._reasons.match(reason))
            or (self._kinds is not None and self._kinds.match(kind))
            or (self._namespaces is not None and namespace and self._namespaces.match(namespace))
        )


def _wildcards(texts: tuple[str, ...]) -> Wildcards | None:
    return Wildcards(texts) if texts else None
