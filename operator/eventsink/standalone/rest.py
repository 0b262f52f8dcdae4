"""The REST API of `eventsink run`: on the local API, with keys in a file."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path

from eventsink.kube.api import Api
from eventsink.rest.access.key_store import KeyStoreError, records_in
from eventsink.rest.access.keys import KeyRecord, make_key
from eventsink.rest.calls.router_tests import UNKNOWN_TO_ROUTER
from eventsink.rest.config import FacadeSettings
from eventsink.rest.errors import Conflict, NotFound, ServiceUnavailable, TooManyRequests
from eventsink.rest.models import DeliveryTest
from eventsink.rest.process import RestApi, Watches
from eventsink.router.dispatch.sink_tests import RETRY_AFTER_SECONDS, CannotTest, TooManyTests
from eventsink.router.process import Router
from eventsink.router.queue.protocol import QueueError
from eventsink.runtime.changing_file import Stamp, stamp_of
from eventsink.runtime.files import write_private
from eventsink.runtime.logs import Repeated, get_logger
from eventsink.runtime.process import ExitStatus, Process, Stop
from eventsink.runtime.settings import ConfigurationError

KEYS = "rest-keys.json"
"""In the data folder: the records of the keys, which `eventsink keys --file` changes."""
FIRST_KEY = "rest-key"
"""In the data folder: the key that the first start makes."""


async def start_rest(
    settings: FacadeSettings,
    keys: Path,
    api: Api,
    router: Router,
    process: Process,
    *,
    unavailable: Callable[[], str | None],
) -> None:
    """Have the process serve the REST API.

    Parameters
    ----------
    keys
        The file with the records of the keys.
    unavailable
        Why no request can be served at present; None: all is well.

    Raises
    ------
    Stop
        It cannot start.
    """
    watches = Watches()
    try:
        rest = RestApi(
            settings,
            api,
            process,
            records=FileKeys(keys).records,
            watches=watches,
            unavailable=lambda _tenants: unavailable(),
            tester=RouterInProcess(router),
            prefix="rest.",
        )
    except ConfigurationError as error:
        raise Stop(ExitStatus.USAGE, f"rest.{error}") from None
    process.on_stop(rest.server.stop)
    for one in watches:
        process.start("watch", one.run())
    await rest.start()
    get_logger().info("sinks are managed by REST", path="/v1/event_sink", docs="/docs", keys=str(keys))


class FileKeys:
    """The records in a file, as they are at each call."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self._stamp: Stamp | None = None
        self._records: Mapping[str, KeyRecord] = {}
        self._trouble = Repeated(60.0)

    def records(self) -> Mapping[str, KeyRecord]:
        """By id; none while the file cannot be read: every key is rejected."""
        try:
            stamp = stamp_of(self._file)
        except OSError:
            self._stamp, self._records = None, {}
            return self._records
        if stamp != self._stamp:
            self._stamp = stamp
            try:
                self._records = records_in(self._file)
            except KeyStoreError as error:
                self._stamp, self._records = None, {}  # read again the next time
                if self._trouble.due() is not None:
                    get_logger().error("API keys cannot be read: every key is rejected", reason=str(error))
        return self._records


class RouterInProcess:
    """Test alerts through the router of this process; see `rest.facade.Tester`."""

    def __init__(self, router: Router) -> None:
        self._router = router

    async def test(self, uid: str, wait: float) -> DeliveryTest:
        """Send one and wait for its outcome."""
        sink = self._router.directory.sinks.get(uid)
        if sink is None:
            raise NotFound(UNKNOWN_TO_ROUTER)
        try:
            result = await self._router.tests.test(sink, wait)
        except CannotTest as error:
            raise Conflict(str(error)) from None
        except TooManyTests as error:
            raise TooManyRequests(str(error), retry_after=RETRY_AFTER_SECONDS) from None
        except QueueError as error:
            raise ServiceUnavailable(str(error)) from None
        return DeliveryTest(
            delivered=result.delivered,
            status=result.status,  # type: ignore[arg-type]
            reason=result.reason,
            message=result.message,
            seconds=result.seconds,
            delivery_id=result.id,
        )


def make_first_key(data: Path) -> None:
    """Make a key for all tenants, unless there were ever any keys.

    Raises
    ------
    OSError
        The folder cannot be written.
    """
    if (data / KEYS).exists():
        return
    key, record = make_key("first start", None, datetime.now(UTC))
    # The key first: a record whose key nobody has would be of no use, and would not be made again.
    write_private(data / FIRST_KEY, f"{key}\n")
    write_private(data / KEYS, json.dumps({record.id: json.loads(record.model_dump_json())}, indent=1))
