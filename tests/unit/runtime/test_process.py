"""A process logs JSON lines without credentials, serves its health, and ends with the status that says why."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import textwrap

import aiohttp
import pytest
from prometheus_client import CollectorRegistry, Counter

from eventsink.runtime.logs import Repeated
from eventsink.runtime.monitor import Monitor, MonitorSettings

DEADLINE_SECONDS = 60


def start(body: str) -> subprocess.Popen[str]:
    program = "import asyncio, logging\nfrom eventsink.runtime.logs import *\nfrom eventsink.runtime.process import *\n"
    program += "configure_logs(LogSettings())\n" + textwrap.dedent(body) + "\nraise SystemExit(run(main))\n"
    return subprocess.Popen([sys.executable, "-c", program], stderr=subprocess.PIPE, text=True)


def finish(process: subprocess.Popen[str]) -> tuple[int, list[dict[str, object]]]:
    _, written = process.communicate(timeout=DEADLINE_SECONDS)
    return process.returncode, [json.loads(line) for line in written.splitlines()]


def test_sigterm_lets_the_process_put_things_away() -> None:
    process = start(
        "async def main(stop):\n    get_logger().info('up')\n    await stop.wait()\n    get_logger().info('put away')"
    )
    assert process.stderr is not None
    process.stderr.readline()
    process.send_signal(signal.SIGTERM)
    status, lines = finish(process)
    assert status == 0
    assert [line["event"] for line in lines] == ["stopping", "put away", "stopped"]


def test_a_second_signal_ends_it_at_once() -> None:
    process = start(
        "async def main(stop):\n    get_logger().info('up')\n    await stop.wait()\n"
        "    get_logger().info('hanging')\n    await asyncio.sleep(1000)"
    )
    assert process.stderr is not None
    process.stderr.readline()
    process.send_signal(signal.SIGTERM)
    while "hanging" not in process.stderr.readline():
        pass
    process.send_signal(signal.SIGTERM)
    assert finish(process)[0] == 1


def test_a_reason_to_stop_is_the_exit_status() -> None:
    status, lines = finish(start("async def main(stop):\n    raise Stop(ExitStatus.CRD_ABSENT, 'apply the CRD')"))
    assert status == 3
    assert lines[-1]["reason"] == "apply the CRD"


def test_an_unexpected_exception_is_a_failure_with_its_traceback() -> None:
    status, lines = finish(start("async def main(stop):\n    raise KeyError('lost')"))
    assert status == 1
    assert "KeyError" in str(lines[-1]["exception"])


def test_a_task_that_ends_takes_the_process_with_it() -> None:
    body = """
        async def short(): pass
        async def main(stop): await stop_or_failure(stop, asyncio.create_task(short(), name='short'))
    """
    status, lines = finish(start(body))
    assert status == 1
    assert "short" in str(lines[-1]["reason"])


def test_what_libraries_log_is_structured_and_credentials_are_blanked_out() -> None:
    status, lines = finish(
        start(
            """
            async def main(stop):
                logging.getLogger("library").warning("sent Authorization: Bearer canary-1234 to %s", "https://user:canary@host/x")
                get_logger().info("signed", secret="whsec_canary", token="xoxb-canary-1")
                try:
                    raise RuntimeError("Bearer canary-5678")
                except RuntimeError:
                    get_logger().exception("broken")
            """
        )
    )
    assert status == 0
    assert lines[0]["logger"] == "library"
    assert "canary" not in json.dumps(lines)
    assert "Traceback" in str(lines[2]["exception"])


def test_a_repeated_line_passes_once_an_interval_and_tells_what_was_kept_back() -> None:
    now = 100.0
    repeated = Repeated(60, clock=lambda: now)
    assert repeated.due() == 0
    assert [repeated.due(), repeated.due()] == [None, None]
    now += 61
    assert repeated.due() == 2


@pytest.fixture
def missing() -> dict[str, str | None]:
    return {"sinks": "not listed yet"}


async def test_readiness_names_what_is_missing_and_metrics_are_served(missing: dict[str, str | None]) -> None:
    registry = CollectorRegistry()
    Counter("eventsink_example", "An example.", registry=registry).inc()
    monitor = Monitor("example", MonitorSettings(address="127.0.0.1:0"), registry, ready={"sinks": lambda: missing["sinks"]})
    port = await monitor.start()
    try:
        async with aiohttp.ClientSession(f"http://127.0.0.1:{port}") as session:
            async with session.get("/healthz") as answer:
                assert answer.status == 200
            async with session.get("/readyz") as answer:
                assert answer.status == 503
                assert await answer.json() == {"ok": False, "failing": {"sinks": "not listed yet"}}
            missing["sinks"] = None
            async with session.get("/readyz") as answer:
                assert answer.status == 200
            async with session.get("/metrics") as answer:
                assert "eventsink_example_total 1.0" in await answer.text()
    finally:
        await monitor.stop()
