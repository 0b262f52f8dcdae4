"""Who may see what: the model of the wall between tenants, what may happen in a cluster, and what has to arrive then."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Container, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from eventsink.kube.api import Key
from eventsink.sinks.sink import Sink

# ---- the model


def tenant_of(rule: Mapping[str, Any], labels: Mapping[str, str], owners: Mapping[str, str]) -> str | None:
    """Whose an alert is; None: nobody's."""
    said = rule["tenant"]
    named = said.get("fixed") or labels.get(said.get("label", ""))
    if "namespaceOwner" in said:
        named = owners.get(labels.get(said["namespaceOwner"]["label"], ""))
    default = rule.get("defaultTenant")
    named = named if named and len(named) < 64 and re.fullmatch(r"[A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?", named) else None
    tenant = named or default
    return tenant if tenant == default or tenant in rule.get("allowedTenants", [tenant]) else None


def may_receive(claim: str, tenant: str) -> bool:
    """Whether a sink with this claim may have an alert of a tenant."""
    return claim in (tenant, ALL)


def may_claim(tenant: str, namespace: str, owners: Mapping[str, str], platform: Container[str], *, allow_unowned: bool) -> bool:
    """Whether a sink in a namespace may have the alerts of a tenant."""
    if tenant == ALL:
        return namespace in platform
    own = owners.get(namespace)
    return own == tenant if own else allow_unowned and tenant not in owners.values()


# ---- what is held against it

ALL = "*"
"""What the sinks of the platform claim."""
TENANTS = ("acme", "Acme", "acme-x", "globex", "platform")
SPACES = ("acme", "acme-x", "globex", "shop")
"""Namespaces, some with the name of a tenant, which says nothing."""
LOOK_ALIKES = ("ACME", "Acme", " acme", "acme ", "acme\u200b", "\u0430cme", "acme.", "acme-x-", "*", "acme,globex", "default")
"""In labels of alerts."""
LABELS = ("namespace", "exported_namespace", "tenant", "Tenant", "Namespace", "eventsink.dev/tenant", "owner")
SOURCES: Mapping[str, Mapping[str, Any]] = {
    "cluster": {"tenant": {"namespaceOwner": {"label": "namespace"}}},
    "cluster-default": {"tenant": {"namespaceOwner": {"label": "namespace"}}, "defaultTenant": "platform"},
    "exported": {"tenant": {"namespaceOwner": {"label": "exported_namespace"}}, "allowedTenants": ["acme", "globex"]},
    "prometheus": {"tenant": {"namespaceOwner": {"label": "namespace"}}, "format": "prometheus"},
    "trusted": {"tenant": {"label": "tenant"}},
    "trusted-some": {"tenant": {"label": "tenant"}, "allowedTenants": ["acme", "Acme"], "defaultTenant": "platform"},
    "of-acme": {"tenant": {"fixed": "acme"}},
}
_URL = "https://hooks.example.com/alerts"
FORMS: Mapping[str, Mapping[str, Any]] = {
    "events": {},
    "batches": {"webhook": {"url": _URL, "batch": 10}},
    "groups": {"webhook": {"url": _URL, "format": "alertmanager"}},
    "keyed": {"match": {"matchers": ['alertname="A"']}},
}
"""Of sinks; each wants every alert of its tenant."""
QUIET = ("muted", "dropping", "waiting")
"""How a sink may be quiet for an hour."""
KEYS = tuple((namespace, name) for namespace in SPACES for name in "ab")
_MARK = re.compile(rb'"mark":\s*"(\d+)"')


@dataclass(frozen=True, slots=True)
class Sent:
    """An alert as it was sent once."""

    alert: int
    tenant: str
    firing: bool


@dataclass(slots=True)
class KnownSink:
    """An EventSink as the model sees it."""

    key: Key
    tenant: str
    edited: bool = False
    """Its tenant was edited in place, which the CRD forbids: nothing that it once was is delivered to it, and it need not get everything."""
    quiet: str = ""
    """One of `QUIET`, or nothing ..."""
    until: int = 0
    """... up to this hour."""


