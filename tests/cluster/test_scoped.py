"""All parts with Roles in listed namespaces only: everything works there, nothing elsewhere is seen, and a namespace may come and go."""

from __future__ import annotations

import base64
import json
import secrets
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from tests.controlplane import ControlPlane
from tests.support.kubectl import Kubectl, KubectlFailed, condition
from tests.support.parts import Router, alert, cluster_router, notification, start_operator
from tests.support.processes import RunningProcess
from tests.support.receiver import Receiver
from tests.support.rest import Rest, RestClient
from tests.support.scoped import Scoped, install_scoped
from tests.support.sinks import SECRET, event_sink, secret, signed, uid_of
from tests.support.slack import Slack
from tests.support.waiting import wait_until


class Installation:
    """Roles for some namespaces, and settings that list them: `acme` and `globex` exist, `later` does not."""

    def __init__(self, plane: ControlPlane, kubectl: Kubectl, folder: Path) -> None:
        digits = secrets.token_hex(3)
        self.system, self.acme, self.globex, self.later, self.other = (
            f"{name}-{digits}" for name in ("scoped", "acme", "globex", "later", "other")
        )
        self.kubectl = kubectl
        self.plane = plane
        self.folder = folder
        self.scoped: Scoped = install_scoped(plane, kubectl, self.system, folder)
        for name in (self.acme, self.globex, self.other):
            self.create(name)
        for name in (self.acme, self.globex):
            self.scoped.give(name)

    @property
    def listed(self) -> list[dict[str, str]]:
        return [{"name": name, "tenant": name} for name in (self.acme, self.globex, self.later)]

    def create(self, namespace: str) -> None:
        self.kubectl.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace}})

    def operator(self, **settings: Any) -> RunningProcess:
        return start_operator(self.scoped.installed, self.folder, **{"namespaces": self.listed, **settings})

    def router(self) -> Router:
        rule = {"namespaceOwner": {"label": "namespace"}}
        source = {"name": "alertmanager", "tokenFiles": [str(self.folder / "token")], "tenant": rule}
        return cluster_router(self.scoped.installed, self.folder, sources=[source])

    def rest(self) -> Rest:
        settings = {"namespaces": self.listed, "keys": {"namespace": self.system}}
        return Rest(self.scoped.installed, self.folder, settings, admin_kubeconfig=self.kubectl.kubeconfig)

    def ready(self, namespace: str, name: str = "alerts") -> None:
        self.kubectl.wait_condition("eventsink", name, "Ready", "True", namespace=namespace)

    def compiled(self, uid: str) -> dict[str, Any] | None:
        found = self.kubectl.find("secret", f"sink-{uid}", namespace=self.scoped.installed.sinks_namespace)
        document: dict[str, Any] | None = json.loads(base64.b64decode(found["data"]["sink.json"])) if found else None
        return document

    def wait_compiled(self, uid: str, withdrawn: str | None) -> None:
        """Wait until a compiled sink is withdrawn for that reason, or active."""

        def holds() -> bool:
            sink = self.compiled(uid)
            return sink is not None and (sink.get("withdrawn") or {}).get("reason") == withdrawn

        wait_until("state of the compiled sink", holds)

    def denied(self, user: str) -> list[str]:
        """The requests of a part that the API server denied outside of a listed namespace that does not exist, or saw without namespace."""
        name = f"system:serviceaccount:{self.system}:eventsink-{user}"
        done = [one for one in self.plane.audited() if one["user"]["username"] == name and "objectRef" in one]
        return [
            f"{one['verb']} {one['requestURI']}"
            for one in done
            if not one["objectRef"].get("namespace")
            or (one.get("responseStatus", {}).get("code") == 403 and one["objectRef"]["namespace"] != self.later)
        ]


@pytest.fixture
def place(control_plane: ControlPlane, kubectl: Kubectl, crd_installed: None, tmp_path: Path) -> Iterator[Installation]:
    yield from installation(control_plane, kubectl, tmp_path)


@pytest.fixture
def second(control_plane: ControlPlane, kubectl: Kubectl, crd_installed: None, tmp_path: Path) -> Iterator[Installation]:
    folder = tmp_path / "second"
    folder.mkdir()
    yield from installation(control_plane, kubectl, folder)


def installation(control_plane: ControlPlane, kubectl: Kubectl, folder: Path) -> Iterator[Installation]:
    """One, with everything of it removed at the end."""
    made = Installation(control_plane, kubectl, folder)
    yield made
    for name in (made.acme, made.globex, made.later, made.other, made.system, f"{made.system}-sinks"):
        kubectl.run("delete", "namespace", name, "--wait=false", "--ignore-not-found", check=False)


