"""The embedded queue, in one SQLite file: `schema`, `store` and `reader` are its statements, `writer` its thread, `queue` its contract."""

from eventsink.router.queue.sqlite.queue import SqliteQueue
from eventsink.router.queue.sqlite.settings import QueueSettings

__all__ = ["QueueSettings", "SqliteQueue"]
