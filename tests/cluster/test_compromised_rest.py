"""What somebody who took over the REST API can do with its ServiceAccount on a real API server, beside the operator.

Policies become active a moment after they were applied, so each test waits until they are.
"""

from __future__ import annotations

import json
import secrets
from collections.abc import Iterator, Mapping
from typing import Any

import pytest

from tests.controlplane import ControlPlane
from tests.support.attacks import HOOK, LABELS, SECRET, SINK, rest_secret, rest_sink
from tests.support.cluster import SINKS_NAMESPACE, SYSTEM_NAMESPACE, Installed, MakeNamespace
from tests.support.kubectl import Kubectl, condition
from tests.support.parts import start_operator
from tests.support.processes import RunningProcess
from tests.support.rest import Rest, RestClient
from tests.support.sinks import compiled, event_sink
from tests.support.waiting import wait_until

pytestmark = pytest.mark.usefixtures("tenant")  # so that `namespace` is a tenant's

CANARY = f"canary-{secrets.token_hex(12)}"
"""A credential: the attacker's host must never be compiled together with it."""
THIEF = "https://thief.example.com/"
HEADERS = [{"name": "Authorization", "value": f"Bearer {CANARY}"}]


class Attacker:
    """Sends requests with the ServiceAccount of the REST API."""

    def __init__(self, kubectl: Kubectl) -> None:
        self._kubectl = kubectl

    def send(self, verb: str, obj: Mapping[str, Any], *, dry: bool = False) -> str:
        """The API server's error; empty if it accepts."""
        more = ["--dry-run=server"] if dry else []
        done = self._kubectl.run(verb, "-f", "-", *more, input=json.dumps(obj), check=False)
        assert bool(done.stderr) is bool(done.returncode), done.stderr
        return str(done.stderr)

    def delete(self, kind: str, name: str, namespace: str, *more: str) -> str:
        """The API server's error; empty if it accepts."""
        done = self._kubectl.run("delete", kind, name, f"--namespace={namespace}", "--wait=false", *more, check=False)
        return str(done.stderr)

    def may(self, verb: str, namespace: str) -> bool:
        """Whether it has that permission on Secrets."""
        done = self._kubectl.run("auth", "can-i", verb, "secrets", f"--namespace={namespace}", check=False)
        return str(done.stdout).strip() == "yes"


@pytest.fixture(scope="module")
def operator(install_manifests: Installed, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningProcess]:
    with start_operator(install_manifests, tmp_path_factory.mktemp("operator")) as running:
        running.wait_ready()
        yield running
        assert CANARY not in running.text()


@pytest.fixture(scope="module")
def rest(
    control_plane: ControlPlane, install_manifests: Installed, operator: RunningProcess, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Rest]:
    one = Rest(install_manifests, tmp_path_factory.mktemp("rest"), admin_kubeconfig=control_plane.admin_kubeconfig)
    with one.start():
        yield one


@pytest.fixture(scope="module")
def attacker(install_manifests: Installed, kubectl: Kubectl) -> Attacker:
    """Where the policies are active."""
    one = Attacker(Kubectl(install_manifests.rest))

    def denied(obj: Mapping[str, Any], sentence: str) -> bool:
        return sentence in one.send("create", obj, dry=True)

    with kubectl.namespace(tenant="attacked") as namespace:
        opaque = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "x", "namespace": namespace}}
        wait_until("the policy of Secrets", lambda: denied(opaque, "of the type eventsink.dev/rest only"))
        wait_until("the policy of EventSinks", lambda: denied(event_sink(namespace), "is named rest-"))
    wait_until("the policy of namespaces", lambda: denied(rest_sink("default", "attacked"), "belongs to no tenant"))
    return one


def by_uid(kubectl: Kubectl, namespace: str, uid: str) -> dict[str, Any]:
    return next(one for one in kubectl.list("eventsinks", namespace=namespace) if one["metadata"]["uid"] == uid)


