"""API keys are created, stored as hashes, found and revoked; addresses that send invalid ones are limited."""

from __future__ import annotations

import asyncio
import base64
import functools
import json
import operator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from eventsink.cli import main
from eventsink.kube.api import SECRETS, Object, Resource
from eventsink.kube.api import Conflict as ApiConflict
from eventsink.kube.local import Change, LocalApi
from eventsink.rest.access.authenticator import Authenticator, Failures
from eventsink.rest.access.key_store import FileKeyStore, KeyStoreError, SecretKeyStore, records_in
from eventsink.rest.access.keys import KeyRecord, find, make_key, read_records
from eventsink.rest.config import FailureSettings
from eventsink.rest.errors import TooManyRequests, Unauthorized
from tests.support.clock import ManualClock

NOW = datetime(2026, 1, 1, tzinfo=UTC)


def made(*tenants: str, lasts: float | None = None) -> tuple[str, KeyRecord]:
    return make_key("test", tenants or None, NOW, lasts=lasts)


def test_a_key_is_found_by_its_text_alone() -> None:
    keys = [made("acme") for _ in range(3)]
    records = {record.id: record for _, record in keys}
    for key, record in keys:
        assert find(records, key, NOW) == record
        assert key not in record.model_dump_json()
        assert key.split("_", 2)[2] not in record.model_dump_json()
    first, second = keys[0][0], keys[1][0]
    crossed = "_".join(["esk", first.split("_")[1], second.split("_", 2)[2]])
    for wrong in ("", "esk_", first[:-1], first + "x", crossed, first.upper(), "x" * 1_000_000, "esk_\udcff"):
        assert find(records, wrong, NOW) is None


def test_a_key_has_256_random_bits() -> None:
    secret_parts = [base64.urlsafe_b64decode(made()[0].split("_", 2)[2] + "=") for _ in range(200)]
    assert {len(one) for one in secret_parts} == {32}
    numbers = [int.from_bytes(one) for one in secret_parts]
    assert functools.reduce(operator.or_, numbers) == 2**256 - 1, "each bit is set in some"
    assert functools.reduce(operator.and_, numbers) == 0, "and in some it is not"


def test_a_key_expires() -> None:
    key, record = made(lasts=60)
    assert find({record.id: record}, key, NOW + timedelta(seconds=59)) == record
    assert find({record.id: record}, key, NOW + timedelta(seconds=60)) is None


@pytest.mark.parametrize(
    ("name", "tenants"), [("", None), ("a\nb", None), ("x" * 129, None), ("x", ()), ("x", ("a b",)), ("x", ("a" * 64,))]
)
def test_a_key_needs_a_valid_name_and_valid_tenants(name: str, tenants: tuple[str, ...] | None) -> None:
    with pytest.raises(ValueError):
        make_key(name, tenants, NOW)


def test_an_unreadable_record_authenticates_nobody() -> None:
    key, record = made("acme")
    text = record.model_dump_json()
    assert read_records({record.id: text})[0] == {record.id: record}
    for broken in ("", "{}", text.replace(record.id, "a" * 10), text.replace("sha256:", "md5:")):
        records, unreadable = read_records({record.id: broken})
        assert (records, unreadable) == ({}, [record.id])
    assert key


async def test_records_in_a_file_are_private_and_survive(tmp_path: Path) -> None:
    store = FileKeyStore(tmp_path / "keys.json")
    assert await store.records() == {}
    (first, one), (_, other) = made("acme"), made(lasts=60)
    await store.add(one)
    await store.add(other)
    assert (tmp_path / "keys.json").stat().st_mode & 0o777 == 0o600
    assert find(await FileKeyStore(tmp_path / "keys.json").records(), first, NOW) == one
    assert await store.remove(one.id)
    assert not await store.remove(one.id)
    assert list(await store.records()) == [other.id]


@pytest.mark.parametrize("content", ["", "[]", '{"x": {}}', "\x00", "[" * 100_000])
async def test_a_file_that_was_edited_by_hand_is_an_error(tmp_path: Path, content: str) -> None:
    (tmp_path / "keys.json").write_text(content)
    with pytest.raises(KeyStoreError, match=r"keys\.json"):
        await FileKeyStore(tmp_path / "keys.json").records()


class OvertakenApi(LocalApi):
    """Others change every object just before it is written."""

    async def replace(self, resource: Resource, obj: Object, *, manager: str = "") -> Object:
        raise ApiConflict(409, "Conflict", "changed since it was read")


