"""`eventsink run`: puts the folder, the operator's half and the router together in one process."""

from __future__ import annotations

import asyncio
import os
import secrets
from pathlib import Path
from typing import Any

from eventsink.router.process import Router
from eventsink.router.sources import NamespaceOwner, PostingSourceSettings, TenantRule
from eventsink.runtime.files import make_folder
from eventsink.runtime.lock import FileLock, Locked
from eventsink.runtime.logs import get_logger
from eventsink.runtime.process import ExitStatus, Process, Stop, run_command
from eventsink.runtime.settings import ConfigurationError, load_settings
from eventsink.standalone.assembly import Standalone
from eventsink.standalone.config import StandaloneSettings
from eventsink.standalone.rest import KEYS, make_first_key, start_rest

DEFAULT_TENANT = "default"
"""The tenant of alerts whose namespace belongs to nobody, in the source that is configured by default."""


def main(folder: Path, data: Path, config: Path | None) -> int:
    """Run until it is to stop; returns the exit status."""
    return run_command("run", lambda: _settings(folder, data, config), lambda settings, stop: serve(settings, folder, data, stop))


def _settings(folder: Path, data: Path, config: Path | None) -> StandaloneSettings:
    settings = load_settings(StandaloneSettings, part="standalone", path=config)
    if "path" in settings.queue.model_fields_set:
        raise ConfigurationError(f"{config or 'the configuration'}: queue.path: remove it; the queue is in the folder of --data")
    if not folder.is_dir():
        raise ConfigurationError(f"{folder}: folder not found; create it, and put EventSink documents into it")
    if data.resolve().is_relative_to(folder.resolve()):
        raise ConfigurationError(f"--data {data}: is inside the folder of documents; choose one outside of it")
    return _with_defaults(settings, data)


def _with_defaults(settings: StandaloneSettings, data: Path) -> StandaloneSettings:
    """What a first start needs: the path of the queue, and tokens.

    Raises
    ------
    ConfigurationError
        The data folder cannot be written.
    """
    queue: dict[str, Any] = {"path": data / "queue.db"}
    if "lock_timeout" not in settings.queue.model_fields_set:
        queue["lock_timeout"] = (
            0.0  # whoever has it has the folder, which is locked before: then it is a router, and does not end
        )
    changed: dict[str, Any] = {"queue": settings.queue.model_copy(update=queue)}
    try:
        make_folder(data)
        if not settings.sources:
            token = _token(data / "alertmanager-token")
            rule = TenantRule(namespace_owner=NamespaceOwner())
            source = PostingSourceSettings(name="alertmanager", token_files=(token,), tenant=rule, default_tenant=DEFAULT_TENANT)
            changed["sources"] = (source,)
        if settings.admin.token_file is None:
            changed["admin"] = settings.admin.model_copy(update={"token_file": _token(data / "admin-token")})
    except OSError as error:
        raise ConfigurationError(f"--data {data}: cannot be written: {error.strerror}") from None
    return settings.model_copy(update=changed)


def _token(file: Path) -> Path:
    """A file with a token that nobody else may read; made if it is absent."""
    if not file.exists():
        new = file.with_name(f".{file.name}.{os.getpid()}")
        descriptor = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        with os.fdopen(descriptor, "w", encoding="utf-8") as stream:
            stream.write(secrets.token_urlsafe(32) + "\n")
            stream.flush()
            os.fsync(stream.fileno())
        try:
            os.link(new, file)  # unlike a rename, never over one that another process just made
        except FileExistsError:
            pass
        finally:
            new.unlink()
    return file


async def serve(settings: StandaloneSettings, folder: Path, data: Path, stop: asyncio.Event) -> None:
    """Run until `stop` is set.

    Raises
    ------
    Stop
        Another process has the data folder, or a part cannot start, or ended.
    """
    lock = lock_folder(data)
    try:
        try:
            make_first_key(data)
        except OSError as error:
            raise Stop(ExitStatus.FAILED, f"{data}: the data folder cannot be written: {error.strerror}") from None
        async with Process("router", settings.monitor, stop) as process:
            router = await Router.open(settings.router(), process)
            standalone = Standalone(settings, folder, data, router.directory, process)
            for source in settings.sources:
                get_logger().info(
                    "alerts are accepted", path=f"/v1/alerts/{source.name}", token_files=[str(one) for one in source.token_files]
                )
            await start_rest(settings.rest, data / KEYS, standalone.api, router, process, unavailable=standalone.missing)
            router.report_to(standalone.api, keeps_statuses=False)
            await standalone.start()
            await process.until_stopped()
    finally:
        lock.release()


def lock_folder(data: Path) -> FileLock:
    """Hold the data folder for this process alone. It does not wait: a person at a terminal wants to know at once who has it.

    Raises
    ------
    Stop
        Another process holds it.
    """
    try:
        return FileLock(data / "lock")
    except Locked as holder:
        text = f"{data}: another process works with this data folder ({holder}); end it first, or choose another --data"
        raise Stop(ExitStatus.FAILED, text) from None
    except OSError as error:
        raise Stop(ExitStatus.FAILED, f"{data}: the data folder cannot be used: {error.strerror}") from None
