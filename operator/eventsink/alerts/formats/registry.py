"""The source formats by name, as a source's configuration names them."""

from __future__ import annotations

from collections.abc import Callable
from types import MappingProxyType

from eventsink.alerts.alert import IncomingNotification
from eventsink.alerts.formats import alertmanager

Parser = Callable[[bytes], IncomingNotification]
"""Reads the body of one request. Raises UnusablePayload, and nothing else whatever the bytes are."""

FORMATS = MappingProxyType({"alertmanager": alertmanager.parse})
