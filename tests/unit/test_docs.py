"""The pages that people read when something is wrong say what the program does."""

from __future__ import annotations

import ast
import base64
import json
import os
import re
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import get_args, get_origin

import msgspec
import pytest
import yaml
from prometheus_client import CollectorRegistry, Counter
from prometheus_client.metrics import MetricWrapperBase
from pydantic.alias_generators import to_camel
from pydantic.fields import FieldInfo

from eventsink.alerts import alertmanager
from eventsink.alerts.alert import Alert, Group, Links, Severity
from eventsink.alerts.severity import ALERTMANAGER
from eventsink.controller.compile import DEFAULT_MAX_AGE_SECONDS, DEFAULT_TIMEOUT_SECONDS
from eventsink.controller.config import OperatorSettings
from eventsink.controller.metrics import OperatorMetrics
from eventsink.router.config import RouterSettings
from eventsink.router.dispatch import DispatchSettings
from eventsink.router.intake import IntakeMetrics
from eventsink.router.lane import FAILURES_UNTIL_SLOW
from eventsink.router.metrics import NAMESPACE, DispatchMetrics
from eventsink.router.retry import RetrySettings
from eventsink.router.server import MAX_HEAD_BYTES, IntakeSettings
from eventsink.router.tenants import Refusal
from eventsink.runtime.settings import Settings
from eventsink.sinks import cloudevents
from eventsink.sinks.sender import Failed, FailureClass, Message
from eventsink.sinks.sink import WebhookTarget
from eventsink.sinks.transport import Response, TransportError, TransportErrorKind
from eventsink.sinks.webhook import MAX_RETRY_AFTER_SECONDS, WebhookSender, classify, classify_error
from tests.unit.sinks.sender_contract import ScriptedTransport, answered

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
PACKAGE = ROOT / "operator" / "eventsink"


def page(name: str) -> str:
    return (DOCS / name).read_text(encoding="utf-8")


def between(text: str, start: str, end: str) -> str:
    """What stands between two pieces of a page that are both there."""
    assert start in text, start
    rest = text.split(start, 1)[1]
    assert end in rest, end
    return rest.split(end, 1)[0]


def rows(text: str) -> list[list[str]]:
    """The cells of the tables in a piece of a page, without heads."""
    lines = [re.split(r"(?<!\\)\|", line)[1:-1] for line in text.splitlines() if line.startswith("|")]
    cells = [[cell.strip() for cell in line] for line in lines]
    heads = {index - 1 for index, line in enumerate(cells) if all(set(cell) == {"-"} for cell in line)}
    return [line for index, line in enumerate(cells) if index not in heads and index - 1 not in heads]


def names(cell: str) -> list[str]:
    """What stands in backticks."""
    return re.findall(r"`([^`]+)`", cell)


def calls(place: str, function: str) -> Iterator[ast.Call]:
    """Calls of a function or method of that name in a part or a file of the program."""
    where = PACKAGE / place
    for file in [where] if where.is_file() else sorted(where.rglob("*.py")):
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and getattr(node.func, "id", getattr(node.func, "attr", "")) == function:
                yield node


def strings(node: ast.expr) -> set[str]:
    """The texts that an expression of constants and conditions may come to."""
    if isinstance(node, ast.IfExp):
        return strings(node.body) | strings(node.orelse)
    return {node.value} if isinstance(node, ast.Constant) and isinstance(node.value, str) else set()


# ---- docs/status.md

STATUS = page("status.md")
EFFECTS = {"KEEP": "stays in force", "GRACE": "stays in force for", "WITHDRAW": "withdrawn at once"}


def problems() -> dict[str, tuple[str, str]]:
    """Reason -> what stands beside `Ready`, and what becomes of the sink that was accepted before."""
    found = {}
    for call in calls("controller", "Problem"):
        keywords = {keyword.arg: keyword.value for keyword in call.keywords}
        effect = keywords.get("effect")
        may_pass = keywords.get("may_pass")
        beside = "Reconciling" if isinstance(may_pass, ast.Constant) and may_pass.value else "Stalled"
        for reason in strings(call.args[0]):
            found[reason] = (beside, EFFECTS[effect.attr if isinstance(effect, ast.Attribute) else "KEEP"])
    return found


