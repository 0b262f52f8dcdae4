"""`eventsink run`: puts the folder, the operator's half and the router together in one process."""

from __future__ import annotations

import asyncio
import fcntl
import json
import os
import secrets
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from prometheus_client import CollectorRegistry

from eventsink.router.directory import SinkDirectory
from eventsink.router.process import Router
from eventsink.router.sources import NamespaceOwner, PostingSourceSettings, TenantRule
from eventsink.runtime.files import write_private
from eventsink.runtime.logs import Repeated, get_logger
from eventsink.runtime.process import ExitStatus, Process, Stop, run_command
from eventsink.runtime.settings import ConfigurationError, load_settings
from eventsink.runtime.times import format_time
from eventsink.standalone.config import StandaloneSettings
from eventsink.standalone.documents import MAX_FILE_BYTES, FileContent, read_documents
from eventsink.standalone.folder import Look, Tree, look
from eventsink.standalone.inventory import Inventory, dump, load
from eventsink.standalone.made import MadeSinks
from eventsink.standalone.rest import KEYS, LocalRest, make_first_key
from eventsink.standalone.sinks import DocumentSinks, Generation, Generations, next_generations

DEFAULT_TENANT = "default"
"""Whose alerts those are that no namespace's owner claims, in the source that is there without any configuration."""
ACCEPTED = "accepted.json"
"""In the data folder: the last good version of each file, with the credentials in it."""


def main(folder: Path, data: Path, config: Path | None) -> int:
    """Run until it is to stop; returns the exit status."""
    return run_command("run", lambda: _settings(folder, data, config), lambda settings, stop: serve(settings, folder, data, stop))


def _settings(folder: Path, data: Path, config: Path | None) -> StandaloneSettings:
    settings = load_settings(StandaloneSettings, part="standalone", path=config)
    if "path" in settings.queue.model_fields_set:
        raise ConfigurationError(
            f"{config or 'the configuration'}: queue.path: remove it; the queue lies in the folder of --data"
        )
    if not folder.is_dir():
        raise ConfigurationError(f"{folder}: there is no such folder; make it, and put EventSink documents into it")
    if data.resolve().is_relative_to(folder.resolve()):
        raise ConfigurationError(f"--data {data}: lies in the folder of documents; choose one outside of it")
    return _with_defaults(settings, data)


def _with_defaults(settings: StandaloneSettings, data: Path) -> StandaloneSettings:
    """What a first start needs: the place of the queue, and tokens.

    Raises
    ------
    ConfigurationError
        The data folder cannot be written.
    """
    changed: dict[str, Any] = {"queue": settings.queue.model_copy(update={"path": data / "queue.db"})}
    try:
        data.mkdir(mode=0o700, parents=True, exist_ok=True)
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
            following = Following(settings, folder, data, router.directory, process.registry)
            process.readiness["sinks"] = following.missing
            rest = LocalRest(settings.rest, data / KEYS, following.sinks, router, process.registry, away=following.missing)
            for source in settings.sources:
                get_logger().info(
                    "alerts are taken", path=f"/v1/alerts/{source.name}", token_files=[str(one) for one in source.token_files]
                )
            process.start("sinks", following.sinks.run())
            process.start("folder", following.run())
            process.start("rest", rest.run())
            router.report_to(following.sinks.objects)
            await process.until_stopped()
    finally:
        os.close(lock)


