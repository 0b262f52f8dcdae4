"""Settings that the parts of the program have because there are webhook sinks, by their names in a configuration."""

from __future__ import annotations

from eventsink.runtime.settings import Settings


class WebhookPolicy(Settings):
    """Which URLs a webhook may have. Addresses are the router's business (its setting egress)."""

    allow_http: bool = True
    """Whether http:// is allowed beside https://."""
    allowed_hosts: tuple[str, ...] = ()
    """Host names, with * for any characters (*.example.com); none: all."""
    denied_hosts: tuple[str, ...] = ()
    """Host names that are denied, even if allowedHosts has them; with * for any characters."""


ROUTER_SETTINGS: dict[str, type[Settings]] = {}
OPERATOR_SETTINGS: dict[str, type[Settings]] = {"webhooks": WebhookPolicy}
