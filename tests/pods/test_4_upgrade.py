"""`helm upgrade` and `helm rollback`: nothing is lost, and what is broken does not replace what works."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.pods.figures import measured
from tests.pods.installation import OPERATOR, REST, ROUTER, Installation, ready
from tests.pods.load import assert_delivered, load, wait_refused
from tests.pods.shell import assert_works, documented
from tests.pods.workloads import Client, Receiver
from tests.support.cluster import ROOT
from tests.support.kubectl import Kubectl
from tests.support.waiting import wait_until

PAGE = "upgrade.md"
SOON = ("--timeout", "12s")
"""For an upgrade that fails."""
AVAILABLE = "10Gi"
"""A size that volumes of any test cluster have."""
WRONG = [{"name": f"EVENTSINK_{part}__LOG__LEVEL", "value": "loud"} for part in ("OPERATOR", "ROUTER", "REST")]


@dataclass(frozen=True)
class Kept:
    """What an upgrade must not touch."""

    sinks: dict[str, Any]
    tokens: dict[str, Any]
    volume: str


def kept(kubectl: Kubectl, installation: Installation) -> Kept:
    """As it is now."""
    sinks = {
        f"{one['metadata']['namespace']}/{one['metadata']['name']}": (one["metadata"]["uid"], one["spec"])
        for one in kubectl.list("eventsink")
    }
    names = ("eventsink-source-tokens", "eventsink-admin")
    tokens = {name: kubectl.get("secret", name, namespace=installation.namespace)["data"] for name in names}
    claim = kubectl.get("persistentvolumeclaim", "queue-eventsink-router-0", namespace=installation.namespace)
    return Kept(sinks, tokens, claim["spec"]["volumeName"])


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The root of the repository as far as the page uses it, in which its commands may write."""
    folder = tmp_path_factory.mktemp("root")
    (folder / "helm").symlink_to(ROOT / "helm")
    return folder


def uids(installation: Installation, selector: str) -> set[str]:
    """Of the ready pods of a part."""
    return {one["metadata"]["uid"] for one in installation.pods(selector) if ready(one)}


def test_an_upgrade_and_a_rollback_keep_sinks_queue_and_tokens(
    kubectl: Kubectl, installation: Installation, client: Client, receiver: Receiver, sink: str
) -> None:
    before = kept(kubectl, installation)
    debug = {"config": {"log": {"level": "debug"}}}

    changes: dict[str, Callable[[], object]] = {
        "upgrade": lambda: installation.upgrade(operator=debug, router=debug, rest=debug),
        "rollback": installation.rollback,
    }
    for what, change in changes.items():
        old = installation.pod(ROUTER)["metadata"]["uid"]
        receiver.respond_with(503)
        with load(installation, client, f"load-{what}") as sent:
            wait_refused(receiver, sink, f"load-{what}")
            started = time.monotonic()
            change()
            took = time.monotonic() - started
            assert installation.pod(ROUTER)["metadata"]["uid"] != old
        receiver.respond_with(200)
        assert_delivered(receiver, sink, sent.acknowledged)
        assert kept(kubectl, installation) == before
        measured(f"{what}: {took:.1f} s, intake out for {sent.outage:.1f} s, {len(sent.acknowledged)} alerts")


def test_the_upgrade_of_the_page_works(installation: Installation, root: Path) -> None:
    before = installation.pod(ROUTER)["metadata"]["uid"]

    shown = assert_works(documented(PAGE, "upgrade"), installation.environment, root)

    assert "eventsink-router-0" in shown
    assert installation.pod(ROUTER)["metadata"]["uid"] == before, "the same chart and values replaced the router"


def test_an_image_that_does_not_exist_leaves_operators_and_rest_api_in_place(
    kubectl: Kubectl, installation: Installation, client: Client, receiver: Receiver, sink: str, root: Path
) -> None:
    before = {part: uids(installation, part) for part in (OPERATOR, REST)}

    failed = installation.upgrade(*SOON, check=False, image={"tag": "does-not-exist"})

    assert failed.returncode != 0
    assert {part: uids(installation, part) for part in before} == before
    assert_recovers(installation, client, receiver, sink, "image", root)


