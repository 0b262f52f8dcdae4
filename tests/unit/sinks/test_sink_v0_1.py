"""What this version compiles means the same to a router of version 0.1, and what that version compiled is read by this one."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import trustme
import yaml
from pydantic import ValidationError

from eventsink.controller.compile import compile_sink
from eventsink.destinations.slack.spec import SlackSpec
from eventsink.destinations.slack.target import SlackTarget
from eventsink.destinations.webhook.config import WebhookPolicy
from eventsink.destinations.webhook.resolve import target_of
from eventsink.destinations.webhook.spec import WebhookSpec
from eventsink.resources.eventsink import EventSink, read_eventsink
from eventsink.resources.model import SecretKeyRef
from eventsink.sinks.sink import CompiledFrom, SecretVersion, Sink
from eventsink.sinks.target import Target
from tests.cluster.manifests import accepted, eventsink
from tests.support import sink_v0_1
from tests.support.sinks import SECRET

AUTHORITY = trustme.CA()
PEM = AUTHORITY.cert_pem.bytes().decode()
CLIENT = AUTHORITY.issue_cert("router.example.com")
CERTIFICATE, KEY = CLIENT.cert_chain_pems[0].bytes().decode(), CLIENT.private_key_pem.bytes().decode()
TOKEN = SecretVersion(namespace="eventsink-system", name="slack-1", version="4")
MADE_FROM = CompiledFrom(compiler=7, generation=3, secrets={"hook": "12"}, tokens=(TOKEN,), policy="p")


def samples() -> dict[str, dict[str, Any]]:
    """Each EventSink that is shipped as a sample, and each manifest that the API server must accept."""
    folder = Path(__file__).parents[3] / "manifests" / "samples"
    found = {case: eventsink(spec) for case, spec in accepted().items()}
    for file in sorted(folder.glob("*.yaml")):
        sinks = [one for one in yaml.safe_load_all(file.read_text()) if one and one["kind"] == "EventSink"]
        found |= {f"{file.name}: {one['metadata']['name']}": one for one in sinks}
    return found


def target_for(sink: EventSink) -> Target:
    """What its destination resolves to, with credentials that fit each field."""

    def credential(path: str, ref: SecretKeyRef) -> str:
        if path.endswith("clientCertSecretRef"):
            return KEY if ref.key == "tls.key" else CERTIFICATE
        if path.endswith("caSecretRef"):
            return PEM
        return "https://secret.example.com/hook" if path.endswith("urlSecretRef") else SECRET

    destination = sink.spec.destination
    if isinstance(destination, WebhookSpec):
        return target_of(destination, credential, WebhookPolicy(), datetime.now(UTC))
    assert isinstance(destination, SlackSpec)
    if destination.incoming_webhook_secret_ref is not None:
        return SlackTarget(webhook_url="https://hooks.slack.com/services/T/B/x")
    return SlackTarget(token="xoxb-1", team_id="T", team_name="A", channel_id="C", channel_asked=destination.channel or "")


@pytest.mark.parametrize("document", samples().values(), ids=samples())
def test_a_router_of_version_0_1_reads_each_compiled_sink_with_the_same_meaning_or_not_at_all(document: dict[str, Any]) -> None:
    sink = read_eventsink({**document, "metadata": {**document["metadata"], "uid": "u", "generation": 3}})
    new = compile_sink(sink, target_for(sink), MADE_FROM)
    if new.version > 1:
        with pytest.raises(ValidationError, match="version"):
            sink_v0_1.Sink.model_validate_json(new.to_json())
        return
    old = sink_v0_1.Sink.model_validate_json(new.to_json())
    assert (old.uid, old.namespace, old.name) == (new.uid, new.namespace, new.name)
    assert (old.tenant, old.display_name, old.suspend) == (new.tenant, new.display_name, new.suspend)
    assert old.match.model_dump() == new.match.model_dump(exclude={"expression"})
    assert old.delivery.model_dump() == new.delivery.model_dump()
    read = old.webhook if new.type == "webhook" else old.slack
    assert (old.webhook is None) != (old.slack is None)
    assert read is not None
    assert new.target is not None
    assert read.model_dump() == new.target.model_dump(include=set(type(read).model_fields))
    assert new.destination == old.expected_destination()


def test_tokens_that_version_0_1_kept_among_the_secrets_are_read_as_tokens() -> None:
    recorded = {"generation": 3, "secrets": {"slack": "12", "eventsink-system/slack-1": "4"}, "policy": "p"}
    read = CompiledFrom.model_validate(recorded)
    assert read == CompiledFrom(compiler=0, generation=3, secrets={"slack": "12"}, tokens=(TOKEN,), policy="p")
    assert CompiledFrom.model_validate(read.model_dump(by_alias=True)) == read


def test_a_sink_that_version_0_1_compiled_is_read() -> None:
    written = sink_v0_1.Sink(
        uid="u",
        namespace="acme",
        name="alerts",
        display_name="Alerts",
        tenant="acme",
        compiled_from=sink_v0_1.CompiledFrom(generation=3, secrets={"eventsink-system/slack-1": "4"}),
        destination="d",
        slack=sink_v0_1.SlackTarget(token="xoxb-1", team_id="T", channel_id="C"),
    )
    read = Sink.model_validate_json(written.model_dump_json(by_alias=True, exclude_none=True))
    assert read.target == SlackTarget(token="xoxb-1", team_id="T", channel_id="C")
    assert read.compiled_from.tokens == (TOKEN,)