async def test_records_in_a_secret_that_several_processes_change_are_all_kept() -> None:
    async def commit(change: Change) -> None:
        await asyncio.sleep(0)

    store = SecretKeyStore(LocalApi((SECRETS,), commit=commit), "n", "keys")
    records = [made()[1] for _ in range(10)]
    await asyncio.gather(*(store.add(one) for one in records))
    assert await store.records() == {one.id: one for one in records}
    assert all(await asyncio.gather(*(store.remove(one.id) for one in records[::2])))
    assert await store.records() == {one.id: one for one in records[1::2]}
    assert not await store.remove(records[0].id)


async def test_a_change_of_a_secret_that_is_always_overtaken_ends_with_an_error() -> None:
    store = SecretKeyStore(OvertakenApi((SECRETS,)), "n", "keys")
    await store.add(made()[1])
    async with asyncio.timeout(10):
        with pytest.raises(KeyStoreError, match="changed since it was read"):
            await store.add(made()[1])


async def test_invalid_keys_are_limited_by_address_and_nobody_else_is_affected() -> None:
    clock = ManualClock()
    (key, record), (late, second) = made("acme"), made("acme")
    records = {record.id: record, second.id: second}
    authenticator = Authenticator(FailureSettings(allowed=3, every=10), lambda: records, clock=clock)
    assert (await authenticator.authenticate(f"Bearer {key}", "a")).name == f"key {record.id}"
    for _ in range(3):
        with pytest.raises(Unauthorized):
            await authenticator.authenticate("Bearer esk_wrong", "a")
    with pytest.raises(TooManyRequests) as limited:
        await authenticator.authenticate("Bearer esk_wrong", "a")
    assert limited.value.headers["Retry-After"] == "10"
    assert (await authenticator.authenticate(f"bearer  {key}", "a")).name == f"key {record.id}", (
        "it was authenticated from there before"
    )
    with pytest.raises(TooManyRequests):
        await authenticator.authenticate(f"Bearer {late}", "a")  # as a guess that hits
    assert await authenticator.authenticate(f"Bearer {late}", "b")
    clock.now += 10
    assert await authenticator.authenticate(f"Bearer {late}", "a")
    del records[record.id]
    clock.now += 60
    with pytest.raises(Unauthorized):
        await authenticator.authenticate(f"Bearer {key}", "a")


@pytest.mark.parametrize("header", ["", "Bearer", "Bearer ", "Basic esk_x", "esk_x", "Bearer " + "x" * 10_000])
async def test_without_a_bearer_key_nobody_is_authenticated(header: str) -> None:
    authenticator = Authenticator(FailureSettings(), dict)
    with pytest.raises(Unauthorized) as error:
        await authenticator.authenticate(header, "a")
    assert error.value.headers["WWW-Authenticate"].startswith("Bearer")


def test_addresses_with_failures_are_bounded() -> None:
    failures = Failures(FailureSettings(allowed=1, every=1000))
    for number in range(10_001):
        failures.failed(f"address-{number}")
    assert failures.wait("address-0") == 0
    assert failures.wait("address-10000") > 0


def keys(*arguments: str | Path, status: int = 0) -> Result:
    """Run `eventsink keys` in this process."""
    ended = CliRunner().invoke(main, ["keys", *map(str, arguments)])
    assert ended.exit_code == status, ended.output
    return ended


def test_the_command_creates_lists_and_revokes_keys_in_a_file(tmp_path: Path) -> None:
    file = tmp_path / "keys.json"
    key = keys("create", "--name=ci", "--tenant=acme", "--tenant=umbrella", "--expires=90d", "--file", file)
    ident = key.stdout.strip().split("_")[1]
    assert f"eventsink keys revoke {ident}" in key.stderr
    assert key.stdout.strip() not in file.read_text()
    table = keys("list", "--file", file).stdout
    assert ident in table
    assert "acme,umbrella" in table
    listed = json.loads(keys("list", "-o", "json", "--file", file).stdout)
    assert [one["tenants"] for one in listed] == [["acme", "umbrella"]]
    assert "hash" not in listed[0]
    assert f"key {ident} revoked" in keys("revoke", ident, "--file", file).stdout
    assert "no key has the id" in keys("revoke", ident, "--file", file, status=1).stderr
    assert "no keys" in keys("list", "--file", file).stderr
    for wrong in (["--tenant=a", "--all-tenants"], [], ["--tenant=a b"], ["--all-tenants", "--expires=soon"]):
        keys("create", "--name=x", *wrong, "--file", file, status=2)


def test_concurrent_changes_of_keys_are_all_kept(tmp_path: Path) -> None:
    file = tmp_path / "keys.json"
    made = [make_key(f"key {n}", None, NOW)[1] for n in range(40)]

    def work(number: int) -> None:
        asyncio.run(FileKeyStore(file).add(made[number]))
        if number % 2:
            asyncio.run(FileKeyStore(file).remove(made[number].id))

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(work, range(40)))
    assert set(records_in(file)) == {one.id for one in made[::2]}
