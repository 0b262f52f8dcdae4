"""Which requests to a Kubernetes API server are alerts: rules over what its audit log says, and rules for what is dangerous everywhere."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Literal

import msgspec
from pydantic import Field, StringConstraints, model_validator

from eventsink.alerts.alert import Severity
from eventsink.runtime.patterns import Wildcards
from eventsink.runtime.settings import Settings

MAX_RULES = 100
MAX_PATTERNS = 64
"""In one list of a rule."""
DENIED = (401, 403)
"""Response codes of requests that were denied."""
FAILED = 400
"""The first of those that failed for another reason."""

Outcome = Literal["allowed", "denied", "failed"]
RuleName = Annotated[str, StringConstraints(pattern=r"^[A-Za-z][A-Za-z0-9_-]*$", max_length=63)]
Pattern = Annotated[str, StringConstraints(min_length=1, max_length=253)]
Patterns = Annotated[tuple[Pattern, ...], Field(max_length=MAX_PATTERNS)]
_ANY = ("*",)


class Request(msgspec.Struct, frozen=True):
    """A request as rules see it."""

    verb: str
    resource: str
    """With its subresource, such as `pods/exec`."""
    api_group: str
    namespace: str
    name: str
    user: str
    groups: Sequence[str]
    impersonated_user: str
    code: int
    """Of the response; 0: it is not known."""

    @property
    def outcome(self) -> Outcome:
        """What became of it."""
        if self.code in DENIED:
            return "denied"
        return "failed" if self.code >= FAILED else "allowed"


class AuditRule(Settings):
    """Selects requests. All that a rule says has to hold; in every list `*` stands for any characters."""

    name: RuleName
    """Name of the alerts."""
    severity: Severity | None = None
    """Their severity."""
    ignore: bool = False
    """Instead of a severity: what the rule selects is no alert, whatever the rules after it say."""
    verbs: Patterns = _ANY
    """Such as create, get, list or delete."""
    resources: Patterns = _ANY
    """In the plural, with the subresource where the request is for one: secrets, pods/exec. What is for none (/healthz) is never selected."""
    api_groups: Patterns | None = None
    """API groups of the resource; absent: any, also the core group, which has no name."""
    namespaces: Patterns | None = None
    """Namespaces of the object; absent: any, also none."""
    users: Patterns = _ANY
    """Names of users, such as system:serviceaccount:shop:*."""
    except_users: Patterns = ()
    """Users who are not meant although users has them."""
    groups: Patterns = _ANY
    """The user is in one of these groups."""
    impersonated_users: Patterns | None = None
    """Whom the user acts as (kubectl --as); absent: anybody or nobody."""
    outcomes: tuple[Outcome, ...] = ("allowed", "denied")
    """What became of the request: allowed, denied (401 and 403) or failed (any other error)."""

    @model_validator(mode="after")
    def _has_a_severity(self) -> AuditRule:
        if self.ignore is (self.severity is not None):
            raise ValueError("set exactly one of severity and ignore: true")
        return self


class AuditSettings(Settings):
    """Which requests of an audit log are alerts; the first rule that selects one decides."""

    rules: Annotated[tuple[AuditRule, ...], Field(max_length=MAX_RULES)] = ()
    """Come before the default rules."""
    default_rules: bool = True
    """Whether the rules for what is dangerous in every cluster (sources.md) apply."""


_COMPONENTS = ("system:apiserver", "system:kube-*", "system:node:*", "system:serviceaccount:kube-system:*", "system:cloud-*")
"""Kubernetes' own components, which do much of this all day."""
_PROGRAMS = (*_COMPONENTS, "system:serviceaccount:*")
_WRITES = ("create", "update", "patch", "delete", "deletecollection")
_RBAC = ("rbac.authorization.k8s.io",)

