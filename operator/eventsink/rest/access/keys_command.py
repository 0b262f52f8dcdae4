"""`eventsink keys`: creates, lists and revokes API keys of the REST API."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeVar

import click

from eventsink.kube.settings import KubernetesSettings
from eventsink.rest.access.key_store import FileKeyStore, KeyStore, KeyStoreError, SecretKeyStore
from eventsink.rest.access.keys import KeyRecord, make_key
from eventsink.rest.config import KeySettings
from eventsink.runtime.settings import ConfigurationError, seconds
from eventsink.runtime.times import format_time

Result = TypeVar("Result")
_DEFAULTS = KeySettings()


def store_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Options for where the records are kept."""
    for option in (
        click.option(
            "--kubeconfig", type=click.Path(path_type=Path), help="Kubeconfig of the cluster. Default: the current one."
        ),
        click.option("--secret", default=_DEFAULTS.secret, show_default=True, help="Secret with the records of the keys."),
        click.option("-n", "--namespace", default=_DEFAULTS.namespace, show_default=True, help="Namespace of that Secret."),
        click.option(
            "--file",
            type=click.Path(dir_okay=False, path_type=Path),
            help="Without a cluster: the file of `eventsink run`, rest-keys.json in its data folder.",
        ),
    ):
        command = option(command)
    return command


@click.group()
def keys() -> None:
    """API keys of the REST API: shown once, stored as hashes."""


@keys.command()
@click.option("--name", required=True, help="Who has the key, for people.")
@click.option("--tenant", "tenants", multiple=True, help="Tenant that the key has access to. Repeatable.")
@click.option("--all-tenants", is_flag=True, help="Give access to every tenant.")
@click.option("--expires", metavar="DURATION", help="When the key expires, such as 90d. Default: never.")
@store_options
def create(name: str, tenants: tuple[str, ...], all_tenants: bool, expires: str | None, **store: Any) -> None:
    """Create a key and print it, once."""
    if bool(tenants) == all_tenants:
        raise click.UsageError("say which tenants: --tenant, once or several times, or --all-tenants")
    try:
        lasts = seconds(expires) if expires is not None else None
        key, record = make_key(name, None if all_tenants else tenants, datetime.now(UTC), lasts=lasts)
    except ValueError as error:
        raise click.UsageError(str(error)) from None
    _with_store(store, lambda store: store.add(record))
    click.echo(key)
    click.echo(f"key {record.id} is shown only once; revoke it with: eventsink keys revoke {record.id}", err=True)


@keys.command("list")
@click.option("-o", "--output", default="table", type=click.Choice(["table", "json"]), show_default=True)
@store_options
def list_keys(output: str, **store: Any) -> None:
    """List the keys; the keys themselves are not stored."""
    found = sorted(_with_store(store, lambda store: store.records()).values(), key=lambda one: (one.created, one.id))
    if output == "json":
        click.echo(json.dumps([_shown(one) for one in found], indent=2))
    elif found:
        click.echo(_table(found))
    else:
        click.echo("no keys", err=True)


@keys.command()
@click.argument("ids", nargs=-1, required=True)
@store_options
def revoke(ids: tuple[str, ...], **store: Any) -> None:
    """Revoke keys by their IDS, at once."""
    for ident in ids:
        if not _with_store(store, lambda store, ident=ident: store.remove(ident)):  # type: ignore[misc]
            raise click.ClickException(f"no key has the id {ident}; see: eventsink keys list")
        click.echo(f"key {ident} revoked")


def _shown(one: KeyRecord) -> dict[str, Any]:
    """A record without its hash."""
    return {
        "id": one.id,
        "name": one.name,
        "tenants": list(one.tenants) if one.tenants is not None else None,
        "created": one.created,
        "expires": format_time(one.expires) if one.expires is not None else None,
        "expired": one.is_expired(datetime.now(UTC)),
    }


def _table(found: list[KeyRecord]) -> str:
    rows = [["ID", "NAME", "TENANTS", "CREATED", "EXPIRES"]]
    for one in map(_shown, found):
        tenants = ",".join(one["tenants"]) if one["tenants"] is not None else "all"
        ends = f"{one['expires'] or 'never'}{' (expired)' if one['expired'] else ''}"
        rows.append([one["id"], one["name"], tenants, one["created"], ends])
    widths = [max(len(row[column]) for row in rows) for column in range(5)]
    return "\n".join("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows)


def _with_store(options: dict[str, Any], work: Callable[[KeyStore], Awaitable[Result]]) -> Result:
    """Use the store of the options; a sentence and exit status 1 if that fails."""

    async def run() -> Result:
        if options["file"] is not None:
            return await work(FileKeyStore(options["file"]))
        from eventsink.kube.http import connect  # the official client, of which `--file` needs nothing

        api = await connect(KubernetesSettings(kubeconfig=options["kubeconfig"]), "keys")
        try:
            return await work(SecretKeyStore(api, options["namespace"], options["secret"]))
        finally:
            await api.close()

    try:
        return asyncio.run(run())
    except (KeyStoreError, ConfigurationError) as error:
        raise click.ClickException(str(error)) from None
