"""Which version of each file counts, as a table."""

from __future__ import annotations

import pytest

from eventsink.standalone.documents import Document, Fault, FileContent
from eventsink.standalone.inventory import Inventory, dump, load

BAD = FileContent(faults=(Fault("a", 1, "", "bad"),))


def file(name: str, *objects: str) -> FileContent:
    return FileContent(tuple(Document(name, 1, "EventSink", "acme", one, {"made": "of"}) for one in objects))


def held(inventory: Inventory) -> dict[str, list[str]]:
    return {name: [one.name for one in documents] for name, documents in inventory.files.items()}


Step = tuple[dict[str, FileContent], set[str]]


@pytest.mark.parametrize(
    ("steps", "expected", "rejected"),
    [
        ([({"a": file("a", "x")}, set())], {"a": ["x"]}, []),
        ([({"a": file("a", "x")}, set()), ({"a": BAD}, set())], {"a": ["x"]}, ["a"]),
        ([({"a": BAD}, set())], {}, ["a"]),
        ([({"a": file("a", "x")}, set()), ({}, {"a"})], {}, []),
        ([({"a": file("a", "x")}, set()), ({"a": file("a", "y")}, set())], {"a": ["y"]}, []),
        ([({"a": file("a", "x"), "b": file("b", "x", "y")}, set())], {"a": ["x"]}, ["b"]),
        ([({"b": file("b", "x")}, set()), ({"a": file("a", "x")}, set())], {"b": ["x"]}, ["a"]),
        ([({"a": file("a", "x"), "b": file("b", "x")}, set()), ({}, {"a"})], {"b": ["x"]}, []),
        ([({"a": file("a", "x")}, set()), ({"b": file("b", "x")}, {"a"})], {"b": ["x"]}, []),
        (
            [({"a": file("a", "x"), "b": file("b", "y")}, set()), ({"a": file("a", "y"), "b": file("b", "x")}, set())],
            {"a": ["y"], "b": ["x"]},
            [],
        ),
        (
            [({"a": file("a", "x"), "b": file("b", "y")}, set()), ({"a": file("a", "y"), "b": file("b", "y", "z")}, set())],
            {"a": ["x"], "b": ["y", "z"]},
            ["a"],
        ),
        ([({"a": file("a", "x"), "b": file("b", "x")}, set()), ({"b": BAD}, set()), ({}, {"a"})], {}, []),
    ],
    ids=[
        "good",
        "turned bad",
        "never good",
        "gone",
        "changed",
        "one object in two files",
        "the first file keeps the object",
        "the other file gets the object once it is free",
        "moved at once",
        "swapped at once",
        "a conflict does not affect the file that had the object",
        "a rejected file that turned bad is not accepted later",
    ],
)
def test_the_last_valid_version_of_a_file_counts_and_no_object_counts_twice(
    steps: list[Step], expected: dict[str, list[str]], rejected: list[str]
) -> None:
    inventory = Inventory()
    faults: list[Fault] = []
    for changed, gone in steps:
        faults = inventory.update(changed, gone)
    assert held(inventory) == expected
    assert [fault.file for fault in faults] == rejected


def test_a_conflict_names_both_files() -> None:
    [fault] = Inventory().update({"a": file("a", "x"), "b": file("b", "x")}, set())
    assert str(fault) == "b:1: EventSink acme/x is also defined at a:1; remove one of the two"


def test_accepted_documents_survive_a_restart() -> None:
    inventory = Inventory()
    inventory.update({"a": file("a", "x", "y")}, set())
    assert load(dump(inventory.files)) == inventory.files


@pytest.mark.parametrize("text", ["", "[]", '{"a": 1}', '{"a": [{"b": 1}]}'])
def test_an_invalid_inventory_is_rejected(text: str) -> None:
    with pytest.raises(ValueError):
        load(text)