def wait_rejected(kubectl: Kubectl, namespace: str, name: str) -> None:
    """Wait until the operator has rejected the current generation because of the host."""

    def rejected() -> bool:
        found = kubectl.get("eventsink", name, namespace=namespace)
        ready = condition(found, "Ready")
        return ready.get("reason") == "HostMismatch" and ready["observedGeneration"] == found["metadata"]["generation"]

    wait_until("the operator's rejection", rejected)


# ---- steps that the policies allow one by one


def test_a_header_that_was_removed_and_added_again_does_not_go_to_another_host(
    client: RestClient, attacker: Attacker, kubectl: Kubectl, tenant: str, namespace: str
) -> None:
    uid = client.create(tenant, {"Webhook": {**HOOK, "headers": HEADERS}}).sink["id"]
    known = by_uid(kubectl, namespace, uid)
    webhook, name = known["spec"]["webhook"], known["metadata"]["name"]

    def replaced(webhook: Mapping[str, Any]) -> str:
        now = by_uid(kubectl, namespace, uid)
        return attacker.send("replace", {**now, "spec": {**now["spec"], "webhook": dict(webhook)}})

    assert "stay with the host" in replaced({**webhook, "url": THIEF})
    assert replaced({"url": THIEF}) == "", "alerts of a tenant can be redirected, and then"
    wait_until("the redirected sink", lambda: (compiled(kubectl, uid) or {}).get("webhook", {}).get("url") == THIEF)
    assert replaced({**webhook, "url": THIEF}) == ""
    wait_rejected(kubectl, namespace, name)
    assert CANARY not in json.dumps(compiled(kubectl, uid))
    again = client.update(uid, event_sink_args={"Webhook": {**HOOK, "headers": HEADERS}})
    assert again.sink["ready"] is True, "both given again in one request"


def test_a_secret_that_outlived_its_sink_is_of_no_use_to_another_one_of_its_name(
    client: RestClient, attacker: Attacker, kubectl: Kubectl, tenant: str, namespace: str
) -> None:
    uid = client.create(tenant, {"Webhook": {**HOOK, "headers": HEADERS}}).sink["id"]
    known = by_uid(kubectl, namespace, uid)
    name, webhook = known["metadata"]["name"], known["spec"]["webhook"]
    assert attacker.delete("eventsink", name, namespace, "--cascade=orphan") == ""
    kubectl.wait_gone("eventsink", name, namespace=namespace)
    again = rest_sink(namespace, tenant, {**webhook, "url": THIEF}, name=name)
    assert attacker.send("create", again) == ""
    wait_rejected(kubectl, namespace, name)
    made = kubectl.get("eventsink", name, namespace=namespace)["metadata"]["uid"]
    assert compiled(kubectl, made) is None


def test_a_url_whose_secret_was_replaced_gets_no_header_of_the_tenant(
    client: RestClient, attacker: Attacker, kubectl: Kubectl, tenant: str, namespace: str
) -> None:
    uid = client.create(tenant, {"Webhook": {"secret_url": HOOK["url"]}}).sink["id"]
    known = by_uid(kubectl, namespace, uid)
    name, reference = known["metadata"]["name"], known["spec"]["webhook"]["urlSecretRef"]["name"]
    own = {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": "own", "namespace": namespace},
        "stringData": {"auth": CANARY},
    }
    header = {"name": "Authorization", "valueFrom": {"secretKeyRef": {"name": "own", "key": "auth"}}}
    spec = {**known["spec"], "webhook": {**known["spec"]["webhook"], "headers": [header]}}
    kubectl.apply([own, {**event_sink(namespace, name=name), "spec": spec}], server_side=True)
    wait_rejected(kubectl, namespace, name)
    owner = {"apiVersion": "eventsink.dev/v1alpha1", "kind": "EventSink", "name": name, "uid": uid}
    assert attacker.delete("secret", reference, namespace) == ""
    kubectl.wait_gone("secret", reference, namespace=namespace)
    assert attacker.send("create", rest_secret(namespace, name=reference, ownerReferences=[owner])) == ""
    # A change that the operator has to look at: the Secret is known by then.
    kubectl.run("patch", "eventsink", name, f"--namespace={namespace}", "--type=merge", "-p", '{"spec":{"name":"seen"}}')
    wait_rejected(kubectl, namespace, name)
    assert CANARY not in json.dumps(compiled(kubectl, uid))


