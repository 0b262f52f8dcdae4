"""`eventsink validate` reads what kubectl reads: the real program, held against the reader of documents."""

from __future__ import annotations

import json
import re

import pytest

from eventsink.standalone.documents import read_documents
from tests.support.kubectl import Kubectl
from tests.unit.standalone.test_scalars import BOOLEAN, NOT_JSON, NULL, NUMBER, SCALARS, TEXT

BODY = "  tenant: acme\n  webhook: {url: 'https://example.com'}\n"
HEAD = "apiVersion: eventsink.dev/v1alpha1\nkind: EventSink\n"
KINDS = {"boolean": BOOLEAN, "integer": NUMBER, "number": NUMBER, "null": NULL}
SINK = {
    "apiVersion": "eventsink.dev/v1alpha1",
    "kind": "EventSink",
    "spec": {"tenant": "acme", "name": "A", "webhook": {"url": "https://example.com"}},
}


def test_a_value_without_quotes_is_what_the_table_says(kubectl: Kubectl, crd_installed: None) -> None:
    documents = [f"{HEAD}metadata: {{name: c-{index}}}\nspec:\n  name: {text}\n{BODY}" for index, text in enumerate(SCALARS)]
    done = kubectl.run("apply", "--dry-run=server", "-f", "-", input="---\n".join(documents), check=False)
    seen = {int(index): TEXT for index in re.findall(r"eventsinks?\.eventsink\.dev/c-(\d+) created", done.stdout)}
    for line in done.stderr.splitlines():
        if (rejected := re.search(r'"c-(\d+)" is invalid: (.*)', line)) is not None:
            found = re.search(r'must be of type string: "(\w+)"', rejected[2])
            seen[int(rejected[1])] = KINDS[found[1]] if found else NULL if "Required value" in rejected[2] else TEXT
    assert {text: seen.get(index) for index, text in enumerate(SCALARS)} == SCALARS


@pytest.mark.parametrize("text", NOT_JSON)
def test_a_number_that_json_does_not_have_is_rejected_by_both(kubectl: Kubectl, crd_installed: None, text: str) -> None:
    document = f"{HEAD}metadata: {{name: a}}\nspec:\n  name: {text}\n{BODY}"
    assert kubectl.run("apply", "--dry-run=server", "-f", "-", input=document, check=False).returncode
    assert read_documents("f.yaml", document.encode()).faults


def yaml_of(name: str) -> str:
    return f"{HEAD}metadata: {{name: {name}}}\nspec:\n  name: A\n{BODY}"


def json_of(name: str) -> str:
    return json.dumps({**SINK, "metadata": {"name": name}}, indent=1)


LIST = {"apiVersion": "v1", "items": [{**SINK, "metadata": {"name": name}} for name in ("a", "b")]}
FILES: dict[str, str] = {
    "a byte order mark before the first and a later document": f"\ufeff{yaml_of('a')}---\n\ufeff{yaml_of('b')}",
    "a byte order mark before a separator": f"{yaml_of('a')}\ufeff---\n{yaml_of('b')}",
    "JSON documents behind each other": f"{json_of('a')}\n{json_of('b')}{json_of('c')}",
    "JSON documents with separators": f"{json_of('a')}\n---\n{json_of('b')}\n",
    "JSON and YAML": f"{json_of('a')}\n---\n{yaml_of('b')}",
    "YAML and JSON": f"{yaml_of('a')}---\n{json_of('b')}",
    "JSON with tabs": json_of("a").replace("\n ", "\n\t"),
    "a byte order mark before JSON": f"\ufeff{json_of('a')}",
    "a list": json.dumps({**LIST, "kind": "List"}),
    "a list of its kind": json.dumps({**LIST, "apiVersion": "eventsink.dev/v1alpha1", "kind": "EventSinkList"}),
    "lists behind each other": json.dumps({**LIST, "kind": "List"}) + json.dumps({**SINK, "metadata": {"name": "c"}}),
    "empty documents": f"---\n---\n{yaml_of('a')}---\n# nothing\n---\n",
    "line ends of Windows": f"{yaml_of('a')}---\n{yaml_of('b')}".replace("\n", "\r\n"),
    "a comment behind the separator": f"{yaml_of('a')}--- # more\n{yaml_of('b')}",
    "an end of a document": f"{yaml_of('a')}...\n---\n{yaml_of('b')}",
    "a comma too many": yaml_of("a") + '  match: {sources: ["x",]}\n',
    "a number as a key": yaml_of("a") + "  1: x\n",
}


@pytest.mark.parametrize("text", FILES.values(), ids=FILES.keys())
def test_a_file_has_the_documents_that_kubectl_finds_in_it(kubectl: Kubectl, crd_installed: None, text: str) -> None:
    done = kubectl.run("apply", "--dry-run=server", "--validate=false", "-f", "-", input=text, check=False)
    seen = set(re.findall(r"eventsinks?\.eventsink\.dev/([a-z]+) created", done.stdout))
    found = read_documents("f", text.encode())
    assert {one.name for one in found.documents if not found.faults} == (seen if not done.returncode else set()), done.stderr
