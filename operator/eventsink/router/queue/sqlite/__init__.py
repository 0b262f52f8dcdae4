"""The embedded queue, in one SQLite file: `schema`, `store` and `reader` are its statements, `writer` its thread, `queue` its contract."""

from eventsink.router.queue.sqlite.queue import QueueSettings, SqliteQueue

__all__ = ["QueueSettings", "SqliteQueue"]
