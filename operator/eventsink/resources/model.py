"""What the models of a spec and a status are made of: base classes, references to Secrets, durations, bounded texts."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Literal, Self, get_args

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, GetCoreSchemaHandler, GetJsonSchemaHandler, model_validator
from pydantic.alias_generators import to_camel
from pydantic_core import CoreSchema, core_schema

from eventsink.runtime.durations import MAX_DURATION_LENGTH

from . import rules
from .rule import Rule, broken, check, with_validations

INT_OR_STRING = "x-kubernetes-int-or-string"
SET = {"x-kubernetes-list-type": "set"}
Severity = Literal["informational", "low", "medium", "high", "critical", "fatal"]
SEVERITIES: tuple[Severity, ...] = get_args(Severity)
"""What may be asked for, the lowest first."""


def _is_text(value: Any) -> Any:
    if not isinstance(value, str):
        broken([rules.DURATION])
    return value


Duration = Annotated[
    str,
    Field(max_length=MAX_DURATION_LENGTH, json_schema_extra={INT_OR_STRING: True}),
    rules.DURATION,
    BeforeValidator(_is_text),
]
"""A number without a unit gets the message of the rule, not one about types: the CRD takes numbers as far as its rules."""


class SpecModel(BaseModel):
    """Base: camelCase, no conversion of types, unknown members rejected by name, no value in error texts."""

    model_config = ConfigDict(
        alias_generator=to_camel,
        populate_by_name=True,
        strict=True,
        frozen=True,
        extra="forbid",
        hide_input_in_errors=True,
    )

    RULES: ClassVar[tuple[Rule, ...]] = ()
    """Rules between the fields of this object."""

    @model_validator(mode="after")
    def _obeys_its_rules(self) -> Self:
        check(self.RULES, self)
        return self

    @classmethod
    def __get_pydantic_json_schema__(cls, core: CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        schema = handler(core)
        with_validations(handler.resolve_ref_schema(schema), cls.RULES)
        return schema


class SecretKeyRef(SpecModel):
    """A key of a Secret in the EventSink's own namespace."""

    name: Annotated[str, Field(max_length=253), rules.SECRET_NAME] = Field(
        description="Name of the Secret, in the EventSink's own namespace."
    )
    key: Annotated[str, Field(max_length=253), rules.SECRET_KEY] = Field(description="Key of the Secret's data.")


class TlsSecretRef(SpecModel):
    """A Secret with the keys `tls.crt` and `tls.key`, in the EventSink's own namespace."""

    name: Annotated[str, Field(max_length=253), rules.SECRET_NAME] = Field(
        description="Name of the Secret, in the EventSink's own namespace; it has the keys tls.crt and tls.key."
    )

    def pair(self) -> tuple[SecretKeyRef, SecretKeyRef]:
        """The certificate, and its private key."""
        return SecretKeyRef(name=self.name, key="tls.crt"), SecretKeyRef(name=self.name, key="tls.key")


@dataclass(frozen=True, slots=True)
class Reference:
    """A field of a spec that refers to a key of a Secret."""

    path: str
    """As in `spec.webhook.headers[0].valueFrom.secretKeyRef`."""
    ref: SecretKeyRef


def references(value: object, path: str = "spec") -> Iterator[Reference]:
    """All references to Secrets within a spec or a part of it, in the order of its fields: they are its credentials."""
    if isinstance(value, SecretKeyRef):
        yield Reference(path, value)
    elif isinstance(value, TlsSecretRef):
        yield from (Reference(path, key) for key in value.pair())
    elif isinstance(value, SpecModel):
        for name, field in type(value).model_fields.items():
            inner = getattr(value, name)
            if isinstance(inner, (SpecModel, list)):
                yield from references(inner, f"{path}.{field.alias or name}")
    elif isinstance(value, list):
        for index, entry in enumerate(value):
            yield from references(entry, f"{path}[{index}]")


class StatusModel(BaseModel):
    """Base: camelCase, unknown members ignored, since a newer version or another program may have written them."""

    model_config = ConfigDict(alias_generator=to_camel, populate_by_name=True, frozen=True, extra="ignore")

    def to_dict(self) -> dict[str, Any]:
        """The JSON form, absent members left out."""
        return self.model_dump(by_alias=True, exclude_none=True)


@dataclass(frozen=True, slots=True)
class AtMost:
    """As `Annotated` metadata of a text of a status: its greatest length in characters. A longer one is cut, and ends in an ellipsis."""

    length: int

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        """Hook of pydantic: cut the text before it is checked."""
        return core_schema.no_info_before_validator_function(self._cut, handler(source))

    def __get_pydantic_json_schema__(self, core: CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        """Hook of pydantic: state the bound."""
        return {**handler(core), "maxLength": self.length}

    def _cut(self, value: Any) -> Any:
        return value[: self.length - 1] + "…" if isinstance(value, str) and len(value) > self.length else value
