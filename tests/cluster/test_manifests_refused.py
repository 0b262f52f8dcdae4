"""What must not be written into an EventSink is refused by `kubectl apply` itself, with a sentence that says what to do."""

from __future__ import annotations

import re
import uuid

import pytest

from tests.cluster.manifests import Refused, eventsink, refused
from tests.support.kubectl import Kubectl

ANSWERS = (
    r'The EventSink "[^"]*" is invalid: ?(.*)',
    r"strict decoding error: (.*)",
    r"failed to create typed patch object \([^)]*\): (.*)",
)
"""Invalid; an unknown field; an unknown field, a wrong type or a duplicate in a server-side apply."""
NOISE = "<nil>: "
"""How the API server says that it stopped before the rules."""


def lines(answer: str) -> list[str]:
    """What kubectl wrote, a line for each mistake, sorted since the API server's order varies."""
    for form in ANSWERS:
        found = re.search(form, answer.strip(), re.DOTALL)
        if found is not None:
            told = (line.removeprefix("* ") for line in found[1].strip().splitlines())
            return sorted(line for line in told if not line.startswith(NOISE))
    pytest.fail(f"kubectl wrote something else: {answer}")


@pytest.fixture
def name() -> str:
    """A name that no EventSink has, so that what one test leaves behind when it fails is not what the next one changes."""
    return f"refused-{uuid.uuid4().hex[:12]}"


@pytest.mark.parametrize("case", refused(), ids=lambda case: case.case)
def test_a_refused_manifest_is_answered_in_sentences(kubectl: Kubectl, crd_installed: None, name: str, case: Refused) -> None:
    manifest = eventsink(case.spec, name=name)
    assert lines(kubectl.apply(manifest, expect_failure=True)) == sorted(case.says)
    assert lines(kubectl.apply(manifest, expect_failure=True, server_side=True)) == sorted(case.server_side)


def test_no_answer_repeats_a_credential_that_was_written_into_a_spec(kubectl: Kubectl, crd_installed: None, name: str) -> None:
    webhook = {
        "url": "https://user:hunter2@example.com/hunter2#hunter2",
        "headers": [{"name": "Authorization", "value": "hunter2"}, {"name": "X-A", "value": "hunter2\n"}],
    }
    manifest = eventsink({"tenant": "acme", "name": "A", "webhook": webhook}, name=name)
    answer = kubectl.apply(manifest, expect_failure=True)
    assert len(lines(answer)) == 4
    assert "hunter2" not in answer
