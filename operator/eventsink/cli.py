"""The `eventsink` command."""

from __future__ import annotations

import json
import os
import shutil
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from importlib import import_module, metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from eventsink.router.admin.client import AdminClient

CONFIG = click.option(
    "--config",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="YAML file with the settings; EVENTSINK_<PART>__<FIELD> in the environment overrides it.",
)


GROUPS = {"keys": "eventsink.rest.access.keys_command", "sinks": "eventsink.sinks_command"}
"""Name of a command with commands of its own -> the module that has it under that name; imported when it is used."""


class Commands(click.Group):
    """The commands of this file, and those of GROUPS."""

    def list_commands(self, context: click.Context) -> list[str]:
        return sorted([*super().list_commands(context), *GROUPS])

    def get_command(self, context: click.Context, name: str) -> click.Command | None:
        if name in GROUPS:
            found: click.Command = getattr(import_module(GROUPS[name]), name)
            return found
        return super().get_command(context, name)


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.version_option(metadata.version("eventsink"), prog_name="eventsink")
def main() -> None:
    """Deliver each tenant's alerts to its own Slack channels and webhooks."""


@main.command()
@CONFIG
def operator(config: Path | None) -> None:
    """Validate EventSinks and compile them for the router."""
    from eventsink.controller import process as service

    sys.exit(service.main(config))


@main.command()
@CONFIG
def router(config: Path | None) -> None:
    """Take alerts and deliver them to the compiled sinks."""
    from eventsink.router import process as service

    sys.exit(service.main(config))


@main.command()
@CONFIG
def rest(config: Path | None) -> None:
    """Serve the /v1/event_sink API for programs that do not speak Kubernetes."""
    from eventsink.rest import process as service

    sys.exit(service.main(config))


@main.command()
@CONFIG
def events(config: Path | None) -> None:
    """Follow the Kubernetes Events of the cluster and post them to the router."""
    from eventsink.events import process as service

    sys.exit(service.main(config))


@main.command("run")
@click.argument("folder", metavar="DIR", type=click.Path(path_type=Path))
@click.option(
    "--data",
    envvar="EVENTSINK_DATA",
    default="eventsink-data",
    show_default=True,
    type=click.Path(file_okay=False, path_type=Path),
    help="Folder for the queue and what is kept beside it; made if it is absent (environment: EVENTSINK_DATA).",
)
@CONFIG
def run_folder(folder: Path, data: Path, config: Path | None) -> None:
    """Take and deliver alerts by the EventSink, Secret and Namespace documents below DIR, without a cluster."""
    from eventsink.standalone import process as service

    sys.exit(service.main(folder, data, config))


@main.command()
@click.argument("files", metavar="FILE...", nargs=-1, required=True)
@click.option("-o", "--output", default="text", type=click.Choice(["text", "json"]), show_default=True)
@click.option(
    "--each",
    is_flag=True,
    help="Check each file by itself, and skip those that do not mention eventsink.dev/v1...: for the files of a repository.",
)
@click.option("--allow-empty", is_flag=True, help="Exit with status 0 also if there is no EventSink.")
def validate(files: tuple[str, ...], output: str, each: bool, allow_empty: bool) -> None:
    """Check documents in files and folders, or (-) from standard input, without a cluster; exit status 1 on any error."""
    from eventsink.resources.names import GROUP
    from eventsink.standalone.validate import check, check_each, read

    found = check_each(read(files, sys.stdin.buffer, mentioning=f"{GROUP}/v")) if each else check(read(files, sys.stdin.buffer))
    if not allow_empty:
        found = found.with_sinks(files)
    if output == "json":
        click.echo(json.dumps(found.to_dict(), indent=2))
    else:
        for error in found.errors:
            click.echo(str(error))
        for note in found.notes:
            click.echo(f"note: {note}", err=True)
        if not found.errors:
            click.echo(f"{found.sinks} EventSink{'' if found.sinks == 1 else 's'} in order", err=True)
    sys.exit(1 if found.errors else 0)


@main.command()
@click.argument("alert", metavar="FILE|LABEL=VALUE...", nargs=-1, required=True)
@click.option("--annotation", "annotations", multiple=True, metavar="NAME=VALUE", help="Of an alert made of labels. Repeatable.")
@click.option(
    "--sink", "sink_file", metavar="FILE", help="File with the EventSinks to preview, - for standard input. Default: Slack."
)
@click.option(
    "--source", default="alertmanager", show_default=True, help="The source that the alerts come from (spec.match.sources)."
)
@click.option("--format", "format_", default="alertmanager", show_default=True, help="The format of that source.")
@click.option("--resolved", is_flag=True, help="Show the end of the alerts.")
@click.option("-o", "--output", default="text", type=click.Choice(["text", "json"]), show_default=True)
def preview(
    alert: tuple[str, ...],
    annotations: tuple[str, ...],
    sink_file: str | None,
    source: str,
    format_: str,
    resolved: bool,
    output: str,
) -> None:
    """Show what sinks would be sent about alerts; exit status 1 if that is nothing.

    The alerts are in a FILE (- for standard input) with what a source posts, such as Alertmanager's webhook, or one is made of labels:

        eventsink preview KubePodCrashLooping severity=critical namespace=shop pod=api-0 --annotation summary="It is crash-looping."
    """
    from eventsink.standalone import preview as previews

    width = min(shutil.get_terminal_size().columns, previews.MAX_WIDTH)
    try:
        if sink_file == "-" and "-" in alert:
            raise previews.NoPreview(
                "- is standard input, and holds either the alerts or the sink: name a file for the other one"
            )
        payload = previews.read_payload(alert, annotations, sys.stdin.buffer)
        notification = previews.read_notification(payload, format=format_, resolved=resolved, now=datetime.now(UTC))
        sinks = previews.read_sinks(sink_file, sys.stdin.buffer)
    except previews.NoPreview as error:
        raise click.ClickException(str(error)) from None
    shown = [previews.preview_sink(sink, notification, source=source, width=width) for sink in sinks]
    for one in shown:
        for note in one.notes:
            click.echo(f"{one.title}: {note}", err=True)
        for message in one.messages:
            if output == "json":
                click.echo(json.dumps(message.body, indent=2))
            else:
                click.echo("\n".join([f"{one.title} -> {message.to}", "", *message.lines, ""]), color=_colour())
    sys.exit(0 if any(one.messages for one in shown) else 1)


