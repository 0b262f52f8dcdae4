"""Writes compiled sinks and the tenancy into their namespace."""

from __future__ import annotations

import json

from pydantic import ValidationError

from eventsink.controller.cluster_state import FROM_ANNOTATION, SINK_ANNOTATION, WITHDRAWN_ANNOTATION, Compiled, read_compiled
from eventsink.kube.api import SECRETS, Api, NotFound, delete_if_same
from eventsink.kube.secrets import apply_secret, secret_data
from eventsink.resources.names import OPERATOR_LABELS, OPERATOR_MANAGER
from eventsink.sinks.sink import (
    COMPILED_LABEL,
    SINK_SECRET_KEY,
    SINK_SECRET_TYPE,
    TENANCY_SECRET_KEY,
    TENANCY_SECRET_NAME,
    TENANCY_SECRET_TYPE,
    Sink,
    Tenancy,
    sink_secret_name,
)


class CompiledStore:
    """The compiled sinks of one namespace."""

    def __init__(self, api: Api, namespace: str) -> None:
        self._api = api
        self._namespace = namespace
        self._tenancy: Tenancy | None = None

    async def write(self, sink: Sink) -> Compiled:
        """Store a compiled sink, or its withdrawal; returns what its metadata say now."""
        annotations = {
            SINK_ANNOTATION: f"{sink.namespace}/{sink.name}",
            FROM_ANNOTATION: json.dumps(sink.compiled_from.model_dump(by_alias=True), sort_keys=True),
        }
        if sink.withdrawn is not None:
            annotations[WITHDRAWN_ANNOTATION] = sink.withdrawn.reason
        stored = await apply_secret(
            self._api,
            self._namespace,
            sink_secret_name(sink.uid),
            kind=SINK_SECRET_TYPE,
            data={SINK_SECRET_KEY: sink.to_json()},
            labels={**OPERATOR_LABELS, COMPILED_LABEL: "sink"},
            annotations=annotations,
            manager=OPERATOR_MANAGER,
        )
        return read_compiled(sink.uid, stored["metadata"])

    async def read(self, uid: str) -> Sink | None:
        """The compiled sink as it is stored; None: there is none that can be read."""
        try:
            secret = await self._api.get(SECRETS, (self._namespace, sink_secret_name(uid)))
            return Sink.model_validate_json(secret_data(secret)[SINK_SECRET_KEY])
        except (NotFound, KeyError, ValueError, ValidationError):
            return None

    async def delete(self, compiled: Compiled) -> None:
        """Remove a compiled sink."""
        await delete_if_same(self._api, SECRETS, (self._namespace, sink_secret_name(compiled.uid)))

    async def write_tenancy(self, tenancy: Tenancy) -> bool:
        """Store the tenancy if it differs from what is stored; whether it was written."""
        if self._tenancy is None:
            self._tenancy = await self._read_tenancy()
        if self._tenancy == tenancy:
            return False
        await apply_secret(
            self._api,
            self._namespace,
            TENANCY_SECRET_NAME,
            kind=TENANCY_SECRET_TYPE,
            data={TENANCY_SECRET_KEY: tenancy.to_json()},
            labels={**OPERATOR_LABELS, COMPILED_LABEL: "tenancy"},
            annotations={},
            manager=OPERATOR_MANAGER,
        )
        self._tenancy = tenancy
        return True

    def forget_tenancy(self) -> None:
        """Compare with what is stored the next time: somebody else may have changed it."""
        self._tenancy = None

    async def _read_tenancy(self) -> Tenancy | None:
        try:
            secret = await self._api.get(SECRETS, (self._namespace, TENANCY_SECRET_NAME))
            return Tenancy.model_validate_json(secret_data(secret)[TENANCY_SECRET_KEY])
        except (NotFound, KeyError, ValueError, ValidationError):
            return None