def test_status_lists_each_reason_for_which_an_eventsink_is_not_ready() -> None:
    listed = rows(between(STATUS, "`False`; the third column", "**Stays in force**"))
    assert {names(row[0])[0] for row in listed} == set(problems())
    for reason, beside, before, action in listed:
        told_beside, told_before = problems()[names(reason)[0]]
        assert names(beside) == [told_beside], reason
        assert before.startswith(told_before), reason
        assert (before == EFFECTS["KEEP"]) == (told_before == EFFECTS["KEEP"]), reason
        assert action, reason


def test_status_lists_each_reason_of_delivering_that_is_no_failure() -> None:
    told = {reason for call in calls("router/dispatch.py", "_tell") for reason in strings(call.args[2])}
    listed = {names(row[1])[0] for row in rows(between(STATUS, "## Delivering", "Failures are of three")) if names(row[1])}
    assert listed == told


def failure_of(status: int) -> FailureClass:
    outcome = classify(Response(status, None, b""), "https://example.com", 0.0)
    assert isinstance(outcome, Failed)
    return outcome.failure


def classes_in_status() -> dict[str, FailureClass]:
    """Reason, or a hundred of them (`HTTP5xx`), -> the class under which the page lists it."""
    pieces = {
        FailureClass.SINK: between(STATUS, "**Of the sink**", "**Transient**"),
        FailureClass.TRANSIENT: between(STATUS, "**Transient**", "**Of the message**"),
        FailureClass.MESSAGE: between(STATUS, "**Of the message**", "## Dead letters"),
    }
    found: dict[str, FailureClass] = {}
    for failure, text in pieces.items():
        for row in rows(text):
            assert row[1], row[0]
            for name in names(re.sub(r"\([^)]*\)", "", row[0])):
                assert name not in found, name
                found[name] = failure
    return found


@pytest.mark.parametrize("status", [*range(300, 600)])
def test_status_says_of_each_answer_what_is_done_about_it(status: int) -> None:
    listed = classes_in_status()
    assert listed.get(f"HTTP{status}", listed[f"HTTP{status // 100}xx"]) is failure_of(status)


@pytest.mark.parametrize("kind", TransportErrorKind)
def test_status_says_what_is_done_when_no_answer_comes(kind: TransportErrorKind) -> None:
    assert classes_in_status()[kind.value] is classify_error(TransportError(kind, "https://example.com")).failure


def test_status_lists_nothing_that_does_not_happen() -> None:
    answers = {f"HTTP{status}" for status in range(300, 600)} | {"HTTP3xx", "HTTP4xx", "HTTP5xx"}
    assert set(classes_in_status()) <= answers | {kind.value for kind in TransportErrorKind}


def test_status_lists_each_reason_of_a_dead_letter() -> None:
    source = (PACKAGE / "router" / "dispatch.py").read_text(encoding="utf-8")
    reasons = {reason for call in calls("router/dispatch.py", "_bury") if len(call.args) > 1 for reason in strings(call.args[1])}
    reasons |= set(re.findall(r'bury_sink\([^)]*reason="(\w+)"', source))
    listed = {names(row[0])[0] for row in rows(between(STATUS, "## Dead letters", "## No alert"))}
    assert listed == reasons | {"HTTP400"}


# ---- docs/router.md and docs/operator.md

UNITS = (("d", 86400.0), ("h", 3600.0), ("m", 60.0), ("s", 1.0), ("ms", 0.001))


def duration(seconds: float) -> str:
    """Seconds as people write them into the settings."""
    unit, size = next((unit, size) for unit, size in UNITS if seconds / size == int(seconds / size) and seconds >= size)
    return f"{seconds / size:g}{unit}"


def default_of(field: FieldInfo, name: str) -> str:
    """The cell that says what holds where a setting is absent."""
    value = field.default
    if field.is_required():
        return "required"
    if value is None or value == ():
        return "none"
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


PARTS: dict[str, type[Settings]] = {"router.md": RouterSettings, "operator.md": OperatorSettings}


@pytest.mark.parametrize("name", PARTS)
def test_every_setting_stands_in_the_reference_with_its_default_and_its_meaning(name: str) -> None:
    text = between(page(name), "## Settings", "\n## ")
    assert sorted(rows(text)) == sorted(settings_rows(PARTS[name]))
    unwrapped = " ".join(text.split())
    for sentence in sentences(PARTS[name]):
        assert sentence in unwrapped


