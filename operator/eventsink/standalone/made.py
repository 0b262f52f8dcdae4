"""EventSinks that programs made: one file each in the data folder, written before they count."""

from __future__ import annotations

import asyncio
import json
import re
import uuid
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from eventsink.kube.api import Invalid, Key, Object, Unavailable
from eventsink.resources.eventsink import InvalidSpec, read_spec
from eventsink.runtime.files import remove, remove_unfinished, write_private
from eventsink.runtime.times import format_time

_NAME = re.compile(r"[a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?")


class MadeSinks:
    """The EventSinks, without their statuses; the caller serializes what changes them.

    Parameters
    ----------
    folder
        Where they are kept; made if it is absent.
    """

    def __init__(self, folder: Path, now: Callable[[], datetime] = lambda: datetime.now(UTC)) -> None:
        self._folder = folder
        self._now = now
        self.objects: dict[Key, Object] = {}

    def load(self) -> None:
        """Read what was kept.

        Raises
        ------
        OSError
            The folder cannot be made or read.
        ValueError
            A file is none that was written here: without its sink, alerts and credentials would be dropped that are not to be.
        """
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        remove_unfinished(self._folder)
        for file in sorted(self._folder.glob("*/*.json")):
            try:
                obj = json.loads(file.read_text(encoding="utf-8"))
                metadata = obj["metadata"]
                key = (str(metadata["namespace"]), str(metadata["name"]))
                known = (
                    isinstance(metadata["uid"], str) and isinstance(metadata["generation"], int) and isinstance(obj["spec"], dict)
                )
            except (ValueError, KeyError, TypeError):
                known, key = False, ("", "")
            if not known or (key[0], f"{key[1]}.json") != (file.parent.name, file.name):
                raise ValueError(f"{file}: cannot be read; restore it, or remove it and with it the sink")
            self.objects[key] = obj

    async def create(self, key: Key, body: Object, manager: str) -> Object:
        """Make one.

        Raises
        ------
        Invalid, Unavailable
            Nothing was made.
        """
        if not all(_NAME.fullmatch(part) for part in key):
            raise Invalid(422, "Invalid", "metadata: the name or the namespace is none")
        _check(body.get("spec"))
        metadata = {
            "name": key[1],
            "namespace": key[0],
            "labels": dict(body["metadata"].get("labels") or {}),
            "annotations": dict(body["metadata"].get("annotations") or {}),
            "uid": str(uuid.uuid4()),
            "generation": 1,
            "creationTimestamp": format_time(self._now()),
            "managedFields": [written_by(manager, self._now())],
        }
        return await self._keep(key, {**body, "metadata": metadata})

    async def replace(self, key: Key, body: Object, manager: str) -> Object:
        """Put another spec, labels and annotations in the place of those that are there.

        Raises
        ------
        Invalid, Unavailable
            All is as it was.
        """
        before = self.objects[key]
        _check(body.get("spec"))
        if body["spec"].get("tenant") != before["spec"].get("tenant"):
            raise Invalid(422, "Invalid", "spec.tenant: cannot be changed; make another sink")
        metadata: dict[str, Any] = {
            **before["metadata"],
            "labels": dict(body["metadata"].get("labels") or {}),
            "annotations": dict(body["metadata"].get("annotations") or {}),
        }
        if body["spec"] != before["spec"]:
            metadata["generation"] += 1
            metadata["managedFields"] = [written_by(manager, self._now())]
        after = {**before, "metadata": metadata, "spec": body["spec"]}
        return before if after == before else await self._keep(key, after)

    async def delete(self, key: Key) -> None:
        """Drop one.

        Raises
        ------
        Unavailable
            It is still there.
        """
        try:
            await asyncio.to_thread(remove, self._file(key))
        except OSError as error:
            raise _unwritable(error) from None
        del self.objects[key]

    async def _keep(self, key: Key, obj: Object) -> Object:
        kept = {name: value for name, value in obj.items() if name != "status"}
        try:
            await asyncio.to_thread(write_private, self._file(key), json.dumps(kept))
        except OSError as error:
            raise _unwritable(error) from None
        self.objects[key] = kept
        return kept

    def _file(self, key: Key) -> Path:
        return self._folder / key[0] / f"{key[1]}.json"


def written_by(manager: str, time: datetime) -> dict[str, str]:
    """An entry of `metadata.managedFields`, as far as anybody here reads it."""
    return {"manager": manager or "eventsink", "operation": "Update", "time": format_time(time)}


def _check(spec: Any) -> None:
    try:
        read_spec(spec)
    except InvalidSpec as invalid:
        raise Invalid(422, "Invalid", str(invalid)) from None


def _unwritable(error: OSError) -> Unavailable:
    return Unavailable(0, "Unavailable", f"the data folder cannot be written: {error.strerror}")
