"""`eventsink sinks`: lists, shows, makes, changes, deletes and tests sinks through the REST facade."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click
import yaml

from eventsink.client import Client, EventSink, EventSinkError
from eventsink.runtime.settings import ConfigurationError, read_secret_file
from eventsink.runtime.times import format_time

Result = TypeVar("Result")
FILE = click.Path(dir_okay=False, path_type=Path)
OUTPUT = click.option("-o", "--output", default="table", type=click.Choice(["table", "json", "yaml"]), show_default=True)
BODY = click.option(
    "-f",
    "--file",
    "document",
    type=click.File("rb"),
    help="The request as the API takes it, JSON or YAML; - for standard input. Options stand over it.",
)


def connection(command: Callable[..., Any]) -> Callable[..., Any]:
    """Where the facade is, and the key."""
    for option in (
        click.option(
            "--ca-file",
            envvar="EVENTSINK_REST_CA_FILE",
            type=FILE,
            help="Certificates that the server's is checked against (environment: EVENTSINK_REST_CA_FILE).",
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
            help="The facade (environment: EVENTSINK_REST_SERVER).",
        ),
    ):
        command = option(command)
    return command


def members(command: Callable[..., Any]) -> Callable[..., Any]:
    """What is said of a sink, made or changed. Credentials come from files: a command line is seen by others."""
    for option in reversed(
        (
            click.option("--name", help="What people see."),
            click.option("--description", help="What it is for."),
            click.option("--suspend/--resume", default=None, help="Send nothing; send again."),
            click.option("--min-severity", help="Only alerts of this severity or above, such as high."),
            click.option(
                "--matcher", "matchers", multiple=True, help="Only alerts that match, such as 'team=\"batch\"'; repeatable."
            ),
            click.option("--slack-channel", metavar="CHANNEL", help="Slack: #name or id."),
            click.option("--webhook-url", metavar="URL", help="Webhook: where to post."),
            click.option("--webhook-url-file", type=FILE, help="The same from a file, where the URL is a credential."),
            click.option("--format", type=click.Choice(["cloudevents", "alertmanager"]), help="Webhook: form of the messages."),
            click.option("--batch", type=int, help="Webhook: most alerts in one message."),
            click.option("--timeout", metavar="DURATION", help="Webhook: of one attempt, such as 10s."),
            click.option("--header-file", "headers", metavar="NAME=FILE", multiple=True, help="Webhook: a header; repeatable."),
            click.option("--signing-secret-file", type=FILE, help="Webhook: sign messages with this."),
            click.option("--generate-signing-secret", is_flag=True, help="Webhook: have a secret made; it is printed once."),
            click.option("--webhook-ca-file", type=FILE, help="Webhook: PEM certificates for the receiver's."),
        )
    ):
        command = option(command)
    return command


@click.group()
def sinks() -> None:
    """Manage sinks through the REST facade."""


@sinks.command("list")
@click.option("--tenant", required=True, help="Whose sinks.")
@OUTPUT
@connection
def list_sinks(tenant: str, output: str, **where: Any) -> None:
    """Show the sinks of a tenant, oldest first."""
    found = _ask(where, lambda client: list(client.list(tenant)))
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
    """Show the sink of this ID."""
    _show(_ask(where, lambda client: client.get(id)), output)


@sinks.command()
@click.option("--tenant", help="Whose alerts are delivered.")
@click.option("--slack-code-file", type=FILE, help="Slack: an OAuth code, which is exchanged once.")
@click.option("--bot-token-file", type=FILE, help="Slack: a bot token.")
@click.option("--incoming-webhook-file", type=FILE, help="Slack: the URL of an incoming webhook.")
@click.option("--idempotency-key", help="The same request with the same key makes nothing new.")
@members
@BODY
@OUTPUT
@connection
def create(
    tenant: str | None,
    slack_code_file: Path | None,
    bot_token_file: Path | None,
    incoming_webhook_file: Path | None,
    idempotency_key: str | None,
    document: Any,
    output: str,
    server: str,
    key_file: Path,
    ca_file: Path | None,
    **given: Any,
) -> None:
    """Make a sink and wait for its first verdict."""
    body = _body(document)
    if tenant is not None:
        body["tenant_id"] = tenant
    credentials = {
        "slack_oauth_code": slack_code_file,
        "bot_token": bot_token_file,
        "incoming_webhook_url": incoming_webhook_file,
    }
    slack = {name: _secret(file) for name, file in credentials.items() if file is not None}
    _add(body, given, slack)
    for name, option in (("tenant_id", "--tenant"), ("name", "--name")):
        if name not in body:
            raise click.UsageError(f"{option} is missing, and so is {name} in a file (-f)")
    if "event_sink_args" not in body:
        raise click.UsageError("say where alerts go: --slack-channel, --incoming-webhook-file, --webhook-url, or a file (-f)")
    where = {"server": server, "key_file": key_file, "ca_file": ca_file}
    _show(_ask(where, lambda client: client.create_from(body, idempotency_key=idempotency_key)), output)


@sinks.command()
@click.argument("id")
@click.option("--if-match", metavar="ETAG", help="Only if the sink was not changed since this was answered (-o json: etag).")
@members
@BODY
@OUTPUT
@connection
def update(
    id: str, if_match: str | None, document: Any, output: str, server: str, key_file: Path, ca_file: Path | None, **given: Any
) -> None:
    """Change what is given of the sink of this ID."""
    body = _body(document)
    _add(body, given, {})
    if not body:
        raise click.UsageError("say what changes, by options or by a file (-f)")
    where = {"server": server, "key_file": key_file, "ca_file": ca_file}
    _show(_ask(where, lambda client: client.update_from(id, body, if_match=if_match)), output)


@sinks.command()
@click.argument("ids", metavar="ID...", nargs=-1, required=True)
@connection
def delete(ids: tuple[str, ...], **where: Any) -> None:
    """Delete sinks by their ids."""
    for id in ids:
        _ask(where, lambda client, id=id: client.delete(id))  # type: ignore[misc]
        click.echo(f"the sink {id} is deleted")


@sinks.command()
@click.argument("id")
@click.option("-o", "--output", default="text", type=click.Choice(["text", "json"]), show_default=True)
@connection
def test(id: str, output: str, **where: Any) -> None:
    """Send a test alert to the sink of this ID; exit status 1 if it does not arrive."""
    told = _ask(where, lambda client: client.test(id))
    if output == "json":
        click.echo(json.dumps(told.__dict__, indent=2))
    elif told.delivered:
        click.echo(f"delivered in {told.seconds:.2f} s ({told.status or 'no HTTP status'})")
    else:
        click.echo(f"not delivered: {told.reason}: {told.message}", err=True)
    sys.exit(0 if told.delivered else 1)


def _body(document: Any) -> dict[str, Any]:
    """The request in a file; empty without one."""
    if document is None:
        return {}
    try:
        body = yaml.safe_load(document.read())
    except (yaml.YAMLError, UnicodeDecodeError):
        raise click.UsageError("the file of -f is neither JSON nor YAML") from None
    if not isinstance(body, dict) or any(not isinstance(body.get(name), dict | None) for name in ("match", "event_sink_args")):
        raise click.UsageError("the file of -f has to hold one object, as the API takes it")
    try:
        json.dumps(body)
    except (TypeError, ValueError):
        raise click.UsageError("the file of -f holds a value that JSON does not have: put dates into quotes") from None
    return body


def _add(body: dict[str, Any], given: dict[str, Any], slack: dict[str, str]) -> None:
    """Put what the options say over what stands in the body."""
    for name in ("name", "description", "suspend"):
        if given[name] is not None:
            body[name] = given[name]
    match = {"min_severity": given["min_severity"], "matchers": list(given["matchers"]) or None}
    if said := {name: value for name, value in match.items() if value is not None}:
        body["match"] = {**(body.get("match") or {}), **said}
    if given["slack_channel"] is not None:
        slack["channel"] = given["slack_channel"]
    webhook = {
        "url": given["webhook_url"],
        "secret_url": _secret_or_none(given["webhook_url_file"]),
        "format": given["format"],
        "batch": given["batch"],
        "timeout": given["timeout"],
        "headers": _headers(given["headers"]),
        "signing_secret": _secret_or_none(given["signing_secret_file"]),
        "generate_signing_secret": given["generate_signing_secret"] or None,
        "ca_certificate": _secret_or_none(given["webhook_ca_file"]),
    }
    webhook = {name: value for name, value in webhook.items() if value is not None}
    if slack and webhook:
        raise click.UsageError("a sink is of Slack or a webhook: use the options of one of them")
    for kind, said in (("Slack", slack), ("Webhook", webhook)):
        if said:
            args = body.setdefault("event_sink_args", {})
            if set(args) - {kind} or not isinstance(args.get(kind) or {}, dict):
                raise click.UsageError(f"the file of -f is of another type than the options ({kind})")
            args[kind] = {**(args.get(kind) or {}), **said}


def _headers(pairs: tuple[str, ...]) -> list[dict[str, str]] | None:
    found = []
    for pair in pairs:
        name, separator, file = pair.partition("=")
        if not (name and separator and file):
            raise click.UsageError("--header-file: write NAME=FILE")
        found.append({"name": name, "value": _secret(Path(file))})
    return found or None


def _secret(file: Path) -> str:
    try:
        return read_secret_file(file)
    except ConfigurationError as error:
        raise click.UsageError(str(error)) from None


def _secret_or_none(file: Path | None) -> str | None:
    return _secret(file) if file is not None else None


def _ask(where: dict[str, Any], question: Callable[[Client], Result]) -> Result:
    """The answer, or the end with a sentence: status 2 for a wrong setting, else 1."""
    key = _secret(where["key_file"])
    try:
        client = Client(where["server"], key, ca=str(where["ca_file"]) if where["ca_file"] is not None else None)
    except ValueError as error:
        raise click.UsageError(f"--{str(error).replace('key:', 'key-file:', 1)}") from None
    try:
        with client:
            return question(client)
    except EventSinkError as error:
        raise click.ClickException(str(error)) from None
    except OSError as error:  # the file with the certificates
        raise click.UsageError(str(error)) from None


def _show(sink: EventSink, output: str) -> None:
    """One sink; a signing secret that was made is the last line of a table, and a member otherwise."""
    if output == "table":
        click.echo(_table([sink]))
        if sink.signing_secret is not None:
            click.echo(sink.signing_secret)
            click.echo("the last line is the signing secret; it is shown this once", err=True)
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
    rows = [["ID", "NAME", "TYPE", "TO", "READY", "DELIVERING", "UPDATED"]]
    for one in found:
        to = str(one.configuration.get("url") or one.configuration.get("channel") or one.configuration.get("channel_name") or "-")
        delivering = one.delivering.status if one.delivering is not None else "-"
        rows.append([one.id, one.name, one.type, to, str(one.ready), delivering, format_time(one.updated_at)])
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    return "\n".join("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows)
