"""What is kept in memory of each EventSink that exists: what is looked up all the time, and the rest as text that a reconcile parses."""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass
from typing import Any, Literal, cast

from eventsink.kube.api import Object
from eventsink.resources.names import MANAGED_BY_LABEL
from eventsink.resources.status import READY

KEPT = ("namespace", "name", "uid", "generation", "resourceVersion", "deletionTimestamp")
"""Metadata of an EventSink that the operator reads."""

Ready = Literal["True", "False", "Unknown"]
"""The status of the condition Ready."""


@dataclass(frozen=True, slots=True)
class KnownSink:
    """A state of an EventSink."""

    uid: str
    resource_version: str
    tenant: str
    """That it claims; empty: none that can be read."""
    display_name: str | None
    """None: none that can be read, or it claims no tenant."""
    ready: Ready
    created: str
    """When, RFC 3339."""
    _kept: Object | bytes

    def read(self) -> Object:
        """What is kept of the object; it is not to be changed."""
        return cast(Object, json.loads(self._kept)) if isinstance(self._kept, bytes) else self._kept


def known_sink(obj: Object, kept: Object | bytes) -> KnownSink:
    """An EventSink of which `kept` is kept: the object itself, or text as of `compact`."""
    metadata, spec = obj["metadata"], obj.get("spec")
    tenant, name = (spec.get("tenant"), spec.get("name")) if isinstance(spec, dict) else (None, None)
    claimed = sys.intern(tenant) if isinstance(tenant, str) else ""
    return KnownSink(
        uid=sys.intern(metadata["uid"]),
        resource_version=metadata["resourceVersion"],
        tenant=claimed,
        display_name=name if claimed and isinstance(name, str) else None,
        ready=_ready(obj.get("status")),
        created=metadata.get("creationTimestamp") or "",
        _kept=kept,
    )


def compact(obj: Object) -> bytes:
    """Of an EventSink, what the operator reads, as JSON: as Python objects it would take several times the memory."""
    metadata = obj["metadata"]
    kept = {name: metadata[name] for name in KEPT if name in metadata}
    if (managed_by := (metadata.get("labels") or {}).get(MANAGED_BY_LABEL)) is not None:
        kept["labels"] = {MANAGED_BY_LABEL: managed_by}
    read: Object = {"metadata": kept, **{name: obj[name] for name in ("spec", "status") if name in obj}}
    return _JSON.encode(read).encode()


_JSON = json.JSONEncoder(separators=(",", ":"), check_circular=False)


def _ready(status: Any) -> Ready:
    conditions = status.get("conditions") if isinstance(status, dict) else None
    for one in conditions if isinstance(conditions, list) else ():
        if isinstance(one, dict) and one.get("type") == READY:
            return "True" if (found := one.get("status")) == "True" else "False" if found == "False" else "Unknown"
    return "Unknown"
