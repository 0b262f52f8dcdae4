"""What destination types declare for the REST API (their part `arguments`), and what those declarations are made of.

Models are snake_case JSON and the source of the OpenAPI document. Bounds and choices come from the spec's models, whose rules the REST
API checks in any case; credentials become the values of one Secret.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache
from types import UnionType
from typing import Annotated, Any, Generic, Literal, TypeVar, Union, get_args, get_origin

from pydantic import BaseModel, ConfigDict, Field, create_model
from pydantic.fields import FieldInfo

from eventsink.destinations import registry
from eventsink.resources import rules
from eventsink.resources.model import SpecModel
from eventsink.resources.rule import Readable, Rule
from eventsink.runtime.durations import DURATION_PATTERN, MAX_DURATION_LENGTH

MAX_CREDENTIAL = 8192
"""Characters of a token, code, header value or secret."""
NO_DOCSTRINGS = {"use_attribute_docstrings": False}
"""Of a model that is made by `create_model`: a fifth of the time that the REST API takes to start went into looking for them in the source."""
_BOUNDS = ("min_length", "max_length", "ge", "le")

Create = TypeVar("Create")
Change = TypeVar("Change")
Status = TypeVar("Status")


def stated(pattern: str, **more: Any) -> dict[str, Any]:
    """JSON schema that states a pattern for readers; a rule of the spec checks it, with a better message."""
    return {"pattern": pattern, **more}


Credential = Annotated[str, Field(min_length=1, max_length=MAX_CREDENTIAL, json_schema_extra={"writeOnly": True})]
Duration = Annotated[str, Field(max_length=MAX_DURATION_LENGTH, json_schema_extra=stated(DURATION_PATTERN))]


class RestModel(BaseModel):
    """Base of requests and responses: no conversion of types, unknown fields rejected by name, no value in any text."""

    model_config = ConfigDict(
        strict=True, frozen=True, extra="forbid", hide_input_in_errors=True, use_attribute_docstrings=True, populate_by_name=True
    )

    def __repr_args__(self) -> Any:
        return ()  # credentials are among the values


class InvalidArguments(Exception):
    """Arguments that no spec can be made of.

    Parameters
    ----------
    sentence
        What to do; repeats no value.
    field
        The argument, such as `headers[0].value`; empty: all of them together.
    """

    def __init__(self, sentence: str, *, field: str = "") -> None:
        super().__init__(sentence)
        self.sentence = sentence
        self.field = field


class Credentials:
    """Collects the credentials of one request for one Secret.

    Parameters
    ----------
    secret
        Name of the Secret.
    generated
        The secret that `generate` uses: the same at each attempt of one request.
    """

    def __init__(self, secret: str, generated: str) -> None:
        self._secret = secret
        self._generated = generated
        self.values: dict[str, str] = {}
        """Key of the Secret -> credential."""
        self.generates = False
        """Whether the generated secret is used: the response shows it."""
        self.plain: dict[str, tuple[str, str]] = {}
        """Field of the destination's spec with a reference -> the field whose rules its value must keep, and the value."""

    def keep(self, key: str, value: str) -> dict[str, str]:
        """Keep a credential; returns the reference for the spec."""
        self.values[key] = value
        return {"name": self._secret, "key": key}

    def generate(self, key: str) -> dict[str, str]:
        """Keep the generated secret; returns the reference for the spec."""
        self.generates = True
        return self.keep(key, self._generated)

    def check_as(self, reference: str, plain: str, value: str) -> None:
        """Check a credential by the rules of another field.

        Parameters
        ----------
        reference
            The field of the destination's spec with the reference.
        plain
            The field that would hold the value in plain.
        """
        self.plain[reference] = (plain, value)