def test_a_wrong_setting_leaves_operators_and_rest_api_in_place(
    kubectl: Kubectl, installation: Installation, client: Client, receiver: Receiver, sink: str, root: Path
) -> None:
    before = {part: uids(installation, part) for part in (OPERATOR, REST)}

    failed = installation.upgrade(*SOON, check=False, operator={"env": WRONG}, router={"env": WRONG}, rest={"env": WRONG})

    assert failed.returncode != 0
    assert {part: uids(installation, part) for part in before} == before
    # A container that has just been started again has written nothing yet.
    wait_until(
        "the reason in the router's log",
        lambda: "log.level" in assert_works(documented(PAGE, "failed"), installation.environment, root),
        poll=1,
    )
    assert_recovers(installation, client, receiver, sink, "setting", root)


def test_a_backup_restores_the_queue_on_a_new_volume(
    kubectl: Kubectl, installation: Installation, client: Client, receiver: Receiver, sink: str, root: Path
) -> None:
    before = kept(kubectl, installation)
    receiver.respond_with(503)
    with load(installation, client, "load-backup") as sent:
        wait_refused(receiver, sink, "load-backup")
    assert_works(documented(PAGE, "backup"), installation.environment, root)
    for name in before.tokens:
        kubectl.delete("secret", name, namespace=installation.namespace)
    kubectl.delete("persistentvolumeclaim", "queue-eventsink-router-0", namespace=installation.namespace, wait=False)
    kubectl.delete("pod", "eventsink-router-0", namespace=installation.namespace)

    assert_works(documented(PAGE, "secrets", "holder", "put"), installation.environment, root)

    receiver.respond_with(200)
    assert_delivered(receiver, sink, sent.acknowledged)
    after = kept(kubectl, installation)
    assert (after.sinks, after.tokens) == (before.sinks, before.tokens)
    assert after.volume != before.volume


def test_the_chart_learns_of_a_larger_volume_and_the_queue_may_grow(
    kubectl: Kubectl, installation: Installation, root: Path
) -> None:
    assert_works(documented(PAGE, "volume"), installation.environment, root)

    router = kubectl.get("statefulset", "eventsink-router", namespace=installation.namespace)["spec"]
    assert router["volumeClaimTemplates"][0]["spec"]["resources"]["requests"]["storage"] == "20Gi"
    names = [one["configMap"]["name"] for one in installation.pod(ROUTER)["spec"]["volumes"] if "configMap" in one]
    settings = [kubectl.get("configmap", name, namespace=installation.namespace)["data"] for name in names]
    [queue] = [yaml.safe_load(one["router.yaml"])["queue"] for one in settings if "router.yaml" in one]
    assert queue["maxBytes"] == 16 * 2**30


def test_the_queue_moves_to_a_larger_volume(
    kubectl: Kubectl, installation: Installation, client: Client, receiver: Receiver, sink: str, root: Path
) -> None:
    before = kept(kubectl, installation)
    larger = documented(PAGE, "claim")
    assert "storage: 20Gi" in larger
    receiver.respond_with(503)
    with load(installation, client, "load-larger") as sent:
        wait_refused(receiver, sink, "load-larger")
        assert "\nok\n" in assert_works(documented(PAGE, "holder", "copy"), installation.environment, root)
        assert_works(larger.replace("20Gi", AVAILABLE), installation.environment, root)
        assert_works(documented(PAGE, "holder", "put", "volume"), installation.environment, root)

    receiver.respond_with(200)
    assert_delivered(receiver, sink, sent.acknowledged)
    measured(f"the queue moved to another volume: intake out for {sent.outage:.1f} s, {len(sent.acknowledged)} alerts")
    after = kept(kubectl, installation)
    assert (after.sinks, after.tokens) == (before.sinks, before.tokens)
    assert after.volume != before.volume


def assert_recovers(installation: Installation, client: Client, receiver: Receiver, sink: str, what: str, root: Path) -> None:
    """What the page says brings the router back, too."""
    started = time.monotonic()
    assert_works(documented(PAGE, "rollback"), installation.environment, root)
    measured(f"rollback after a wrong {what}: {time.monotonic() - started:.1f} s")
    with load(installation, client, f"load-after-{what}") as sent:
        pass
    assert_delivered(receiver, sink, sent.acknowledged)