# ---- what the policies deny


def test_it_has_no_permission_to_read_or_change_secrets(attacker: Attacker, namespace: str) -> None:
    for verb in ("get", "list", "watch", "update", "patch", "deletecollection"):
        assert not attacker.may(verb, namespace)
    assert attacker.may("create", namespace)


def test_it_cannot_delete_secrets_that_it_did_not_create(attacker: Attacker, kubectl: Kubectl, namespace: str) -> None:
    theirs = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "theirs", "namespace": namespace}}
    kubectl.apply(theirs)
    assert "may create and delete Secrets of the type eventsink.dev/rest only" in attacker.delete("secret", "theirs", namespace)
    assert kubectl.get("secret", "theirs", namespace=namespace)


OTHER_OWNER = {"apiVersion": "v1", "kind": "ConfigMap", "name": SINK, "uid": "0"}
ELSEWHERE = {"apiVersion": "eventsink.dev/v1alpha1", "kind": "EventSink", "name": "another", "uid": "0"}
NOT_OWNED = "is owned by one EventSink and named"
NO_METADATA = "and no other metadata"


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"kind": "Opaque"}, "of the type eventsink.dev/rest only"),
        ({"kind": "bootstrap.kubernetes.io/token"}, "of the type eventsink.dev/rest only"),
        ({"name": "repo-1"}, NOT_OWNED),
        ({"name": f"eventsink-rest-{SINK}"}, NOT_OWNED),
        ({"name": f"eventsink-rest-{SINK}-0123456"}, NOT_OWNED),
        ({"ownerReferences": []}, NOT_OWNED),
        ({"ownerReferences": [OTHER_OWNER]}, NOT_OWNED),
        ({"ownerReferences": [ELSEWHERE]}, NOT_OWNED),
        ({"labels": {**LABELS, "argocd.argoproj.io/secret-type": "cluster"}}, NO_METADATA),
        ({"labels": {}}, NO_METADATA),
        ({"annotations": {"a": "b"}}, NO_METADATA),
        ({"finalizers": ["example.com/never"]}, NO_METADATA),
    ],
)
def test_it_cannot_create_secrets_that_mean_something_to_others(
    attacker: Attacker, namespace: str, changes: dict[str, Any], sentence: str
) -> None:
    assert attacker.send("create", rest_secret(namespace), dry=True) == ""
    assert sentence in attacker.send("create", rest_secret(namespace, **changes), dry=True)
    assert NO_METADATA in attacker.send("create", {**rest_secret(namespace), "immutable": False}, dry=True)


@pytest.mark.parametrize("elsewhere", ["kube-system", "kube-public", SYSTEM_NAMESPACE, SINKS_NAMESPACE, "default"])
def test_it_writes_only_in_namespaces_of_tenants(attacker: Attacker, kubectl: Kubectl, tenant: str, elsewhere: str) -> None:
    sentence = "belongs to no tenant" if elsewhere == "default" else "may not write in a namespace of the system"
    assert sentence in attacker.send("create", rest_secret(elsewhere), dry=True)
    assert sentence in attacker.send("create", rest_sink(elsewhere, tenant), dry=True)