@dataclass(frozen=True)
class DestinationArguments(Generic[Create, Change, Status]):
    """The REST arguments of a destination type, exported by its part `arguments` as `ARGUMENTS`.

    Functions get and return the destination's field of the spec; those that make one may raise `InvalidArguments`.
    """

    display_name: str
    """The key of its arguments in requests, and its type in responses, such as `Webhook`."""
    create: type[Create]
    """Arguments of a new sink."""
    change: type[Change]
    """What can be changed; absent stays, null clears."""
    configuration: type[RestModel]
    """What responses show."""
    new_spec: Callable[[Create, Credentials], dict[str, Any]]
    changed_spec: Callable[[Mapping[str, Any], Change, Credentials], dict[str, Any]]
    """From the spec before. It must not let kept credentials reach another receiver than the one they were given for."""
    shown: Callable[[Mapping[str, Any], Status | None], RestModel]
    """The configuration of any spec, valid or not, and the type's status; it shows no credential."""
    fields: Mapping[str, str] = field(default_factory=dict)
    """Field of the spec -> argument that it is made of, where it is not the same name in snake_case. `field.inner`: a field within one, where
    it has an argument of its own."""
    renamed: Mapping[str, str] = field(default_factory=dict)
    """Field of the spec -> argument of the same shape, where only the name differs."""
    sentences: Mapping[str, str] = field(default_factory=dict)
    """A part of what rules, operator or router say of the type, where it speaks of a spec or a Secret -> what responses say instead."""


@cache
def arguments() -> Mapping[str, DestinationArguments[Any, Any, Any]]:
    """The REST arguments of all destination types, by the name of the type in a spec."""
    return {name: registry.load(name, "arguments").ARGUMENTS for name in registry.names()}


# ---- from the models of the spec


def from_spec(name: str, model: type[BaseModel], doc: str) -> type[RestModel]:
    """A REST model with the fields of a spec's model: all optional, in snake_case, with bounds and descriptions, without rules."""
    fields: dict[str, Any] = {
        one: (
            _plain(Annotated[info.annotation, *info.metadata, None]) | None,
            Field(default=None, description=info.description, alias=one.removesuffix("_") if one.endswith("_") else None),
        )
        for one, info in model.model_fields.items()
    }
    return create_model(name, __base__=RestModel, __doc__=doc, __cls_kwargs__=NO_DOCSTRINGS, **fields)


def bounds(model: type[BaseModel], name: str) -> dict[str, int]:
    """The bounds of a field of a spec's model, as arguments of `Field`: min_length, max_length, ge, le."""
    return {
        bound: found
        for one in _metadata(model.model_fields[name])
        for bound in _BOUNDS
        if (found := getattr(one, bound, None)) is not None
    }


def choices(model: type[BaseModel], name: str) -> list[str]:
    """The values that a field of a spec's model can have."""
    return [
        value for one in _members(model.model_fields[name].annotation) if get_origin(one) is Literal for value in get_args(one)
    ]


def _metadata(info: FieldInfo) -> Iterator[Any]:
    for one in (*info.metadata, *(more for member in _members(info.annotation) for more in get_args(member)[1:])):
        yield from one.metadata if isinstance(one, FieldInfo) else (one,)


def _members(annotation: Any) -> tuple[Any, ...]:
    """Of a union; else the type alone."""
    return get_args(annotation) if get_origin(annotation) in (Union, UnionType) else (annotation,)


def _plain(annotation: Any) -> Any:
    """The type without rules and without what only a CRD needs."""
    origin, inner = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        if rules.DURATION in inner[1:]:
            return Duration
        kept: list[Any] = []
        for one in inner[1:]:
            if isinstance(one, FieldInfo):
                kept += one.metadata
            elif one is not None and not isinstance(one, Rule | Readable):
                kept.append(one)
        base = _plain(inner[0])
        return Annotated[base, *kept] if kept else base
    if origin in (Union, UnionType):
        return Union[tuple(_plain(one) for one in inner)]  # noqa: UP007
    if origin is list:
        return list[_plain(inner[0])]  # type: ignore[misc]
    if isinstance(annotation, type) and issubclass(annotation, SpecModel):
        return _of_model(annotation)
    return annotation


@cache
def _of_model(model: type[SpecModel]) -> type[RestModel]:
    return from_spec(model.__name__.removesuffix("Spec"), model, (model.__doc__ or "").partition("\n")[0])
