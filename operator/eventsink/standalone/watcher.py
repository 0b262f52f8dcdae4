"""Watches the folder of documents, and hands on what counts: of each file its last good version, also over a restart."""

from __future__ import annotations

import asyncio
import json
import os
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from eventsink.runtime.files import write_private
from eventsink.runtime.logs import Repeated, get_logger
from eventsink.runtime.process import ExitStatus, Stop
from eventsink.runtime.times import format_time
from eventsink.standalone.apply import Generation, Generations, next_generations
from eventsink.standalone.documents import MAX_FILE_BYTES, Document, DocumentKey, FileContent, read_documents
from eventsink.standalone.folder import FolderChanges, Snapshot, take_snapshot
from eventsink.standalone.inventory import Inventory, dump, load

ACCEPTED = "accepted.json"
"""In the data folder: the last good version of each file, with the credentials in it."""
FILES_TOGETHER = 64
"""Read in one visit to a thread, which costs about as much as reading a small file; the end of the process waits for them."""

PAUSE_FACTOR = 10
"""The pause between two snapshots, in the time of a processor that one takes: of ten thousand files, about half a second."""

Apply = Callable[[dict[DocumentKey, Document], Generations], None]
"""Called with all documents that count, whenever they change."""


class FolderWatcher:
    """Polls the folder.

    Parameters
    ----------
    folder, data
        Of the documents, and where their last good versions are kept.
    poll
        Seconds between two snapshots.
    apply
        Gets the documents; first when the folder was read once.
    """

    def __init__(self, folder: Path, data: Path, poll: float, apply: Apply) -> None:
        self._poll = poll
        self._folder = folder
        self._data = data
        self._apply = apply
        self._inventory = Inventory()
        self._generations: Generations = {}
        self._changes = FolderChanges()
        self._cost = 0.0
        """Seconds of a processor that the last snapshot took."""
        self._unsaved = False
        self._lost = False
        self._troubles: dict[str, Repeated] = {}

    async def start(self) -> None:
        """Read what an earlier process accepted, and the folder once.

        Raises
        ------
        Stop
            What an earlier process kept cannot be read.
        """
        self._restore()
        if not await self._look():
            self._apply(self._inventory.documents(), self._generations)

    async def run(self) -> None:
        """Watch until cancelled."""
        while True:
            await asyncio.sleep(pause_after(self._cost, self._poll))
            await self._look()

    def _restore(self) -> None:
        file = self._data / ACCEPTED
        try:
            kept = json.loads(file.read_text(encoding="utf-8")) if file.exists() else {}
            accepted = load(json.dumps(kept.get("files", {})))
            self._inventory = Inventory(accepted)
            self._generations = {sink: _generation(one) for sink, one in kept.get("generations", {}).items()}
            identity = kept.get("place")
            self._changes = FolderChanges(accepted, (int(identity[0]), int(identity[1])) if identity else None)
        except OSError as error:
            raise Stop(ExitStatus.FAILED, f"{self._data}: the data folder cannot be read: {error.strerror}") from None
        except (ValueError, TypeError, LookupError, AttributeError, RecursionError):
            raise Stop(
                ExitStatus.FAILED, f"{file}: cannot be read; restore it, or remove it if no file in {self._folder} is broken"
            ) from None

    async def _look(self) -> bool:
        """Take over what changed; whether anything was applied."""
        now, self._cost = await asyncio.to_thread(_take_snapshot, self._folder)
        self._log_lost(now)
        changes = self._changes.since_last(now)
        if changes.read or changes.gone:
            changed, gone = {}, changes.gone
            for start in range(0, len(changes.read), FILES_TOGETHER):
                files = changes.read[start : start + FILES_TOGETHER]
                for file, content in zip(files, await asyncio.to_thread(self._read_all, files, now), strict=True):
                    if content is None:
                        self._changes.read_again(file)
                    else:
                        changed[file] = content
            if gone and len(changed) < len(changes.read):
                gone = self._changes.hold(gone)
            self._take(changed, set(gone))
        if self._unsaved:
            await self._save()
        return bool(changes.read or changes.gone)

    def _log_lost(self, now: Snapshot) -> None:
        lost = self._changes.lost(now)
        if lost and self._due("folder"):
            get_logger().error("document folder unreadable or unmounted; its last contents stay active", folder=str(self._folder))
        if self._lost and not lost:
            get_logger().info("document folder readable again", folder=str(self._folder))
        self._lost = lost

    def _due(self, trouble: str) -> bool:
        """Whether a trouble that may last is to be logged now: once a minute."""
        return self._troubles.setdefault(trouble, Repeated(60.0)).due() is not None

    def _read_all(self, files: Sequence[str], now: Snapshot) -> list[FileContent | None]:
        return [self._read(file, now) for file in files]

    def _read(self, file: str, now: Snapshot) -> FileContent | None:
        """The content; None: it is being written at this moment, or cannot be read."""
        try:
            with (self._folder / file).open("rb") as stream:
                content = stream.read(MAX_FILE_BYTES + 1)
                state = os.fstat(stream.fileno())
        except OSError as error:
            if self._due(file):
                get_logger().error("file cannot be read; its last good version stays active", file=file, reason=error.strerror)
            return None
        if (state.st_dev, state.st_ino, state.st_mtime_ns, state.st_size) != now.files[file]:
            return None
        return read_documents(file, content)

    def _take(self, changed: dict[str, FileContent], gone: set[str]) -> None:
        for file in sorted(gone):
            get_logger().info("file removed", file=file)
        for content in changed.values():
            for note in content.notes:
                get_logger().warning("document ignored", file=note.file, line=note.line, reason=note.message)
        for fault in self._inventory.update(changed, gone):
            get_logger().error(
                "file rejected; its last good version stays active",
                file=fault.file,
                line=fault.line,
                field=fault.field,
                reason=fault.message,
            )
        documents = self._inventory.documents()
        self._generations = next_generations(self._generations, documents, datetime.now(UTC))
        self._unsaved = True
        self._apply(documents, self._generations)

    async def _save(self) -> None:
        try:
            await asyncio.to_thread(self._write)
            self._unsaved = False
        except OSError as error:
            if self._due(ACCEPTED):
                get_logger().error("data folder cannot be written", folder=str(self._data), reason=error.strerror)

    def _write(self) -> None:
        rest = {"generations": self._generations, "place": self._changes.identity}
        # The documents are encoded once: there may be ten thousand.
        write_private(self._data / ACCEPTED, f'{{"files": {dump(self._inventory.files)}, {json.dumps(rest)[1:]}')


def pause_after(cost: float, poll: float) -> float:
    """Seconds until the next snapshot: polling takes at most a tenth of a processor, however many files there are.

    Parameters
    ----------
    cost
        Seconds of a processor that the last snapshot took.
    poll
        Seconds between two snapshots that the settings ask for.
    """
    return max(poll, cost * PAUSE_FACTOR)


def _take_snapshot(folder: Path) -> tuple[Snapshot, float]:
    began = time.thread_time()
    return take_snapshot(folder), time.thread_time() - began


def _generation(kept: Sequence[Any]) -> Generation:
    """As it was saved; the version before kept no times."""
    number, digest, *times = kept
    created, changed = times or [format_time(datetime.now(UTC))] * 2
    return Generation(int(number), str(digest), str(created), str(changed))
