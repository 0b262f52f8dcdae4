"""What somebody sends who took over a part: objects as that part writes them, to be changed by the tests."""

from __future__ import annotations

import json
import ssl
import urllib.error
import urllib.request
from collections.abc import Mapping
from typing import Any

import yaml

from tests.support.cluster import Installed
from tests.support.sinks import event_sink

LABELS = {"app.kubernetes.io/managed-by": "eventsink-rest"}
SINK = "rest-0123456789abcdef0123"
SECRET = f"eventsink-rest-{SINK}-01234567"
HOOK = {"url": "https://example.com/hook"}


def rest_secret(namespace: str, *, name: str = SECRET, kind: str = "eventsink.dev/rest", **metadata: Any) -> dict[str, Any]:
    """A Secret as the REST API creates it, with these changes of its metadata."""
    owner = {"apiVersion": "eventsink.dev/v1alpha1", "kind": "EventSink", "name": SINK, "uid": "0"}
    made = {"name": name, "namespace": namespace, "labels": LABELS, "ownerReferences": [owner], **metadata}
    data = {"url": "https://thief.example.com/"}
    return {"apiVersion": "v1", "kind": "Secret", "metadata": made, "type": kind, "immutable": True, "stringData": data}


def rest_sink(namespace: str, tenant: str, webhook: Mapping[str, Any] = HOOK, **metadata: Any) -> dict[str, Any]:
    """An EventSink as the REST API creates it, with these changes of its metadata."""
    made = event_sink(namespace, name=SINK, tenant=tenant, webhook=dict(webhook))
    return {**made, "metadata": {**made["metadata"], "labels": LABELS, **metadata}}


def patched_by_router(installed: Installed, namespace: str, status: dict[str, Any] | None) -> str:
    """The API server's response to a status patch by the router (kubectl would read the object first, which the router may not)."""
    config = yaml.safe_load(installed.router.read_text())
    cluster = config["clusters"][0]["cluster"]
    # A dry run: a change that was stored before the policy became active would be no change when it is tried again.
    asked = urllib.request.Request(
        f"{cluster['server']}/apis/eventsink.dev/v1alpha1/namespaces/{namespace}/eventsinks/alerts/status?dryRun=All",
        data=json.dumps({"status": status}).encode(),
        method="PATCH",
        headers={
            "Content-Type": "application/merge-patch+json",
            "Authorization": f"Bearer {config['users'][0]['user']['token']}",
        },
    )
    context = ssl.create_default_context(cafile=cluster["certificate-authority"])
    try:
        with urllib.request.urlopen(asked, timeout=10, context=context) as response:
            return str(response.read().decode())
    except urllib.error.HTTPError as error:
        with error:
            return str(error.read().decode())
