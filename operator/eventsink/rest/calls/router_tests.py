"""Test alerts through the router's admin API."""

from __future__ import annotations

import aiohttp
from pydantic import BaseModel, ConfigDict, ValidationError

from eventsink.rest.config import RouterAccess
from eventsink.rest.errors import Away, Conflicting, TooMany, Unknown
from eventsink.rest.models import DeliveryTest
from eventsink.runtime.settings import ConfigurationError, read_secret_file

GRACE_SECONDS = 5.0
"""Beyond the wait for the outcome."""
MAX_ANSWER = 64 * 1024


class _Outcome(BaseModel):
    """What the router answers."""

    model_config = ConfigDict(extra="ignore", hide_input_in_errors=True)

    id: str
    delivered: bool
    status: str
    reason: str
    message: str
    seconds: float


class RouterTester:
    """Asks the router to send a test alert."""

    def __init__(self, access: RouterAccess, session: aiohttp.ClientSession) -> None:
        self._access = access
        self._session = session

    async def test(self, uid: str, wait: float) -> DeliveryTest:
        """See `facade.Tester`."""
        if self._access.token_file is None:
            raise Conflicting("test alerts are not set up here; the platform team sets router.tokenFile")
        try:
            token = read_secret_file(self._access.token_file)
        except ConfigurationError:
            raise Away("the router's token cannot be read; the platform team looks at router.tokenFile") from None
        url = f"{self._access.url.rstrip('/')}/v1/sinks/{uid}/test"
        try:
            async with self._session.post(
                url,
                json={"wait": wait},
                headers={"Authorization": f"Bearer {token}"},
                timeout=aiohttp.ClientTimeout(total=wait + GRACE_SECONDS),
                allow_redirects=False,
            ) as answer:
                content = await answer.content.read(MAX_ANSWER)
                status = answer.status
        except (aiohttp.ClientError, TimeoutError, OSError):
            raise Away("the router does not answer; try again") from None
        return outcome_of(status, content)


def outcome_of(status: int, content: bytes) -> DeliveryTest:
    """What the router's answer says.

    Raises
    ------
    Refused
        It did not send the alert.
    """
    if status == 404:
        raise Unknown("the router does not have this sink: it is not ready, or was made just now")
    if status == 409:
        raise Conflicting("the sink is suspended or may not send at present; its reason says why")
    if status == 429:
        raise TooMany("too many test alerts are under way; try again in a moment", retry_after=5)
    try:
        if status == 200:
            told = _Outcome.model_validate_json(content)
            return DeliveryTest(
                delivered=told.delivered,
                status=told.status if told.status in ("1xx", "2xx", "3xx", "4xx", "5xx") else "",  # type: ignore[arg-type]
                reason=told.reason,
                message=told.message,
                seconds=told.seconds,
                delivery_id=told.id,
            )
    except ValidationError:
        pass
    raise Away("the router cannot send a test alert at present; try again")