def _colour() -> bool | None:
    """Whether standard output is coloured; None: if it is a terminal."""
    return False if os.environ.get("NO_COLOR") else None


@main.command()
def crd() -> None:
    """Print the CustomResourceDefinition of the EventSink."""
    from eventsink.resources.crd import crd_yaml

    click.echo(crd_yaml(), nl=False)


def admin_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Where the router's admin API is, and its token."""
    for option in (
        click.option(
            "--token-file",
            envvar="EVENTSINK_ADMIN_TOKEN_FILE",
            required=True,
            type=click.Path(path_type=Path),
            help="File with the token of the admin API (environment: EVENTSINK_ADMIN_TOKEN_FILE).",
        ),
        click.option(
            "--server",
            envvar="EVENTSINK_ADMIN_SERVER",
            default="http://127.0.0.1:8081",
            show_default=True,
            help="The router's admin API (environment: EVENTSINK_ADMIN_SERVER).",
        ),
    ):
        command = option(command)
    return command


@main.command()
@click.option("--state", type=click.Choice(["dead", "waiting", "arrived"]), help="Only these; without it, dead and waiting.")
@click.option("--tenant", help="Only of this tenant.")
@click.option("--sink", help="Only of this sink: NAMESPACE/NAME, or the uid of a deleted one.")
@click.option("--reason", help="Only with this reason, such as HTTP400.")
@click.option("--message", help="The alerts in a Slack message, by the id that it shows.")
@click.option("--limit", default=200, show_default=True, type=click.IntRange(1, 1_000_000), help="At most so many.")
@click.option("-o", "--output", default="table", type=click.Choice(["table", "wide", "json"]), show_default=True)
@admin_options
def deliveries(output: str, limit: int, server: str, token_file: Path, **conditions: str | None) -> None:
    """Show what waits, what became a dead letter and why, and which Slack message carried which alert, oldest first."""
    from eventsink.router.admin.client import table

    found = list(_ask(lambda: list(_admin(server, token_file).deliveries(conditions, limit=limit))))
    if output == "json":
        click.echo(json.dumps(found, indent=2))
    elif found:
        click.echo(table(found, wide=output == "wide", now=datetime.now(UTC)))
    else:
        click.echo("no deliveries", err=True)


@main.command()
@click.argument("ids", nargs=-1)
@click.option("--tenant", help="Only of this tenant.")
@click.option("--sink", help="Only of this sink: NAMESPACE/NAME.")
@click.option("--reason", help="Only with this reason, such as HTTP400.")
@click.option("--all", "everything", is_flag=True, help="Every dead letter.")
@click.option(
    "--limit", default=10_000, show_default=True, type=click.IntRange(1, 100_000), help="At most so many, oldest first."
)
@click.option("--dry-run", is_flag=True, help="Only show what would be delivered again.")
@admin_options
def replay(
    ids: tuple[str, ...],
    tenant: str | None,
    sink: str | None,
    reason: str | None,
    everything: bool,
    limit: int,
    dry_run: bool,
    server: str,
    token_file: Path,
) -> None:
    """Deliver dead letters again: those with these IDS, or those that fulfil the conditions."""
    from eventsink.router.admin.client import table

    if not (ids or tenant or sink or reason or everything):
        raise click.UsageError("say which dead letters: IDS, --tenant, --sink, --reason, or --all")
    if dry_run:
        conditions = {"state": "dead", "id": ids, "tenant": tenant, "sink": sink, "reason": reason}
        found = _ask(lambda: list(_admin(server, token_file).deliveries(conditions, limit=limit)))
        click.echo(table(found, wide=False, now=datetime.now(UTC)) if found else "no dead letters")
        return
    wanted = {"ids": list(ids), "tenant": tenant, "sink": sink, "reason": reason, "all": everything, "limit": limit}
    count = _ask(lambda: _admin(server, token_file).replay(wanted))
    click.echo(f"{count} dead letter{'' if count == 1 else 's'} will be delivered again")


def _admin(server: str, token_file: Path) -> AdminClient:
    from eventsink.router.admin.client import AdminClient
    from eventsink.runtime.settings import ConfigurationError

    try:
        return AdminClient(server, token_file)
    except ConfigurationError as error:
        raise click.UsageError(str(error)) from None


def _ask(question: Callable[[], Any]) -> Any:
    """The response; or the program ends with status 1 and a sentence."""
    from eventsink.router.admin.client import AdminError

    try:
        return question()
    except AdminError as error:
        raise click.ClickException(str(error)) from None
