"""Pages of a listing. A token names the last sink of its page, so sinks that come and go meanwhile shift nothing."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Sequence

from eventsink.kube.api import Object
from eventsink.rest.calls.catalog import order
from eventsink.rest.errors import InvalidRequest


def cut(sinks: Sequence[Object], tenant: str, size: int, token: str) -> tuple[list[Object], str]:
    """One page of a tenant's sinks, and the token of the next; empty: this is the last.

    Parameters
    ----------
    sinks
        All of them, oldest first.
    size
        Sinks in a page.
    token
        Of this page; empty: the first.

    Raises
    ------
    InvalidRequest
        The token was not issued for this tenant.
    """
    rest = after(sinks, tenant, token)
    page = rest[:size]
    return page, _token(order(page[-1]), tenant) if len(rest) > size else ""


def after(sinks: Sequence[Object], tenant: str, token: str) -> list[Object]:
    """The sinks from the page of that token on. Parameters and errors as of `cut`."""
    if not token:
        return list(sinks)
    last = _read(token, tenant)
    return [one for one in sinks if order(one) > last]


def _token(last: tuple[str, str], tenant: str) -> str:
    return base64.urlsafe_b64encode(json.dumps([*last, _digest(tenant)]).encode()).decode()


def _read(token: str, tenant: str) -> tuple[str, str]:
    try:
        created, uid, digest = json.loads(base64.urlsafe_b64decode(token.encode()))
        if isinstance(created, str) and isinstance(uid, str) and digest == _digest(tenant):
            return created, uid
    except (ValueError, TypeError, RecursionError):
        pass
    raise InvalidRequest("pagination[page_token]: not a token of this tenant's list; start again without it")


def _digest(tenant: str) -> str:
    return hashlib.sha256(tenant.encode("utf-8", "surrogatepass")).hexdigest()[:8]
