"""The compiled sink and the tenancy: the two documents that the operator hands to the router.

Both are versioned and self-contained. The operator writes them into Secrets (`sink-<uid>`, key `sink.json`; `tenancy`, key
`tenancy.json`) of a namespace that holds nothing else; the router reads them there and nowhere else. A reader accepts its own
version and the one before. No text of a validation error repeats a value, since values are credentials.
"""

from __future__ import annotations

from typing import Any

from pydantic import (
    Field,
    SerializeAsAny,
    SerializerFunctionWrapHandler,
    ValidationError,
    field_validator,
    model_serializer,
    model_validator,
)
from pydantic_core import InitErrorDetails, PydanticCustomError

from eventsink.destinations import registry
from eventsink.resources import defaults
from eventsink.resources.names import ALL_TENANTS
from eventsink.runtime.durations import parse_duration
from eventsink.sinks.target import CompiledDocument, DispatchParameters, Target

SINK_SECRET_TYPE = "eventsink.dev/sink"
SINK_SECRET_KEY = "sink.json"
TENANCY_SECRET_TYPE = "eventsink.dev/tenancy"
TENANCY_SECRET_NAME = "tenancy"
TENANCY_SECRET_KEY = "tenancy.json"
COMPILED_LABEL = "eventsink.dev/compiled"
DOCUMENT_VERSION = 2
"""Raised only when a reader of the version before would misread what is written; new members that it may ignore do not raise it.

2: a sink that has times, mutes or an expression, or whose target `can_be_misread`. Others are written as version 1, which a router of the
version before reads, too.
"""


def sink_secret_name(uid: str) -> str:
    """Name of the Secret that holds the compiled sink of the EventSink with this uid."""
    return f"sink-{uid}"


class VersionedDocument(CompiledDocument):
    """A document that another version of the program may have written: the reader's own version and the one before are read."""

    version: int = max(1, DOCUMENT_VERSION - 1)
    """A writer raises it in a document that a reader of the version before would misread."""

    @field_validator("version")
    @classmethod
    def _is_readable(cls, version: int) -> int:
        if version not in (DOCUMENT_VERSION, max(1, DOCUMENT_VERSION - 1)):
            raise ValueError(f"the document has version {version}, and this program reads version {DOCUMENT_VERSION}: upgrade it")
        return version


class SecretVersion(CompiledDocument):
    """A Secret as it was when it was read."""

    namespace: str
    name: str
    version: str
    """Its resourceVersion."""


class CompiledFrom(CompiledDocument):
    """What a compiled sink was made from: equal to today's, nothing needs to be compiled again."""

    compiler: int = 0
    """Version of the compiler (`COMPILER_VERSION` in controller/compile.py); 0: version 0.1 of the program, which recorded none."""
    generation: int
    """`metadata.generation` of the EventSink."""
    secrets: dict[str, str] = Field(default={})
    """Name of each Secret used, in the namespace of the EventSink -> its resourceVersion then."""
    tokens: tuple[SecretVersion, ...] = ()
    """The operator's own Secrets that were used."""
    policy: str = ""
    """Digest of the operator's settings and tenancy that the result depends on."""

    @model_validator(mode="before")
    @classmethod
    def _read_tokens(cls, data: Any) -> Any:
        """Version 0.1 of the program kept tokens among the Secrets, as `namespace/name`."""
        secrets = data.get("secrets") if isinstance(data, dict) else None
        if not isinstance(secrets, dict) or not any("/" in name for name in secrets):
            return data
        tokens = [
            {"namespace": namespace, "name": name, "version": version}
            for (namespace, slash, name), version in ((key.partition("/"), value) for key, value in secrets.items())
            if slash
        ]
        return {**data, "secrets": {name: version for name, version in secrets.items() if "/" not in name}, "tokens": tokens}


class Withdrawn(CompiledDocument):
    """Why a sink that had been accepted may not send at present; its deliveries are held."""

    reason: str
    """CamelCase, the same as in the condition `Ready`."""
    since: str
    """RFC 3339 UTC with seconds."""


class SinkMatch(CompiledDocument):
    """Which alerts of the tenant the sink wants; every member that is there must be fulfilled."""

    min_severity: str | None = None
    sources: tuple[str, ...] = ()
    namespaces: tuple[str, ...] = ()
    """Shell-style patterns with `*` only; an alert without a namespace fulfils none."""
    matchers: tuple[str, ...] = ()
    """In Alertmanager's matcher syntax, checked by the operator."""
    expression: str | None = None
    """In CEL (`cel.condition`), checked by the operator."""


