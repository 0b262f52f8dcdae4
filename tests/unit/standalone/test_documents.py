"""Reading files: which documents they have, what is wrong and where; no message shows a value."""

from __future__ import annotations

import base64
import json
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from eventsink.standalone.documents import MAX_FILE_BYTES, Fault, read_documents

SINK = """\
apiVersion: eventsink.dev/v1alpha1
kind: EventSink
metadata:
  name: alerts
spec:
  webhook:
    headers:
      - name: X-Team
"""
SECRET = "apiVersion: v1\nkind: Secret\nmetadata: {name: hook}\n"


def faults(text: str) -> list[tuple[int, str]]:
    return [(fault.line, fault.field) for fault in read_documents("f.yaml", text.encode()).faults]


def test_a_document_without_a_namespace_is_in_the_default_one() -> None:
    [document] = read_documents("f.yaml", SINK.encode()).documents
    assert (document.key, document.line) == (("EventSink", "default", "alerts"), 1)
    assert document.title == "EventSink default/alerts"


@pytest.mark.parametrize(
    ("path", "line"),
    [
        ("spec", 5),
        ("spec.webhook.headers", 7),
        ("spec.webhook.headers[0]", 8),
        ("spec.webhook.headers[0].name", 8),
        ("spec.webhook.headers[0].value", 8),
        ("spec.webhook.url", 6),
        ("spec.tenant", 5),
        ("", 1),
        ("status", 1),
    ],
)
def test_a_missing_field_has_the_line_of_its_nearest_parent(path: str, line: int) -> None:
    [document] = read_documents("f.yaml", SINK.encode()).documents
    assert document.line_of(path) == line


def test_lists_and_several_documents_are_read_as_items_with_their_own_lines() -> None:
    items = "kind: List\nitems:\n- apiVersion: v1\n  kind: Namespace\n  metadata: {name: acme}\n"
    found = read_documents("f.yaml", f"---\n---\n{SECRET}---\n{items}".encode())
    assert [(one.title, one.line) for one in found.documents] == [("Secret default/hook", 3), ("Namespace acme", 9)]


def test_json_may_be_indented_by_tabs() -> None:
    text = json.dumps(
        {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "hook"}, "stringData": {"a": "x\ty"}}, indent="\t"
    )
    [document] = read_documents("f.json", text.encode()).documents
    assert document.object["data"] == {"a": base64.b64encode(b"x\ty").decode()}
    assert document.line_of("stringData.a") == 8


def test_a_byte_order_mark_is_skipped_before_each_document() -> None:
    found = read_documents(
        "f.yaml", f"\ufeff{SECRET}---\n\ufeff{SINK}--- # more\r\n\ufeff{SECRET.replace('hook', 'other')}".encode()
    )
    assert [(one.title, one.line) for one in found.documents] == [
        ("Secret default/hook", 1),
        ("EventSink default/alerts", 5),
        ("Secret default/other", 14),
    ]
    assert faults(f"{SECRET}\ufeff---\n{SINK}") != []


def test_escapes_of_json_that_are_one_character_together_are_that_character() -> None:
    sink = {"apiVersion": "eventsink.dev/v1alpha1", "kind": "EventSink", "metadata": {"name": "a"}}
    name = "\U0001f525 \\ud83d\\udd25 \\"
    [document] = read_documents("f.json", json.dumps({**sink, "spec": {"name": name}}).encode()).documents
    assert document.object["spec"]["name"] == name


def test_a_json_number_of_thousands_of_digits_is_an_error_of_the_file() -> None:
    assert faults('{"kind": ' + "9" * 5000 + "}") == [(0, "")]


