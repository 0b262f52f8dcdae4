"""Reads files of EventSink, Secret and Namespace documents, and knows the line of each field. Shows no value of any."""

from __future__ import annotations

import base64
import binascii
import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from eventsink.kube.api import Object
from eventsink.kube.secrets import encoded
from eventsink.resources.names import API_VERSION, KIND
from eventsink.standalone.scalars import FastLoader, Loader
from eventsink.standalone.values import NotYaml, Value, read_values

SUFFIXES = (".yaml", ".yml", ".json")
DEFAULT_NAMESPACE = "default"
MAX_FILE_BYTES = 4 * 1024**2
"""Of one file; a ConfigMap holds at most 1 MiB."""
API_VERSIONS = {KIND: API_VERSION, "Secret": "v1", "Namespace": "v1"}
LISTS = ("List", f"{KIND}List", "SecretList", "NamespaceList")
_NAME = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*")
_LABEL = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?")
_LONE_SURROGATE = re.compile("[\ud800-\udfff]")
"""An escape in JSON or YAML can make one; no UTF-8 text holds it."""
QUOTES = "write a text; put quotes around one that YAML takes for something else"
COMMENTED = "has no value, since # begins a comment; put quotes around a value that begins with it"
MAX_NAME = 253
MAX_NAMESPACE = 63

DocumentKey = tuple[str, str, str]
"""Kind, namespace (of a Namespace: empty), name."""


@dataclass(frozen=True, order=True)
class Fault:
    """One thing that is wrong, and where. The text repeats no value."""

    file: str
    line: int
    """From 1; 0: the file as a whole."""
    field: str
    """As in `spec.webhook.url`; empty: the document, or the file."""
    message: str

    def __str__(self) -> str:
        where = f"{self.file}:{self.line}" if self.line else self.file
        return f"{where}: {self.field}: {self.message}" if self.field else f"{where}: {self.message}"


@dataclass(frozen=True)
class Document:
    """One object of a file, with nothing in it that a server would have written."""

    file: str
    line: int
    kind: str
    namespace: str
    name: str
    object: Object = field(repr=False)
    """Of a Secret, `data` holds what `stringData` said, too."""
    lines: Mapping[str, int] = field(default_factory=dict, repr=False)
    """Path of a field -> its line."""

    @property
    def key(self) -> DocumentKey:
        return self.kind, self.namespace, self.name

    @property
    def title(self) -> str:
        """As in `EventSink acme/alerts`."""
        return f"{self.kind} {self.namespace}/{self.name}" if self.namespace else f"{self.kind} {self.name}"

    def line_of(self, path: str) -> int:
        """The line of a field; of one that is not there, that of the nearest one around it."""
        while path:
            if path in self.lines:
                return self.lines[path]
            path = path[: max(path.rfind("."), path.rfind("["), 0)]
        return self.line


@dataclass(frozen=True)
class FileContent:
    """What a file says."""

    documents: tuple[Document, ...] = ()
    faults: tuple[Fault, ...] = ()
    """Any: the file is rejected."""
    notes: tuple[Fault, ...] = ()
    """What was ignored."""


class _Wrong(Exception):
    """A document that cannot be used: path and sentence."""

    def __init__(self, path: str, message: str) -> None:
        super().__init__(path, message)
        self.path = path
        self.message = message


def read_documents(file: str, content: bytes) -> FileContent:
    """Read a file.

    Parameters
    ----------
    file
        Its name, for people.
    content
        YAML or JSON, one document or several; a `List` counts as its items.
    """
    if len(content) > MAX_FILE_BYTES:
        return FileContent(faults=(Fault(file, 0, "", f"the file has more than {MAX_FILE_BYTES >> 20} MiB; split it"),))
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        return FileContent(faults=(Fault(file, line, "", "is not UTF-8 text"),))
    found = _read(file, text, FastLoader)
    return _read(file, text, Loader) if found.faults else found


def _read(file: str, text: str, loader: type[Loader | FastLoader]) -> FileContent:
    documents: list[Document] = []
    faults: list[Fault] = []
    notes: list[Fault] = []
    try:
        for value in _items(read_values(text, loader)):
            lines, line = value.lines, value.lines.get("", 1)
            try:
                found = _document(file, line, value.value, lines)
            except _Wrong as wrong:
                faults.append(Fault(file, _near(lines, wrong.path), wrong.path, wrong.message))
                continue
            if found is None:
                known = f"only {KIND}, Secret and Namespace are read"
                notes.append(Fault(file, line, "kind", f"a document of another kind is ignored: {known}"))
            else:
                documents.append(found)
                notes += [Fault(file, _near(lines, path), path, COMMENTED) for path in sorted(value.commented)]
    except NotYaml as error:
        faults.append(Fault(file, error.line, "", error.message))
    first: dict[DocumentKey, Document] = {}
    for one in documents:
        other = first.setdefault(one.key, one)
        if other is not one:
            faults.append(Fault(file, one.line, "", f"{one.title} is also defined at {file}:{other.line}; remove one of the two"))
    return FileContent(tuple(documents), tuple(faults), tuple(notes))


