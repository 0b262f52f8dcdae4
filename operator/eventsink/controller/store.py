"""Writes compiled sinks and the tenancy into their namespace, and knows what was compiled."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from pydantic import ValidationError

from eventsink.controller.own_writes import OwnWrites
from eventsink.kube.api import SECRETS, Api, Key, NotFound, Object, is_older
from eventsink.kube.secrets import secret_data, write_secret
from eventsink.resources.names import OPERATOR_LABELS, OPERATOR_MANAGER
from eventsink.sinks.sink import (
    COMPILED_LABEL,
    SINK_SECRET_KEY,
    SINK_SECRET_TYPE,
    TENANCY_SECRET_KEY,
    TENANCY_SECRET_NAME,
    TENANCY_SECRET_TYPE,
    CompiledFrom,
    Sink,
    Tenancy,
    sink_secret_name,
)

FROM_ANNOTATION = "eventsink.dev/compiled-from"
"""On a compiled Secret: what it was made from, JSON of `CompiledFrom`."""
SINK_ANNOTATION = "eventsink.dev/sink"
"""On a compiled Secret: `namespace/name` of its EventSink."""
WITHDRAWN_ANNOTATION = "eventsink.dev/withdrawn"
"""On a compiled Secret: the reason for which the sink was withdrawn."""


_SINK_LABELS = {**OPERATOR_LABELS, COMPILED_LABEL: "sink"}


@dataclass(frozen=True, slots=True)
class Compiled:
    """What the metadata of a compiled Secret say."""

    uid: str
    """Of the EventSink."""
    sink: Key
    made_from_json: str
    """The annotation: in memory it is a tenth of what it says, and the same for many sinks."""
    withdrawn: str
    """The reason; empty: it is active."""
    resource_version: str

    @property
    def made_from(self) -> CompiledFrom | None:
        """None: not readable, so it is compiled again."""
        return _read_made_from(self.made_from_json)


@lru_cache(maxsize=64)
def _read_made_from(text: str) -> CompiledFrom | None:
    try:
        return CompiledFrom.model_validate_json(text)
    except ValidationError:
        return None


class CompiledStore:
    """The compiled sinks of one namespace. It is the handler of their reflector, too; nobody else writes `compiled`.

    `enqueue` is called with the key of an EventSink whose compiled Secret somebody else changed or deleted.
    """

    def __init__(self, api: Api, namespace: str, enqueue: Callable[[Key], None]) -> None:
        self._api = api
        self._namespace = namespace
        self._enqueue = enqueue
        self._writes: OwnWrites[str] = OwnWrites()
        self._tenancy: Tenancy | None = None
        self._tenancy_version = ""
        self._compiled: dict[str, Compiled] = {}
        self._of: dict[Key, tuple[str, ...]] = {}
        """Namespace and name of an EventSink -> uids, so that no reconcile looks through all sinks."""

    @property
    def compiled(self) -> Mapping[str, Compiled]:
        """uid of the EventSink -> what was compiled for it."""
        return self._compiled

    def of(self, sink: Key) -> list[Compiled]:
        """Everything compiled for EventSinks of that namespace and name, also former ones."""
        return [self._compiled[uid] for uid in sorted(self._of.get(sink, ()))]

    # ---- the reflector's handler

    def upsert(self, key: Key, obj: Object) -> None:
        """A compiled Secret appeared or changed."""
        uid = sys.intern(key[1].removeprefix("sink-"))
        compiled = read_compiled(uid, obj["metadata"])
        before = self._compiled.get(uid)
        if before is not None and is_older(compiled.resource_version, before.resource_version):
            return  # written since by this process
        self._keep(compiled)
        changed = before is not None and before.resource_version != compiled.resource_version
        if not self._writes.shows(uid, compiled.resource_version) and changed:
            self._enqueue(compiled.sink)  # somebody else may have changed it

    def delete(self, key: Key) -> None:
        """A compiled Secret is gone."""
        gone = self._forget(key[1].removeprefix("sink-"))
        if gone is not None:
            self._enqueue(gone.sink)

    def _keep(self, compiled: Compiled) -> None:
        self._forget(compiled.uid)
        self._compiled[compiled.uid] = compiled
        self._of[compiled.sink] = (*self._of.get(compiled.sink, ()), compiled.uid)

    def _forget(self, uid: str) -> Compiled | None:
        gone = self._compiled.pop(uid, None)
        if gone is not None:
            left = tuple(one for one in self._of.pop(gone.sink) if one != uid)
            if left:
                self._of[gone.sink] = left
        return gone

    # ---- writing

    async def write(self, sink: Sink, before: Compiled | None) -> None:
        """Store a compiled sink, or its withdrawal, over what was there when it was compiled.

        Raises
        ------
        ApiError
            It was not stored; Conflict or NotFound: somebody else wrote or deleted it, which the watch reports.
        """
        annotations = {
            SINK_ANNOTATION: f"{sink.namespace}/{sink.name}",
            FROM_ANNOTATION: json.dumps(sink.compiled_from.model_dump(by_alias=True), sort_keys=True),
        }
        if sink.withdrawn is not None:
            annotations[WITHDRAWN_ANNOTATION] = sink.withdrawn.reason
        with self._writes.writing(sink.uid, lambda: self._enqueue((sink.namespace, sink.name))) as wrote:
            stored = await write_secret(
                self._api,
                self._namespace,
                sink_secret_name(sink.uid),
                kind=SINK_SECRET_TYPE,
                data={SINK_SECRET_KEY: sink.to_json()},
                labels=_SINK_LABELS,
                annotations=annotations,
                manager=OPERATOR_MANAGER,
                resource_version=before.resource_version if before is not None else "",
            )
            compiled = read_compiled(sink.uid, stored["metadata"])
            wrote(compiled.resource_version)
            known = self._compiled.get(sink.uid)
            if known is None or not is_older(compiled.resource_version, known.resource_version):
                self._keep(compiled)

    async def read(self, uid: str) -> Sink | None:
        """The compiled sink as it is stored; None: there is none that can be read."""
        try:
            secret = await self._api.get(SECRETS, (self._namespace, sink_secret_name(uid)))
            return Sink.model_validate_json(secret_data(secret)[SINK_SECRET_KEY])
        except (NotFound, KeyError, ValueError, ValidationError):
            return None

    async def remove(self, compiled: Compiled) -> None:
        """Delete a compiled sink.

        Raises
        ------
        ApiError
            It is still there; Conflict: somebody else wrote it.
        """
        key = (self._namespace, sink_secret_name(compiled.uid))
        try:
            await self._api.delete(SECRETS, key, resource_version=compiled.resource_version)
        except NotFound:
            pass
        self._forget(compiled.uid)

    async def write_tenancy(self, tenancy: Tenancy) -> bool:
        """Store the tenancy if it differs from what is stored; whether it was written."""
        if self._tenancy is None:
            self._tenancy, self._tenancy_version = await self._read_tenancy()
        if self._tenancy == tenancy:
            return False
        version, self._tenancy = self._tenancy_version, None  # read again unless it is written
        stored = await write_secret(
            self._api,
            self._namespace,
            TENANCY_SECRET_NAME,
            kind=TENANCY_SECRET_TYPE,
            data={TENANCY_SECRET_KEY: tenancy.to_json()},
            labels={**OPERATOR_LABELS, COMPILED_LABEL: "tenancy"},
            annotations={},
            manager=OPERATOR_MANAGER,
            resource_version=version,
        )
        self._tenancy, self._tenancy_version = tenancy, stored["metadata"]["resourceVersion"]
        return True

    def forget_tenancy(self) -> None:
        """Compare with what is stored the next time: somebody else may have changed it."""
        self._tenancy = None

    async def _read_tenancy(self) -> tuple[Tenancy | None, str]:
        """What is stored, where it can be read, and its version, where there is any."""
        try:
            secret = await self._api.get(SECRETS, (self._namespace, TENANCY_SECRET_NAME))
        except NotFound:
            return None, ""
        version: str = secret["metadata"]["resourceVersion"]
        try:
            return Tenancy.model_validate_json(secret_data(secret)[TENANCY_SECRET_KEY]), version
        except (KeyError, ValueError, ValidationError):
            return None, version


def read_compiled(uid: str, metadata: Mapping[str, Any]) -> Compiled:
    """What the metadata of a compiled Secret say; of unreadable ones, as much as there is."""
    annotations = metadata.get("annotations") or {}
    namespace, _, name = annotations.get(SINK_ANNOTATION, "").partition("/")
    return Compiled(
        uid,
        (sys.intern(namespace), name),
        sys.intern(annotations.get(FROM_ANNOTATION, "")),
        annotations.get(WITHDRAWN_ANNOTATION, ""),
        metadata["resourceVersion"],
    )
