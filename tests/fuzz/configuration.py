"""What people write into the files and variables that configure a part: settings, and what sources do with what they are sent."""

from __future__ import annotations

import tempfile
from functools import cache
from pathlib import Path

from pydantic import ValidationError

from eventsink.alerts.alert import UnusablePayload
from eventsink.alerts.audit_rules import AuditSettings
from eventsink.alerts.formats import audit
from eventsink.alerts.formats.json import mapped_by
from eventsink.alerts.json_mapping import JsonMapping
from eventsink.controller.config import OperatorSettings
from eventsink.events.config import EventsSettings
from eventsink.rest.config import RestSettings
from eventsink.router.config import RouterSettings
from eventsink.runtime.settings import ConfigurationError, ProcessSettings, load_settings, settings_of
from eventsink.standalone.config import StandaloneSettings
from tests.fuzz.target import Target, as_text

PARTS: dict[str, type[ProcessSettings]] = {
    "router": RouterSettings,
    "operator": OperatorSettings,
    "rest": RestSettings,
    "events": EventsSettings,
    "standalone": StandaloneSettings,
}
_BODY = (
    b'{"checks":[{"check":{"name":"api","host":"a","tags":["prod","ns-shop"]},"state":"DOWN","since":1767225600,"count":"3"},'
    b'{"check":null,"state":1.5}],"at":"2026-01-01T00:00:00Z"}'
)
_REQUESTS = (
    b'{"kind":"EventList","apiVersion":"audit.k8s.io/v1","items":[{"auditID":"a","stage":"ResponseComplete","verb":"create",'
    b'"user":{"username":"system:serviceaccount:shop:bot","groups":["system:authenticated"]},"impersonatedUser":{"username":"b"},'
    b'"sourceIPs":["192.0.2.1"],"objectRef":{"resource":"pods","namespace":"shop","name":"p","apiGroup":"","subresource":"exec"},'
    b'"responseStatus":{"code":403},"requestReceivedTimestamp":"2026-01-01T00:00:00.000001Z"},{"auditID":"b","verb":"get",'
    b'"user":{"username":"c"},"objectRef":{"resource":"nodes","name":"n"},"responseStatus":{"code":200}}]}'
)
_RULES = AuditSettings.model_validate(
    {
        "rules": [
            {"name": "Ignored", "ignore": True, "users": ["system:serviceaccount:kube-*"], "outcomes": ["allowed"]},
            {"name": "Shop", "severity": "high", "namespaces": ["shop*"], "apiGroups": [], "groups": ["*:authenticated"]},
            {"name": "Acting", "severity": "low", "resources": ["*/exec"], "impersonatedUsers": ["*"], "exceptUsers": ["c"]},
            {"name": "Failed", "severity": "fatal", "verbs": ["g*t"], "outcomes": ["failed", "denied"]},
        ],
        "defaultRules": False,
    }
)
_SELECTED = audit.selecting(_RULES)


@cache
def _file() -> Path:
    return Path(tempfile.mkdtemp(prefix="eventsink-fuzz-")) / "config.yaml"


def _of_part(data: bytes) -> tuple[str, bytes]:
    name, _, content = data.partition(b"\n")
    return (part if (part := as_text(name)) in PARTS else "router"), content


def _read_file(data: bytes) -> None:
    """The name of a part in a line, and its file."""
    part, content = _of_part(data)
    _file().write_bytes(content)
    try:
        load_settings(PARTS[part], part=part, path=_file())
    except ConfigurationError as error:
        str(error).encode()


def _read_environment(data: bytes) -> None:
    """The name of a part in a line, and variables in one each, over a file that has some of that already."""
    part, content = _of_part(data)
    given = {"log": {"level": "info"}, "sources": [{"name": "a"}], "egress": {"allow": ["10.0.0.0/8"]}}
    pairs = (line.partition("=") for line in as_text(content).splitlines())
    prefix = f"EVENTSINK_{part.upper()}__"
    variables = {prefix + name: value for name, _, value in pairs}
    try:
        settings_of(PARTS[part], given, variables, prefix=prefix, where="the configuration")
    except ConfigurationError as error:
        str(error).encode()


def _map(data: bytes) -> None:
    """A mapping of any text, applied to what a program sends."""
    mapped_by(JsonMapping.model_validate_json(data)).parse(_BODY)


def _select(data: bytes) -> None:
    """Rules of any text, applied to requests."""
    audit.selecting(AuditSettings.model_validate_json(data)).parse(_REQUESTS)


TARGETS: dict[str, Target] = {
    "settings_file": Target(
        _read_file,
        (),
        (
            b"router\nsources:\n- name: a\n  format: audit\n  tenant: {fixed: t}\n  tokenFiles: [/a]\n  audit:\n"
            b"    rules: [{name: A, ignore: true}]\n"
            b"egress:\n  allow: [10.0.0.0/8]\nintake: {address: '0.0.0.0:8080'}\n",
            b"operator\ntenancy: {maxSinksOf: {acme: 50, '*': 1}}\nnamespaces: [{name: a, tenant: b}]\nworkers: 8\ncredentialGrace: 1h30m\n",
            b"rest\nlimits: {maxRequests: 100, failures: {trustedProxies: ['10.0.0.0/8'], every: 6}}\nslackInstall: {lasts: 600s, scopes: []}\n",
            b"events\nfilter: {alsoReasons: [Back*], exclude: {kinds: [Node]}}\nrate: {}\nlog: {level: debug}\n",
        ),
    ),
    "settings_environment": Target(
        _read_environment,
        (),
        (
            b"router\nINTAKE__READ_TIMEOUT=5s\nEGRESS__ALLOW=[10.0.0.0/8, fd00::/8]\nLOG={level: debug}\n",
            b"standalone\nFOLDER__POLL=8\nTENANCY__ALLOW_UNOWNED=true\nREST__LIMITS=\nLOG__LEVEL=info\nLOG__LEVEL__A=b\n",
        ),
    ),
    "json_mapping": Target(
        _map,
        (ValidationError, UnusablePayload),
        (
            b'{"items":"body.checks","name":"item.check.name","status":"item.state != \\"UP\\"","severity":"item.state == \\"DOWN\\" ? '
            b'\\"critical\\" : \\"low\\"","namespace":"item.check.tags.filter(tag, tag.startsWith(\\"ns-\\"))[0]","labels":{"host":'
            b'"item.check.host","count":"int(item.count)"},"startsAt":"item.since","endsAt":"body.at"}',
            b'{"items":"body.checks.filter(x, x.state == 1.5)","summary":"item.name + string(size(body.checks))","annotations":{"a":"1 / 0"}}',
        ),
    ),
    "audit_rules": Target(
        _select,
        (ValidationError, UnusablePayload),
        (
            b'{"rules":[{"name":"A","severity":"high","verbs":["cre*"],"resources":["pods/exec"],"apiGroups":["*"],"namespaces":["sh*p"],'
            b'"users":["system:*:bot"],"exceptUsers":["x"],"groups":["*"],"impersonatedUsers":["b"],"outcomes":["denied","failed"]},'
            b'{"name":"B","ignore":true}],"defaultRules":false}',
        ),
    ),
    "audit_of_own_rules": Target(_SELECTED.parse, (UnusablePayload,), (_REQUESTS,)),
}
