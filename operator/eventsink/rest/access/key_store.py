"""Where the records of API keys are kept: a Secret in a cluster, a file in standalone. For `eventsink keys` and its readers."""

from __future__ import annotations

import fcntl
import json
import os
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

from eventsink.kube.api import SECRETS, Api, ApiError, Conflict, NotFound, Object
from eventsink.kube.secrets import encoded, secret_data
from eventsink.rest.access.keys import MAX_KEYS, KeyRecord, read_records
from eventsink.runtime.files import make_folder, write_private

LOCK_SECONDS = 10.0
"""How long a change waits for those of other processes, which take a few milliseconds."""
LOCK_PAUSE_SECONDS = 0.02
ATTEMPTS = 50
"""Of a change of the Secret; each that fails was overtaken by that of another process."""
KEYS_SECRET_TYPE = "eventsink.dev/rest-keys"


class KeyStoreError(Exception):
    """The records cannot be read or written; the text says what to do."""


class KeyStore(Protocol):
    """Where records are kept."""

    async def records(self) -> dict[str, KeyRecord]:
        """All records by id."""
        ...

    async def add(self, record: KeyRecord) -> None:
        """Add a record."""
        ...

    async def remove(self, ident: str) -> bool:
        """Remove a record; whether it existed."""
        ...


class SecretKeyStore:
    """Records as the data of a Secret, one key each; two that write at once do not undo each other."""

    def __init__(self, api: Api, namespace: str, name: str) -> None:
        self._api = api
        self._namespace = namespace
        self._name = name

    async def records(self) -> dict[str, KeyRecord]:
        try:
            return records_of(await self._api.get(SECRETS, (self._namespace, self._name)))
        except NotFound:
            return {}
        except ApiError as error:
            raise self._error(error) from None

    async def add(self, record: KeyRecord) -> None:
        if len(await self.records()) >= MAX_KEYS:
            raise KeyStoreError(f"{MAX_KEYS} keys exist already; revoke some first")
        data = encoded({record.id: record.model_dump_json()})
        try:
            if await self._patch(data):
                return
            body: Object = {
                "apiVersion": "v1",
                "kind": "Secret",
                "metadata": {"name": self._name, "namespace": self._namespace},
                "type": KEYS_SECRET_TYPE,
                "data": data,
            }
            try:
                await self._api.create(SECRETS, body)
            except Conflict:
                await self._patch(data)
        except ApiError as error:
            raise self._error(error) from None

    async def remove(self, ident: str) -> bool:
        if ident not in await self.records():
            return False
        try:
            return await self._patch({ident: None})
        except ApiError as error:
            raise self._error(error) from None

    async def _patch(self, data: Mapping[str, str | None]) -> bool:
        """Change some records (None: remove it); whether there is such a Secret."""
        for attempt in range(1, ATTEMPTS + 1):
            try:
                secret = await self._api.get(SECRETS, (self._namespace, self._name))
                new = {key: value for key, value in {**(secret.get("data") or {}), **data}.items() if value is not None}
                await self._api.replace(SECRETS, {**secret, "data": new})
            except NotFound:
                return False
            except Conflict:  # somebody else changed it meanwhile
                if attempt == ATTEMPTS:
                    raise
            else:
                return True
        raise AssertionError

    def _error(self, error: ApiError) -> KeyStoreError:
        return KeyStoreError(f"the Secret {self._namespace}/{self._name} cannot be used: {error}")


class FileKeyStore:
    """Records in a file that only its owner can read."""

    def __init__(self, file: Path) -> None:
        self._file = file

    async def records(self) -> dict[str, KeyRecord]:
        return records_in(self._file)

    async def add(self, record: KeyRecord) -> None:
        with self._locked():
            records = records_in(self._file)
            if len(records) >= MAX_KEYS:
                raise KeyStoreError(f"{MAX_KEYS} keys exist already; revoke some first")
            self._write({**records, record.id: record})

    async def remove(self, ident: str) -> bool:
        with self._locked():
            records = records_in(self._file)
            found = records.pop(ident, None)
            if found is not None:
                self._write(records)
        return found is not None

    @contextmanager
    def _locked(self) -> Iterator[None]:
        """Locks the file against other processes that change it."""
        try:
            make_folder(self._file.parent)
            descriptor = os.open(f"{self._file}.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise KeyStoreError(f"{self._file}: cannot be written: {error.strerror}") from None
        try:
            until = time.monotonic() + LOCK_SECONDS
            while True:
                try:
                    fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    break
                except BlockingIOError:
                    if time.monotonic() > until:
                        raise KeyStoreError(f"{self._file}: another process is changing it; try again") from None
                    time.sleep(LOCK_PAUSE_SECONDS)
            yield
        finally:
            os.close(descriptor)

    def _write(self, records: Mapping[str, KeyRecord]) -> None:
        text = json.dumps({ident: json.loads(one.model_dump_json()) for ident, one in records.items()}, indent=1)
        try:
            write_private(self._file, text)
        except OSError as error:
            raise KeyStoreError(f"{self._file}: cannot be written: {error.strerror}") from None


def records_of(secret: Object) -> dict[str, KeyRecord]:
    """The records in a Secret; unreadable ones are skipped."""
    texts = {name: value.decode("utf-8", "replace") for name, value in secret_data(secret).items()}
    return read_records(texts)[0]


def records_in(file: Path) -> dict[str, KeyRecord]:
    """The records in a file; none if there is no file.

    Raises
    ------
    KeyStoreError
        It cannot be read, or is not such a file.
    """
    try:
        content: Any = json.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except OSError as error:
        raise KeyStoreError(f"{file}: cannot be read: {error.strerror}") from None
    except (ValueError, RecursionError):
        raise KeyStoreError(f"{file}: is not a file of API keys") from None
    if not isinstance(content, dict):
        raise KeyStoreError(f"{file}: is not a file of API keys")
    records, unreadable = read_records({str(name): json.dumps(value) for name, value in content.items()})
    if unreadable:
        raise KeyStoreError(f"{file}: has an invalid record; it was edited by hand")
    return records
