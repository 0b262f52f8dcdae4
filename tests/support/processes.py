"""Programs as processes of their own: started, watched through their log, stopped as a platform would stop them."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from tests.controlplane.cluster import die_with_parent
from tests.support.waiting import DEADLINE_SECONDS, wait_until

TAIL_CHARACTERS = 6000
"""Of a log, shown when a test fails."""
HTTP_TIMEOUT_SECONDS = 5.0

open_processes: list[RunningProcess] = []
"""Those not closed yet: their logs are shown by the test that fails (tests/conftest.py)."""


class ProcessEnded(AssertionError):
    """The process ended while something was awaited of it; the text holds its status and the tail of its log."""


class RunningProcess:
    """One process and its log, which is its standard error and standard output.

    Use as a context manager or call `close`; either kills what still runs. The process also ends when the tests are killed.

    Parameters
    ----------
    command
        Program and arguments.
    log
        File to append to; made if it is absent. A second process with the same file continues it, but sees its own lines only.
    environment
        Added to this process' own environment.
    """

    def __init__(
        self, command: Sequence[str | Path], *, log: Path, name: str | None = None, environment: Mapping[str, str] | None = None
    ) -> None:
        self.name = name or Path(command[0]).name
        self.log = log
        self._start_of_log = log.stat().st_size if log.exists() else 0
        with log.open("ab") as file:
            self._process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=file,
                start_new_session=True,
                env={**os.environ, **(environment or {})},
                preexec_fn=die_with_parent,
            )
        open_processes.append(self)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None) -> None:
        if error is not None:
            error.add_note(self.tail())
        self.close()

    @property
    def pid(self) -> int:
        """Of the operating system."""
        return self._process.pid

    @property
    def exit_code(self) -> int | None:
        """None while it runs; -N where signal N ended it."""
        return self._process.poll()

    def lines(self) -> list[dict[str, Any]]:
        """The log's finished lines that are JSON objects."""
        parsed: list[dict[str, Any]] = []
        for line in self.text().split("\n")[:-1]:
            try:
                value = json.loads(line)
            except ValueError:
                continue
            if isinstance(value, dict):
                parsed.append(value)
        return parsed

    def text(self) -> str:
        """Everything that this process logged so far; nothing where the log is gone with its folder."""
        if not self.log.exists():
            return ""
        with self.log.open("rb") as file:
            file.seek(self._start_of_log)
            return file.read().decode(errors="replace")

    def tail(self) -> str:
        """The end of the log, with a heading."""
        state = "running" if self.exit_code is None else f"ended with {self.exit_code}"
        return f"--- log of {self.name} ({state}, {self.log}):\n{self.text()[-TAIL_CHARACTERS:]}"

    def wait_logged(
        self, what: str, matches: Callable[[dict[str, Any]], object], *, deadline: float = DEADLINE_SECONDS
    ) -> dict[str, Any]:
        """The first JSON line of the log that `matches`; waits for it.

        Raises
        ------
        ProcessEnded
            It ended without such a line.
        TimeoutError
            No such line within `deadline` seconds.
        """

        def probe() -> dict[str, Any] | None:
            ended = self.exit_code is not None  # looked at before the log, which is complete then
            found = next((line for line in self.lines() if matches(line)), None)
            if found is None and ended:
                raise ProcessEnded(f"{self.name} ended before it logged {what}\n{self.tail()}")
            return found

        found = wait_until(f"log line of {self.name}: {what}", probe, deadline=deadline, show=self.tail)
        assert found is not None
        return found

    def port_of(self, part: str, *, deadline: float = DEADLINE_SECONDS) -> int:
        """The port that a part (`monitor`, `intake`, `admin`) listens on, from its log line."""
        line = self.wait_logged(
            f"listening, part {part}",
            lambda line: line.get("event") == "listening" and line.get("part") == part,
            deadline=deadline,
        )
        return int(line["port"])

    def metrics(self) -> str:
        """What Prometheus would read."""
        url = f"http://127.0.0.1:{self.port_of('monitor')}/metrics"
        with urllib.request.urlopen(url, timeout=HTTP_TIMEOUT_SECONDS) as response:
            return str(response.read().decode())

    def readiness(self) -> tuple[int, str]:
        """Status and body of `/readyz` on the monitor's port."""
        url = f"http://127.0.0.1:{self.port_of('monitor')}/readyz"
        try:
            with urllib.request.urlopen(url, timeout=HTTP_TIMEOUT_SECONDS) as response:
                return response.status, response.read().decode()
        except urllib.error.HTTPError as error:
            with error:
                return error.code, error.read().decode()

    def wait_ready(self, url: str | None = None, *, deadline: float = DEADLINE_SECONDS) -> None:
        """Wait until `url` (absent: `/readyz` of the monitor's port) returns 200."""
        target = url or f"http://127.0.0.1:{self.port_of('monitor', deadline=deadline)}/readyz"
        last = "nothing listens there"

        def probe() -> bool:
            nonlocal last
            if self.exit_code is not None:
                raise ProcessEnded(f"{self.name} ended before it was ready\n{self.tail()}")
            try:
                with urllib.request.urlopen(target, timeout=HTTP_TIMEOUT_SECONDS) as response:
                    return bool(response.status == 200)
            except urllib.error.HTTPError as error:
                with error:
                    last = f"{error.code}: {error.read(2000).decode(errors='replace')}"
                return False

        wait_until(f"readiness of {self.name}", probe, deadline=deadline, show=lambda: f"{last}\n{self.tail()}")

    def wait(self, *, deadline: float = DEADLINE_SECONDS) -> int:
        """Wait until the process ends; returns the exit status.

        Raises
        ------
        TimeoutError
            It still runs after `deadline` seconds.
        """
        try:
            return self._process.wait(deadline)
        except subprocess.TimeoutExpired:
            raise TimeoutError(f"{self.name} still runs after {deadline:g} s\n{self.tail()}") from None

    def terminate(self, *, deadline: float = DEADLINE_SECONDS) -> int:
        """SIGTERM, then wait for the end; returns the exit status."""
        self._process.terminate()
        return self.wait(deadline=deadline)

    def send_signal(self, number: signal.Signals) -> None:
        """Send a signal and wait for nothing."""
        self._process.send_signal(number)

    def kill9(self) -> None:
        """SIGKILL: what a crash and an OOM kill look like."""
        self._process.kill()
        self._process.wait()

    def pause(self) -> None:
        """SIGSTOP: the process is paused, its connections stay open, until `resume`."""
        self._process.send_signal(signal.SIGSTOP)

    def resume(self) -> None:
        """SIGCONT."""
        self._process.send_signal(signal.SIGCONT)

    def close(self) -> None:
        """Kill it if it still runs."""
        if self.exit_code is None:
            self.kill9()
        if self in open_processes:
            open_processes.remove(self)


def eventsink(
    *arguments: str | Path,
    folder: Path,
    name: str | None = None,
    environment: Mapping[str, str] | None = None,
    module: str = "eventsink",
) -> RunningProcess:
    """Start `eventsink ARGUMENTS`; the log goes to `<name>.log` in `folder`, where name is that of the subcommand if absent.

    `module` runs instead of the package where a test has a launcher of its own.
    """
    called = name or str(arguments[0])
    command = [sys.executable, "-m", module, *arguments]
    return RunningProcess(command, log=folder / f"{called}.log", name=called, environment=environment)
