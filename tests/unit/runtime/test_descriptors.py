"""Listeners never get the file descriptors that delivery needs."""

from __future__ import annotations

import resource
import subprocess
import sys

import pytest
from structlog.testing import capture_logs

from eventsink.runtime.descriptors import FEWEST, OTHERS, Descriptors


@pytest.mark.parametrize(
    ("limit", "granted"),
    [(100_000, [2000, 512]), (OTHERS + 1024 + 2000, [1500, 375]), (1024, [FEWEST, FEWEST])],
)
def test_listeners_share_what_delivery_leaves(limit: int, granted: list[int]) -> None:
    descriptors = Descriptors(limit)
    descriptors.reserve(1024)
    with capture_logs() as logs:
        assert [descriptors.grant("intake.maxConnections", 2000), descriptors.grant("rest.limits.maxConnections", 512)] == granted
    assert [one["setting"] for one in logs if one["granted"] < one["wanted"]] == [
        name
        for name, wanted, got in zip(("intake.maxConnections", "rest.limits.maxConnections"), (2000, 512), granted, strict=True)
        if got < wanted
    ]


def test_the_limit_on_open_files_is_raised_at_the_start() -> None:
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    program = (
        "import resource\nfrom eventsink.runtime.descriptors import raise_limit\n"
        f"resource.setrlimit(resource.RLIMIT_NOFILE, (200, {hard}))\n"
        "print(raise_limit(), resource.getrlimit(resource.RLIMIT_NOFILE)[0])"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout.split() == [str(hard), str(hard)]
