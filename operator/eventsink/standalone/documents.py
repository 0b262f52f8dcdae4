"""Reads files of EventSink, Secret and Namespace documents, and knows the line of each field. Shows no value of any."""

from __future__ import annotations

import base64
import binascii
import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from sys import intern
from typing import Any

import yaml
from yaml.composer import Composer
from yaml.constructor import SafeConstructor
from yaml.cyaml import CParser  # type: ignore[attr-defined]
from yaml.resolver import Resolver

from eventsink.kube.api import Object
from eventsink.kube.secrets import encoded
from eventsink.resources.names import API_VERSION, KIND

SUFFIXES = (".yaml", ".yml", ".json")
DEFAULT_NAMESPACE = "default"
MAX_FILE_BYTES = 4 * 1024**2
"""Of one file; a ConfigMap holds at most 1 MiB."""
MAX_NODES = 200_000
"""Values in one document, those behind aliases counted each time: a few aliases of aliases would fill the memory."""
API_VERSIONS = {KIND: API_VERSION, "Secret": "v1", "Namespace": "v1"}
LISTS = ("List", f"{KIND}List", "SecretList", "NamespaceList")
_NAME = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*")
_LABEL = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?")
_LONE_SURROGATE = re.compile("[\ud800-\udfff]")
"""An escape in JSON or YAML can make one; no UTF-8 text holds it."""
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


_RESOLVERS = {
    first: [(tag, pattern) for tag, pattern in resolvers if tag != "tag:yaml.org,2002:timestamp"]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
"""A date without quotes is a text, as for kubectl."""


class _Loader(yaml.SafeLoader):
    """Says best what is wrong, and where."""

    yaml_implicit_resolvers = _RESOLVERS


class _FastLoader(Composer, CParser, SafeConstructor, Resolver):
    """Scans in libyaml, three times as fast. Nodes are composed in Python: libyaml's own composer overflows the stack of deep documents."""

    yaml_implicit_resolvers = _RESOLVERS

    def __init__(self, text: str) -> None:
        CParser.__init__(self, text)
        Composer.__init__(self)
        SafeConstructor.__init__(self)
        Resolver.__init__(self)


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
    found = _read(file, text, _FastLoader)
    return _read(file, text, _Loader) if found.faults else found


def _read(file: str, text: str, loader: type[_Loader | _FastLoader]) -> FileContent:
    documents: list[Document] = []
    faults: list[Fault] = []
    notes: list[Fault] = []
    try:
        for value, lines in _values(text, loader):
            line = lines.get("", 1)
            try:
                found = _document(file, line, value, lines)
            except _Wrong as wrong:
                faults.append(Fault(file, _near(lines, wrong.path), wrong.path, wrong.message))
                continue
            if found is None:
                known = f"only {KIND}, Secret and Namespace are read"
                notes.append(Fault(file, line, "kind", f"a document of another kind is ignored: {known}"))
            else:
                documents.append(found)
    except _NotYaml as error:
        faults.append(Fault(file, error.line, "", error.message))
    first: dict[DocumentKey, Document] = {}
    for one in documents:
        other = first.setdefault(one.key, one)
        if other is not one:
            faults.append(Fault(file, one.line, "", f"{one.title} is also defined at {file}:{other.line}; remove one of the two"))
    return FileContent(tuple(documents), tuple(faults), tuple(notes))


class _NotYaml(Exception):
    def __init__(self, line: int, message: str) -> None:
        super().__init__(message)
        self.line = line
        self.message = message


def _values(text: str, load: type[_Loader | _FastLoader]) -> Iterator[tuple[Any, dict[str, int]]]:
    """Each document (each item of a list) with the lines of its fields; the path of the whole is the empty text."""
    try:
        # JSON is YAML but for tabs between its values, which no JSON text holds within them.
        json.loads(text)
        text = text.replace("\t", " ")
    except (ValueError, RecursionError):
        pass
    try:
        loader = load(text)
        try:
            while loader.check_node():
                node = loader.get_node()
                if node is None:
                    break
                _check_size(node)
                lines: dict[str, int] = {}
                _note_lines(node, "", lines)
                value = loader.construct_document(node)
                if value is None:
                    continue
                if isinstance(value, dict) and value.get("kind") in LISTS and isinstance(value.get("items"), list):
                    for index, item in enumerate(value["items"]):
                        yield item, _lines_below(lines, f"items[{index}]")
                else:
                    yield value, lines
        finally:
            loader.dispose()
    except yaml.YAMLError as error:
        # The text of the error may repeat the content (an unknown alias, a tag): it could be a part of a credential.
        mark = getattr(error, "problem_mark", None) or getattr(error, "context_mark", None)
        line = mark.line + 1 if mark is not None else _line_at(text, getattr(error, "position", 0))
        raise _NotYaml(line, "is not valid YAML; check the indentation, quotes and colons here and above") from None
    except (ValueError, AttributeError, RecursionError):
        # What YAML's types raise where a value is none of theirs (!!int x, !!timestamp x).
        raise _NotYaml(0, "cannot be read as YAML: a value is none of its type (!!), or it is nested too deeply") from None


def _line_at(text: str, position: object) -> int:
    return text.count("\n", 0, position) + 1 if isinstance(position, int) else 0


def _check_size(root: yaml.Node) -> None:
    """Whether the document is of a bearable size, without aliases to what contains them."""
    left = MAX_NODES
    waiting: list[yaml.Node] = [root]
    while waiting:
        node = waiting.pop()
        left -= 1
        if left < 0:
            raise _NotYaml(root.start_mark.line + 1, "the document is too large, or an alias (*) refers to what contains it")
        if isinstance(node, yaml.MappingNode):
            waiting += [one for pair in node.value for one in pair]
        elif isinstance(node, yaml.SequenceNode):
            waiting += node.value


def _note_lines(node: yaml.Node, path: str, lines: dict[str, int]) -> None:
    lines.setdefault(path, node.start_mark.line + 1)
    if isinstance(node, yaml.MappingNode):
        seen = set()
        for key, value in node.value:
            if not isinstance(key, yaml.ScalarNode):
                raise _NotYaml(key.start_mark.line + 1, "the name of a field must be a text")
            if key.tag.endswith(":merge"):
                continue
            if key.value in seen:
                raise _NotYaml(key.start_mark.line + 1, "duplicate field; remove one of them")
            seen.add(key.value)
            key.value = intern(key.value)
            inner = intern(f"{path}.{key.value}" if path else key.value)
            lines[inner] = key.start_mark.line + 1
            _note_lines(value, inner, lines)
    elif isinstance(node, yaml.SequenceNode):
        for index, value in enumerate(node.value):
            _note_lines(value, intern(f"{path}[{index}]"), lines)


def _lines_below(lines: Mapping[str, int], path: str) -> dict[str, int]:
    """The lines of the fields of an item, by their paths within it."""
    found = {"": lines.get(path, 1)}
    for full, line in lines.items():
        if full.startswith(f"{path}."):
            found[full[len(path) + 1 :]] = line
    return found


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
            raise _Wrong(f"{prefix}{name}.{key}", "write a text; put quotes around one that YAML takes for something else")
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