def test_several_json_documents_in_one_file_are_read_with_their_own_lines() -> None:
    secrets = [{"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name}, "data": {"a": "?"}} for name in ("a", "b", "c")]
    one, two, three = (json.dumps(secret, indent=1) for secret in secrets)
    assert faults(f"{one}\n{two}{three}\n") == [(8, "data.a"), (18, "data.a"), (27, "data.a")]
    assert faults(f"{one}\n---\n{two}") == [(8, "data.a"), (19, "data.a")]
    assert faults(f"{one}\n[") == [(8, "data.a"), (11, "")]
    many = read_documents("f.json", json.dumps({"apiVersion": "v1", "kind": "ConfigMap"}).encode() * 2_000)
    assert (len(many.notes), many.faults) == (2_000, ())


@pytest.mark.parametrize("value", ["y", "N", "1e3", "0o17", "08", "on", "0x1f", "1_000"])
def test_what_kubectl_would_take_for_something_else_needs_quotes(value: str) -> None:
    for text, field in (
        (SINK.replace("name: alerts", f"name: {value}"), "metadata.name"),
        (SINK.replace("name: alerts", f"name: alerts\n  namespace: {value}"), "metadata.namespace"),
        (f"{SECRET}stringData: {{a: {value}}}\n", "stringData.a"),
        (f"{SECRET}stringData: {{{value}: a}}\n", "stringData"),
        (f"apiVersion: v1\nkind: Namespace\nmetadata: {{name: a, labels: {{b: {value}}}}}\n", "metadata.labels.b"),
    ):
        [fault] = read_documents("f.yaml", text.encode()).faults
        assert (fault.field, "put quotes around" in fault.message) == (field, True)


def test_a_number_that_names_a_key_is_a_text_as_in_json() -> None:
    [document] = read_documents("f.yaml", f"{SECRET}stringData: {{1: a, 20: b, 0: c}}\n".encode()).documents
    assert set(document.object["data"]) == {"1", "20", "0"}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("  slack:\n    channel: #alerts\n", [(7, "spec.slack.channel")]),
        ("  slack:\n    channel:   # the team's\n      x\n", []),
        ("  slack:\n    channel:\n    # nothing\n", []),
        ('  slack:\n    channel: "#alerts"\n', []),
        ("  match:\n    sources:\n    - #one\n", [(8, "spec.match.sources[0]")]),
    ],
)
def test_a_value_that_became_a_comment_is_noted(text: str, expected: list[tuple[int, str]]) -> None:
    head = SINK[: SINK.index("  webhook")]
    for before, more in (("", 0), ("kind: List\nitems:\n", 2)):
        lines = (head + text).splitlines(keepends=True)
        indented = "".join(("- " if index == 0 else "  ") + line for index, line in enumerate(lines)) if before else head + text
        found = read_documents("f.yaml", (before + indented).encode())
        assert [(note.line - more, note.field) for note in found.notes] == expected
        assert all("# begins a comment; put quotes around" in note.message for note in found.notes)


def test_string_data_overrides_data() -> None:
    [document] = read_documents("f.yaml", f"{SECRET}data: {{a: b2xk, b: b2xk}}\nstringData: {{a: new}}\n".encode()).documents
    assert document.object["data"] == {"a": base64.b64encode(b"new").decode(), "b": "b2xk"}


def test_members_that_only_a_server_writes_are_left_out() -> None:
    text = SINK.replace("  name: alerts\n", "  name: alerts\n  uid: x\n  deletionTimestamp: now\n") + "status: {conditions: []}\n"
    [document] = read_documents("f.yaml", text.encode()).documents
    assert document.object.keys() == {"apiVersion", "kind", "metadata", "spec"}
    assert document.object["metadata"] == {"name": "alerts", "namespace": "default"}