def test_with_roles_only_a_sink_becomes_ready_gets_its_alerts_and_can_be_created_by_rest(place: Installation) -> None:
    with ExitStack() as stack:
        receiver = stack.enter_context(Receiver())
        operator, router, rest = place.operator(), place.router(), place.rest()
        stack.enter_context(operator)
        stack.enter_context(router.start(ready=False))
        stack.enter_context(rest.start())
        place.kubectl.apply(
            [
                secret(place.acme, secret=SECRET),
                event_sink(place.acme, tenant=place.acme, webhook=signed(receiver.url("/acme"))),
            ]
        )
        place.ready(place.acme)
        router.running.wait_ready()
        router.wait_known(f"{place.acme}/alerts")
        assert router.post(notification(alert("A", namespace=place.acme)))[0] == 200
        assert "webhook-signature" in receiver.wait_for(1, path="/acme")[0].headers
        place.kubectl.wait_condition("eventsink", "alerts", "Delivering", "True", namespace=place.acme)

        client = rest.client(place.globex)
        created = client.create(place.globex, {"Webhook": {"url": receiver.url("/globex")}})
        assert created.json["event_sink"]["id"] in [one["id"] for one in client.sinks(place.globex)]
        assert client.get(created.json["event_sink"]["id"]).sink["ready"] is True
        assert client.ask("GET", f"/v1/event_sink?tenant_id={place.acme}").status == 403
        # Of a namespace that cannot be read, nobody says that it has no sinks.
        absent = RestClient(rest.port, rest.key(place.later, wait=False))
        wait_until("503", lambda: absent.ask("GET", f"/v1/event_sink?tenant_id={place.later}").status == 503)
        operator.wait_ready()
        assert "eventsink_operator_namespaces_denied 1.0" in operator.metrics()
        assert [place.denied(part) for part in ("operator", "router", "rest")] == [[], [], []]


def test_what_is_in_other_namespaces_is_not_seen_and_cannot_be_read(place: Installation) -> None:
    as_operator = Kubectl(place.scoped.installed.operator)
    place.kubectl.apply([secret(place.other, secret=SECRET), event_sink(place.other, tenant=place.acme)])
    with pytest.raises(KubectlFailed, match="forbidden"):
        as_operator.get("secret", "hook", namespace=place.other)
    with place.operator() as operator:
        operator.wait_ready()
        place.kubectl.apply(event_sink(place.acme, tenant=place.acme))
        place.kubectl.apply(event_sink(place.acme, "thief", tenant=place.globex))
        place.ready(place.acme)
        place.kubectl.wait_condition("eventsink", "thief", "Ready", "False", reason="TenantMismatch", namespace=place.acme)
    assert not condition(place.kubectl.get("eventsink", "alerts", namespace=place.other), "Ready")


def test_a_listed_namespace_may_be_created_later_and_deleted_and_created_again(place: Installation) -> None:
    with place.operator(sweepInterval="1s") as operator:
        operator.wait_ready()
        uids = []
        for _ in range(2):
            place.create(place.later)
            place.scoped.give(place.later)
            place.kubectl.apply(event_sink(place.later, tenant=place.later))
            place.ready(place.later)
            uids.append(uid_of(place.kubectl, place.later))
            assert place.compiled(uids[-1]) is not None
            place.kubectl.run("delete", "namespace", place.later, "--timeout=60s")
        wait_until("the compiled sinks to be gone", lambda: not any(place.compiled(uid) for uid in uids))


def test_what_cannot_be_read_any_more_stays_as_it_is_and_what_is_not_listed_any_more_is_withdrawn(place: Installation) -> None:
    place.kubectl.apply([event_sink(name, tenant=name) for name in (place.acme, place.globex)])
    with place.operator() as operator:
        for name in (place.acme, place.globex):
            place.ready(name)
        operator.terminate()
    uids = {name: uid_of(place.kubectl, name) for name in (place.acme, place.globex)}
    place.kubectl.delete("rolebinding", "eventsink-operator", namespace=place.acme)
    only_acme = [{"name": place.acme, "tenant": place.acme}, {"name": place.later, "tenant": place.later}]
    with place.operator(namespaces=only_acme) as operator:
        place.wait_compiled(uids[place.globex], "NamespaceNotListed")
        wait_until("why it is not ready", lambda: "no namespace of the setting" in operator.readiness()[1])
        place.wait_compiled(uids[place.acme], None)
        operator.terminate()
    place.scoped.give(place.acme, ["operator"])
    with place.operator() as operator:
        place.wait_compiled(uids[place.globex], None)
        operator.wait_ready()
        place.wait_compiled(uids[place.acme], None)


