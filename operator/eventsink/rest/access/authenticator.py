"""Finds out who calls: by API key, or by a token of a ServiceAccount. Limits guessing."""

from __future__ import annotations

import time
from collections import Counter, OrderedDict
from collections.abc import Callable, Mapping
from datetime import UTC, datetime

from eventsink.rest.access.callers import Caller, KeyCaller
from eventsink.rest.access.keys import PREFIX, KeyRecord, find
from eventsink.rest.access.reviews import KubernetesReviews
from eventsink.rest.config import FailureSettings
from eventsink.rest.errors import TooManyRequests, Unauthorized

MAX_ADDRESSES = 10_000
"""Addresses whose failures are counted."""
MAX_AUTHENTICATED = 10_000
AUTHENTICATED_SECONDS = 3600.0
"""How long a caller that was authenticated is served although others fail from the same address."""
MAX_REVIEWS_UNDER_WAY = 16
MAX_REVIEWS_OF_AN_ADDRESS = 4
"""Tokens that the API server is asked about at once, for callers that are not known yet."""
MAX_TOKEN = 8192


class Failures:
    """Counts invalid keys by address: a bucket that fills with failures and empties with time."""

    def __init__(self, settings: FailureSettings, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._settings = settings
        self._clock = clock
        self._levels: OrderedDict[str, tuple[float, float]] = OrderedDict()
        """Address -> failures that count, and when that was."""
        self._authenticated: OrderedDict[tuple[str, str], float] = OrderedDict()
        """Address and caller -> until when."""

    def wait(self, address: str) -> float:
        """Seconds until another failure from there is allowed; 0: now."""
        return max(0.0, (self._level(address) + 1 - self._settings.allowed) * self._settings.every)

    def failed(self, address: str) -> None:
        """Count an invalid key from there."""
        self._levels[address] = (min(self._level(address) + 1, self._settings.allowed), self._clock())
        self._levels.move_to_end(address)
        while len(self._levels) > MAX_ADDRESSES:
            self._levels.popitem(last=False)

    def succeeded(self, address: str, caller: str) -> None:
        """Note that this caller had a valid key from there."""
        self._authenticated[(address, caller)] = self._clock() + AUTHENTICATED_SECONDS
        self._authenticated.move_to_end((address, caller))
        while len(self._authenticated) > MAX_AUTHENTICATED:
            self._authenticated.popitem(last=False)

    def knows(self, address: str, caller: str) -> bool:
        """Whether this caller was authenticated from there recently."""
        return self._authenticated.get((address, caller), 0.0) > self._clock()

    def _level(self, address: str) -> float:
        level, since = self._levels.get(address, (0.0, 0.0))
        return max(0.0, level - (self._clock() - since) / self._settings.every)


class Authenticator:
    """Authenticates callers.

    Parameters
    ----------
    records
        Returns the current records of API keys.
    reviews
        None: only API keys are accepted.
    """

    def __init__(
        self,
        settings: FailureSettings,
        records: Callable[[], Mapping[str, KeyRecord]],
        reviews: KubernetesReviews | None = None,
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._failures = Failures(settings, clock=clock)
        self._records = records
        self._reviews = reviews
        self._under_review: Counter[str] = Counter()

    async def authenticate(self, header: str, address: str) -> Caller:
        """The caller of a request.

        Parameters
        ----------
        header
            Its Authorization.
        address
            Where it comes from.

        Raises
        ------
        Unauthorized
            The key is missing or invalid.
        TooManyRequests
            Too many invalid ones came from there: a valid one is accepted only of a caller that was authenticated from there before.
        ServiceUnavailable
            Whether the token is valid cannot be checked.
        """
        scheme, _, token = header.partition(" ")
        token = token.strip()
        wait = self._failures.wait(address)
        caller: Caller | None = None
        if scheme.lower() == "bearer" and token and len(token) <= MAX_TOKEN:
            record = find(self._records(), token, datetime.now(UTC))
            if record is not None:
                caller = KeyCaller(record)
            elif self._reviews is not None and not token.startswith(PREFIX) and not wait:
                caller = await self._review(self._reviews, token, address)
        if caller is not None and (not wait or self._failures.knows(address, caller.name)):
            self._failures.succeeded(address, caller.name)
            return caller
        if wait:
            raise TooManyRequests("too many invalid keys from this address; try again later", retry_after=wait)
        if header:
            self._failures.failed(address)
        raise Unauthorized

    async def _review(self, reviews: KubernetesReviews, token: str, address: str) -> Caller | None:
        under_way = self._under_review
        if under_way[address] >= MAX_REVIEWS_OF_AN_ADDRESS or under_way.total() >= MAX_REVIEWS_UNDER_WAY:
            raise TooManyRequests("too many tokens are being checked; try again in a moment")
        under_way[address] += 1
        try:
            return await reviews.caller(token)
        finally:
            under_way[address] -= 1
            if not under_way[address]:
                del under_way[address]