def test_other_kinds_are_noted_and_not_a_fault() -> None:
    found = read_documents("f.yaml", b"apiVersion: v1\nkind: ConfigMap\nmetadata: {name: x}\n")
    assert not found.faults
    assert [(note.line, note.field) for note in found.notes] == [(1, "kind")]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("kind: EventSink\n", [(1, "apiVersion")]),
        ("a: 1\n", [(1, "kind")]),
        ("- a\n", [(1, "")]),
        (SINK.replace("alerts", "Alerts"), [(4, "metadata.name")]),
        (SINK.replace("name: alerts", "{name: alerts, namespace: _sinks}"), [(3, "metadata.namespace")]),
        (SINK.replace("spec:", "spek:"), [(5, "spek")]),
        (SINK.replace("alerts", "alerts\n  name: again"), [(5, "")]),
        (SINK.replace("v1alpha1", "v1"), [(1, "apiVersion")]),
        (f"{SECRET}data:\n  a: b2xk\n  b: secret!\n", [(6, "data.b")]),
        (f"{SECRET}stringData:\n  a: 1234\n", [(5, "stringData.a")]),
        (f'{SECRET}stringData:\n  a: "\\ud800"\n', [(5, "stringData.a")]),
        (f"{SECRET}stringData: secret\n", [(4, "stringData")]),
        (f"{SECRET}---\n{SECRET}", [(5, "")]),
        ("a: &a [*a]\n", [(1, "")]),
        ("\n\na: [\n", [(4, "")]),
        ("a: 1\n\tb: 2\n", [(2, "")]),
        ("[" * 5000, [(0, "")]),
    ],
)
def test_a_mistake_is_reported_by_line_and_field(text: str, expected: list[tuple[int, str]]) -> None:
    if "namespace: _sinks" in text:
        text = text.replace("metadata:\n  {", "metadata: {")
    assert faults(text) == expected


@pytest.mark.parametrize("text", ["[", "{a: ", "- ", "a: [{b: "], ids=["lists", "maps", "items", "both"])
def test_a_document_that_is_nested_a_hundred_thousand_times_is_rejected_and_ends_no_process(text: str) -> None:
    assert len(read_documents("x.yaml", (text * 100_000).encode()).faults) == 1


def test_nested_yaml_aliases_do_not_exhaust_memory() -> None:
    bomb = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n" + "".join(
        f"a{number}: &a{number} [{', '.join([f'*a{number - 1}'] * 10)}]\n" for number in range(1, 10)
    )
    assert faults(bomb) == [(1, "")]


def test_brackets_take_no_seconds() -> None:
    began = time.thread_time()
    assert faults("[" * 2000) == [(0, "")]
    assert faults("[" * 2000 + "}") == [(0, "")]
    assert time.thread_time() - began < 2.0  # 0.02


def test_a_file_that_is_too_large_or_not_text_is_rejected() -> None:
    assert faults("#" * (MAX_FILE_BYTES + 1)) == [(0, "")]
    assert [fault.line for fault in read_documents("f", b"a: 1\nb: \xff\n").faults] == [2]


@pytest.mark.parametrize(
    "text",
    [
        "a: *canary7\n",
        "a: !canary7 x\n",
        "a: !!int canary7\n",
        "a: !!timestamp canary7\n",
        "a: !!bool canary7\n",
        "a: !!float canary7\n",
        "canary7: !!int ''\n",
        "a: !!binary canary7é\n",
        "a: !!python/object:canary7 {}\n",
        "%canary7\n",
        "a: 'canary7\n",
        "a: canary7: b\n",
        f"{SECRET}data: {{a: canary7}}\n",
        f"{SECRET}data: canary7\n",
        f"{SECRET}stringData: [canary7]\n",
        f"{SECRET}stringData: {{a: [canary7]}}\n",
        "canary7\n",
        "kind: canary7\n",
        SINK.replace("name: alerts", "name: Canary7 canary7"),
    ],
)
def test_no_message_shows_a_value(text: str) -> None:
    found = read_documents("f.yaml", text.encode())
    assert found.faults or found.notes
    assert "canary7" not in "".join(map(str, (*found.faults, *found.notes)))
    assert "canary7" not in repr(found)


@given(st.binary(max_size=200) | st.text(alphabet="abk:{}[]-&*!|>'\"\n\t #%", max_size=200).map(str.encode))
def test_no_content_of_a_file_raises(content: bytes) -> None:
    read_documents("f.yaml", content)


@pytest.mark.parametrize(
    ("fault", "shown"),
    [
        (Fault("a.yaml", 12, "spec.webhook.url", "no"), "a.yaml:12: spec.webhook.url: no"),
        (Fault("a.yaml", 3, "", "no"), "a.yaml:3: no"),
        (Fault("a.yaml", 0, "", "no"), "a.yaml: no"),
    ],
)
def test_a_fault_is_written_like_a_compilers(fault: Fault, shown: str) -> None:
    assert str(fault) == shown
