"""`eventsink sinks`: lists, shows, creates, changes, deletes and tests sinks through the REST API.

The options for the fields of a sink come from the models of the spec and from its destination types.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click
import yaml

from eventsink.client import Client, EventSink, EventSinkError, Mute
from eventsink.destinations.arguments import arguments
from eventsink.destinations.options import Argument, from_model, given, options
from eventsink.resources.spec import DeliverySpec, MatchSpec
from eventsink.runtime.settings import ConfigurationError, read_secret_file
from eventsink.runtime.times import format_time
from eventsink.runtime.yaml_text import InvalidYaml, read_yaml

Result = TypeVar("Result")
FILE = click.Path(dir_okay=False, path_type=Path)
OUTPUT = click.option("-o", "--output", default="table", type=click.Choice(["table", "json", "yaml"]), show_default=True)
BODY = click.option(
    "-f",
    "--file",
    "document",
    type=click.File("rb"),
    help="File with a request body of the API, JSON or YAML; - for standard input. Options override it.",
)


def connection(command: Callable[..., Any]) -> Callable[..., Any]:
    """Options for the address of the REST API, and the key."""
    for option in (
        click.option(
            "--ca-file",
            envvar="EVENTSINK_REST_CA_FILE",
            type=FILE,
            help="Certificates to check that of the server against (environment: EVENTSINK_REST_CA_FILE).",
        ),
        click.option(
            "--key-file",
            envvar="EVENTSINK_REST_KEY_FILE",
            required=True,
            type=FILE,
            help="File with the API key (environment: EVENTSINK_REST_KEY_FILE).",
        ),
        click.option(
            "--server",
            envvar="EVENTSINK_REST_SERVER",
            default="http://127.0.0.1:8082",
            show_default=True,
            help="Address of the REST API (environment: EVENTSINK_REST_SERVER).",
        ),
    ):
        command = option(command)
    return command


TENANT = click.Option(["--tenant"], help="The tenant whose alerts are delivered.")
OWN = (
    Argument("name", click.Option(["--name"], help="Display name.")),
    Argument("description", click.Option(["--description"], help="What the sink is for.")),
    Argument("suspend", click.Option(["--suspend/--resume"], default=None, help="Pause the sink; resume it.")),
)
TYPES = " or ".join(one.display_name for one in arguments().values())
RULES = {"match": from_model(MatchSpec), "delivery": from_model(DeliverySpec)}
"""Field of a request -> the options for its fields."""
CHANGE = [*OWN, *RULES["match"], *RULES["delivery"], *(one for type_ in options().values() for one in type_.arguments)]
CREATE = [*CHANGE, *(one for type_ in options().values() for one in type_.create_arguments)]


@click.group()
def sinks() -> None:
    """Manage sinks through the REST API."""


@sinks.command("list")
@click.option("--tenant", required=True, help="The tenant whose sinks to list.")
@OUTPUT
@connection
def list_sinks(tenant: str, output: str, **where: Any) -> None:
    """Show the sinks of a tenant, oldest first."""
    found = _call(where, lambda client: list(client.list(tenant)))
    if output != "table":
        _print([dict(one.raw) for one in found], output)
    elif found:
        click.echo(_table(found))
    else:
        click.echo("no sinks", err=True)


@sinks.command()
@click.argument("id")
@OUTPUT
@connection
def get(id: str, output: str, **where: Any) -> None:
    """Show the sink with this ID."""
    _show(_call(where, lambda client: client.get(id)), output)


@sinks.command(params=[TENANT, *(one.option for one in CREATE)])
@click.option("--idempotency-key", help="The same request with the same key creates nothing new.")
@BODY
@OUTPUT
@connection
def create(tenant: str | None, idempotency_key: str | None, document: Any, output: str, **values: Any) -> None:
    """Create a sink and wait for its first verdict."""
    body = read_body(document.read()) if document is not None else {}
    if tenant is not None:
        body["tenant_id"] = tenant
    _override(body, values)
    for name, option in (("tenant_id", "--tenant"), ("name", "--name")):
        if name not in body:
            raise click.UsageError(f"{option} is missing, and so is {name} in a file (-f)")
    if "event_sink_args" not in body:
        raise click.UsageError(f"say where to deliver, with the options of {TYPES} (see --help) or a file (-f)")
    _show(_call(values, lambda client: client.create_from(body, idempotency_key=idempotency_key)), output)


@sinks.command(params=[one.option for one in CHANGE])
@click.argument("id")
@click.option("--if-match", metavar="ETAG", help="Only if the sink was not changed since this ETag (-o json: etag).")
@BODY
@OUTPUT
@connection
def update(id: str, if_match: str | None, document: Any, output: str, **values: Any) -> None:
    """Change what is given of the sink with this ID."""
    body = read_body(document.read()) if document is not None else {}
    _override(body, values)
    if not body:
        raise click.UsageError("say what to change, with options or a file (-f)")
    _show(_call(values, lambda client: client.update_from(id, body, if_match=if_match)), output)


@sinks.command()
@click.argument("ids", metavar="ID...", nargs=-1, required=True)
@connection
def delete(ids: tuple[str, ...], **where: Any) -> None:
    """Delete sinks by their ids."""
    for id in ids:
        _call(where, lambda client, id=id: client.delete(id))  # type: ignore[misc]
        click.echo(f"sink {id} deleted")


@sinks.command()
@click.argument("id")
@click.option(
    "--matcher", "matchers", multiple=True, required=True, help='Label matcher, such as alertname="HighLatency". Repeatable.'
)
@click.option("--for", "duration", metavar="DURATION", help="For how long from now on, such as 2h.")
@click.option("--until", help="Until when, in RFC 3339, such as 2027-01-31T18:00:00Z.")
@click.option("--from", "start", help="Since when, in RFC 3339. Default: at once.")
@click.option("--comment", help="Why, for people.")
@click.option("--if-match", metavar="ETAG", help="Only if the sink was not changed since this ETag (-o json: etag).")
@OUTPUT
@connection
def mute(
    id: str,
    matchers: tuple[str, ...],
    duration: str | None,
    until: str | None,
    start: str | None,
    comment: str | None,
    if_match: str | None,
    output: str,
    **where: Any,
) -> None:
    """Do not notify the sink with this ID of some alerts for a time; what still fires then is sent."""
    if (duration is None) is (until is None):
        raise click.UsageError("say until when, with exactly one of --for and --until")
    texts = {"duration": duration, "until": until, "start": start, "comment": comment}
    wanted = Mute(matchers, **{name: text for name, text in texts.items() if text is not None})
    _show(_call(where, lambda client: client.mute(id, wanted, if_match=if_match)), output)


@sinks.command()
@click.argument("id")
@click.option(
    "--index",
    type=click.IntRange(min=0),
    help="Only the mute at this position (-o json: mutes), the first one is 0; with --if-match.",
)
@click.option("--if-match", metavar="ETAG", help="Only if the sink was not changed since this ETag (-o json: etag).")
@OUTPUT
@connection
def unmute(id: str, index: int | None, if_match: str | None, output: str, **where: Any) -> None:
    """Remove the mutes of the sink with this ID, or one of them."""
    if index is None:
        _show(_call(where, lambda client: client.unmute(id, if_match=if_match)), output)
    elif if_match is None:
        raise click.UsageError(
            "say with --if-match in which list the index is: with the etag of 'eventsink sinks get ID -o yaml'"
        )
    else:
        _show(_call(where, lambda client: client.unmute(id, index, if_match=if_match)), output)


@sinks.command()
@click.argument("id")
@click.option("-o", "--output", default="text", type=click.Choice(["text", "json"]), show_default=True)
@connection
def test(id: str, output: str, **where: Any) -> None:
    """Send a test alert to the sink with this ID; exit status 1 if it does not arrive."""
    outcome = _call(where, lambda client: client.test(id))
    if output == "json":
        click.echo(json.dumps(outcome.__dict__, indent=2))
    elif outcome.delivered:
        click.echo(f"delivered in {outcome.seconds:.2f} s ({outcome.status or 'no HTTP status'})")
    else:
        click.echo(f"not delivered: {outcome.reason}: {outcome.message}", err=True)
    sys.exit(0 if outcome.delivered else 1)


def read_body(content: bytes) -> dict[str, Any]:
    """The request in a file, JSON or YAML.

    Raises
    ------
    click.UsageError
        There is none in it.
    """
    try:
        body = read_yaml(content)
    except InvalidYaml:
        raise click.UsageError("the file of -f is neither JSON nor YAML") from None
    if not isinstance(body, dict) or any(not isinstance(body.get(name), dict | None) for name in ("match", "event_sink_args")):
        raise click.UsageError("the file of -f must contain one object, a request body of the API")
    try:
        json.dumps(body, allow_nan=False)
    except (TypeError, ValueError, RecursionError):
        raise click.UsageError("the file of -f contains a value that JSON does not have: put dates into quotes") from None
    return body


def _override(body: dict[str, Any], values: dict[str, Any]) -> None:
    """Put the options over the fields of the body."""
    body.update(given(OWN, values))
    for name, rules in RULES.items():
        if new := given(rules, values):
            body[name] = {**(body.get(name) or {}), **new}
    destinations = {arguments()[name].display_name: one.arguments + one.create_arguments for name, one in options().items()}
    new = {kind: found for kind, one in destinations.items() if (found := given(one, values))}
    if len(new) > 1:
        raise click.UsageError(f"a sink has one destination: use the options of one type only ({TYPES})")
    for kind, found in new.items():
        args = body.setdefault("event_sink_args", {})
        if set(args) - {kind} or not isinstance(args.get(kind) or {}, dict):
            raise click.UsageError(f"the file of -f has another type than the options ({kind})")
        args[kind] = {**(args.get(kind) or {}), **found}


def _call(values: dict[str, Any], call: Callable[[Client], Result]) -> Result:
    """The result of a call, or the end with a sentence: status 2 for an invalid setting, else 1.

    Parameters
    ----------
    values
        Of the options of `connection`, among others.
    """
    try:
        key = read_secret_file(values["key_file"])
        client = Client(values["server"], key, ca=str(values["ca_file"]) if values["ca_file"] is not None else None)
    except ConfigurationError as error:
        raise click.UsageError(str(error)) from None
    except ValueError as error:
        raise click.UsageError(f"--{str(error).replace('key:', 'key-file:', 1)}") from None
    try:
        with client:
            return call(client)
    except EventSinkError as error:
        raise click.ClickException(str(error)) from None
    except OSError as error:  # the file with the certificates
        raise click.UsageError(str(error)) from None


def _show(sink: EventSink, output: str) -> None:
    """Print one sink; a generated signing secret is the last line of a table, and a field otherwise."""
    if output == "table":
        click.echo(_table([sink]))
        if sink.signing_secret is not None:
            click.echo(sink.signing_secret)
            click.echo("the last line is the signing secret; it is shown only once", err=True)
        if not sink.ready:
            click.echo(f"not ready: {sink.reason}", err=True)
        return
    more = {"signing_secret": sink.signing_secret} if sink.signing_secret is not None else {}
    _print({**sink.raw, "etag": sink.etag, **more}, output)


def _print(value: Any, output: str) -> None:
    text = (
        json.dumps(value, indent=2)
        if output == "json"
        else yaml.safe_dump(value, sort_keys=False, allow_unicode=True).rstrip("\n")
    )
    click.echo(text)


def _table(found: list[EventSink]) -> str:
    summaries = {arguments()[name].display_name: type_.summary for name, type_ in options().items()}
    rows = [["ID", "NAME", "TYPE", "TO", "READY", "DELIVERING", "UPDATED"]]
    for one in found:
        to = next((str(one.configuration[name]) for name in summaries.get(one.type, ()) if one.configuration.get(name)), "-")
        delivering = one.delivering.status if one.delivering is not None else "-"
        rows.append([one.id, one.name, one.type, to, str(one.ready), delivering, format_time(one.updated_at)])
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    return "\n".join("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows)
