"""The record of posts is bounded in number and bytes: the oldest make room, and are counted."""

from __future__ import annotations

from pathlib import Path

import pytest

from eventsink.router.queue.sqlite import QueueSettings, SqliteQueue, posts
from tests.unit.router.queue.queue_contract import QueueUnderTest, post_of, posted


async def opened(folder: Path, **bounds: int) -> QueueUnderTest:
    queue = await SqliteQueue.open(QueueSettings.model_validate({"path": folder / "queue.db", "minFreeBytes": 0, **bounds}))
    made = QueueUnderTest(queue, [], None, None)  # type: ignore[arg-type]
    queue.subscribe(made.queued.extend)
    return made


async def test_the_oldest_posts_of_a_sink_make_room(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(posts, "MAX_POSTS_OF_SINK", 3)
    one = await opened(tmp_path)
    await posted(one, post_of("other"), sink="s2")
    for name in "abcde":
        await posted(one, post_of(name))
    assert list(await one.queue.announced("s1", "d1", list("abcde"))) == ["c", "d", "e"]
    assert list(await one.queue.announced("s2", "d1", ["other"])) == ["other"]
    assert one.queue.depth().posts_evicted == 2
    await one.queue.close()


@pytest.mark.parametrize(("bounds", "kept"), [({"maxPosted": 4}, ["c", "d", "e", "f"]), ({"maxPostedBytes": 40}, ["e", "f"])])
async def test_the_oldest_posts_of_all_make_room(tmp_path: Path, bounds: dict[str, int], kept: list[str]) -> None:
    one = await opened(tmp_path, **bounds)
    for first, second, sink in (("a", "b", "s1"), ("c", "d", "s2"), ("e", "f", "s1")):
        await posted(one, post_of(first, second), sink=sink)
    await one.queue.keep_house()
    found = [name for sink in ("s2", "s1") for name in await one.queue.announced(sink, "d1", list("abcdef"))]
    assert found == kept
    assert one.queue.depth().posts_evicted == 3 - len(kept) // 2
    await one.queue.close()