def _items(values: Iterator[Value]) -> Iterator[Value]:
    """The documents, with the items of lists in their place."""
    for one in values:
        if isinstance(one.value, dict) and one.value.get("kind") in LISTS and isinstance(one.value.get("items"), list):
            yield from one.items()
        else:
            yield one


def _near(lines: Mapping[str, int], path: str) -> int:
    return Document("", lines.get("", 1), "", "", "", {}, lines).line_of(path)


def _document(file: str, line: int, value: Any, lines: Mapping[str, int]) -> Document | None:
    """The document; None: one of another kind.

    Raises
    ------
    _Wrong
        It cannot be used.
    """
    if not isinstance(value, dict):
        raise _Wrong("", "write an object with apiVersion, kind and metadata")
    kind = value.get("kind")
    if not isinstance(kind, str) or not kind:
        raise _Wrong("kind", f"write {KIND}, Secret or Namespace")
    if kind not in API_VERSIONS:
        return None
    version = value.get("apiVersion")
    if version != API_VERSIONS[kind]:
        raise _Wrong("apiVersion", f"write {API_VERSIONS[kind]}")
    metadata = _mapping(value, "metadata", "")
    for place in ("name", "namespace"):
        if not isinstance(metadata.get(place), str | None):
            raise _Wrong(f"metadata.{place}", QUOTES)
    name = metadata.get("name")
    if not isinstance(name, str) or len(name) > MAX_NAME or not _NAME.fullmatch(name):
        raise _Wrong("metadata.name", "write a name of lower-case letters, digits, - and .")
    namespace = metadata.get("namespace", DEFAULT_NAMESPACE)
    if kind == "Namespace":
        namespace = ""
        if len(name) > MAX_NAMESPACE or not _LABEL.fullmatch(name):
            raise _Wrong("metadata.name", "write a name of at most 63 lower-case letters, digits and -")
    elif not isinstance(namespace, str) or len(namespace) > MAX_NAMESPACE or not _LABEL.fullmatch(namespace):
        raise _Wrong("metadata.namespace", "write a name of at most 63 lower-case letters, digits and -")
    clean: Object = {"apiVersion": version, "kind": kind, "metadata": {"name": name}}
    if namespace:
        clean["metadata"]["namespace"] = namespace
    if kind == "Namespace":
        clean["metadata"]["labels"] = _texts(metadata, "labels", "metadata.")
    elif kind == "Secret":
        clean["data"] = _secret_data(value)
    else:
        # A key that is no part of an EventSink would be pruned by an API server; here a slip is better reported.
        for extra in value:
            if extra not in ("apiVersion", "kind", "metadata", "spec", "status"):
                raise _Wrong(str(extra), "an EventSink has no such field; it may belong under spec")
        clean["spec"] = value.get("spec")
        try:
            json.dumps(clean["spec"], allow_nan=False)
        except (TypeError, ValueError):
            raise _Wrong("spec", "holds a value that JSON does not know; put quotes around it") from None
    return Document(file, line, kind, namespace, name, clean, lines)


def _mapping(value: Mapping[str, Any], name: str, prefix: str) -> Mapping[str, Any]:
    found = value.get(name)
    if found is None:
        return {}
    if not isinstance(found, dict):
        raise _Wrong(prefix + name, "write an object with fields of its own")
    return found


def _texts(value: Mapping[str, Any], name: str, prefix: str = "") -> dict[str, str]:
    found = _mapping(value, name, prefix)
    for key, one in found.items():
        if not isinstance(key, str):
            raise _Wrong(prefix + name, "put quotes around names that YAML takes for something else")
        if not isinstance(one, str) or _LONE_SURROGATE.search(one):
            raise _Wrong(f"{prefix}{name}.{key}", QUOTES)
    return dict(found)


def _secret_data(value: Mapping[str, Any]) -> dict[str, str]:
    """`data` and, over it, `stringData`, in base64."""
    data = _texts(value, "data")
    for key, text in data.items():
        try:
            base64.b64decode("".join(text.split()), validate=True)
        except (binascii.Error, ValueError):
            raise _Wrong(f"data.{key}", "is not base64; write plain text under stringData instead") from None
    plain = encoded(_texts(value, "stringData"))
    return {key: "".join(text.split()) for key, text in (data | plain).items()}
