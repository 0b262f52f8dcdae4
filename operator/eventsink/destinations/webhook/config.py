"""Settings that the parts of the program have because there are webhook sinks, by their names in a configuration."""

from __future__ import annotations

from eventsink.runtime.settings import Settings

ROUTER_SETTINGS: dict[str, type[Settings]] = {}
