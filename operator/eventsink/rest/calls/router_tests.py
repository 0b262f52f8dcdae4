"""Test alerts through the router's admin API."""

from __future__ import annotations

import aiohttp
from pydantic import BaseModel, ConfigDict, ValidationError

from eventsink.rest.config import RouterAccess
from eventsink.rest.errors import Conflict, NotFound, ServiceUnavailable, TooManyRequests
from eventsink.rest.models import DeliveryTest
from eventsink.runtime.responses import read_body
from eventsink.runtime.settings import ConfigurationError, read_secret_file

UNKNOWN_TO_ROUTER = "the router does not have this sink: it is not ready, or was created just now"
GRACE_SECONDS = 5.0
"""Beyond the wait for the outcome."""
MAX_RESPONSE = 64 * 1024


class _Response(BaseModel):
    """The router's response."""

    model_config = ConfigDict(extra="ignore", hide_input_in_errors=True)

    id: str
    delivered: bool
    status: str
    reason: str
    message: str
    seconds: float


class RouterTester:
    """Asks the router to send test alerts."""

    def __init__(self, access: RouterAccess, session: aiohttp.ClientSession) -> None:
        self._access = access
        self._session = session

    async def test(self, uid: str, wait: float) -> DeliveryTest:
        """See `facade.Tester`."""
        if self._access.token_file is None:
            raise Conflict("test alerts are not configured; the platform team sets router.tokenFile")
        try:
            token = read_secret_file(self._access.token_file)
        except ConfigurationError:
            raise ServiceUnavailable("the router's token cannot be read; the platform team checks router.tokenFile") from None
        url = f"{self._access.url.rstrip('/')}/v1/sinks/{uid}/test"
        try:
            async with self._session.post(
                url,
                json={"wait": wait},
                headers={"Authorization": f"Bearer {token}"},
                timeout=aiohttp.ClientTimeout(total=wait + GRACE_SECONDS),
                allow_redirects=False,
            ) as response:
                content = await read_body(response, MAX_RESPONSE)
                status = response.status
        except (aiohttp.ClientError, TimeoutError, OSError):
            raise ServiceUnavailable("the router does not respond; try again") from None
        return outcome_of(status, content)


def outcome_of(status: int, content: bytes) -> DeliveryTest:
    """What the router's response means.

    Raises
    ------
    RestError
        The alert was not sent.
    """
    if status == 404:
        raise NotFound(UNKNOWN_TO_ROUTER)
    if status == 409:
        raise Conflict("the sink is suspended or may not send now; its reason says why")
    if status == 429:
        raise TooManyRequests("too many test alerts at once; try again in a moment", retry_after=5)
    try:
        if status == 200:
            found = _Response.model_validate_json(content)
            return DeliveryTest(
                delivered=found.delivered,
                status=found.status if found.status in ("1xx", "2xx", "3xx", "4xx", "5xx") else "",  # type: ignore[arg-type]
                reason=found.reason,
                message=found.message,
                seconds=found.seconds,
                delivery_id=found.id,
            )
    except ValidationError:
        pass
    raise ServiceUnavailable("the router cannot send a test alert now; try again")
