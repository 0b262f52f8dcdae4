"""The admission webhook of the installation: it refuses in words, and blocks nobody where no operator is."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from tests.pods.figures import measured
from tests.pods.installation import DENIED_HOST, OPERATOR, Installation
from tests.pods.workloads import TENANT
from tests.support.admission import REFUSED, applied, dry_run, wait_reviewing
from tests.support.kubectl import Kubectl
from tests.support.sinks import event_sink
from tests.support.waiting import wait_until

URL = f"https://{DENIED_HOST}/x"
MATCHERS = ['team=~"("']
PROBLEMS = (
    f"spec.tenant: this namespace belongs to the tenant {TENANT} and may not claim another",
    f"spec.webhook.url: the platform does not allow the host {DENIED_HOST} ",
    "spec.match.matchers[0]: the regular expression is not valid RE2: missing ): (",
)


@pytest.mark.usefixtures("installation")
@pytest.mark.parametrize("command", [applied, dry_run])
def test_everything_that_is_wrong_is_refused_at_once_and_in_words(
    kubectl: Kubectl, command: Callable[..., subprocess.CompletedProcess[str]]
) -> None:
    wait_reviewing(kubectl)
    wrong: dict[str, Any] = {"tenant": "another", "webhook": {"url": URL}, "match": {"matchers": MATCHERS}}

    result = command(kubectl, event_sink(TENANT, "wrong", **wrong))

    assert result.returncode == 1
    assert REFUSED in result.stderr
    for problem in PROBLEMS:
        assert problem in result.stderr
    assert kubectl.find("eventsink", "wrong", namespace=TENANT) is None


def test_without_operators_nobody_is_blocked_and_the_status_reports_it_later(
    kubectl: Kubectl, installation: Installation
) -> None:
    wait_reviewing(kubectl)
    with no_operators(kubectl, installation):
        started = time.monotonic()
        result = applied(kubectl, event_sink(TENANT, "unreviewed", tenant=TENANT, match={"matchers": MATCHERS}))
        measured(f"kubectl apply without an operator: {time.monotonic() - started:.1f} s")
        assert (result.returncode, result.stderr) == (0, "")

    reported = kubectl.wait_condition("eventsink", "unreviewed", "Ready", "False", reason="InvalidMatcher", namespace=TENANT)
    assert reported["message"] == PROBLEMS[-1]
    kubectl.delete("eventsink", "unreviewed", namespace=TENANT)


@contextmanager
def no_operators(kubectl: Kubectl, installation: Installation) -> Iterator[None]:
    """For a while there is none."""
    scale = ("scale", "deployment", "eventsink-operator", "-n", installation.namespace)
    kubectl.run(*scale, "--replicas=0")
    try:
        wait_until(
            "the end of the operators", lambda: not kubectl.list("pod", namespace=installation.namespace, selector=OPERATOR)
        )
        yield
    finally:
        kubectl.run(*scale, "--replicas=2")
    installation.wait_ready(OPERATOR, count=2)
