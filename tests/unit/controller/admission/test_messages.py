"""What a review may cost, whoever asks for it: no more than what a large EventSink costs."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from typing import Any

import pytest

from eventsink.controller.admission.messages import MAX_DEPTH, MAX_SPEC_BYTES, MAX_VALUES, NoReview, TooLarge, read_review
from eventsink.controller.admission.server import LIMITS
from eventsink.controller.compile import match_problems
from eventsink.resources.crd import crd
from eventsink.resources.eventsink import InvalidSpec, read_spec
from tests.support.sinks import event_sink

RESOURCE = {"group": "eventsink.dev", "version": "v1alpha1", "resource": "eventsinks"}
SPEC = event_sink("acme")["spec"]
MOST_SECONDS = 0.2
"""Of a processor; measured: 10 to 50 ms on a busy machine. Without the bounds: 0.5 s and more."""


def review_of(spec: Any, **members: Any) -> bytes:
    """A review whose objects have a spec, and other members."""
    text = spec if isinstance(spec, str) else json.dumps(spec)
    more = json.dumps(members)[1:-1]
    obj = f'{{"metadata": {{"name": "a", "namespace": "acme"}}, "spec": {text}{", " if more else ""}{more}}}'
    request = json.dumps({"uid": "u", "resource": RESOURCE, "namespace": "acme", "operation": "UPDATE"})[:-1]
    return f'{{"request": {request}, "object": {obj}, "oldObject": {obj}}}}}'.encode()


def members(count: int) -> str:
    """The text of a spec with so many unknown fields."""
    return "{" + ",".join(f'"f{number}":0' for number in range(count)) + "}"


def matchers(*expressions: str) -> Any:
    return SPEC | {"match": {"matchers": [f'l{number}=~"{one}"' for number, one in enumerate(expressions)]}}


ATTACKS: dict[str, Callable[[], bytes]] = {
    "unknown fields": lambda: review_of(members(250_000)),
    "as many unknown fields as are read": lambda: review_of(members(MAX_VALUES)),
    "unknown fields in half of the bytes": lambda: review_of(members(MAX_SPEC_BYTES // 12)),
    "one field, given many times": lambda: review_of("{" + ",".join(['"f":0'] * 100_000) + "}"),
    "matchers": lambda: review_of(SPEC | {"match": {"matchers": ['a="b"'] * 100_000}}),
    "matchers that take long": lambda: review_of(matchers(*["\\PL\\pL" * 160 + str(number) for number in range(32)])),
    "matchers that are large": lambda: review_of(matchers(*["a{1000}" * 140 + str(number) for number in range(32)])),
    "deep nesting in the spec": lambda: review_of("[" * 200_000 + "]" * 200_000),
    "deep nesting elsewhere": lambda: review_of(SPEC).replace(
        b'"request"', b'"x": ' + b"[" * 10**6 + b"]" * 10**6 + b', "request"'
    ),
    "empty objects": lambda: review_of("[" + ",".join(["{}"] * 150_000) + "]"),
    "a long text": lambda: review_of(SPEC | {"description": "a" * (MAX_SPEC_BYTES - 1000)}),
    "a long name of a field": lambda: review_of(SPEC | {"a" * (MAX_SPEC_BYTES - 1000): 0}),
    "a long number": lambda: review_of('{"suspend": ' + "1" * 400_000 + "}"),
    "annotations": lambda: review_of(SPEC, status={str(number): [] for number in range(100_000)}),
    "nothing but commas": lambda: b"," * LIMITS.max_body_bytes,
}


def reviewed(body: bytes) -> str:
    """All that the program does with a review before and after kopf; what comes out."""
    try:
        request = read_review(body)["request"]
        assert request["object"] == request["oldObject"]
        return "; ".join(one.message for one in match_problems(read_spec(request["object"].get("spec"))))
    except (NoReview, TooLarge) as unread:
        return str(unread)
    except InvalidSpec as invalid:
        return str(invalid)


@pytest.mark.parametrize("attack", ATTACKS)
def test_no_review_takes_long_or_says_much(attack: str) -> None:
    body = ATTACKS[attack]()
    least = min(spent(body) for _ in range(2))  # the least: other processes only add to it
    assert least < MOST_SECONDS


def spent(body: bytes) -> float:
    """Seconds of a processor that a review takes."""
    began = time.process_time()
    reviewed(body)
    return time.process_time() - began


@pytest.mark.parametrize("namespace", ["", "a/b", "..", "a?x=y", "acme\n", "A", "a" * 64, 1, None])
def test_a_namespace_that_cannot_be_one_is_asked_about_nowhere(namespace: Any) -> None:
    body = json.loads(review_of(SPEC))
    read_review(json.dumps(body).encode())
    body["request"]["namespace"] = namespace
    with pytest.raises(NoReview):
        read_review(json.dumps(body).encode())


def test_a_spec_of_twice_the_size_takes_no_longer_once_it_is_too_large() -> None:
    small, large = (review_of(members(count)) for count in (40_000, 320_000))
    times = [min(spent(body) for _ in range(5)) / len(body) for body in (small, large)]
    assert times[1] < 3 * times[0]


WIDE = {"description", "matchers"}
"""Texts of any characters; the others are ASCII, by their rules, or short."""


def largest(schema: dict[str, Any], name: str = "") -> tuple[int, int, int]:
    """Of a value that a schema lets pass: fields and entries at most, levels at most, and bytes at most as JSON without escapes."""
    if schema.get("type") == "object":
        inner = {name: largest(one, name) for name, one in schema["properties"].items()}
        return (
            len(inner) + sum(values for values, _, _ in inner.values()),
            1 + max(levels for _, levels, _ in inner.values()),
            2 + sum(len(name) + 4 + size for name, (_, _, size) in inner.items()),
        )
    if schema.get("type") == "array":
        values, levels, size = largest(schema["items"], name)
        return schema["maxItems"] * (1 + values), 1 + levels, 2 + schema["maxItems"] * (1 + size)
    if "enum" in schema or schema.get("type") in ("boolean", "integer"):
        return 0, 0, 20
    return 0, 0, 2 + schema["maxLength"] * (4 if name in WIDE else 1)


def test_whatever_the_crd_lets_pass_is_reviewed() -> None:
    [version] = crd()["spec"]["versions"]
    values, levels, size = largest(version["schema"]["openAPIV3Schema"]["properties"]["spec"])
    assert 2 * values < MAX_VALUES
    assert 2 * levels <= MAX_DEPTH
    assert size < 600 * 1024 < MAX_SPEC_BYTES
    annotations = 256 * 1024
    assert 2 * (size + annotations) < LIMITS.max_body_bytes