@dataclass
class World:
    """What there is, as the model sees it, and what arrived."""

    allow_unowned: bool = False
    owners: dict[str, str] = field(default_factory=dict)
    namespaces: set[str] = field(default_factory=set)
    platform: set[str] = field(default_factory=set)
    """Namespaces that the platform has marked as its own."""
    sinks: dict[str, KnownSink] = field(default_factory=dict)
    """By uid."""
    sent: dict[str, Sent] = field(default_factory=dict)
    """Mark -> what was accepted with it."""
    firing: dict[int, str] = field(default_factory=dict)
    """Alert that fires -> its tenant."""
    wanted: set[tuple[str, Sent]] = field(default_factory=set)
    """Sink and what has to arrive there; it leaves when it did."""
    got: set[tuple[str, Sent]] = field(default_factory=set)
    notified: set[tuple[str, int, str]] = field(default_factory=set)
    """Sink, alert and tenant: what it got fires, and no end has come after that."""
    hour: int = 0
    wrong: list[str] = field(default_factory=list)
    """What arrived where it must not, in words."""
    counts: Counter[str] = field(default_factory=Counter)

    def active(self, uid: str) -> bool:
        """Whether a sink is there and claims what it may."""
        one = self.sinks.get(uid)
        return one is not None and may_claim(one.tenant, one.key[0], self.owners, self.platform, allow_unowned=self.allow_unowned)

    def quiet(self, uid: str) -> str:
        """How a sink is quiet now; empty: it is not."""
        one = self.sinks[uid]
        return one.quiet if self.hour < one.until else ""

    def closed(self, uid: str) -> bool:
        """Whether nothing may arrive at a sink now."""
        return self.quiet(uid) in ("dropping", "waiting")

    def arrive(self, sink: Sink, body: bytes) -> None:
        """A message arrives: everything in it is looked for."""
        self.counts["messages"] += 1
        for mark in _MARK.findall(body):
            sent = self.sent.get(mark.decode())
            self.counts["arrivals"] += 1
            if sent is None or not self.active(sink.uid) or not may_receive(self.sinks[sink.uid].tenant, sent.tenant):
                self.wrong.append(f"{sent or mark} arrived at {self.sinks.get(sink.uid)}, which was compiled for {sink.tenant}")
                continue
            if self.closed(sink.uid):
                self.wrong.append(f"{sent} arrived at {self.sinks[sink.uid]} in hour {self.hour}")
            self.got.add((sink.uid, sent))
            (self.notified.add if sent.firing else self.notified.discard)((sink.uid, sent.alert, sent.tenant))

    def want(self) -> None:
        """What fires reaches each sink of its tenant, whichever came first."""
        self._want(Sent(alert, tenant, firing=True) for alert, tenant in self.firing.items())

    def send(self, mark: str, alert: int, tenant: str | None, *, fires: bool) -> None:
        """An alert is sent; whoever it was of before, it is of this tenant now."""
        if tenant is not None:
            self.sent[mark] = sent = Sent(alert, tenant, fires)
            if not fires and self.firing.get(alert) == tenant:
                self._want([sent])
        self.firing.pop(alert, None)
        if fires and tenant is not None:
            self.firing[alert] = tenant

    def _want(self, all_sent: Iterable[Sent]) -> None:
        of_tenant: dict[str, list[Sent]] = {}
        for sent in all_sent:
            of_tenant.setdefault(sent.tenant, []).append(sent)
            of_tenant.setdefault(ALL, []).append(sent)
        for uid, one in self.sinks.items():
            if self.active(uid) and not one.edited:
                self.wanted.update((uid, sent) for sent in of_tenant.get(one.tenant, ()) if self._is_due(uid, sent))

    def _is_due(self, uid: str, sent: Sent) -> bool:
        """Whether a sink is to get something that was sent now; what still fires when it is quiet no more, it is to get then."""
        if self.quiet(uid) not in ("muted", "dropping"):
            return True
        return not sent.firing and (uid, sent.alert, sent.tenant) in self.notified

    def missing(self) -> set[tuple[str, Sent]]:
        """What has to arrive and did not."""
        self.wanted -= self.got
        return {
            (uid, sent)
            for uid, sent in self.wanted
            if uid in self.sinks and self.active(uid) and not self.sinks[uid].edited and not self.closed(uid)
        }
