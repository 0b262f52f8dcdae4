"""A process logs JSON lines without credentials, serves its health, and ends with the status that says why."""

from __future__ import annotations

import asyncio
import json
import signal
import subprocess
import sys
import textwrap

import aiohttp
import pytest
from prometheus_client import CollectorRegistry, Counter

from eventsink.runtime.listener.metrics import ListenerMetrics
from eventsink.runtime.logs import Repeated
from eventsink.runtime.monitor import Monitor, MonitorSettings
from eventsink.runtime.process import ExitStatus, Process, Stop, listen
from eventsink.runtime.settings import ConfigurationError
from tests.support.ports import free_port

DEADLINE_SECONDS = 60


def start(body: str) -> subprocess.Popen[str]:
    program = "import asyncio, logging\nfrom eventsink.runtime.logs import *\nfrom eventsink.runtime.process import *\n"
    program += "configure_logs(LogSettings())\n" + textwrap.dedent(body) + "\nraise SystemExit(run(main))\n"
    return subprocess.Popen([sys.executable, "-c", program], stderr=subprocess.PIPE, text=True)


def finish(process: subprocess.Popen[str]) -> tuple[int, list[dict[str, object]]]:
    _, written = process.communicate(timeout=DEADLINE_SECONDS)
    return process.returncode, [json.loads(line) for line in written.splitlines()]


def test_on_sigterm_the_process_closes_what_is_open() -> None:
    process = start("async def main(stop):\n    get_logger().info('up')\n    await stop.wait()\n    get_logger().info('closed')")
    assert process.stderr is not None
    process.stderr.readline()
    process.send_signal(signal.SIGTERM)
    status, lines = finish(process)
    assert status == 0
    assert [line["event"] for line in lines] == ["stopping", "closed", "stopped"]


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


def test_the_reason_to_stop_decides_the_exit_status() -> None:
    status, lines = finish(start("async def main(stop):\n    raise Stop(ExitStatus.CRD_ABSENT, 'apply the CRD')"))
    assert status == 3
    assert lines[-1]["reason"] == "apply the CRD"


def test_an_unusable_setting_ends_with_status_2_and_its_message() -> None:
    status, lines = finish(start("async def main(stop):\n    raise ConfigurationError('token: cannot be read')"))
    assert status == 2
    assert lines[-1]["reason"] == "token: cannot be read"


def test_an_unexpected_exception_is_a_failure_with_its_traceback() -> None:
    status, lines = finish(start("async def main(stop):\n    raise KeyError('lost')"))
    assert status == 1
    assert "KeyError" in str(lines[-1]["exception"])


def test_the_process_ends_when_a_task_ends() -> None:
    body = """
        async def short(): pass
        async def main(stop):
            async with Process("example", MonitorSettings(address="127.0.0.1:0"), stop) as process:
                process.start("short", short())
                await process.until_stopped()
    """
    status, lines = finish(start(body))
    assert status == 1
    assert "short" in str(lines[-1]["reason"])


def test_log_lines_of_libraries_are_structured_and_without_credentials() -> None:
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


def test_a_repeated_line_is_written_once_an_interval_with_the_count_of_those_suppressed() -> None:
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
    metrics = ListenerMetrics(registry, "example")
    monitor = Monitor(
        "example", MonitorSettings(address="127.0.0.1:0"), registry, metrics, ready={"sinks": lambda: missing["sinks"]}
    )
    port = await monitor.start()
    try:
        async with aiohttp.ClientSession(f"http://127.0.0.1:{port}") as session:
            async with session.get("/healthz") as response:
                assert response.status == 200
            async with session.get("/readyz") as response:
                assert response.status == 503
                assert await response.json() == {"ok": False, "failing": {"sinks": "not listed yet"}}
            missing["sinks"] = None
            async with session.get("/readyz") as response:
                assert response.status == 200
            async with session.get("/metrics") as response:
                assert "eventsink_example_total 1.0" in await response.text()
    finally:
        await monitor.stop()


