"""docs/queue.md: its commands parse, its snippets do what they say, its error messages are the program's."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from pathlib import Path

import click
import pytest

from eventsink import cli
from eventsink.router.queue.delivery_log import DeliveryFilter
from eventsink.router.queue.protocol import QueueUnavailable
from eventsink.router.queue.sqlite import QueueSettings, SqliteQueue
from tests.unit.docs.pages import PACKAGE, between, marked, names, page, rows
from tests.unit.router.queue.queue_contract import alert

QUEUE = page("queue.md")
COMMANDS = [shlex.split(line, comments=True) for line in re.findall(r"^ *(eventsink .*)$", QUEUE, re.MULTILINE)]


def folder_of_snippets(script: str, folder: Path) -> str:
    """A snippet of the page, for a queue in a folder of the test."""
    return script.replace("/var/lib/eventsink", shlex.quote(str(folder)))


def snippet(start: str) -> str:
    """The block of the page that begins with a text and is run here."""
    [found] = [block for block in marked(QUEUE, "test: queue") if block.startswith(start)]
    return found


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_the_commands_parse(command: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EVENTSINK_ADMIN_TOKEN_FILE", "token")
    name, arguments = command[1], command[2:]
    context = cli.main.commands[name].make_context(name, arguments)
    if name == "replay":
        assert any(context.params[one] for one in ("ids", "sink", "tenant", "reason", "everything"))


@pytest.mark.parametrize("name", ["deliveries", "replay"])
def test_every_option_is_shown(name: str) -> None:
    options = [one for one in cli.main.commands[name].params if isinstance(one, click.Option)]
    for option in options:
        assert any(re.search(rf"(?<![\w-]){re.escape(spelling)}(?![\w-])", QUEUE) for spelling in option.opts), option.opts


def test_the_error_messages_are_those_of_the_program() -> None:
    source = "".join(file.read_text(encoding="utf-8") for file in (PACKAGE / "router" / "queue" / "sqlite").glob("*.py"))
    tables = between(QUEUE, "## Full", "## Size") + QUEUE.split("## When the queue does not open", 1)[1]
    for row in rows(tables):
        assert names(row[0])[0] in source, row[0]
        assert row[1]


async def open_queue(folder: Path, *, accept_loss: str = "") -> SqliteQueue:
    return await SqliteQueue.open(QueueSettings(path=folder / "queue.db", min_free_bytes=0, accept_loss=accept_loss))


async def test_a_backup_made_while_the_router_runs_is_complete(tmp_path: Path) -> None:
    queue = await open_queue(tmp_path)
    for number in range(20):
        await queue.put(alert(f"a{number}"))
    script = folder_of_snippets(snippet("python3 -c"), tmp_path).replace("python3", shlex.quote(sys.executable), 1)
    subprocess.run(["sh", "-eu", "-c", script], check=True, timeout=60)
    await queue.close()
    (tmp_path / "restored").mkdir()
    (tmp_path / "copy.db").rename(tmp_path / "restored" / "queue.db")
    restored = await open_queue(tmp_path / "restored")
    assert len(await restored.look_up(DeliveryFilter(), limit=100)) == 20
    await restored.close()


async def test_a_damaged_file_moved_away_lets_the_router_start_empty(tmp_path: Path) -> None:
    queue = await open_queue(tmp_path)
    await queue.put(alert("a"))
    await queue.close()
    script = folder_of_snippets(snippet("cd /var/lib/eventsink"), tmp_path)
    subprocess.run(["sh", "-eu", "-c", script], check=True, timeout=60)
    assert (tmp_path / "damaged-queue.db").exists()
    with pytest.raises(QueueUnavailable, match=r"queue\.acceptLoss"):
        await open_queue(tmp_path)
    queue = await open_queue(tmp_path, accept_loss=(tmp_path / "queue.db.used").read_text().strip())
    assert (queue.depth()).waiting == 0
    await queue.close()