def test_a_namespace_of_no_tenant_is_open_to_it_once_the_platform_team_says_so(
    attacker: Attacker, kubectl: Kubectl, tenant: str, make_namespace: MakeNamespace
) -> None:
    shared = make_namespace()
    kubectl.apply(event_sink(shared, name="theirs"))
    assert f"kubectl label namespace {shared} eventsink.dev/rest=true" in attacker.send(
        "create", rest_sink(shared, tenant), dry=True
    )
    assert "belongs to no tenant" in attacker.delete("eventsink", "theirs", shared)
    kubectl.run("label", "namespace", shared, "eventsink.dev/rest=true")
    wait_until("the label at the API server", lambda: attacker.send("create", rest_sink(shared, tenant), dry=True) == "")
    kubectl.run("label", "namespace", shared, "eventsink.dev/rest=false", "--overwrite")
    wait_until(
        "the label to be gone", lambda: "belongs to no tenant" in attacker.send("create", rest_sink(shared, tenant), dry=True)
    )


def test_a_caller_of_the_rest_api_is_told_how_a_namespace_of_no_tenant_is_opened(
    rest: Rest, attacker: Attacker, kubectl: Kubectl, tenant: str, make_namespace: MakeNamespace
) -> None:
    shared = make_namespace()
    kubectl.apply(event_sink(shared, tenant=tenant))
    client = rest.client(tenant)
    wait_until("the sink", lambda: client.sinks(tenant))
    known = client.sinks(tenant)[0]
    for response in (client.update(known["id"], name="x"), client.delete(known["id"])):
        assert response.status == 400
        assert response.error.startswith("rejected by a policy of the cluster: the REST API may not write in the namespace")
        assert f"kubectl label namespace {shared} eventsink.dev/rest=true" in response.error
    kubectl.run("label", "namespace", shared, "eventsink.dev/rest=true")
    wait_until("the label at the API server", lambda: client.delete(known["id"]).status == 200)


@pytest.mark.parametrize(
    "metadata",
    [
        {"labels": {"app.kubernetes.io/instance": "theirs"}},
        {"annotations": {"argocd.argoproj.io/tracking-id": "theirs"}},
        {"finalizers": ["example.com/never"]},
        {"ownerReferences": [OTHER_OWNER]},
    ],
    ids=lambda metadata: next(iter(metadata)),
)
def test_it_changes_nothing_of_an_eventsink_but_its_spec(
    attacker: Attacker, kubectl: Kubectl, tenant: str, namespace: str, metadata: dict[str, Any]
) -> None:
    kubectl.apply(event_sink(namespace, name="victim", tenant=tenant), server_side=True)
    known = kubectl.get("eventsink", "victim", namespace=namespace)
    assert attacker.send("replace", {**known, "spec": {**known["spec"], "name": "Other"}}, dry=True) == ""
    changed = {**known, "metadata": {**known["metadata"], **metadata}}
    assert "may change the spec of an EventSink only" in attacker.send("replace", changed, dry=True)
    assert NO_METADATA in attacker.send("create", rest_sink(namespace, tenant, **metadata), dry=True)


def test_it_cannot_take_the_name_of_an_eventsink_that_somebody_will_apply(
    attacker: Attacker, tenant: str, namespace: str
) -> None:
    assert attacker.send("create", rest_sink(namespace, tenant), dry=True) == ""
    assert "is named rest-<20 digits>" in attacker.send("create", rest_sink(namespace, tenant, name="alerts"), dry=True)


THEIRS = {"name": "theirs", "key": "a"}
OWN_PASSWORD = {"name": SECRET, "key": "basic-password"}


