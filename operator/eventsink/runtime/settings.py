"""Configuration of a process: one YAML file, environment variables that override it, and errors that name the field and what to do."""

from __future__ import annotations

import difflib
import math
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, TypeVar

from pydantic import BaseModel, BeforeValidator, ConfigDict, ValidationError
from pydantic.alias_generators import to_camel

from eventsink.runtime.durations import parse_duration
from eventsink.runtime.yaml_text import InvalidYaml, read_yaml

MAX_SECRET_FILE_BYTES = 64 * 1024


class ConfigurationError(Exception):
    """The configuration cannot be used; the text is a sentence that names the file, the field and what to do."""


def seconds(value: object) -> float:
    """Seconds of a duration such as `90s`, `4h`, `1h30m` or `3d`, or of a number of seconds.

    Raises
    ------
    ValueError
        Neither of them, or below zero.
    """
    if isinstance(value, int | float) and not isinstance(value, bool):
        if value < 0 or not math.isfinite(value):
            raise ValueError("a duration cannot be below zero")
        return float(value)
    if isinstance(value, str) and re.fullmatch(r"[0-9]+(\.[0-9]+)?", value):  # from the environment, where all is text
        return float(value)
    return parse_duration(value if isinstance(value, str) else "")


Seconds = Annotated[float, BeforeValidator(seconds)]
"""A duration in seconds, written as `90s`, `4h`, `3d`, `1h30m` or a number."""


class Settings(BaseModel):
    """Base of each part's settings: camelCase in the file, unknown fields rejected, no value in error texts."""

    model_config = ConfigDict(
        alias_generator=to_camel,
        populate_by_name=True,
        extra="forbid",
        frozen=True,
        hide_input_in_errors=True,
        validate_default=True,
        use_attribute_docstrings=True,
    )


class ProcessSettings(Settings):
    """Base of the settings of one process, which `load_settings` reads."""


Model = TypeVar("Model", bound=ProcessSettings)


def load_settings(model: type[Model], *, part: str, path: Path | None) -> Model:
    """Read the settings of a process.

    Parameters
    ----------
    model
        The settings of the part.
    part
        `router`, `operator` ...: `EVENTSINK_<PART>__<FIELD>` in the environment overrides the file.
    path
        The YAML file; None: defaults and environment only.

    Raises
    ------
    ConfigurationError
        The file cannot be read, is not YAML, or a value is wrong.
    """
    given = _read_yaml(path) if path is not None else {}
    where = f"{path}" if path is not None else "the configuration"
    return settings_of(model, given, os.environ, prefix=f"EVENTSINK_{part.upper()}__", where=where)


def settings_of(
    model: type[Model], given: Mapping[str, Any], environment: Mapping[str, str], *, prefix: str, where: str
) -> Model:
    """The settings of a file's content and, over it, of the variables that begin with `prefix`; `where` and errors as of `load_settings`."""
    try:
        return model.model_validate(overlay(given, from_environment(environment, prefix)))
    except ValidationError as error:
        raise ConfigurationError(f"{where}: {describe(error, model, prefix)}") from None


def from_environment(environment: Mapping[str, str], prefix: str) -> dict[str, Any]:
    """Settings out of variables such as `EVENTSINK_ROUTER__INTAKE__READ_TIMEOUT=5s`.

    Names are the settings' in upper case with underscores, nested by two; lists and objects are YAML's flow form. An empty
    variable counts as absent.
    """
    settings: dict[str, Any] = {}
    for name, value in sorted(environment.items()):
        if not name.startswith(prefix) or not value:
            continue
        keys = [to_camel(key) for key in name[len(prefix) :].lower().split("__")]
        target = settings
        for key in keys[:-1]:
            inner = target.setdefault(key, {})
            if not isinstance(inner, dict):
                raise ConfigurationError(f"{name} in the environment contradicts a variable for the whole of it")
            target = inner
        try:
            target[keys[-1]] = read_yaml(value) if value[0] in "[{" else value
        except InvalidYaml:
            raise ConfigurationError(f"{name} in the environment cannot be read: write lists as [a, b]") from None
    return settings


def overlay(below: Mapping[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    """`below` with the values of `above`, which override it member by member."""
    result = dict(below)
    for key, value in above.items():
        lower = result.get(key)
        result[key] = overlay(lower, value) if isinstance(lower, dict) and isinstance(value, dict) else value
    return result


def describe(error: ValidationError, model: type[BaseModel], prefix: str) -> str:
    """One sentence per wrong field: its path in the file and what to do."""
    sentences = []
    for one in error.errors(include_url=False, include_input=False, include_context=False):
        path = [part for part in one["loc"] if not (isinstance(part, str) and part.startswith("function-"))]
        shown = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in path).lstrip(".") or "the file"
        if one["type"] == "extra_forbidden":
            known = _names_at(model, path[:-1])
            near = difflib.get_close_matches(str(path[-1]), known, n=1)
            hint = f"did you mean {near[0]}?" if near else f"known here: {', '.join(known)}"
            sentences.append(f"{shown}: there is no such setting; {hint}")
        elif one["type"] == "missing":
            sentences.append(f"{shown}: is required")
        else:
            sentences.append(f"{shown}: {one['msg'].removeprefix('Value error, ')}")
    return "; ".join(sentences) + f" (settings can also come from the environment as {prefix}<FIELD>)"


def _names_at(model: type[BaseModel], path: list[int | str]) -> list[str]:
    """The names that settings may have at a path, as the file writes them."""
    current: Any = model
    for part in path:
        if isinstance(part, int):
            continue
        field = next((f for n, f in current.model_fields.items() if part in (n, f.alias or to_camel(n))), None)
        current = _model_in(field.annotation) if field is not None else None
        if current is None:
            return []
    return [field.alias or to_camel(name) for name, field in current.model_fields.items()]


def _model_in(annotation: Any) -> type[BaseModel] | None:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    for inner in getattr(annotation, "__args__", ()):
        found = _model_in(inner)
        if found is not None:
            return found
    return None


def _read_yaml(path: Path) -> Mapping[str, Any]:
    try:
        content = read_yaml(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigurationError(f"{path}: cannot be read: {error.strerror}") from None
    except UnicodeDecodeError:
        raise ConfigurationError(f"{path}: is not UTF-8 text") from None
    except InvalidYaml as error:
        raise ConfigurationError(f"{path}: {error}") from None
    if content is None:
        return {}
    if not isinstance(content, dict) or not all(isinstance(key, str) for key in content):
        raise ConfigurationError(f"{path}: must hold settings as `name: value` lines")
    return content


def read_secret_file(path: Path) -> str:
    """The secret in a file, without one trailing newline.

    Raises
    ------
    ConfigurationError
        The file cannot be read, is empty, or too large. Its content is never part of the text.
    """
    try:
        with path.open("rb") as file:
            content = file.read(MAX_SECRET_FILE_BYTES + 1)
        text = content.decode()
    except OSError as error:
        raise ConfigurationError(f"{path}: the secret cannot be read: {error.strerror}") from None
    except UnicodeDecodeError:
        raise ConfigurationError(f"{path}: the secret is not UTF-8 text") from None
    if len(content) > MAX_SECRET_FILE_BYTES:
        raise ConfigurationError(f"{path}: a secret has at most {MAX_SECRET_FILE_BYTES} bytes")
    text = text.removesuffix("\n").removesuffix("\r")
    if not text:
        raise ConfigurationError(f"{path}: the secret is empty")
    return text
