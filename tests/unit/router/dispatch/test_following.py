"""A message is of alerts that no post announced, or of those of one post: the new ones first, and of each alert up to its end."""

from __future__ import annotations

import pytest

from eventsink.router.dispatch.following import groups
from eventsink.router.dispatch.outgoing import Item
from eventsink.router.queue.posts import PostRef
from eventsink.router.queue.protocol import Delivery, PayloadKind

NOON = 43_200 * 10**6
ANNOUNCED = {"a": PostRef(1, True, NOON), "b": PostRef(1, True, NOON), "c": PostRef(2, False, NOON)}
"""Posts that announced alerts which fire since noon of the first day."""


def item(seq: int, change: str) -> Item:
    """A delivery: `a+` fires since noon, `a*` since later, `a-` has ended."""
    key, sign = change[0], change[1]
    body = f'{{"startsAt": "1970-01-01T{13 if sign == "*" else 12}:00:00Z", "name": "{key}"}}'
    status = "resolved" if sign == "-" else "firing"
    return Item(Delivery(seq, f"d{seq}", "s", "acme", key, status, PayloadKind.ALERT, body.encode(), 0.0, 1e9))


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ("x+ y+", "new: x+ y+"),
        ("a- x+ c- b- y-", "new: x+ y-; 1: a- b-; 2: c-"),
        ("c+ a+", "2: c+; 1: a+"),
        ("a+ a- a* a-", "1: a+ a-"),
        ("a- a*", "1: a-"),
        ("a* a-", "new: a* a-"),
        ("a+ a* a-", "1: a+"),
        ("x+ x- x*", "new: x+ x- x*"),
    ],
)
def test_a_message_is_of_what_is_new_or_of_one_post(changes: str, expected: str) -> None:
    items = [item(seq, change) for seq, change in enumerate(changes.split())]
    named = dict(zip(range(len(items)), changes.split(), strict=True))
    found = [
        f"{'new' if ref is None else ref.id}: {' '.join(named[one.delivery.seq] for one in chosen)}"
        for ref, chosen in groups(items, ANNOUNCED, {})
    ]
    assert "; ".join(found) == expected


def test_an_alert_that_cannot_be_read_is_left_to_the_sender() -> None:
    unreadable = Item(Delivery(1, "d1", "s", "acme", "a", "firing", PayloadKind.ALERT, b"{}", 0.0, 1e9))
    assert list(groups([unreadable], ANNOUNCED, {})) == [(ANNOUNCED["a"], [unreadable])]