@pytest.mark.parametrize(
    "webhook",
    [
        {"urlSecretRef": THEIRS},
        {"url": THIEF, "headers": [{"name": "X-A", "valueFrom": {"secretKeyRef": THEIRS}}]},
        {"url": THIEF, "signingSecretRefs": [{"name": "eventsink-rest-other-0123abcd", "key": "signing-secret"}]},
        {"url": THIEF, "auth": {"bearer": {"tokenSecretRef": THEIRS}}},
        {"url": THIEF, "auth": {"basic": {"usernameSecretRef": THEIRS, "passwordSecretRef": OWN_PASSWORD}}},
        {"url": THIEF, "auth": {"basic": {"username": "a", "passwordSecretRef": THEIRS}}},
        {"url": THIEF, "auth": {"oauth2": {"tokenUrl": THIEF, "clientId": "a", "clientSecretRef": THEIRS}}},
        {"url": THIEF, "auth": {"bearer": {"tokenSecretRef": {"name": SECRET, "key": "signing-secret"}}}},
        {"url": THIEF, "tls": {"clientCertSecretRef": {"name": "theirs"}}},
        # Its own Secret, used for another purpose: a signing secret as a header would be shown to the receiver.
        {"url": THIEF, "headers": [{"name": "X-A", "valueFrom": {"secretKeyRef": {"name": SECRET, "key": "signing-secret"}}}]},
    ],
    ids=[
        "a URL",
        "a header",
        "a signing secret of another sink",
        "a token",
        "a user name",
        "a password",
        "a client's secret",
        "a signing secret as a token",
        "a client certificate",
        "a signing secret as a header",
    ],
)
def test_it_cannot_refer_to_secrets_that_it_did_not_create(
    attacker: Attacker, tenant: str, namespace: str, webhook: dict[str, Any]
) -> None:
    assert "may refer only to Secrets that it created" in attacker.send("create", rest_sink(namespace, tenant, webhook), dry=True)


def test_it_cannot_send_the_credentials_of_an_existing_sink_anywhere_else(
    attacker: Attacker, kubectl: Kubectl, tenant: str, namespace: str
) -> None:
    header = {"name": "X-A", "valueFrom": {"secretKeyRef": THEIRS}}
    theirs = {"url": "https://example.com/a", "headers": [header], "signingSecretRefs": [{"name": "theirs", "key": "signing"}]}
    kubectl.apply(event_sink(namespace, name="victim", tenant=tenant, webhook=theirs), server_side=True)
    known = kubectl.get("eventsink", "victim", namespace=namespace)

    def changed(**webhook: Any) -> str:
        return attacker.send("replace", {**known, "spec": {**known["spec"], "webhook": {**theirs, **webhook}}}, dry=True)

    def with_header(key: str) -> str:
        return changed(headers=[{"name": "X-A", "valueFrom": {"secretKeyRef": {"name": "theirs", "key": key}}}])

    stays = "values of headers and auth stay with the host that they were written for"
    assert stays in changed(url=THIEF)
    assert stays in changed(url="http://example.com/a")
    assert "may refer only to Secrets that it created" in with_header("another")
    assert "may refer only to Secrets that it created" in with_header("signing")
    bearer = {"bearer": {"tokenSecretRef": THEIRS}}
    assert "may refer only to Secrets that it created" in changed(auth=bearer), "a header's value is for the header alone"
    assert changed(url="https://example.com/b") == "", "what the REST API does for its callers is allowed"
    assert changed(url="https://elsewhere.example.com/", headers=[{"name": "X-A", "value": "new"}]) == ""


def test_it_cannot_send_the_secret_or_the_tokens_of_a_client_anywhere_else(
    attacker: Attacker, kubectl: Kubectl, tenant: str, namespace: str
) -> None:
    oauth2 = {"tokenUrl": "https://login.example.com/token", "clientId": "a", "clientSecretRef": THEIRS}
    theirs = {"url": "https://example.com/a", "auth": {"oauth2": oauth2}}
    kubectl.apply(event_sink(namespace, name="client", tenant=tenant, webhook=theirs), server_side=True)
    known = kubectl.get("eventsink", "client", namespace=namespace)

    def changed(url: str = "https://example.com/a", **client: Any) -> str:
        webhook = {"url": url, "auth": {"oauth2": {**oauth2, **client}}}
        return attacker.send("replace", {**known, "spec": {**known["spec"], "webhook": webhook}}, dry=True)

    assert "values of headers and auth stay with the host" in changed(url=THIEF)
    assert "stays with the authorization server that it was written for" in changed(tokenUrl=THIEF)
    assert changed(url="https://example.com/b", scopes=["a"]) == ""