class SinkTimeInterval(CompiledDocument):
    """An interval of time that recurs, in the texts of the spec, which the operator has checked."""

    times: tuple[tuple[str, str], ...] = ()
    """Start and end of each range."""
    weekdays: tuple[str, ...] = ()
    days_of_month: tuple[str, ...] = ()
    months: tuple[str, ...] = ()
    years: tuple[str, ...] = ()
    location: str | None = None


class SinkTimes(CompiledDocument):
    """When messages are sent to the sink."""

    active: tuple[SinkTimeInterval, ...] = ()
    """In one of these; empty: at any time ..."""
    mute: tuple[SinkTimeInterval, ...] = ()
    """... but in none of these."""
    drop: bool = False
    """Whether alerts that come at other times are dropped instead of waiting."""


class SinkMute(CompiledDocument):
    """Alerts of which the sink is not notified for a time; seconds since the epoch."""

    matchers: tuple[str, ...]
    """As in `SinkMatch`; all of them must be fulfilled."""
    since: float = 0.0
    until: float


class SinkDelivery(CompiledDocument):
    """How alerts are delivered; durations in seconds."""

    send_resolved: bool = defaults.SEND_RESOLVED
    repeat_interval: float | None = None
    max_age: float = parse_duration(defaults.MAX_AGE)


class Sink(VersionedDocument):
    """One accepted EventSink, compiled: all that delivery needs and nothing that has to be looked up."""

    uid: str
    """`metadata.uid` of the EventSink: a sink re-created under the same name is another sink."""
    namespace: str
    name: str
    display_name: str
    tenant: str
    """Whose alerts it receives; `*`: those of all tenants."""
    compiled_from: CompiledFrom
    suspend: bool = False
    withdrawn: Withdrawn | None = None
    """Set: hold everything and send nothing. The target is absent then."""
    destination: str
    """Digest of what the sink points at (`Target.destination`); another value is another destination, which was notified of nothing yet."""
    match: SinkMatch = SinkMatch()
    times: SinkTimes | None = None
    """None: at any time."""
    mutes: tuple[SinkMute, ...] = ()
    delivery: SinkDelivery = SinkDelivery()
    dispatch: DispatchParameters = DispatchParameters()
    target: SerializeAsAny[Target] | None = None
    """In JSON the member is called by its type, as in the spec: `"type": "webhook", "webhook": {...}`."""

    def may_receive(self, tenant: str) -> bool:
        """Whether alerts of a tenant may be sent to it at all."""
        return self.tenant == tenant or self.tenant == ALL_TENANTS

    @property
    def type(self) -> str:
        """The destination type; `withdrawn` where there is no target."""
        return self.target.type if self.target is not None else "withdrawn"

    @model_validator(mode="before")
    @classmethod
    def _read_target(cls, data: Any) -> Any:
        if not isinstance(data, dict) or "target" in data:
            return data
        members = dict(data)
        named = members.pop("type", None)
        found = [name for name in registry.names() if members.get(name) is not None]
        if named in registry.names() and named not in found:
            raise PydanticCustomError("target_missing", "the document has no member of the name of its type")
        if not found:
            return members if named is None else {**members, "target": Target(type=named)}
        target = _validated(registry.load(found[0], "target").TARGET, members.pop(found[0]), found[0])
        # Sinks that version 0.1 compiled have no dispatch parameters.
        return {"dispatch": target.dispatch_parameters(), **members, "target": target}

    @model_serializer(mode="wrap")
    def _write_target(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        document: dict[str, Any] = handler(self)
        target = document.pop("target", None)
        if self.target is not None and target is not None:
            document["type"] = target.pop("type")
            document[self.target.type] = target
        return document


def _validated(model: type[Target], value: Any, member: str) -> Target:
    """The target in a member of a sink; errors name the field within the sink, and no value."""
    try:
        return model.model_validate(value)
    except ValidationError as error:
        found = error.errors(include_url=False, include_input=False)
    errors = [
        InitErrorDetails(type=PydanticCustomError(one["type"], "is not valid"), loc=(member, *one["loc"]), input=None)
        for one in found
    ]
    raise ValidationError.from_exception_data("Sink", errors, hide_input=True)


class Tenancy(VersionedDocument):
    """Which tenant owns which namespace, for sources whose alerts belong to the owner of their namespace."""

    owners: dict[str, str] = Field(default={})
    """Namespace -> tenant, for each namespace with the label `eventsink.dev/tenant`."""
    platform: tuple[str, ...] = ()
    """Namespaces with the label `eventsink.dev/platform=true`, whose sinks may receive the alerts of all tenants."""