class ProcessUnderTest:
    """A process whose parts record their end."""

    def __init__(self) -> None:
        self.stop = asyncio.Event()
        self.address = f"127.0.0.1:{free_port()}"
        self.process = Process("example", MonitorSettings(address=self.address), self.stop)
        self.ended: list[str] = []

    async def work(self, name: str) -> None:
        try:
            await asyncio.Event().wait()
        finally:
            self.ended.append(name)

    async def end(self, name: str, error: Exception | None = None) -> None:
        self.ended.append(name)
        if error is not None:
            raise error


async def test_on_stop_requests_end_first_then_tasks_then_parts_in_reverse_order() -> None:
    under_test = ProcessUnderTest()
    async with under_test.process as process:
        process.on_close(lambda: under_test.end("first part"))
        process.start("task", under_test.work("task"))
        process.on_stop(lambda: under_test.end("under way"))
        process.on_close(lambda: under_test.end("last part"))
        process.start("other task", under_test.work("other task"))
        asyncio.get_running_loop().call_soon(under_test.stop.set)
        await process.until_stopped()
    assert under_test.ended == ["under way", "task", "other task", "last part", "first part"]


async def test_an_error_in_one_part_leaves_no_other_open() -> None:
    under_test = ProcessUnderTest()

    async def run() -> None:
        async with under_test.process as process:
            process.on_close(lambda: under_test.end("first part"))
            process.on_close(lambda: under_test.end("last part", KeyError("last part")))
            process.start("task", under_test.work("task"))
            process.on_stop(lambda: under_test.end("under way", KeyError("under way")))
            under_test.stop.set()
            await process.until_stopped()

    with pytest.raises(KeyError, match="last part"):
        await run()
    assert under_test.ended == ["under way", "task", "last part", "first part"]


async def test_waiting_at_start_ends_when_it_is_done_when_a_task_fails_or_on_stop() -> None:
    under_test = ProcessUnderTest()
    async with under_test.process as process:
        process.start("task", under_test.work("task"))
        await process.until_stopped(asyncio.sleep(0))
        with pytest.raises(KeyError, match="of the step"):
            await process.until_stopped(under_test.end("step", KeyError("of the step")))
        process.start("broken", under_test.end("broken", KeyError("of the task")))
        with pytest.raises(KeyError, match="of the task"):
            await process.until_stopped(under_test.work("step"))
    other = ProcessUnderTest()
    async with other.process as process:
        other.stop.set()
        await process.until_stopped(other.work("step"))


async def test_a_process_is_ready_from_start_to_stop() -> None:
    under_test = ProcessUnderTest()

    async def failing() -> dict[str, str]:
        async with aiohttp.ClientSession() as session, session.get(f"http://{under_test.address}/readyz") as response:
            found: dict[str, str] = (await response.json())["failing"]
            return found

    async def look(seen: list[dict[str, str]]) -> None:
        seen.append(await failing())

    before: list[dict[str, str]] = []
    while_running: list[dict[str, str]] = []
    at_the_end: list[dict[str, str]] = []

    async def run_and_stop() -> None:
        await look(while_running)
        process.readiness["sinks"] = lambda: "not listed yet"
        await look(while_running)
        under_test.stop.set()
        await asyncio.Event().wait()

    async with under_test.process as process:
        await process.until_stopped(look(before))
        process.on_stop(lambda: look(at_the_end))
        process.start("work", run_and_stop())
        await process.until_stopped()
    assert before == [{"process": "starting"}]
    assert while_running == [{}, {"sinks": "not listed yet"}]
    assert at_the_end == [{"process": "stopping", "sinks": "not listed yet"}]


async def test_a_taken_address_ends_with_status_2_and_names_the_setting() -> None:
    under_test = ProcessUnderTest()
    async with under_test.process:
        with pytest.raises(Stop, match=r"monitor\.address: cannot listen there: ") as raised:
            async with Process("other", MonitorSettings(address=under_test.address), asyncio.Event()):
                raise AssertionError
    assert raised.value.status is ExitStatus.USAGE


async def test_an_unusable_certificate_is_not_reported_as_a_taken_address() -> None:
    async def start() -> None:
        raise ConfigurationError("the certificate cannot be used")

    with pytest.raises(ConfigurationError, match="certificate"):
        await listen("intake.address", start())
