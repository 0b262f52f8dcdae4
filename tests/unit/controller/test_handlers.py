"""kopf is logged in again after a 401, for a while, and keeps nothing of objects."""

from __future__ import annotations

from typing import Any

import kopf

from eventsink.controller.handlers import RECONNECT_SECONDS, UNAUTHORIZED_FOR_SECONDS, Logins, NoDifferences, NoMemories


def test_each_login_after_a_401_is_new_to_kopf_until_it_has_lasted_too_long() -> None:
    now = 100.0
    logins = Logins(lambda: now)
    assert logins.next() == (0.0, None)
    now += 3600  # all was well for an hour
    expirations = set()
    for _ in range(int(UNAUTHORIZED_FOR_SECONDS)):
        wait, expiration = logins.next()
        assert wait == RECONNECT_SECONDS
        expirations.add(expiration)
        now += 1
    assert None not in expirations
    assert len(expirations) == int(UNAUTHORIZED_FOR_SECONDS)
    now += 1
    assert logins.next() == (0.0, None)


def test_a_401_long_after_another_begins_a_new_while() -> None:
    now = 100.0
    logins = Logins(lambda: now)
    logins.next()
    for _ in range(5):
        now += 3600
        assert logins.next()[1] is not None


async def test_kopf_remembers_nothing_of_an_object_and_copies_none_to_compare_it() -> None:
    memories = NoMemories()
    obj: Any = {"metadata": {"uid": "u"}, "spec": {"a": [1]}}
    assert await memories.recall(obj) is not await memories.recall(obj, noticed_by_listing=True)
    assert list(memories.iter_all_memories()) == []
    assert NoDifferences().build(body=kopf.Body(obj)) == {}
