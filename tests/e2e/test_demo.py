"""The demo runs by itself, in a folder and on a real API server, and fails when one of its checks does."""

from __future__ import annotations

import shlex
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from demo import __main__ as demo

ROOT = Path(__file__).parents[2]
TIMEOUT_SECONDS = 120


@pytest.mark.parametrize("arguments", [[], ["--cluster"]], ids=["folder", "cluster"])
def test_every_check_of_the_demo_passes(arguments: list[str]) -> None:
    command = [sys.executable, "-m", "demo", *arguments]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=TIMEOUT_SECONDS)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "All 14 checks passed" in done.stdout
    for seen in ("KubePodCrashLooping", "set exactly one of slack and webhook", "[ Runbook ]", "✅"):
        assert seen in done.stdout
    assert "xoxb-" not in done.stdout


def test_the_demo_kept_running_shows_what_arrives_until_it_is_interrupted() -> None:
    command = [sys.executable, "-m", "demo", "--keep"]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as running:
        deadline = threading.Timer(TIMEOUT_SECONDS, running.kill)
        deadline.start()
        try:
            assert running.stdout is not None
            shown: list[str] = []
            for line in running.stdout:
                shown.append(line)
                if line.startswith("  curl") and "disk.json" in line and "wrong" not in line:
                    asked = shlex.split(line)
                    subprocess.run([*asked, "-sS", "--fail"], cwd=ROOT, check=True, capture_output=True, timeout=30)
                if "/disks: dev.eventsink.alert.firing.v1 NodeFilesystemSpaceFillingUp of acme" in line:
                    break
            else:
                raise AssertionError("".join(shown))
            running.send_signal(signal.SIGINT)
            assert running.wait(30) == 0
        finally:
            deadline.cancel()
            running.kill()


def test_a_failed_check_makes_the_demo_exit_with_status_1(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(demo.Story, "_verified", lambda *_: False)
    assert demo.main([]) == 1
    shown = capsys.readouterr().out
    assert "1 of 14 checks failed" in shown
    assert "✗ the webhook received 3 CloudEvents, each with a valid signature" in shown
