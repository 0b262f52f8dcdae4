"""docs/router.md, docs/operator.md and docs/rest.md hold every setting and every metric, and no page names another."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from typing import get_args, get_origin

import pytest
from prometheus_client import CollectorRegistry
from prometheus_client.metrics import MetricWrapperBase
from pydantic.alias_generators import to_camel
from pydantic.fields import FieldInfo

from eventsink.controller.config import OperatorSettings
from eventsink.controller.metrics import OperatorMetrics
from eventsink.events.config import EventsSettings
from eventsink.events.metrics import EventsMetrics, ReportsMetrics
from eventsink.rest.config import RestSettings
from eventsink.rest.http.metrics import RestMetrics
from eventsink.router.config import RouterSettings
from eventsink.router.intake.metrics import IntakeMetrics
from eventsink.router.metrics import (
    NAMESPACE,
    DispatchMetrics,
    FormMetrics,
    PlanningMetrics,
    QuotaMetrics,
    ReportMetrics,
    TemplateMetrics,
    TransportMetrics,
)
from eventsink.runtime.counts import Counts, Durations
from eventsink.runtime.listener.metrics import ListenerMetrics
from eventsink.runtime.process import ExitStatus
from eventsink.runtime.settings import Settings
from tests.unit.docs.pages import PACKAGE, between, names, page, rows, strings

UNITS = (("d", 86400.0), ("h", 3600.0), ("m", 60.0), ("s", 1.0), ("ms", 0.001))


def duration(seconds: float) -> str:
    """Seconds as people write them into the settings."""
    if not seconds:
        return "0s"
    unit, size = next((unit, size) for unit, size in UNITS if seconds / size == int(seconds / size) and seconds >= size)
    return f"{seconds / size:g}{unit}"


def default_of(field: FieldInfo, name: str) -> str:
    """The cell that says what holds where a setting is absent."""
    value = field.default
    if field.is_required():
        return "required"
    if value is None or value in ((), {}, ""):
        return "none"
    if isinstance(value, tuple):
        return ", ".join(f"`{one}`" for one in value)
    if isinstance(value, float):
        return f"`{duration(value)}`"
    text = f"`{str(value).lower() if isinstance(value, bool) else value}`"
    if name.endswith("Bytes"):
        size, unit = (value >> 30, "GiB") if value >= 1 << 30 else (value >> 20, "MiB")
        text += f" ({size} {unit})"
    return text


def models_in(annotation: object) -> list[type[Settings]]:
    """The settings models that a field holds, directly, in a list, or perhaps."""
    found = [annotation] if isinstance(annotation, type) and issubclass(annotation, Settings) else []
    return found + [model for inner in get_args(annotation) for model in models_in(inner)]


def settings_rows(model: type[Settings], path: str = "") -> list[list[str]]:
    """For each setting: its path in the file, its default, and what its docstring says."""
    found = []
    for name, field in model.model_fields.items():
        full = path + (field.alias or to_camel(name))
        if field.description is not None:
            text = " ".join(field.description.split()).replace("<", r"\<")
            found.append([f"`{full}`", default_of(field, full), text])
        for inner in models_in(field.annotation):
            found += settings_rows(inner, full + ("[]." if get_origin(field.annotation) is tuple else "."))
    return found


def sentences(model: type[Settings]) -> list[str]:
    """What the docstrings of the groups of settings say."""
    inner = [one for field in model.model_fields.values() for one in models_in(field.annotation)]
    return [" ".join((one.__doc__ or "").split()) for one in inner] + [text for one in inner for text in sentences(one)]


def line_of(row: list[str]) -> str:
    """A row as it is written in a page."""
    return f"| {' | '.join(row)} |"


PARTS: dict[str, type[Settings]] = {
    "router.md": RouterSettings,
    "operator.md": OperatorSettings,
    "rest.md": RestSettings,
    "events.md": EventsSettings,
}


@pytest.mark.parametrize("name", PARTS)
def test_every_setting_is_in_the_reference_with_its_default_and_description(name: str) -> None:
    text = between(page(name), "## Settings", "\n## ")
    listed, wanted = rows(text), settings_rows(PARTS[name])
    assert not [line_of(row) for row in wanted if row not in listed], "write these lines"
    assert not [line_of(row) for row in listed if row not in wanted], "remove these lines"
    assert len(listed) == len(wanted)
    unwrapped = " ".join(text.split())
    for sentence in sentences(PARTS[name]):
        assert sentence in unwrapped


def gauges_read_late() -> Iterator[tuple[str, str]]:
    """Name and meaning of the gauges that the router reads when it is asked for them."""
    module = ast.parse((PACKAGE / "router" / "process.py").read_text(encoding="utf-8"))
    function = next(node for node in ast.walk(module) if isinstance(node, ast.FunctionDef) and node.name == "_gauges")
    for node in ast.walk(function):
        if isinstance(node, ast.Yield) and isinstance(node.value, ast.Tuple):
            name, text = (strings(one).pop() for one in node.value.elts[:2])
            yield f"{NAMESPACE}_{name}", text


def metric_rows(*groups: object) -> list[list[str]]:
    """For each metric: its name as Prometheus shows it, its labels, its help."""
    kinds = (MetricWrapperBase, Counts, Durations)
    metrics = [metric for group in groups for metric in vars(group).values() if isinstance(metric, kinds)]
    shown = []
    for metric in metrics:
        [described] = metric.describe()
        name = described.name + ("_total" if described.type == "counter" else "")
        # Those of the library show their labels nowhere else.
        labels = metric._labelnames if isinstance(metric, MetricWrapperBase) else metric.label_names  # noqa: SLF001
        shown.append([f"`{name}`", ", ".join(f"`{label}`" for label in labels), described.documentation])
    return shown


def metrics_of(name: str) -> list[list[str]]:
    registry = CollectorRegistry()
    listeners = ListenerMetrics(registry, name.removesuffix(".md"))
    if name == "operator.md":
        return metric_rows(OperatorMetrics(registry), listeners)
    if name == "events.md":
        return metric_rows(EventsMetrics(registry), ReportsMetrics(registry), listeners)
    if name == "rest.md":
        return metric_rows(RestMetrics(registry), listeners)
    late = [[f"`{gauge}`", "", text] for gauge, text in gauges_read_late()]
    return (
        metric_rows(
            IntakeMetrics(registry),
            DispatchMetrics(registry),
            PlanningMetrics(registry),
            QuotaMetrics(registry),
            FormMetrics(registry),
            TemplateMetrics(registry),
            TransportMetrics(registry),
            ReportMetrics(registry),
            listeners,
        )
        + late
    )


@pytest.mark.parametrize("name", PARTS)
def test_every_metric_is_in_the_reference(name: str) -> None:
    listed = {row[0]: row for row in rows(between(page(name), "## Metrics", "\n## "))}
    wanted = {row[0]: row for row in metrics_of(name)}
    assert listed.keys() == wanted.keys()
    for metric, row in wanted.items():
        assert listed[metric][1] == row[1]
        assert listed[metric][2].startswith(row[2])


@pytest.mark.parametrize(
    "name", ["status.md", "router.md", "operator.md", "sources.md", "queue.md", "webhooks.md", "rest.md", "events.md"]
)
def test_pages_name_only_metrics_and_settings_that_exist(name: str) -> None:
    text = page(name)
    known = {row[0].strip("`") for part in PARTS for row in metrics_of(part)}
    shown = {
        re.sub("_(bucket|sum|count)$", "", metric)
        for metric in re.findall(r"eventsink_(?:router|operator|rest|events)_[a-z_]+", text)
    }
    assert shown <= known
    settings = {row[0].strip("`") for part in PARTS.values() for row in settings_rows(part)}
    settings |= {setting.rpartition(".")[0] for setting in settings}
    groups = {setting.split(".")[0] for setting in settings if "." in setting} - {"sources[]"}
    for dotted in re.findall(r"`([a-z]\w*(?:\.(?!yaml)\w+)+)`", text):
        assert dotted.split(".")[0] not in groups or dotted in settings, dotted


@pytest.mark.parametrize("name", PARTS)
def test_the_log_messages_of_the_troubleshooting_tables_exist(name: str) -> None:
    source = "".join(file.read_text(encoding="utf-8") for file in sorted(PACKAGE.rglob("*.py")))
    for row in rows(between(page(name), "## When something is wrong", "\n## ")):
        for words in names(row[0]):
            assert words.partition(":")[0] in source or words.startswith("eventsink_"), words


def test_the_exit_statuses_are_those_of_the_program() -> None:
    shown = {name: {int(row[0]) for row in rows(between(page(name), "## Exit status", "\n## "))} for name in PARTS}
    assert shown["operator.md"] == set(ExitStatus)
    assert shown["events.md"] == set(ExitStatus) - {ExitStatus.CRD_ABSENT}
    assert shown["router.md"] == shown["rest.md"] == set(ExitStatus) - {ExitStatus.CRD_ABSENT, ExitStatus.LEASE_LOST}
