"""`kubectl apply` itself rejects an invalid EventSink, with a sentence that says what to do."""

from __future__ import annotations

import re
import uuid
from collections.abc import Iterable

import pytest

from tests.cluster.manifests import Rejected, eventsink, rejected
from tests.controlplane.binaries import older
from tests.support.kubectl import Kubectl

ERROR_FORMS = (
    r'The EventSink "[^"]*" is invalid: ?(.*)',
    r"strict decoding error: (.*)",
    r"failed to create typed patch object \([^)]*\): (.*)",
)
"""Invalid; an unknown field; an unknown field, a wrong type or a duplicate in a server-side apply."""
WORDS_OF_VERSIONS = (
    (r'Invalid value: ("([^"\\]|\\.)*"|[^ "]*): ', "Invalid value: "),
    (r"may not be longer than ([0-9]+)", r"may not be more than \1 bytes"),
    (r"Duplicate value: .*", "Duplicate value"),
)
"""What older API servers say in other words: instead of the value they often show its type."""
NOISE = "<nil>: "
"""Begins the API server's line that it did not check the rules."""


def lines(output: str) -> list[str]:
    """What kubectl printed, a line for each mistake, sorted since the API server's order varies."""
    for form in ERROR_FORMS:
        found = re.search(form, output.strip(), re.DOTALL)
        if found is not None:
            reported = (line.removeprefix("* ") for line in found[1].strip().splitlines())
            return comparable(line for line in reported if not line.startswith(NOISE))
    pytest.fail(f"kubectl printed something else: {output}")


def comparable(said: Iterable[str]) -> list[str]:
    """Sorted; with an older API server, without what is in its own words."""
    lines = list(said)
    for pattern, words in WORDS_OF_VERSIONS if older() else ():
        lines = [re.sub(pattern, words, line) for line in lines]
    return sorted(lines)


@pytest.fixture
def name() -> str:
    """A name that no EventSink has, so that what one test leaves behind when it fails is not what the next one changes."""
    return f"rejected-{uuid.uuid4().hex[:12]}"


@pytest.mark.parametrize("case", rejected(), ids=lambda case: case.case)
def test_an_invalid_manifest_is_rejected_with_a_sentence_for_each_mistake(
    kubectl: Kubectl, crd_installed: None, name: str, case: Rejected
) -> None:
    manifest = eventsink(case.spec, name=name)
    assert lines(kubectl.apply(manifest, expect_failure=True)) == comparable(case.says)
    assert lines(kubectl.apply(manifest, expect_failure=True, server_side=True)) == comparable(case.server_side)


def test_no_error_repeats_a_credential_that_was_written_into_a_spec(kubectl: Kubectl, crd_installed: None, name: str) -> None:
    webhook = {
        "url": "https://user:hunter2@example.com/hunter2#hunter2",
        "headers": [{"name": "Authorization", "value": "hunter2"}, {"name": "X-A", "value": "hunter2\n"}],
    }
    manifest = eventsink({"tenant": "acme", "name": "A", "webhook": webhook}, name=name)
    output = kubectl.apply(manifest, expect_failure=True)
    assert len(lines(output)) == 4
    assert "hunter2" not in output