def gauges_read_late() -> Iterator[tuple[str, str]]:
    """Name and meaning of the gauges that the router reads when it is asked for them."""
    module = ast.parse((PACKAGE / "router" / "service.py").read_text(encoding="utf-8"))
    function = next(node for node in ast.walk(module) if isinstance(node, ast.FunctionDef) and node.name == "_gauges")
    for node in ast.walk(function):
        if isinstance(node, ast.Yield) and isinstance(node.value, ast.Tuple):
            name, text = (strings(one).pop() for one in node.value.elts[:2])
            yield f"{NAMESPACE}_{name}", text


def metric_rows(*groups: object) -> list[list[str]]:
    """For each metric: its name as Prometheus shows it, its labels, its help."""
    metrics = [metric for group in groups for metric in vars(group).values() if isinstance(metric, MetricWrapperBase)]
    shown = []
    for metric in metrics:
        name = metric._name + ("_total" if isinstance(metric, Counter) else "")
        labels = ", ".join(f"`{label}`" for label in metric._labelnames)
        shown.append([f"`{name}`", labels, metric._documentation])
    return shown


def metrics_of(name: str) -> list[list[str]]:
    registry = CollectorRegistry()
    if name == "operator.md":
        return metric_rows(OperatorMetrics(registry))
    late = [[f"`{gauge}`", "", text] for gauge, text in gauges_read_late()]
    return metric_rows(IntakeMetrics(registry), DispatchMetrics(registry)) + late


@pytest.mark.parametrize("name", PARTS)
def test_every_metric_stands_in_the_reference(name: str) -> None:
    listed = {row[0]: row for row in rows(between(page(name), "## Metrics", "\n## "))}
    wanted = {row[0]: row for row in metrics_of(name)}
    assert listed.keys() == wanted.keys()
    for metric, row in wanted.items():
        assert listed[metric][1] == row[1]
        assert listed[metric][2].startswith(row[2])


@pytest.mark.parametrize("name", ["status.md", "router.md", "operator.md", "sources.md", "queue.md", "webhooks.md"])
def test_pages_name_only_metrics_and_settings_that_there_are(name: str) -> None:
    text = page(name)
    known = {row[0].strip("`") for part in PARTS for row in metrics_of(part)}
    shown = {re.sub("_(bucket|sum|count)$", "", metric) for metric in re.findall(r"eventsink_(?:router|operator)_[a-z_]+", text)}
    assert shown <= known
    settings = {row[0].strip("`") for part in PARTS.values() for row in settings_rows(part)}
    settings |= {setting.rpartition(".")[0] for setting in settings}
    groups = {setting.split(".")[0] for setting in settings if "." in setting} - {"sources[]"}
    for dotted in re.findall(r"`([a-z]\w*(?:\.\w+)+)`", text):
        assert dotted.split(".")[0] not in groups or dotted in settings, dotted


# ---- docs/sources.md

SOURCES = page("sources.md")


