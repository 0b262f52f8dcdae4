"""Webhooks that the router authenticates to, each in its own way, in a running process that shows none of their secrets."""

from __future__ import annotations

import base64
import json
import secrets
from pathlib import Path
from typing import Any

import trustme

from tests.support.receiver import CannedResponse, Receiver
from tests.support.standalone import NAMESPACE, Standalone, secret, sink

CANARY = f"canary-{secrets.token_hex(12)}"
"""Part of every secret, the access token included, but of the private key."""
OAUTH2_CLIENT = base64.b64encode(f"alerts:{CANARY}-client".encode()).decode()
BASIC = base64.b64encode(f"router:{CANARY}-password".encode()).decode()


def ref(key: str) -> dict[str, str]:
    return {"name": "hook", "key": key}


def test_a_password_a_token_an_oauth2_client_and_a_client_certificate_reach_their_receivers_and_are_shown_nowhere(
    tmp_path: Path,
) -> None:
    authority, of_clients = trustme.CA(), trustme.CA()
    certificate = of_clients.issue_cert("router.example.com")
    key = certificate.private_key_pem.bytes().decode()
    standalone = Standalone(tmp_path)
    with Receiver() as receiver, Receiver(authority=authority, of_clients=of_clients) as demanding:
        token = json.dumps({"access_token": f"{CANARY}-access", "token_type": "Bearer", "expires_in": 3600})
        receiver.respond_with(CannedResponse(200, body=token.encode()), path="/token")
        oauth2 = {"tokenUrl": receiver.url("/token"), "clientId": "alerts", "clientSecretRef": ref("client"), "scopes": ["write"]}
        sinks: dict[str, dict[str, Any]] = {
            "basic": {"auth": {"basic": {"username": "router", "passwordSecretRef": ref("password")}}},
            "bearer": {"auth": {"bearer": {"tokenSecretRef": ref("token")}}},
            "oauth2": {"auth": {"oauth2": oauth2}},
            "mtls": {
                "url": demanding.url("/mtls"),
                "tls": {"caSecretRef": ref("ca"), "clientCertSecretRef": {"name": "router-cert"}, "serverName": "localhost"},
            },
        }
        documents = [sink(name, receiver.url(f"/{name}")) for name in sinks]
        for document, webhook in zip(documents, sinks.values(), strict=True):
            document["spec"]["webhook"] |= webhook
        values = {one: f"{CANARY}-{one}" for one in ("password", "token", "client")}
        chain = "".join(blob.bytes().decode() for blob in certificate.cert_chain_pems)
        standalone.put(
            "sinks.yaml",
            NAMESPACE,
            secret("hook", ca=authority.cert_pem.bytes().decode(), **values),
            secret("router-cert", **{"tls.crt": chain, "tls.key": key}),
            *documents,
        )
        process = standalone.start()
        try:
            standalone.post_alert("DiskFull")
            for name in sinks:
                standalone.logged("delivery to a sink", sink=f"acme/{name}", delivering="True")
            [arrived] = demanding.requests("/mtls")
            assert arrived.json()["data"]["name"] == "DiskFull"
            sent = {one: [got.headers["authorization"] for got in receiver.requests(f"/{one}")] for one in ("token", *sinks)}
            assert sent == {
                "token": [f"Basic {OAUTH2_CLIENT}"],
                "basic": [f"Basic {BASIC}"],
                "bearer": [f"Bearer {CANARY}-token"],
                "oauth2": [f"Bearer {CANARY}-access"],
                "mtls": [],
            }
            with standalone.rest() as client:
                statuses = [one.raw for one in client.list("acme")]
            assert [one["delivering"]["status"] for one in statuses] == ["True"] * len(sinks)
            shown = json.dumps([statuses, standalone.deliveries()]) + process.metrics()
        finally:
            process.close()
        shown += process.log.read_text()
        for hidden in (CANARY, OAUTH2_CLIENT, BASIC, key.splitlines()[1]):
            assert hidden not in shown
