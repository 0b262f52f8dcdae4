"""What the chart renders: every value has an effect, what it renders is valid, and nothing names another installation."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import yaml

from eventsink.controller.config import OperatorSettings
from eventsink.events.config import EventsSettings
from eventsink.rest.config import RestSettings
from eventsink.router.config import RouterSettings
from eventsink.runtime.settings import ProcessSettings, load_settings, overlay
from tests.chart.switches import COMPANIONS, EVERYTHING, SINK, Path, documented, nested, other
from tests.support.debian import MonitoringPrograms
from tests.support.helm import CHART, Helm, find, key_of, of_kind, pod_of, settings_text
from tests.support.kubectl import Kubectl

PARTS: dict[str, type[ProcessSettings]] = {
    "operator": OperatorSettings,
    "router": RouterSettings,
    "rest": RestSettings,
    "events": EventsSettings,
}
OF_OTHER_OPERATORS = ("monitoring.coreos.com", "cert-manager.io")
Objects = list[dict[str, Any]]


@pytest.fixture(scope="session")
def elsewhere() -> Helm:
    """A release that shares no name with what other tests install."""
    return Helm(release="other", namespace="alerting")


@pytest.fixture(scope="session")
def everything(elsewhere: Helm) -> Objects:
    return elsewhere.render(EVERYTHING)


@pytest.fixture(scope="session")
def changed(elsewhere: Helm) -> dict[Path, tuple[Objects, Objects]]:
    """For every value: what another one adds to what is rendered with everything, and what it removes."""

    def render(value: tuple[Path, Any]) -> tuple[Path, tuple[Objects, Objects]]:
        path, default = value
        start = overlay(EVERYTHING, COMPANIONS.get(path, {}))
        given: Any = start
        for name in path:
            given = given.get(name) if isinstance(given, dict) else None
        other_values = overlay(start, nested(path, other(path, given if given is not None else default)))
        before = elsewhere.documents(start) if path in COMPANIONS else start_documents
        after = elsewhere.documents(other_values)
        return path, (parsed(after - before), parsed(before - after))

    start_documents = elsewhere.documents(EVERYTHING)
    with ThreadPoolExecutor(4) as pool:
        return dict(pool.map(render, documented()))


def parsed(documents: Iterable[str]) -> Objects:
    return [yaml.safe_load(one) for one in documents]


def test_every_value_has_an_effect(changed: dict[Path, tuple[Objects, Objects]]) -> None:
    assert len(changed) > 120
    assert [".".join(path) for path, difference in changed.items() if difference == ([], [])] == []


def test_the_api_server_accepts_every_rendering(
    kubectl: Kubectl, crd_installed: None, everything: Objects, changed: dict[Path, tuple[Objects, Objects]]
) -> None:
    added = [objects for objects, _ in changed.values()]
    distinct = {json.dumps(one, sort_keys=True): one for objects in (everything, *added) for one in objects}
    objects = [one for one in distinct.values() if one["apiVersion"].split("/")[0] not in OF_OTHER_OPERATORS]
    assert len(objects) > 150
    for name in ("alerting", "alerting-sinks", "other"):
        kubectl.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}})
    result = kubectl.run("apply", "--dry-run=server", "-f", "-", input=yaml.safe_dump_all(objects), check=False)
    assert result.returncode == 0, result.stderr
    assert "unknown field" not in result.stderr, result.stderr


def test_pods_run_in_a_namespace_that_enforces_restricted(kubectl: Kubectl, everything: Objects) -> None:
    with kubectl.namespace(prefix="restricted") as namespace:
        kubectl.run("label", "namespace", namespace, "pod-security.kubernetes.io/enforce=restricted")
        for workload in of_kind(everything, "Deployment", "StatefulSet"):
            pod = workload["spec"]["template"]
            pod = {
                "apiVersion": "v1",
                "kind": "Pod",
                **pod,
                "metadata": {**pod["metadata"], "name": workload["metadata"]["name"]},
            }
            del pod["spec"]["serviceAccountName"]
            claims = [
                {"name": one["metadata"]["name"], "emptyDir": {}} for one in workload["spec"].get("volumeClaimTemplates", [])
            ]
            pod["spec"]["volumes"] = [*pod["spec"]["volumes"], *claims]
            kubectl.run("create", "--dry-run=server", f"--namespace={namespace}", "-f", "-", input=yaml.safe_dump(pod))


@pytest.mark.parametrize("part", PARTS)
@pytest.mark.parametrize("values", [{}, EVERYTHING], ids=["defaults", "everything"])
def test_the_programs_accept_the_rendered_settings(helm: Helm, tmp_path: Any, part: str, values: dict[str, Any]) -> None:
    file = tmp_path / f"{part}.yaml"
    file.write_text(settings_text(helm.render(overlay({"events": {"enabled": True}}, values)), part))
    assert load_settings(PARTS[part], part=part, path=file).monitor.address == "0.0.0.0:9090"  # type: ignore[attr-defined]


def test_large_numbers_arrive_as_they_were_written(helm: Helm, tmp_path: Any) -> None:
    file = tmp_path / "router.yaml"
    file.write_text(
        settings_text(
            helm.render({"router": {"queue": {"size": "20Gi"}, "config": {"queue": {"maxBytes": 17179869185}}}}), "router"
        )
    )
    assert load_settings(RouterSettings, part="router", path=file).queue.max_bytes == 17179869185


def test_pods_may_read_the_secrets_that_they_mount(everything: Objects) -> None:
    # Without fsGroup, a file of mode 0440 belongs to root alone, and the program does not run as root.
    for workload in of_kind(everything, "Deployment", "StatefulSet"):
        pod = workload["spec"]["template"]["spec"]
        modes = {volume["secret"]["defaultMode"] for volume in pod["volumes"] if "secret" in volume}
        assert modes <= {0o440}
        assert pod["securityContext"]["fsGroup"] == pod["securityContext"]["runAsUser"] == 65532


def test_nothing_names_another_installation(everything: Objects) -> None:
    # Labels and settings may have the program's name; namespaces and accounts may not be those of the documentation.
    assert "eventsink-system" not in json.dumps(everything)
    accounts = [policy["spec"]["matchConditions"][0]["expression"] for policy in of_kind(everything, "ValidatingAdmissionPolicy")]
    assert {account.rpartition('"system:serviceaccount:')[2].rstrip('"') for account in accounts} == {
        "alerting:other-eventsink-router",
        "alerting:other-eventsink-rest",
    }
    bound = {
        subject["namespace"] for one in of_kind(everything, "RoleBinding", "ClusterRoleBinding") for subject in one["subjects"]
    }
    assert bound == {"alerting"}


def test_a_changed_setting_replaces_the_pods_of_that_part_only(helm: Helm) -> None:
    events: dict[str, Any] = {"events": {"enabled": True}}
    rendered = helm.render(events)
    changed = helm.render(events | {"router": {"config": {"log": {"level": "debug"}}}})
    assert {part for part in PARTS if pod_of(changed, part) != pod_of(rendered, part)} == {"router"}


def test_an_upgrade_of_the_chart_alone_changes_no_claim_and_no_selector(helm: Helm, rendered: Objects) -> None:
    router = find(rendered, "StatefulSet", "eventsink-router")["spec"]
    for template in router["volumeClaimTemplates"]:
        assert "labels" not in template["metadata"]
    assert set(router["selector"]["matchLabels"]) == {"app.kubernetes.io/name", "app.kubernetes.io/instance"}


@pytest.mark.parametrize("kind", ["ServiceMonitor", "PodMonitor"])
def test_monitors_select_what_serves_the_metrics(helm: Helm, kind: str) -> None:
    objects = helm.render({"monitoring": {"enabled": True, "kind": kind, "labels": {"release": "prometheus"}}})
    served = {
        "ServiceMonitor": [one["metadata"]["labels"] for one in of_kind(objects, "Service") if has_metrics(one)],
        "PodMonitor": [one["spec"]["template"]["metadata"]["labels"] for one in of_kind(objects, "Deployment", "StatefulSet")],
    }[kind]
    assert len(served) == 3
    for monitor in of_kind(objects, kind):
        wanted = monitor["spec"]["selector"]["matchLabels"].items()
        assert len([labels for labels in served if wanted <= labels.items()]) == 1
        assert monitor["metadata"]["labels"]["release"] == "prometheus"


def has_metrics(service: dict[str, Any]) -> bool:
    return any(port["name"] == "metrics" for port in service["spec"]["ports"])


def test_promtool_accepts_the_rules(helm: Helm, monitoring: MonitoringPrograms, tmp_path: Any) -> None:
    [rules] = of_kind(helm.render({"monitoring": {"rules": {"enabled": True, "labels": {"team": "platform"}}}}), "PrometheusRule")
    file = tmp_path / "rules.yaml"
    file.write_text(yaml.safe_dump(rules["spec"]))
    done = subprocess.run([monitoring.promtool, "check", "rules", file], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stdout + done.stderr
    alerts = [rule for group in rules["spec"]["groups"] for rule in group["rules"]]
    assert f"{len(alerts)} rules found" in done.stdout
    assert all(rule["labels"]["severity"] in ("warning", "critical") and rule["labels"]["team"] == "platform" for rule in alerts)
    assert len({rule["alert"] for rule in alerts}) == len(alerts)


def ports_by_peer(policy: dict[str, Any]) -> Iterator[tuple[str, Any]]:
    for rule in policy["spec"]["ingress"]:
        yield rule["ports"][0]["port"], rule.get("from")


def test_a_network_policy_admits_the_rest_api_to_the_admin_port_and_everybody_to_the_others(helm: Helm) -> None:
    objects = helm.render({"router": {"networkPolicy": {"enabled": True}}})
    admitted = dict(ports_by_peer(find(objects, "NetworkPolicy", "eventsink-router")))
    assert admitted.keys() == {"intake", "admin", "metrics"}
    assert (admitted["intake"], admitted["metrics"]) == (None, None)
    [peer] = admitted["admin"]
    assert peer["podSelector"]["matchLabels"].items() <= pod_of(objects, "rest")["metadata"]["labels"].items()


def test_every_object_has_the_common_labels_and_annotations(helm: Helm) -> None:
    common = {"commonLabels": {"team": "platform"}, "commonAnnotations": {"example.com/by": "us"}}
    for one in helm.render(overlay(EVERYTHING, {**common, "sinks": [{**SINK, "labels": {}}]})):
        metadata = one["metadata"]
        assert metadata["labels"]["team"] == "platform", key_of(one)
        assert metadata["annotations"]["example.com/by"] == "us", key_of(one)
        assert metadata["labels"]["app.kubernetes.io/part-of"] == "eventsink", key_of(one)


def test_what_uninstalling_would_destroy_is_kept_unless_that_is_switched_off(helm: Helm, rendered: Objects) -> None:
    # Argo CD respects Helm's annotation when it deletes all of an installation, and its own when it prunes.
    for annotation in (("helm.sh/resource-policy", "keep"), ("argocd.argoproj.io/sync-options", "Prune=false")):
        kept = {key_of(one)[0] for one in rendered if annotation in one["metadata"].get("annotations", {}).items()}
        assert kept == {"CustomResourceDefinition", "Namespace"}
        assert annotation[0] not in json.dumps(helm.render({"crds": {"keep": False}, "sinksNamespace": {"keep": False}}))


@pytest.mark.parametrize(
    ("values", "absent"),
    [
        ({"crds": {"enabled": False}}, ("CustomResourceDefinition",)),
        ({"sinksNamespace": {"create": False, "name": "compiled"}}, ("Namespace",)),
        (
            {"rbac": {"create": False, "aggregatedRoles": False}},
            (
                "Role",
                "RoleBinding",
                "ClusterRole",
                "ClusterRoleBinding",
            ),
        ),
        (
            {"policies": {"enabled": False}},
            (
                "ValidatingAdmissionPolicy",
                "ValidatingAdmissionPolicyBinding",
            ),
        ),
    ],
    ids=lambda one: next(iter(one)),
)
def test_what_is_switched_off_is_not_rendered(
    helm: Helm, rendered: Objects, values: dict[str, Any], absent: tuple[str, ...]
) -> None:
    assert set(absent) <= {one["kind"] for one in rendered}
    assert not set(absent) & {one["kind"] for one in helm.render(values)}


def strings_in(value: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """Every scalar that is the name, the namespace, a label or an annotation of something."""
    if isinstance(value, list):
        for one in value:
            yield from strings_in(one, path)
    elif isinstance(value, dict):
        for key, one in value.items():
            yield from strings_in(one, f"{path}.{key}")
    elif re.search(
        r"(\.(\w*[nN]ame|namespace|instance|storageClassName|caBundle|interval|resourceNames)|(labels|annotations)\..*)$", path
    ):
        yield path, value


def test_names_that_yaml_takes_for_something_else_stay_names() -> None:
    # A namespace may be named 1234, a Secret "on", a release 1e3: in YAML these are no texts unless they are quoted.
    values: dict[str, Any] = {
        **{
            part: {"serviceAccount": {"name": name}, "priorityClassName": "1"}
            for part, name in (("operator", "1"), ("rest", "0x2"))
        },
        "fullnameOverride": "y",
        "sinksNamespace": {"name": "12"},
        "namespaces": [{"name": "777", "tenant": "on"}],
        "imagePullSecrets": [{"name": "7"}],
        "tokens": {"sources": "1", "admin": "2"},
        "slack": {"app": {"clientId": "1", "secretName": "3"}, "tokenSecretName": "4"},
        "proxy": {"secretName": "5"},
        "ca": {"configMapName": "6"},
        "commonLabels": {"team": "1e3"},
        "commonAnnotations": {"since": "2026"},
        "sinks": [{**SINK, "name": "1", "namespace": "0123"}],
        "monitoring": {"enabled": True, "rules": {"enabled": True}},
        "router": {"queue": {"storageClassName": "1"}, "tls": {"secretName": "8"}, "serviceAccount": {"name": "off"}},
    }
    values["rest"] |= {"keys": {"secretName": "9"}, "stateKey": {"secretName": "10"}}
    objects = Helm(release="1e3", namespace="1234").render(values)
    found = list(strings_in(objects))
    assert len(found) > 300
    assert {value for _, value in found} >= {"1234", "777", "1e3", "0x2", "off", "0123", "9", "10", "2026"}
    assert [one for one in found if not isinstance(one[1], str)] == []


def test_the_longest_names_are_names_of_kubernetes(kubectl: Kubectl, crd_installed: None) -> None:
    for release, namespace in (("r" * 53, "n" * 57), ("a1" * 26, "1234")):
        helm = Helm(release=release, namespace=namespace)
        for name in (namespace, f"{namespace}-sinks"):
            kubectl.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}})
        objects = [one for one in helm.render(EVERYTHING) if one["apiVersion"].split("/")[0] not in OF_OTHER_OPERATORS]
        names = {f"{name}-router-0" for kind, _, name in map(key_of, objects) if kind == "StatefulSet"}
        assert max(len(name) for name in names) <= 63
        kubectl.run("apply", "--dry-run=server", "-f", "-", input=yaml.safe_dump_all(objects))


def test_a_parent_chart_can_have_it_as_a_dependency(tmp_path: Any) -> None:
    parent = {"apiVersion": "v2", "name": "platform", "version": "1.0.0"}
    dependency = {"name": "eventsink", "version": find_version(), "condition": "eventsink.enabled"}
    (tmp_path / "Chart.yaml").write_text(yaml.safe_dump({**parent, "dependencies": [dependency]}))
    shutil.copytree(CHART, tmp_path / "charts" / "eventsink")
    shared = {"imageRegistry": "registry.example.com/mirror", "imagePullSecrets": [{"name": "mirror"}], "theirs": 1}
    digest = "sha256:" + "1" * 64
    values = {"global": shared, "eventsink": {"enabled": True, "image": {"digest": digest}}}
    pods = of_kind(Helm(chart=tmp_path, release="platform").render(values), "Deployment", "StatefulSet")
    for pod in (one["spec"]["template"]["spec"] for one in pods):
        assert pod["containers"][0]["image"] == f"registry.example.com/mirror/eventsink@{digest}"
        assert pod["imagePullSecrets"] == [{"name": "mirror"}]
    assert Helm(chart=tmp_path).render({"eventsink": {"enabled": False}}) == []


def find_version() -> str:
    version: str = yaml.safe_load((CHART / "Chart.yaml").read_text())["version"]
    return version


@pytest.mark.parametrize(
    ("size", "most"),
    [
        ("10Gi", 8 * 1024**3),
        ("50Gi", 40 * 1024**3),
        ("1Gi", 512 * 1024**2),
        ("100G", 80 * 1000**3),
        ("1.5Ti", 12 * 1024**4 // 10),
    ],
)
def test_the_queue_may_take_most_of_its_volume(helm: Helm, size: str, most: int) -> None:
    settings = yaml.safe_load(settings_text(helm.render({"router": {"queue": {"size": size}}}), "router"))
    assert settings["queue"]["maxBytes"] == most
    own = {"router": {"queue": {"size": size}, "config": {"queue": {"maxBytes": 2**20}}}}
    assert yaml.safe_load(settings_text(helm.render(own), "router"))["queue"]["maxBytes"] == 2**20


def test_a_constraint_of_topology_keeps_its_own_selector(helm: Helm) -> None:
    own = {"matchLabels": {"team": "platform"}}
    constraints = [{"maxSkew": 1, "labelSelector": own}, {"maxSkew": 2}]
    first, second = pod_of(helm.render({"rest": {"topologySpreadConstraints": constraints}}), "rest")["spec"][
        "topologySpreadConstraints"
    ]
    assert first["labelSelector"] == own
    assert second["labelSelector"]["matchLabels"]["app.kubernetes.io/name"] == "eventsink-rest"


def test_helm_lint_has_no_complaint(helm: Helm) -> None:
    assert "0 chart(s) failed" in helm.run("lint", "--strict", str(helm.chart)).stdout
