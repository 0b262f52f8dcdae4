"""Results of policies, as policy engines (Kyverno, Falco, Trivy's adapter ...) report them: what Policy Reporter forwards, and reports have."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from eventsink.alerts.alert import Severity
from eventsink.alerts.links import RUNBOOKS, first_of, web_url
from eventsink.alerts.peer_json import text_of, texts_of

SEVERITIES: Mapping[str, Severity] = {
    "critical": Severity.CRITICAL,
    "high": Severity.HIGH,
    "error": Severity.HIGH,
    "medium": Severity.MEDIUM,
    "warning": Severity.MEDIUM,
    "low": Severity.LOW,
    "info": Severity.INFORMATIONAL,
    "debug": Severity.INFORMATIONAL,
}
"""Severities of results, and priorities of older versions of Policy Reporter, in lower case."""
PASSED = frozenset({"pass", "skip"})
"""Results that say that nothing is wrong; of any other (`fail`, `warn`, `error`) somebody has to know."""


class PolicyResult(msgspec.Struct, frozen=True, kw_only=True):
    """What one result says, but for the object that it is about."""

    policy: str
    rule: str
    result: str
    """In lower case."""
    severity: str
    """Empty: it says none."""
    category: str
    engine: str
    """Who evaluated the policy, such as Kyverno."""
    message: str
    properties: dict[str, str]

    @property
    def name(self) -> str:
        """The alert's name: the policy's."""
        return self.policy

    @property
    def summary(self) -> str:
        """The message, or where there is none, what was violated."""
        return self.message or f"{self.policy} {self.rule}".strip()

    @property
    def runbook(self) -> str:
        """A URL that a property of the usual name holds."""
        return web_url(first_of(self.properties, RUNBOOKS))


def result_of(members: Mapping[str, msgspec.Raw], *, result: str, engine: str = "") -> PolicyResult:
    """Read a result; ValueError if it names no policy.

    Parameters
    ----------
    result
        Name of the member that says how it came out.
    engine
        Who evaluated the policy, where the result itself does not say.
    """
    policy = text_of(members.get("policy"))
    if not policy:
        raise ValueError('"policy" is absent or empty')
    return PolicyResult(
        policy=policy,
        rule=text_of(members.get("rule")),
        result=text_of(members.get(result)).strip().lower(),
        severity=text_of(members.get("severity")),
        category=text_of(members.get("category")),
        engine=text_of(members.get("source")) or engine,
        message=text_of(members.get("message")),
        properties=texts_of(members.get("properties")),
    )
