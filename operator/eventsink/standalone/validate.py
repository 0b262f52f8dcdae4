"""`eventsink validate`: says of documents, without a cluster, what the operator would say of them."""

from __future__ import annotations

import os
from collections.abc import Container, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, BinaryIO

from eventsink.controller.compile import compile_match, compile_mutes
from eventsink.controller.tenancy import Namespace, check_claim, owned_tenants, read_namespace
from eventsink.destinations import registry
from eventsink.destinations.problem import Problem
from eventsink.kube.secrets import secret_data
from eventsink.resources.eventsink import EventSink, InvalidSpec, read_eventsink
from eventsink.resources.model import references
from eventsink.resources.names import ALL_TENANTS, KIND, PLATFORM_LABEL
from eventsink.standalone.documents import MAX_FILE_BYTES, Document, DocumentKey, Fault, FileContent, read_documents
from eventsink.standalone.folder import take_snapshot

STANDARD_INPUT = "-"
NOTHING = "nothing to validate: there is no EventSink; correct the path, or allow it with --allow-empty"


@dataclass(frozen=True)
class Findings:
    """What was found."""

    errors: tuple[Fault, ...]
    notes: tuple[Fault, ...]
    """What could not be checked, and what was ignored."""
    sinks: int
    """EventSinks that were read."""

    def with_sinks(self, names: Sequence[str]) -> Findings:
        """The same; without any EventSink that is an error of the files that were named: a wrong path must not pass for a valid one."""
        if self.sinks or self.errors:
            return self
        where = ("standard input" if names[0] == STANDARD_INPUT else names[0]) if len(names) == 1 else f"{len(names)} files"
        return replace(self, errors=(Fault(where, 0, "", NOTHING),))

    def to_dict(self) -> dict[str, Any]:
        """As `--output json` shows it."""
        return {
            "valid": not self.errors,
            "sinks": self.sinks,
            "errors": [asdict(one) for one in self.errors],
            "notes": [asdict(one) for one in self.notes],
        }


def read(names: Sequence[str], standard_input: BinaryIO, *, mentioning: str = "") -> list[FileContent]:
    """Read files, folders and (`-`) standard input; each file once, and only those whose text contains `mentioning`."""
    found: dict[str, FileContent] = {}
    wanted = mentioning.encode()
    for name in names:
        if name == STANDARD_INPUT:
            text = standard_input.read(MAX_FILE_BYTES + 1)
            if wanted in text:
                found.setdefault(name, read_documents("standard input", text))
            continue
        for file in _files(Path(name)):
            try:
                with file.open("rb") as stream:
                    text = stream.read(MAX_FILE_BYTES + 1)
            except OSError as error:
                reason = os.strerror(error.errno) if error.errno else "unknown"
                content = FileContent(faults=(Fault(str(file), 0, "", f"cannot be read: {reason}"),))
            else:
                if wanted not in text:
                    continue
                content = read_documents(str(file), text)
            found.setdefault(os.path.realpath(file), content)
    return list(found.values())


def _files(path: Path) -> list[Path]:
    return [path / name for name in take_snapshot(path).files] if path.is_dir() else [path]


def check_each(contents: Sequence[FileContent]) -> Findings:
    """Check the documents of each file by themselves: the files of a repository need not belong to one cluster. Pure."""
    found = [check([content]) for content in contents]
    return Findings(
        tuple(sorted(error for one in found for error in one.errors)),
        tuple(sorted(note for one in found for note in one.notes)),
        sum(one.sinks for one in found),
    )


def check(contents: Sequence[FileContent]) -> Findings:
    """Check documents together: they may refer to each other. Pure."""
    errors = [fault for content in contents for fault in content.faults]
    notes = [note for content in contents for note in content.notes]
    known: dict[DocumentKey, Document] = {}
    for one in (document for content in contents for document in content.documents):
        other = known.setdefault(one.key, one)
        if other is not one and other.file != one.file:
            errors.append(
                Fault(one.file, one.line, "", f"{one.title} is also defined at {other.file}:{other.line}; remove one of the two")
            )
    namespaces = {
        name: read_namespace({**one.object["metadata"], "uid": name})
        for (kind, _, name), one in known.items()
        if kind == "Namespace"
    }
    owned = owned_tenants(namespaces.values())
    sinks = [one for one in known.values() if one.kind == KIND]
    for one in sinks:
        found = _Sink(one, known, namespaces, owned)
        errors += found.errors
        notes += found.notes
    return Findings(tuple(sorted(set(errors))), tuple(sorted(set(notes))), len(sinks))


_PLATFORM_ONLY = f"it must have the label {PLATFORM_LABEL}=true for a sink that receives the alerts of all tenants"


class _Sink:
    """What there is to say of one EventSink."""

    def __init__(
        self,
        document: Document,
        known: Mapping[DocumentKey, Document],
        namespaces: Mapping[str, Namespace],
        owned: Container[str],
    ) -> None:
        self._document = document
        self.errors: list[Fault] = []
        self.notes: list[Fault] = []
        try:
            sink = read_eventsink(document.object)
        except InvalidSpec as invalid:
            self.errors = [self._fault(error.path, error.message) for error in invalid.errors]
            return
        if sink.spec.tenant == ALL_TENANTS and sink.namespace not in namespaces:
            self._note(
                "spec.tenant", f"not checked: the Namespace {sink.namespace} is not among these documents; {_PLATFORM_ONLY}"
            )
        elif namespaces:
            self._claim(sink, namespaces, owned)
        secrets = {
            name: secret_data(one.object)
            for (kind, namespace, name), one in known.items()
            if kind == "Secret" and namespace == document.namespace
        }
        for reference in references(sink.spec):
            if reference.ref.name not in secrets:
                self._note(
                    reference.path,
                    f"not checked: the Secret {reference.ref.name} of the namespace {document.namespace} is not among these documents",
                )
        try:
            compile_match(sink.spec)
            compile_mutes(sink.spec)
            for note in registry.load(sink.spec.type, "resolve").check(sink, secrets):
                self._note(note.path, note.sentence)
        except Problem as problem:
            self._problem(problem)

    def _claim(self, sink: EventSink, namespaces: Mapping[str, Namespace], owned: Container[str]) -> None:
        try:
            check_claim(sink.spec.tenant, sink.namespace, namespaces, owned, allow_unowned=True)
        except Problem as problem:
            self._problem(problem)
            return
        try:
            check_claim(sink.spec.tenant, sink.namespace, namespaces, owned, allow_unowned=False)
        except Problem as problem:
            self._note(
                problem.path,
                f"{problem.sentence} (rejected on a cluster; allowed where tenancy.allowUnowned is true, as in eventsink run)",
            )

    def _problem(self, problem: Problem) -> None:
        self.errors.append(self._fault(problem.path, problem.sentence))

    def _note(self, path: str, message: str) -> None:
        self.notes.append(self._fault(path, message))

    def _fault(self, path: str, message: str) -> Fault:
        return Fault(self._document.file, self._document.line_of(path), path, message)