def lock_folder(data: Path) -> int:
    """Hold the data folder for this process alone, until the descriptor is closed.

    Raises
    ------
    Stop
        Another process holds it.
    """
    try:
        descriptor = os.open(data / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise Stop(ExitStatus.FAILED, f"{data}: the data folder cannot be used: {error.strerror}") from None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        raise Stop(
            ExitStatus.FAILED, f"{data}: another process works with this data folder; end it first, or choose another --data"
        ) from None
    return descriptor


class Following:
    """Follows the folder, and hands on what counts."""

    def __init__(
        self, settings: StandaloneSettings, folder: Path, data: Path, directory: SinkDirectory, registry: CollectorRegistry
    ) -> None:
        self._poll = settings.folder.poll
        self._folder = folder
        self._data = data
        self._directory = directory
        made = MadeSinks(data / "made")
        self.sinks = DocumentSinks(settings.operator(), data / "objects", made, directory, registry)
        self._inventory = Inventory()
        self._generations: Generations = {}
        self._tree = Tree()
        self._unsaved = False
        self._lost = False
        self._troubles: dict[str, Repeated] = {}

    def missing(self) -> str | None:
        """For readiness."""
        return None if self._directory.loaded else "not every document was read yet"

    async def run(self) -> None:
        """Follow until cancelled.

        Raises
        ------
        Stop
            What an earlier process kept cannot be read.
        """
        self._restore()
        first = True
        while True:
            await self._look()
            if first:
                first = False
                self.sinks.begin(self._inventory.documents(), self._generations)
                await self.sinks.first_round()
            await asyncio.sleep(self._poll)

    def _restore(self) -> None:
        file = self._data / ACCEPTED
        try:
            kept = json.loads(file.read_text(encoding="utf-8")) if file.exists() else {}
            accepted = load(json.dumps(kept.get("files", {})))
            self._inventory = Inventory(accepted)
            self._generations = {sink: _generation(one) for sink, one in kept.get("generations", {}).items()}
            place = kept.get("place")
            self._tree = Tree(accepted, (int(place[0]), int(place[1])) if place else None)
        except OSError as error:
            raise Stop(ExitStatus.FAILED, f"{self._data}: the data folder cannot be read: {error.strerror}") from None
        except (ValueError, TypeError, LookupError, AttributeError):
            raise Stop(
                ExitStatus.FAILED, f"{file}: cannot be read; restore it, or remove it if no file in {self._folder} is broken"
            ) from None
        try:
            self.sinks.objects.load()
        except OSError as error:
            raise Stop(ExitStatus.FAILED, f"{self._data}: the data folder cannot be read: {error.strerror}") from None
        except ValueError as error:
            raise Stop(ExitStatus.FAILED, str(error)) from None

    async def _look(self) -> None:
        now = await asyncio.to_thread(look, self._folder)
        self._tell_lost(now)
        changes = self._tree.changes(now)
        if changes.read or changes.gone:
            changed = {}
            for file in changes.read:
                content = await asyncio.to_thread(self._read, file, now)
                if content is None:
                    self._tree.read_again(file)
                else:
                    changed[file] = content
            self._take(changed, set(changes.gone))
        if self._unsaved:
            await self._save()

    def _tell_lost(self, now: Look) -> None:
        lost = self._tree.lost(now)
        if lost and self._due("folder"):
            get_logger().error(
                "the folder of documents cannot be read or was unmounted; what it held last stays", folder=str(self._folder)
            )
        if self._lost and not lost:
            get_logger().info("the folder of documents is back", folder=str(self._folder))
        self._lost = lost

    def _due(self, trouble: str) -> bool:
        """Whether a trouble that may last is to be told now: once a minute."""
        return self._troubles.setdefault(trouble, Repeated(60.0)).due() is not None

    def _read(self, file: str, now: Look) -> FileContent | None:
        """The content; None: it is being written at this moment, or cannot be read."""
        try:
            with (self._folder / file).open("rb") as stream:
                content = stream.read(MAX_FILE_BYTES + 1)
                state = os.fstat(stream.fileno())
        except OSError as error:
            if self._due(file):
                get_logger().error("a file cannot be read; its last good version stays", file=file, reason=error.strerror)
            return None
        if (state.st_dev, state.st_ino, state.st_mtime_ns, state.st_size) != now.files[file]:
            return None
        return read_documents(file, content)

    def _take(self, changed: dict[str, FileContent], gone: set[str]) -> None:
        for file in sorted(gone):
            get_logger().info("a file is gone", file=file)
        for content in changed.values():
            for note in content.notes:
                get_logger().warning("a document was passed over", file=note.file, line=note.line, reason=note.message)
        for fault in self._inventory.update(changed, gone):
            get_logger().error(
                "a file is refused; its last good version stays",
                file=fault.file,
                line=fault.line,
                field=fault.field,
                reason=fault.message,
            )
        documents = self._inventory.documents()
        self._generations = next_generations(self._generations, documents, datetime.now(UTC))
        self._unsaved = True
        if self._directory.loaded:
            self.sinks.apply(documents, self._generations)

    async def _save(self) -> None:
        place = self._tree.place
        kept = {"files": json.loads(dump(self._inventory.files)), "generations": self._generations, "place": place}
        try:
            await asyncio.to_thread(write_private, self._data / ACCEPTED, json.dumps(kept))
            self._unsaved = False
        except OSError as error:
            if self._due(ACCEPTED):
                get_logger().error("the data folder cannot be written", folder=str(self._data), reason=error.strerror)


def _generation(kept: Sequence[Any]) -> Generation:
    """As it was saved; the version before kept no times."""
    number, digest, *times = kept
    created, changed = times or [format_time(datetime.now(UTC))] * 2
    return Generation(int(number), str(digest), str(created), str(changed))