DEFAULT_RULES: tuple[AuditRule, ...] = (
    AuditRule(name="AnonymousAccess", severity=Severity.CRITICAL, users=("system:anonymous",), outcomes=("allowed",)),
    AuditRule(
        name="PodExec",
        severity=Severity.HIGH,
        resources=("pods/exec", "pods/attach", "pods/ephemeralcontainers"),
        except_users=_COMPONENTS,
    ),
    AuditRule(name="PodPortForward", severity=Severity.MEDIUM, resources=("pods/portforward",), except_users=_COMPONENTS),
    AuditRule(
        name="ProxyAccess",
        severity=Severity.HIGH,
        resources=("nodes/proxy", "pods/proxy", "services/proxy"),
        except_users=_COMPONENTS,
    ),
    AuditRule(
        name="SecretRead", severity=Severity.HIGH, verbs=("get", "list", "watch"), resources=("secrets",), except_users=_PROGRAMS
    ),
    AuditRule(
        name="ClusterRoleChange",
        severity=Severity.HIGH,
        verbs=_WRITES,
        resources=("clusterroles", "clusterrolebindings"),
        api_groups=_RBAC,
        except_users=_COMPONENTS,
    ),
    AuditRule(
        name="RoleChange",
        severity=Severity.MEDIUM,
        verbs=_WRITES,
        resources=("roles", "rolebindings"),
        api_groups=_RBAC,
        except_users=_COMPONENTS,
    ),
    AuditRule(
        name="TokenRequest",
        severity=Severity.MEDIUM,
        verbs=("create",),
        resources=("serviceaccounts/token",),
        except_users=_PROGRAMS,
    ),
    AuditRule(
        name="CertificateApproval",
        severity=Severity.HIGH,
        resources=("certificatesigningrequests/approval",),
        verbs=_WRITES,
        except_users=_COMPONENTS,
    ),
    AuditRule(
        name="AdmissionChange",
        severity=Severity.HIGH,
        verbs=_WRITES,
        resources=("*webhookconfigurations", "*admissionpolicies", "*admissionpolicybindings"),
        except_users=_COMPONENTS,
    ),
    AuditRule(
        name="NamespaceDelete", severity=Severity.HIGH, verbs=("delete",), resources=("namespaces",), except_users=_COMPONENTS
    ),
    AuditRule(name="Impersonation", severity=Severity.MEDIUM, impersonated_users=("*",), except_users=_COMPONENTS),
)
"""What an intruder does, and people seldom do, in every cluster."""


class _Compiled(msgspec.Struct, frozen=True):
    rule: AuditRule
    verbs: Wildcards
    resources: Wildcards
    users: Wildcards
    except_users: Wildcards
    api_groups: Wildcards | None
    namespaces: Wildcards | None
    groups: Wildcards | None
    impersonated_users: Wildcards | None

    def selects(self, request: Request) -> bool:
        return (
            self.verbs.match(request.verb)
            and self.resources.match(request.resource)
            and self.users.match(request.user)
            and not self.except_users.match(request.user)
            and request.outcome in self.rule.outcomes
            and (self.api_groups is None or self.api_groups.match(request.api_group))
            and (self.namespaces is None or self.namespaces.match(request.namespace))
            and (self.groups is None or any(self.groups.match(one) for one in request.groups))
            and (
                self.impersonated_users is None
                or (bool(request.impersonated_user) and self.impersonated_users.match(request.impersonated_user))
            )
        )


class AuditRules:
    """The rules of a source, in their order."""

    def __init__(self, settings: AuditSettings) -> None:
        rules = (*settings.rules, *(DEFAULT_RULES if settings.default_rules else ()))
        self._rules = [_compiled(one) for one in rules]

    def select(self, request: Request) -> AuditRule | None:
        """The rule whose alert the request is; None: it is none."""
        for one in self._rules:
            if one.selects(request):
                return None if one.rule.ignore else one.rule
        return None


def _compiled(rule: AuditRule) -> _Compiled:
    return _Compiled(
        rule,
        verbs=Wildcards(rule.verbs),
        resources=Wildcards(rule.resources),
        users=Wildcards(rule.users),
        except_users=Wildcards(rule.except_users),
        api_groups=_wildcards(rule.api_groups),
        namespaces=_wildcards(rule.namespaces),
        groups=_wildcards(None if rule.groups == _ANY else rule.groups),
        impersonated_users=_wildcards(rule.impersonated_users),
    )


def _wildcards(patterns: Sequence[str] | None) -> Wildcards | None:
    return None if patterns is None else Wildcards(patterns)


SEVERITIES: Mapping[str, Severity] = {one.name.lower(): one.severity for one in DEFAULT_RULES if one.severity is not None}
"""Names of the default rules, in lower case."""
