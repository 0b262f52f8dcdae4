"""What is judged of a host that the network's proxy connects to: the host itself, and where its name leads to as seen from here."""

from __future__ import annotations

import asyncio

from eventsink.sinks.egress import EgressGuard, Verdict, is_this_machine
from eventsink.sinks.proxy import Proxy
from eventsink.sinks.resolver import NameNotResolved, Resolver

LOOKUP_SECONDS = 1.0
"""How long the lookup of a name may delay a connection through the proxy: many networks with a proxy resolve no names of the internet."""


async def judge_proxied(guard: EgressGuard, proxy: Proxy, resolver: Resolver, host: str, tenant: str) -> Verdict:
    """Whether the proxy may be asked to connect to a host, on behalf of a tenant.

    A name is looked up here as well, unless the setting says otherwise, and refused if one of its addresses is: the proxy may choose any of
    them. One that is not found here, or not in time, is left to the proxy.
    """
    verdict = guard.judge_unresolved(host)
    if not verdict.allowed or not proxy.judge_names or is_this_machine(host):
        return verdict
    try:
        async with asyncio.timeout(LOOKUP_SECONDS):
            addresses = await resolver.addresses(host, tenant)
    except (NameNotResolved, TimeoutError):
        return verdict
    for address in addresses:
        found = guard.judge(address)
        if not found.allowed:
            return Verdict(False, f"leads to the address {address}, which {found.reason}")
    return verdict
