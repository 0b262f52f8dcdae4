"""Fixed names: of the resource, labels, and field managers."""

from __future__ import annotations

from eventsink.kube.api import Resource

GROUP = "eventsink.dev"
VERSION = "v1alpha1"
API_VERSION = f"{GROUP}/{VERSION}"
KIND = "EventSink"
PLURAL = "eventsinks"
SINGULAR = "eventsink"
SHORT_NAME = "esink"
CATEGORY = "eventsink"
EVENTSINKS = Resource(GROUP, VERSION, PLURAL, KIND, status=True)
TENANT_LABEL = "eventsink.dev/tenant"
PLATFORM_LABEL = "eventsink.dev/platform"
"""On a Namespace: `true` lets EventSinks in it receive the alerts of all tenants."""
ALL_TENANTS = "*"
"""The tenant of an EventSink that receives the alerts of all tenants; no alert's tenant, since no label of a Namespace can have this value."""
MANAGED_BY_LABEL = "app.kubernetes.io/managed-by"
REST_MANAGER = "eventsink-rest"
"""Of EventSinks and Secrets that the REST API created."""
OPERATOR_MANAGER = "eventsink-operator"
"""Field manager of what the operator writes."""
ROUTER_MANAGER = "eventsink-router"
OPERATOR_LABELS = {MANAGED_BY_LABEL: OPERATOR_MANAGER, "app.kubernetes.io/part-of": "eventsink"}
"""Of Secrets that the operator makes."""
