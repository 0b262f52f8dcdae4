"""A running process is known by its log, and a failure shows that log."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from tests.support.processes import ProcessEnded, RunningProcess, open_processes

LISTENS = (
    'import json, sys, time; print(json.dumps({"event": "listening", "part": "monitor", "port": 4711})); sys.stdout.flush(); '
)


def python(code: str, folder: Path) -> RunningProcess:
    return RunningProcess([sys.executable, "-c", code], log=folder / "process.log", name="sample")


def test_a_port_is_read_from_the_log_and_sigterm_ends_the_process(tmp_path: Path) -> None:
    with python(LISTENS + "time.sleep(600)", tmp_path) as process:
        assert process.port_of("monitor") == 4711
        assert process in open_processes
        assert process.terminate() == -15
    assert process not in open_processes


def test_waiting_for_a_process_that_ends_fails_at_once_with_its_log(tmp_path: Path) -> None:
    with python("raise SystemExit('no such setting')", tmp_path) as process:
        with pytest.raises(ProcessEnded, match="no such setting"):
            process.port_of("monitor")
        assert process.exit_code == 1


def test_a_process_is_killed_on_close_and_a_failure_shows_its_log(tmp_path: Path) -> None:
    started: list[RunningProcess] = []

    def fail_beside_it() -> None:
        with python(LISTENS + "time.sleep(600)", tmp_path) as process:
            started.append(process)
            process.port_of("monitor")
            raise AssertionError

    with pytest.raises(AssertionError) as failure:
        fail_beside_it()
    assert started[0].exit_code == -9
    assert "4711" in failure.value.__notes__[0]


def test_a_process_that_continues_a_log_sees_only_its_own_lines(tmp_path: Path) -> None:
    for number in (1, 2):
        with python(f'print(\'{{"number": {number}}}\'); print("not JSON")', tmp_path) as process:
            assert process.wait() == 0
            assert process.lines() == [{"number": number}]


def test_waiting_for_the_end_of_a_process_that_goes_on_times_out(tmp_path: Path) -> None:
    with python("import time; time.sleep(600)", tmp_path) as process, pytest.raises(TimeoutError, match="sample still runs"):
        process.wait(deadline=0.1)
