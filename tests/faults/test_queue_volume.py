"""The router and the volume of its queue: full, read-only, of another user, moved, restored from a snapshot, of another version."""

from __future__ import annotations

import os
import shutil
import sqlite3
from pathlib import Path

from tests.support.disks import fill, make_read_only, small_disk
from tests.support.parts import Router, alert, notification
from tests.support.receiver import Received, Receiver
from tests.support.router_process import start_router
from tests.support.waiting import wait_until

AS_ANY_OTHER_USER = ("setpriv", "--bounding-set=-dac_override,-dac_read_search", "--inh-caps=-dac_override,-dac_read_search")
"""Root, without what lets root use everybody's files."""
ANOTHER_USER = 12345


def post(router: Router, name: str) -> None:
    """The router accepts an alert."""
    assert router.post(notification(alert(name, namespace="acme"), group=name))[0] == 200


def names(requests: list[Received]) -> list[str]:
    return [one.json()["data"]["name"] for one in requests]


def ids(requests: list[Received]) -> dict[str, set[str]]:
    """Alert -> ids of the messages in which it came."""
    found: dict[str, set[str]] = {}
    for one in requests:
        found.setdefault(one.json()["data"]["name"], set()).add(one.headers["webhook-id"])
    return found


def reason_of_no_start(folder: Path, volume: Path, *before: str) -> str:
    """What a router with its queue there says that does not start."""
    queue = {"path": str(volume / "queue.db"), "minFreeBytes": 0}
    with start_router(folder, "http://127.0.0.1:1/", ready=False, before=before, queue=queue) as router:
        assert router.running.wait() == 1
        return str(router.running.lines()[-1]["reason"])


def test_a_volume_that_cannot_be_used_is_named_with_its_reason_and_what_waits_is_delivered_later(
    receiver: Receiver, tmp_path: Path
) -> None:
    with small_disk(tmp_path / "volume") as volume:
        queue = {"path": str(volume / "queue.db"), "minFreeBytes": 0}
        receiver.respond_with(503)
        with start_router(tmp_path, receiver.url("/"), queue=queue) as router:
            post(router, "Waiting")
            receiver.wait_for(1)
            assert router.running.terminate() == 0
        make_read_only(volume)
        assert "the queue cannot be opened: Read-only file system" in reason_of_no_start(tmp_path, volume)
        make_read_only(volume, read_only=False)
        os.chown(volume / "queue.db", ANOTHER_USER, ANOTHER_USER)
        assert (
            f"Permission denied: {volume}/queue.db belongs to user {ANOTHER_USER} and group {ANOTHER_USER} with mode 0600, and the router "
            f"is user {os.geteuid()}"
        ) in reason_of_no_start(tmp_path, volume, *AS_ANY_OTHER_USER)
        os.chown(volume / "queue.db", os.geteuid(), os.getegid())
        filler = fill(volume)
        reason = reason_of_no_start(tmp_path, volume)
        assert "the queue cannot be opened: " in reason
        assert "(0 bytes are free on its disk)" in reason
        assert "restore" not in reason, "nothing is wrong with the file"
        filler.unlink()
        receiver.respond_with(200)
        with start_router(tmp_path, receiver.url("/"), queue=queue) as router:
            wait_until("an empty queue", lambda: "eventsink_router_deliveries_waiting 0.0" in router.metrics())
    assert set(names(receiver.requests())) == {"Waiting"}


def test_a_queue_that_is_moved_while_alerts_wait_goes_on_where_it_was(receiver: Receiver, tmp_path: Path) -> None:
    receiver.respond_with(503)
    with start_router(tmp_path, receiver.url("/")) as router:
        post(router, "A")
        receiver.wait_for(1)
        router.running.kill9()  # its node is gone
    moved = tmp_path / "another-node"
    moved.mkdir()
    for file in tmp_path.glob("queue.db*"):
        file.rename(moved / file.name)
    (moved / "queue.db.lock").write_text("the-node-before, process 1\n")
    receiver.respond_with(200)
    with start_router(tmp_path, receiver.url("/"), queue={"path": str(moved / "queue.db")}) as router:
        wait_until("an empty queue", lambda: "eventsink_router_deliveries_waiting 0.0" in router.metrics())
    assert {alert: len(found) for alert, found in ids(receiver.requests()).items()} == {"A": 1}, (
        "a receiver can drop what it got twice"
    )


def test_after_a_restore_from_a_snapshot_what_is_new_is_no_duplicate_of_what_was_sent_since(
    receiver: Receiver, tmp_path: Path
) -> None:
    receiver.respond_with(503)
    with start_router(tmp_path, receiver.url("/")) as router:
        post(router, "InTheSnapshot")
        receiver.wait_for(1)
        assert router.running.terminate() == 0
    snapshot = tmp_path / "snapshot"
    snapshot.mkdir()
    for file in tmp_path.glob("queue.db*"):
        shutil.copy(file, snapshot / file.name)
    receiver.respond_with(200)
    with start_router(tmp_path, receiver.url("/")) as router:
        for number in range(5):
            post(router, f"Since{number}")
        receiver.wait_for(lambda seen: "Since4" in names(seen))
        router.running.kill9()
    for file in tmp_path.glob("queue.db*"):
        file.unlink()
    for file in snapshot.iterdir():
        file.rename(tmp_path / file.name)
    with start_router(tmp_path, receiver.url("/")) as router:
        for number in range(5):
            post(router, f"New{number}")
        receiver.wait_for(lambda seen: {f"New{number}" for number in range(5)} <= set(names(seen)))
        wait_until("an empty queue", lambda: "eventsink_router_deliveries_waiting 0.0" in router.metrics())
    found = ids(receiver.requests())
    assert {alert: len(one) for alert, one in found.items()} == dict.fromkeys(found, 1)
    assert len({one for some in found.values() for one in some}) == len(found) == 11


def test_a_queue_of_a_newer_version_is_left_as_it_is_and_said_to_be_one(tmp_path: Path) -> None:
    with start_router(tmp_path, "http://127.0.0.1:1/") as router:
        assert router.running.terminate() == 0
    with sqlite3.connect(tmp_path / "queue.db") as newer:
        newer.execute("PRAGMA user_version = 99")
    newer.close()
    before = (tmp_path / "queue.db").read_bytes()
    assert "was written by a newer version of this program; run that one" in reason_of_no_start(tmp_path, tmp_path)
    assert (tmp_path / "queue.db").read_bytes() == before
