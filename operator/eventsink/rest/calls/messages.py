"""Puts what rules, operator and router say of a sink in terms of a request: people who use the REST API see no spec and no Secret."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from functools import cache
from typing import Any, get_args

from eventsink.destinations.arguments import arguments
from eventsink.resources.model import SpecModel
from eventsink.resources.spec import EventSinkSpec

_ARGS = "event_sink_args"
_RENAMED = {"tenant": "tenant_id"}
"""Field of the spec -> field of a request."""
_SPEC_PATH = re.compile(r"spec(?:\.\w+|\[\d+\])+")
_STEP = re.compile(r"\.(\w+)((?:\[\d+\])*)")
_WORD = re.compile(r"[A-Za-z.]+")
_OWN_SECRET_GONE = re.compile(r"Secret eventsink-rest-[^ ]+ not found, [^;]+")


def snake(name: str) -> str:
    """`minSeverity` -> `min_severity`."""
    return re.sub(r"[A-Z]", lambda found: f"_{found[0].lower()}", name)


def rest_path(path: str) -> str:
    """The field of a request that a field of the spec was made from: `spec.webhook.url` is `event_sink_args.Webhook.url`."""
    steps = _STEP.findall(path)
    if not steps:
        return path
    found, made, renamed = [], _RENAMED, dict[str, str]()
    if (destination := arguments().get(steps[0][0])) is not None:
        found, made, renamed = [_ARGS, destination.display_name], dict(destination.fields), dict(destination.renamed)
        steps = steps[1:]
    for at, (name, index) in enumerate(steps):
        inner = f"{name}.{steps[at + 1][0]}" if at + 1 < len(steps) else ""
        if inner in made:
            return ".".join([*found, made[inner]])
        if name in made:
            return ".".join([*found, made[name]])
        found.append((renamed.get(name) or snake(name)) + index)
    return ".".join(found)


def rest_sentence(message: str) -> str:
    """A message about a spec, with the paths and names of a request."""
    message = _OWN_SECRET_GONE.sub("the value that was kept is gone; send it again, or create the sink again", message)
    for one in arguments().values():
        for spoken, instead in one.sentences.items():
            message = message.replace(spoken, instead)
    return _WORD.sub(lambda found: _argument(found[0]), _SPEC_PATH.sub(lambda found: rest_path(found[0]), message))


def _argument(word: str) -> str:
    """The argument for a field of a spec, or for a path to one (`tls.caSecretRef`); a word of the language stays as it is."""
    path = word.rstrip(".")
    steps = path.split(".")
    names = _names()
    if "." in path and path in names:
        return names[path] + word[len(path) :]
    if path.islower() or not all(step in names for step in steps):
        return word
    renamed = [names[step] for step in steps if names[step] != snake(step)]
    return (renamed[0] if renamed else snake(path)) + word[len(path) :]


@cache
def _names() -> Mapping[str, str]:
    """Each field of a spec, at any depth -> its argument."""
    renamed = {name: argument for one in arguments().values() for name, argument in {**one.fields, **one.renamed}.items()}
    inner = {path: argument for path, argument in renamed.items() if "." in path}
    return {name: renamed.get(name, snake(name)) for name in _fields(EventSinkSpec)} | inner


def _fields(annotation: Any) -> Iterator[str]:
    if isinstance(annotation, type) and issubclass(annotation, SpecModel):
        for name, info in annotation.model_fields.items():
            yield info.alias or name
            yield from _fields(info.annotation)
    for inner in get_args(annotation):
        yield from _fields(inner)
