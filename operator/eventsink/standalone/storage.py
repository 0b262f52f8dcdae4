"""Keeps in the data folder what outlives the process: EventSinks that programs create, and all Secrets but those of documents.

One file each, readable by its owner only, written before the change counts. Statuses are made again at each start.
"""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from eventsink.kube.api import SECRETS, Forbidden, Invalid, Key, Object, Resource, Unavailable, key_of
from eventsink.kube.local import Change, LocalApi, owners_of
from eventsink.resources.eventsink import InvalidSpec, read_spec
from eventsink.resources.names import EVENTSINKS
from eventsink.rest.calls.managers import FILE_ANNOTATION
from eventsink.rest.calls.secrets import SECRET_TYPE
from eventsink.runtime.files import make_folder, remove, remove_unfinished, write_private
from eventsink.sinks.sink import SINK_SECRET_TYPE

_FOLDERS = {EVENTSINKS: "made", SECRETS: "objects"}
_NAME = re.compile(r"[a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?")


class Storage:
    """The files of a data folder.

    Parameters
    ----------
    data
        The data folder; its folders are made where they are absent.
    """

    def __init__(self, data: Path) -> None:
        self._folders = {resource: data / name for resource, name in _FOLDERS.items()}
        self._waiting: list[tuple[Path, str, asyncio.Future[None]]] = []
        """Compiled sinks to write: at most as many as there are workers that reconcile."""
        self._writing: asyncio.Task[None] | None = None

    def load(self, api: LocalApi) -> None:
        """Put everything that was kept into the API.

        Raises
        ------
        OSError
            A folder cannot be made or read.
        ValueError
            A file of an EventSink was not written here: without its sink, alerts and credentials would be dropped.
        """
        for folder in self._folders.values():
            make_folder(folder)
            remove_unfinished(folder)
        sinks = {}
        for file in _files(self._folders[EVENTSINKS]):
            obj = _read(file)
            if obj is None or not _is_sink(obj):
                raise ValueError(f"{file}: cannot be read; restore it, or remove it and with it the sink")
            sinks[obj["metadata"]["uid"]] = obj
        for obj in sinks.values():
            api.put(EVENTSINKS, obj)
        for file in _files(self._folders[SECRETS]):
            obj = _read(file)
            if obj is None:
                continue  # like a Secret that was never written: it is compiled again
            if obj.get("type") == SECRET_TYPE and not owners_of(obj) & sinks.keys():
                file.unlink(missing_ok=True)  # its EventSink was deleted just before the end
                continue
            api.put(SECRETS, obj)

    async def commit(self, change: Change) -> None:
        """Store a change.

        Raises
        ------
        Forbidden
            A document says what the object is, or only documents say it of its kind.
        Invalid
            No API server would take the EventSink.
        Unavailable
            The data folder cannot be written.
        """
        if change.resource not in self._folders:
            raise Forbidden(403, "Forbidden", f"{change.resource.plural}: only documents can change them in standalone mode")
        file = file_of(change.before) if change.before is not None else ""
        if file:
            kind, name = change.resource.kind, change.key[1]
            raise Forbidden(403, "Forbidden", f"the {kind} {name} is defined in the file {file}: change it there")
        if change.resource == EVENTSINKS and change.after is not None:
            _check(change.key, change.before, change.after)
        path = self._path(change.resource, change.key)
        try:
            if change.after is None:
                await asyncio.to_thread(remove, path)
            elif change.after.get("type") == SINK_SECRET_TYPE:
                await self._write_together(path, json.dumps(change.after))
            else:
                await asyncio.to_thread(write_private, path, json.dumps(change.after))
        except OSError as error:
            raise Unavailable(0, "Unavailable", f"the data folder cannot be written: {error.strerror}") from None

    async def _write_together(self, path: Path, text: str) -> None:
        """Write a compiled sink, in one visit to a thread with all that wait by then: the first start writes one for each document.

        Raises
        ------
        OSError
            This one could not be written.
        """
        done = asyncio.get_running_loop().create_future()
        self._waiting.append((path, text, done))
        if self._writing is None or self._writing.done():
            self._writing = asyncio.create_task(self._write_waiting(), name="compiled sinks")
        await done

    async def _write_waiting(self) -> None:
        while self._waiting:
            batch, self._waiting = self._waiting, []
            try:
                errors = await asyncio.to_thread(_write_all, [(path, text) for path, text, _ in batch])
            except BaseException:
                for _, _, done in (*batch, *self._waiting):
                    done.cancel()
                self._waiting = []
                raise
            for (_, _, done), error in zip(batch, errors, strict=True):
                if done.done():
                    continue  # whoever waited was cancelled
                if error is None:
                    done.set_result(None)
                else:
                    done.set_exception(error)

    def _path(self, resource: Resource, key: Key) -> Path:
        return self._folders[resource] / key[0] / f"{key[1]}.json"


def file_of(obj: Object) -> str:
    """The file whose document an object is of; empty: none."""
    return str((obj["metadata"].get("annotations") or {}).get(FILE_ANNOTATION, ""))


def _write_all(files: Sequence[tuple[Path, str]]) -> list[OSError | None]:
    """Write each; returns what kept it from being written. Not synced: a compiled sink that is lost is compiled again."""
    errors: list[OSError | None] = []
    for path, text in files:
        try:
            write_private(path, text, sync=False)
            errors.append(None)
        except OSError as error:
            errors.append(error)
    return errors


def _files(folder: Path) -> Iterator[Path]:
    yield from sorted(folder.glob("*/*.json"))


def _read(file: Path) -> Object | None:
    """The object in a file; None: it is not the one that the file's name says."""
    try:
        obj: Object = json.loads(file.read_text(encoding="utf-8"))
        namespace, name = key_of(obj)
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return None
    return obj if (namespace, f"{name}.json") == (file.parent.name, file.name) else None


def _is_sink(obj: Object) -> bool:
    metadata = obj["metadata"]
    return (
        isinstance(metadata.get("uid"), str) and isinstance(metadata.get("generation"), int) and isinstance(obj.get("spec"), dict)
    )


def _check(key: Key, before: Object | None, after: Object) -> None:
    """What a cluster's API server checks by the CRD."""
    if not all(_NAME.fullmatch(part) for part in key):
        raise Invalid(
            422, "Invalid", "metadata: the name or the namespace is not valid; write lower-case letters, digits, - and ."
        )
    spec: Any = after.get("spec")
    try:
        read_spec(spec)
    except InvalidSpec as invalid:
        raise Invalid(422, "Invalid", str(invalid)) from None
    if before is not None and spec.get("tenant") != before["spec"].get("tenant"):
        raise Invalid(422, "Invalid", "spec.tenant: cannot be changed; create another sink")
