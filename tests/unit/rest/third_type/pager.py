"""A destination type in one module: a pager with a number, and a key that is a credential."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

import click
from pydantic import Field

from eventsink.destinations.arguments import Credential, Credentials, DestinationArguments, InvalidArguments, RestModel, bounds
from eventsink.destinations.options import SECRET_FILE, Argument, DestinationOptions
from eventsink.resources.model import SecretKeyRef, SpecModel, StatusModel


class Pager(SpecModel):
    """Call a pager."""

    number: Annotated[str, Field(max_length=10)] = Field(description="Number of the pager.")
    key_secret_ref: SecretKeyRef | None = Field(default=None, description="Where the key is read.")


class PagerStatus(StatusModel):
    """The pager that the sink calls."""

    carrier: str | None = Field(default=None, description="Name of its carrier.")


class PagerArgs(RestModel):
    """A pager."""

    number: Annotated[str, Field(min_length=1, **bounds(Pager, "number"))] | None = None
    key: Credential | None = None


class PagerConfiguration(RestModel):
    """A pager, without its key."""

    number: str
    carrier: str | None = None


def _new(args: PagerArgs, credentials: Credentials) -> dict[str, Any]:
    if args.number is None:
        raise InvalidArguments("required; write a number", field="number")
    return _changed({}, args, credentials)


def _changed(before: Mapping[str, Any], args: PagerArgs, credentials: Credentials) -> dict[str, Any]:
    spec = {**before, **({"number": args.number} if args.number is not None else {})}
    return {**spec, "keySecretRef": credentials.keep("key", args.key)} if args.key is not None else spec


def _shown(spec: Mapping[str, Any], status: PagerStatus | None) -> PagerConfiguration:
    return PagerConfiguration(number=str(spec.get("number")), carrier=status.carrier if status else None)


SPEC = Pager
STATUS = PagerStatus
ARGUMENTS = DestinationArguments(
    display_name="Pager",
    create=PagerArgs,
    change=PagerArgs,
    configuration=PagerConfiguration,
    new_spec=_new,
    changed_spec=_changed,
    shown=_shown,
    fields={"keySecretRef": "key"},
)
OPTIONS = DestinationOptions(
    (Argument("number", click.Option(["--pager-number"], help="Pager: its number.")),),
    create_arguments=(Argument("key", click.Option(["--pager-key-file"], type=SECRET_FILE, help="Pager: file with its key.")),),
    summary=("number",),
)