def blocks(text: str, language: str) -> list[str]:
    """The fenced blocks of a language in a page."""
    return re.findall(rf"^```{language}\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)


def test_the_severity_table_is_that_of_the_program() -> None:
    listed = {names(row[0])[0]: names(row[1]) for row in rows(between(SOURCES, "## Severity", "## Limits"))}
    assert {word: severity for severity, words in listed.items() for word in words} == ALERTMANAGER
    assert list(listed) == list(reversed(Severity))


def test_every_answer_of_the_door_is_explained() -> None:
    errors = [*calls("router/intake.py", "error"), *calls("router/server.py", "error")]
    given = {str(call.args[0].value) for call in errors if call.args and isinstance(call.args[0], ast.Constant)}
    codes = {code for code in given if code.isdigit()} | {"200"}
    assert [row[0] for row in rows(between(SOURCES, "## Answers", "Errors are"))] == sorted(codes)


def test_every_reason_for_which_an_alert_is_not_taken_is_explained() -> None:
    listed = {names(row[0])[0] for row in rows(between(SOURCES, "## Refused alerts", "## Answers"))}
    assert listed == {*Refusal, "Tenant", "Unusable"}


def test_the_example_of_a_source_is_accepted_by_the_router() -> None:
    documents = [yaml.safe_load(block) for block in blocks(SOURCES, "yaml")]
    [settings] = [RouterSettings.model_validate(one) for one in documents if "sources" in one]
    [configuration] = [one for one in documents if "receivers" in one]
    [webhook] = configuration["receivers"][1]["webhook_configs"]
    assert webhook["url"].endswith(f":8080/v1/alerts/{settings.sources[0].name}")


def test_the_limits_are_those_of_the_program() -> None:
    listed = {row[0]: row[1] for row in rows(SOURCES.split("## Limits", 1)[1])}
    assert listed == {
        "a request": f"{IntakeSettings().max_body_bytes >> 20} MiB (`intake.maxBodyBytes`)",
        "alerts in a notification": f"{alertmanager.MAX_ALERTS}",
        "labels of an alert, and annotations": f"{alertmanager.MAX_LABELS}",
        "name of a label or an annotation": f"{alertmanager.MAX_NAME_CHARACTERS} characters",
        "value of a label": f"{alertmanager.MAX_VALUE_CHARACTERS} characters",
        "value of an annotation": f"{alertmanager.MAX_ANNOTATION_CHARACTERS} characters",
    }
    assert f"more than {MAX_HEAD_BYTES >> 10} KiB" in SOURCES


@pytest.mark.parametrize(
    ("annotations", "member"),
    [
        *((name, "summary") for name in ("summary", "title", "message", "description")),
        *((name, "description") for name in ("description", "message")),
        *((name, "runbook") for name in ("runbook_url", "runbook")),
        *((name, "dashboard") for name in ("dashboard_url", "dashboardURL", "dashboard", "__dashboard_url__")),
    ],
)
def test_annotations_are_read_as_the_page_says(annotations: str, member: str) -> None:
    listed = {
        names(row[0])[0].removeprefix("links."): names(row[1]) for row in rows(between(SOURCES, "## What is read", "## Sev"))
    }
    assert annotations in listed[member]
    value = "https://example.com/page"
    alert = {"status": "firing", "labels": {"a": "b"}, "startsAt": "2026-01-01T12:00:00Z", "annotations": {annotations: value}}
    [incoming] = alertmanager.parse(json.dumps({"version": "4", "alerts": [alert]}).encode()).alerts
    assert value in (getattr(incoming, member, None), getattr(incoming.links, member, None))


# ---- docs/webhooks.md

WEBHOOKS = page("webhooks.md")
SECRET = "whsec_" + base64.b64encode(b"a secret of the tests alone").decode()


def test_the_example_of_an_event_is_what_is_sent() -> None:
    [shown] = [json.loads(block) for block in blocks(WEBHOOKS, "json")]
    alert, group = shown["data"], shown["data"]["group"]
    notification = {
        "version": "4",
        "groupKey": group["key"],
        "receiver": group["receiver"],
        "groupLabels": group["labels"],
        "commonLabels": group["commonLabels"],
        "externalURL": group["externalUrl"],
        "alerts": [
            {key: alert[key] for key in ("status", "labels", "annotations", "startsAt")}
            | {"generatorURL": alert["links"]["source"]}
        ],
    }
    [incoming] = alertmanager.parse(json.dumps(notification).encode()).alerts
    sent = cloudevents.event(msgspec.json.encode(incoming.identify(source="alertmanager", tenant="acme")))
    assert json.loads(sent) == shown


def test_every_member_of_an_event_is_explained() -> None:
    tables = between(WEBHOOKS, "## Body", "## Verify")
    attributes, members = (
        {name for row in rows(piece) for name in names(row[0])} for piece in tables.split("| member of `data` |", 1)
    )
    [shown] = [json.loads(block) for block in blocks(WEBHOOKS, "json")]
    assert attributes == shown.keys() - {"data", "specversion", "datacontenttype"}
    assert members == {field.encode_name for field in msgspec.structs.fields(Alert)}
    for nested in (Links, Group):
        for field in msgspec.structs.fields(nested):
            assert f"`{field.encode_name}`" in tables


async def sent(signing: tuple[str, ...]) -> tuple[dict[str, str], bytes]:
    """Headers (lower case) and body of a message as a sender posts it now."""
    transport = ScriptedTransport(answered(200))
    target = WebhookTarget(url="https://example.com/", signing_secrets=signing)
    await WebhookSender(target, transport).send(Message(id="store-1f", group=b'{"version": "4", "text": "\xc3\xa9"}'))
    _, headers, body = transport.posted[0]
    lines = headers.decode().removesuffix("\r\n").split("\r\n")
    return {name.lower(): value for name, _, value in (line.partition(": ") for line in lines)}, body


async def test_every_header_of_a_message_is_explained() -> None:
    headers, _ = await sent((SECRET,))
    listed = {name.lower() for row in rows(between(WEBHOOKS, "## Headers", "## Body")) for name in names(row[0])}
    assert listed == headers.keys() | {"spec.webhook.headers"}


def verify_in_python() -> Callable[..., None]:
    [block] = blocks(WEBHOOKS, "python")
    module: dict[str, Callable[..., None]] = {}
    exec(block, module)
    return module["verify"]


async def test_the_python_of_the_page_takes_what_is_sent_and_nothing_else() -> None:
    verify = verify_in_python()
    old = "whsec_" + base64.b64encode(b"the secret that was before").decode()
    headers, body = await sent((old, SECRET))
    verify(SECRET, headers, body)
    verify(old, headers, body)
    for changed in (
        {"secret": "whsec_" + base64.b64encode(b"another secret, never used").decode()},
        {"body": body + b" "},
        {"headers": headers | {"webhook-id": "store-20"}},
        {"headers": headers | {"webhook-timestamp": str(int(headers["webhook-timestamp"]) - 301)}},
    ):
        with pytest.raises(ValueError):
            verify(**({"secret": SECRET, "headers": headers, "body": body} | changed))


@pytest.mark.parametrize("changed", [False, True])
async def test_the_shell_of_the_page_takes_what_is_sent_and_nothing_else(changed: bool, tmp_path: Path) -> None:
    headers, body = await sent((SECRET,))
    (tmp_path / "body").write_bytes(body + b"\n" * changed)
    [script] = blocks(WEBHOOKS, "sh")
    variables = {"ID": "webhook-id", "TIMESTAMP": "webhook-timestamp", "SIGNATURE": "webhook-signature"}
    environment = {"PATH": os.environ["PATH"], "SECRET": SECRET} | {name: headers[value] for name, value in variables.items()}
    ended = subprocess.run(["sh", "-eu", "-c", script], cwd=tmp_path, env=environment, capture_output=True, timeout=60)
    assert (ended.returncode, ended.stdout) == ((1, b"") if changed else (0, b"valid\n")), ended.stderr


@pytest.mark.parametrize("status", [*range(200, 600)])
def test_the_table_of_answers_says_what_happens(status: int) -> None:
    listed = {code: row[1] for row in rows(between(WEBHOOKS, "## Answers", "All of it ends")) for code in names(row[0])}
    outcome = classify(Response(status, None, b""), "https://example.com", 0.0)
    expected = outcome.failure.value if isinstance(outcome, Failed) else "arrived"
    assert listed.get(str(status), listed[f"{status // 100}xx"]) == expected


def test_the_waits_that_pages_tell_are_the_defaults() -> None:
    waits = RetrySettings()
    assert (waits.first, waits.longest, waits.probe_first, waits.probe_longest) == (1.0, 300.0, 30.0, 300.0)
    assert (FAILURES_UNTIL_SLOW, MAX_RETRY_AFTER_SECONDS) == (3, 3600.0)
    assert (DEFAULT_MAX_AGE_SECONDS, DEFAULT_TIMEOUT_SECONDS) == (72 * 3600.0, 10.0)
    assert (DispatchSettings().concurrency, OperatorSettings().credential_grace) == (8, 600.0)


# ---- all pages


def anchors(text: str) -> set[str]:
    """The anchors of a page's headings, as GitHub makes them."""
    heads = re.findall(r"^#+ (.+)$", text, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", head.lower()).replace(" ", "-") for head in heads}


@pytest.mark.parametrize("file", [ROOT / "README.md", *sorted(DOCS.glob("*.md"))], ids=lambda file: file.name)
def test_links_between_pages_lead_somewhere(file: Path) -> None:
    for link in re.findall(r"\]\(([^)]+)\)", file.read_text(encoding="utf-8")):
        if re.match(r"[a-z]+:", link):
            continue
        path, _, anchor = link.partition("#")
        target = (file.parent / path).resolve() if path else file
        assert target.exists(), link
        assert not anchor or anchor in anchors(target.read_text(encoding="utf-8")), link
