"""`eventsink validate` reports what the operator would report, with file and line."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import CliRunner

from eventsink.cli import main
from eventsink.resources.crd import FILE_NAME
from eventsink.standalone.documents import read_documents
from eventsink.standalone.validate import Findings, check, read
from tests.unit.docs.pages import ROOT

WEBHOOK = {"url": "https://example.com"}


def sink(name: str = "alerts", tenant: str = "acme", **spec: Any) -> dict[str, Any]:
    destination = {} if "slack" in spec else {"webhook": WEBHOOK}
    return {
        "apiVersion": "eventsink.dev/v1alpha1",
        "kind": "EventSink",
        "metadata": {"name": name, "namespace": "acme"},
        "spec": {"tenant": tenant, "name": name, **destination, **spec},
    }


def secret(**values: str) -> dict[str, Any]:
    return {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "s", "namespace": "acme"}, "stringData": values}


def namespace(name: str, tenant: str = "", **marks: str) -> dict[str, Any]:
    labels = {
        **({"eventsink.dev/tenant": tenant} if tenant else {}),
        **{f"eventsink.dev/{mark}": value for mark, value in marks.items()},
    }
    return {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": labels}}


def checked(*documents: dict[str, Any]) -> Findings:
    return check([read_documents("f.yaml", yaml.safe_dump_all(documents).encode())])


REF = {"name": "s", "key": "k"}
SLACK = {"channel": "#alerts", "botTokenSecretRef": REF}


@pytest.mark.parametrize(
    ("documents", "errors", "notes"),
    [
        ([sink()], [], []),
        ([sink(webhook={"url": "ftp://x"})], [("spec.webhook.url", "the URL must begin with http:// or https://")], []),
        ([sink(name="a", severity="x")], [("spec.severity", "this version of the operator does not know this field")], []),
        ([sink(match={"matchers": ['a=~"("']})], [("spec.match.matchers[0]", "the regular expression is not valid")], []),
        ([sink(match={"expression": "alert.nme"})], [("spec.match.expression", "line 1, column 6: there is no alert.nme")], []),
        (
            [sink(slack={**SLACK, "template": {"title": "{{ alrets }}", "body": "<!here>"}}), secret(k="xoxb-1")],
            [
                ("spec.slack.template.body", "line 1, column 1: a template mentions nobody"),
                ("spec.slack.template.title", "line 1, column 4: there is no variable alrets: did you mean alerts?"),
            ],
            [],
        ),
        ([sink(tenant="*")], [], [("spec.tenant", "not checked: the Namespace acme is not among these documents")]),
        ([sink(tenant="*"), namespace("acme", platform="true")], [], []),
        (
            [sink(tenant="*"), namespace("acme", "acme")],
            [("spec.tenant", "only a sink in a namespace that the platform team")],
            [],
        ),
        ([sink(webhook={"urlSecretRef": REF})], [], [("spec.webhook.urlSecretRef", "not checked: the Secret s of")]),
        ([sink(webhook={"urlSecretRef": REF}), secret(k="https://example.com")], [], []),
        ([sink(webhook={"urlSecretRef": REF}), secret(k="nonsense")], [("spec.webhook.urlSecretRef", "")], []),
        (
            [sink(webhook={"urlSecretRef": REF}), secret(other="x")],
            [("spec.webhook.urlSecretRef", "the Secret s has no key k")],
            [],
        ),
        (
            [sink(webhook={**WEBHOOK, "tls": {"caSecretRef": REF}, "signingSecretRefs": [REF]})],
            [],
            [("spec.webhook.signingSecretRefs[0]", "not checked"), ("spec.webhook.tls.caSecretRef", "not checked")],
        ),
        (
            [sink(webhook={**WEBHOOK, "tls": {"caSecretRef": REF}}), secret(k="no certificate")],
            [("spec.webhook.tls.caSecretRef", "holds no certificate")],
            [],
        ),
        ([sink(slack=SLACK), secret(k="xoxb-1")], [], [("spec.slack", "not checked: whether Slack accepts")]),
        ([sink(slack=SLACK), secret(k="")], [("spec.slack.botTokenSecretRef", "the value of the key k is empty")], []),
        (
            [sink(slack={"incomingWebhookSecretRef": REF}), secret(k="https://example.com/hook")],
            [("spec.slack.incomingWebhookSecretRef", "")],
            [],
        ),
        ([sink(slack={"incomingWebhookSecretRef": REF})], [], [("spec.slack.incomingWebhookSecretRef", "not checked")]),
        ([sink(), namespace("acme", "acme")], [], []),
        ([sink(), namespace("acme", "umbrella")], [("spec.tenant", "this namespace belongs to the tenant umbrella")], []),
        ([sink(), namespace("other", "acme")], [("spec.tenant", "the tenant acme belongs to other namespaces")], []),
        ([sink(), namespace("acme")], [], [("spec.tenant", "no namespace owns the tenant acme")]),
    ],
)
def test_validate_reports_what_the_operator_would_report(
    documents: list[dict[str, Any]], errors: list[tuple[str, str]], notes: list[tuple[str, str]]
) -> None:
    found = checked(*documents)
    for faults, expected in ((found.errors, errors), (found.notes, notes)):
        assert [fault.field for fault in faults if fault.field] == [path for path, _ in expected]
        for fault, (_, sentence) in zip(faults, expected, strict=True):
            assert fault.message.startswith(sentence)
            assert fault.line > 1


def test_documents_of_several_files_are_checked_together_and_defined_once() -> None:
    text = yaml.safe_dump(sink()).encode()
    found = check([read_documents("a.yaml", text), read_documents("b.yaml", text)])
    assert [str(error) for error in found.errors] == [
        "b.yaml:1: EventSink acme/alerts is also defined at a.yaml:1; remove one of the two"
    ]


def test_no_finding_shows_a_credential() -> None:
    canary = "canary7"
    broken = sink(webhook={"urlSecretRef": REF, "signingSecretRefs": [REF], "tls": {"caSecretRef": REF}})
    found = checked(broken, secret(k=f"http://{canary}:{canary}@x y"))
    assert found.errors
    assert canary not in json.dumps(found.to_dict()) + repr(found)


def test_a_folder_is_checked_as_its_files_and_each_file_once(tmp_path: Path) -> None:
    file = tmp_path / "a.yaml"
    file.write_text(yaml.safe_dump(sink()))
    found = check(read([str(tmp_path), str(file), "-"], io.BytesIO(yaml.safe_dump(sink("other")).encode())))
    assert (found.errors, found.sinks) == ((), 2)


@pytest.mark.parametrize(
    ("text", "status", "said"),
    [
        (yaml.safe_dump(sink()), 0, ""),
        (yaml.safe_dump(sink(webhook={"url": "x"})), 1, "standard input:10: spec.webhook.url: the URL must begin with"),
        ("a: [", 1, "standard input:1: is not valid YAML"),
    ],
)
def test_the_exit_status_is_1_on_any_error(text: str, status: int, said: str) -> None:
    ended = CliRunner().invoke(main, ["validate", "-"], input=text)
    assert (ended.exit_code, ended.stdout.startswith(said)) == (status, True)
    as_json = CliRunner().invoke(main, ["validate", "-", "-o", "json"], input=text)
    assert as_json.exit_code == status
    assert json.loads(as_json.stdout)["valid"] == (status == 0)


def test_nothing_to_validate_is_an_error_unless_it_is_allowed(tmp_path: Path) -> None:
    (tmp_path / "secret.yaml").write_text(yaml.safe_dump(secret(a="b")))
    (tmp_path / "empty").mkdir()
    sentence = "nothing to validate: there is no EventSink; correct the path, or allow it with --allow-empty"
    for names, where in (
        ([str(tmp_path)], str(tmp_path)),
        ([str(tmp_path / "empty")], str(tmp_path / "empty")),
        (["-"], "standard input"),
        (["--each", str(tmp_path), "-"], "2 files"),
    ):
        ended = CliRunner().invoke(main, ["validate", *names])
        assert (ended.exit_code, ended.stdout) == (1, f"{where}: {sentence}\n")
        assert json.loads(CliRunner().invoke(main, ["validate", "-o", "json", *names]).stdout)["valid"] is False
        assert CliRunner().invoke(main, ["validate", "--allow-empty", *names]).exit_code == 0


def test_a_channel_that_became_a_comment_is_an_error_with_a_hint() -> None:
    text = yaml.safe_dump(sink(slack={"channel": "X"})).replace("channel: X", "channel: #alerts")
    ended = CliRunner().invoke(main, ["validate", "-"], input=text)
    assert ended.exit_code == 1
    assert "spec.slack.channel: set channel to the name or id" in ended.stdout
    assert "spec.slack.channel: has no value, since # begins a comment; put quotes around" in ended.stderr


@pytest.mark.parametrize("value", ["1e3", "0o17", "y", "N"])
def test_what_kubectl_takes_for_something_else_than_a_text_needs_quotes(value: str) -> None:
    text = yaml.safe_dump(sink("x")).replace("\n  name: x", f"\n  name: {value}").replace("tenant: acme", f"tenant: {value}")
    found = check([read_documents("f.yaml", text.replace("name: " + value, "name: x", 1).encode())])
    assert {(one.field, "put quotes around" in one.message) for one in found.errors} == {
        ("spec.name", True),
        ("spec.tenant", True),
    }


def test_a_missing_file_is_an_error(tmp_path: Path) -> None:
    ended = CliRunner().invoke(main, ["validate", str(tmp_path / "absent.yaml")])
    assert ended.exit_code == 1
    assert "absent.yaml: cannot be read: No such file" in ended.stdout


def test_each_file_of_a_repository_is_checked_by_itself_if_it_mentions_an_eventsink(tmp_path: Path) -> None:
    files = {
        "staging/sink.yaml": yaml.safe_dump(sink()),
        "production/sink.yaml": yaml.safe_dump(sink()),  # of another cluster, so not defined twice
        ".github/workflows/ci.yaml": "on: push",
        "chart/templates/sink.yaml": "a: {{ .Values.a }}\n {{- end }}",
        "flux.yaml": "apiVersion: kustomize.toolkit.fluxcd.io/v1\nkind: Kustomization\nspec: {apiVersion: eventsink.dev/v1alpha1}",
    }
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    names = [str(tmp_path / name) for name in files]
    assert CliRunner().invoke(main, ["validate", *names]).exit_code == 1
    ended = CliRunner().invoke(main, ["validate", "--each", *names])
    assert ended.exit_code == 0
    assert "2 EventSinks in order" in ended.output
    (tmp_path / "staging/sink.yaml").write_text(yaml.safe_dump(sink(match={"matchers": ["team=~a("]})))
    ended = CliRunner().invoke(main, ["validate", "--each", *names])
    assert ended.exit_code == 1
    assert "staging/sink.yaml:" in ended.stdout
    assert ": spec.match.matchers[0]: " in ended.stdout


def test_the_samples_are_valid() -> None:
    ended = CliRunner().invoke(main, ["validate", str(ROOT / "manifests" / "samples")])
    assert (ended.exit_code, ended.stdout) == (0, "")


def test_the_packaged_crd_is_the_one_in_the_repository() -> None:
    assert CliRunner().invoke(main, ["crd"]).stdout == (ROOT / "crds" / FILE_NAME).read_text()
