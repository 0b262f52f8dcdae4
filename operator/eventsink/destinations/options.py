"""What destination types declare for `eventsink sinks` (their part `options`), and what those declarations are made of."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from types import UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

import click
from pydantic import BaseModel

from eventsink.destinations import registry
from eventsink.runtime.settings import ConfigurationError, read_secret_file


@dataclass(frozen=True)
class Argument:
    """A command-line option for an argument of a request. An option that is not given has the value None or ()."""

    name: str
    """The argument."""
    option: click.Option
    """Its name must be unique among those of all types."""


@dataclass(frozen=True)
class DestinationOptions:
    """The command-line options of a destination type, exported by its part `options` as `OPTIONS`. Credentials are read from files."""

    arguments: tuple[Argument, ...]
    """For arguments of new sinks and of changes."""
    create_arguments: tuple[Argument, ...] = ()
    """For arguments of new sinks only."""
    summary: tuple[str, ...] = ()
    """Fields of its configuration in responses: the first that is set says in a table where it delivers."""


class SecretFile(click.ParamType):  # type: ignore[type-arg]  # generic in some versions
    """A file with a credential: a command line is visible to others."""

    name = "file"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """The credential in the file."""
        try:
            return read_secret_file(Path(value))
        except ConfigurationError as error:
            raise click.UsageError(str(error), ctx) from None


SECRET_FILE = SecretFile()


@cache
def options() -> Mapping[str, DestinationOptions]:
    """The options of all destination types, by the name of the type in a spec."""
    return {name: registry.load(name, "options").OPTIONS for name in registry.names()}


def given(arguments: tuple[Argument, ...], values: Mapping[str, Any]) -> dict[str, Any]:
    """The arguments whose options were given.

    Parameters
    ----------
    values
        Option's name -> value, of all options of the command.
    """
    found = {one.name: values[one.option.name] for one in arguments if one.option.name is not None and one.option.name in values}
    return {name: list(value) if isinstance(value, tuple) else value for name, value in found.items() if value not in (None, ())}


def from_model(model: type[BaseModel]) -> tuple[Argument, ...]:
    """Options for the fields of a spec's model, which are truth values, texts, choices, and lists of texts (`--matcher`, repeatable).

    A list of objects has none: it is written in a file.
    """
    found = []
    for name, info in model.model_fields.items():
        flag, text = name.replace("_", "-"), info.description
        kind = _kind(info.annotation)
        if kind is bool:
            option = click.Option([f"--{flag}/--no-{flag}"], default=None, help=text)
        elif (
            get_origin(kind) is list
            and isinstance(_kind(get_args(kind)[0]), type)
            and issubclass(_kind(get_args(kind)[0]), BaseModel)
        ):
            continue
        elif get_origin(kind) is list:
            option = click.Option([f"--{flag.removesuffix('s')}", name], multiple=True, help=f"{text} Repeatable.")
        elif get_origin(kind) is Literal:
            option = click.Option([f"--{flag}"], type=click.Choice(get_args(kind)), help=text)
        else:
            option = click.Option([f"--{flag}"], help=text)
        found.append(Argument(name, option))
    return tuple(found)


def _kind(annotation: Any) -> Any:
    """The type of an optional field, without bounds and rules."""
    if get_origin(annotation) in (Union, UnionType):
        return _kind(next(one for one in get_args(annotation) if one is not type(None)))
    return _kind(get_args(annotation)[0]) if get_origin(annotation) is Annotated else annotation