def test_a_key_reaches_no_sink_of_another_tenant_or_of_a_namespace_that_is_not_listed(place: Installation) -> None:
    names = {"own": place.globex, "other": place.acme, "unlisted": place.other}
    place.kubectl.apply([event_sink(namespace, tenant=namespace) for namespace in names.values()])
    # Claims of the key's tenant from elsewhere, and of another tenant from the key's namespace.
    place.kubectl.apply(
        [event_sink(place.acme, "thief", tenant=place.globex), event_sink(place.other, "thief", tenant=place.globex)]
    )
    place.kubectl.apply(event_sink(place.globex, "stray", tenant=place.acme))
    uids = {name: uid_of(place.kubectl, namespace) for name, namespace in names.items()}
    for name, namespace in (("thief", place.acme), ("thief", place.other), ("stray", place.globex)):
        uids[f"{name} in {namespace}"] = uid_of(place.kubectl, namespace, name)
    rest = place.rest()
    with rest.start():
        client = rest.client(place.globex)
        wait_until("the sink", lambda: client.get(uids["own"]).status == 200)
        assert [one["id"] for one in client.sinks(place.globex)] == [uids["own"]]
        hook = {"Webhook": {"url": "https://example.com/"}}

        def attack(uid: str) -> list[int]:
            """The statuses of all calls about a sink."""
            test = client.ask("POST", f"/v1/event_sink/{uid}/test")
            return [
                one.status
                for one in (client.get(uid), client.update(uid, name="mine", event_sink_args=hook), test, client.delete(uid))
            ]

        assert {name: attack(uid) for name, uid in uids.items() if name != "own"} == {
            name: [404] * 4 for name in uids if name != "own"
        }
        for tenant in (place.acme, place.later, place.other, "", "no-such-tenant"):
            created = client.create(tenant, hook)
            listed = client.ask("GET", f"/v1/event_sink?tenant_id={tenant}")
            assert {created.status, listed.status} <= {400, 403, 422}, tenant
        # A change of the tenant is not a field of the request; the tenant of one that says so stays.
        assert client.update(uids["own"], tenant_id=place.acme).status in (400, 422)
        # Without the Role of one namespace, its tenant is told so, and nobody else notices.
        theirs = rest.client(place.acme)
        place.kubectl.delete("rolebinding", "eventsink-rest", namespace=place.acme)
        wait_until("503", lambda: theirs.create(place.acme, hook).status == 503)
        assert "a permission" in theirs.create(place.acme, hook).error
        assert client.get(uids["own"]).status == 200
        assert attack(uids["other"]) == [404] * 4
        every = rest.key(wait=False)
        unlisted = RestClient(rest.port, every).create(place.other, hook)
        assert (unlisted.status, "the setting namespaces" in unlisted.error) == (400, True)


def test_two_installations_with_lists_of_their_own_lead_side_by_side_and_leave_each_other_alone(
    place: Installation, second: Installation
) -> None:
    with ExitStack() as stack:
        for one in (place, second):
            stack.enter_context(one.operator(leaderElection={"enabled": True, "namespace": one.system}))
        for one in (place, second):
            one.kubectl.apply(event_sink(one.acme, tenant=one.acme))
        uids = []
        for one in (place, second):
            one.ready(one.acme)
            uids.append(uid_of(one.kubectl, one.acme))
        assert [[one.compiled(uid) is not None for uid in uids] for one in (place, second)] == [[True, False], [False, True]]
        leases = [one.kubectl.get("lease", "eventsink-operator", namespace=one.system) for one in (place, second)]
        assert len({lease["spec"]["holderIdentity"] for lease in leases}) == 2
        assert [one.denied("operator") for one in (place, second)] == [[], []]


def test_a_code_of_slack_is_exchanged_and_its_token_found_again(place: Installation) -> None:
    with Slack() as slack:
        slack.add_workspace("T1")
        slack.add_channel("T1", "alerts")
        (place.folder / "client-secret").write_text(slack.client_secret)
        settings: dict[str, Any] = {
            "slack": {"apiUrl": slack.api_url},
            "slackApp": {
                "clientId": slack.client_id,
                "clientSecretFile": str(place.folder / "client-secret"),
                "tokensNamespace": place.system,
            },
            "egress": {"allow": ["127.0.0.0/8"]},
        }
        sink = event_sink(
            place.acme,
            tenant=place.acme,
            slack={"channel": "#alerts", "oauthCodeSecretRef": {"name": "slack", "key": "code"}},
        )
        place.kubectl.apply([secret(place.acme, "slack", code=slack.issue_code("T1")), sink])
        with place.operator(**settings) as operator:
            place.ready(place.acme)
            operator.terminate()
        place.kubectl.delete("eventsink", "alerts", namespace=place.acme)
        place.kubectl.apply(sink)
        with place.operator(**settings):
            place.ready(place.acme)
        assert slack.calls("oauth.v2.access") == 1
