"""EventSinks that the API server must reject or accept, as tables shared by the tests with and without an API server."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

FOLDER = Path(__file__).parent


@dataclass(frozen=True)
class Rejected:
    """A spec that must be rejected, and what the user reads."""

    case: str
    spec: dict[str, Any]
    says: tuple[str, ...]
    """What kubectl prints for `kubectl apply`, a line for each mistake."""
    server_side: tuple[str, ...]
    """What kubectl prints for `kubectl apply --server-side`."""
    offline: tuple[str, ...] | None
    """What `read_spec` says; None: the paths and sentences of `says`."""


def rejected() -> list[Rejected]:
    """The table in rejected.yaml."""
    table = yaml.load((FOLDER / "rejected.yaml").read_text(), yaml.CSafeLoader)
    return [
        Rejected(
            case=entry["case"],
            spec=merge_patch(table["base"], entry["change"]),
            says=tuple(entry["says"]),
            server_side=tuple(entry.get("serverSide", entry["says"])),
            offline=tuple(entry["offline"]) if "offline" in entry else None,
        )
        for entry in table["cases"]
    ]


def accepted() -> dict[str, dict[str, Any]]:
    """The table in accepted.yaml: case -> spec."""
    return dict(yaml.safe_load((FOLDER / "accepted.yaml").read_text()))


def eventsink(spec: object, *, name: str = "alerts", namespace: str = "default") -> dict[str, Any]:
    """An EventSink with this spec, ready to be applied."""
    return {
        "apiVersion": "eventsink.dev/v1alpha1",
        "kind": "EventSink",
        "metadata": {"name": name, "namespace": namespace},
        "spec": spec,
    }


def merge_patch(target: Any, patch: Any) -> Any:
    """JSON Merge Patch (RFC 7396)."""
    if not isinstance(patch, dict):
        return patch
    result = dict(target) if isinstance(target, dict) else {}
    for key, value in patch.items():
        if value is None:
            result.pop(key, None)
        else:
            result[key] = merge_patch(result.get(key), value)
    return result
