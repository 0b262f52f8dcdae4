"""Commands as people type them, from pages and notes."""

from __future__ import annotations

import re
import subprocess
import textwrap
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from tests.controlplane.binaries import kubectl as find_kubectl
from tests.pods.installation import Installation
from tests.support.cluster import ROOT

COMMAND_SECONDS = 240
BLOCK = re.compile(r"^ *<!-- pods: (\w+) -->\n *```sh\n(.*?) *```", re.DOTALL | re.MULTILINE)
FORWARDING = "Forwarding from 127.0.0.1:"


def assert_works(commands: str, environment: Mapping[str, str], folder: Path) -> str:
    """Run commands in bash, which ends at the first that fails; returns what they wrote."""
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", commands],
        cwd=folder,
        env=dict(environment),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=COMMAND_SECONDS,
    )
    assert done.returncode == 0, f"{commands}\n---\n{done.stdout}"
    return done.stdout


def documented(page: str, *names: str) -> str:
    """The commands of a page in `docs/` that are marked `<!-- pods: NAME -->`; those of each name in order."""
    blocks = BLOCK.findall((ROOT / "docs" / page).read_text())
    found = [(name, textwrap.dedent(commands)) for name in names for marked, commands in blocks if marked == name]
    assert {name for name, _ in found} == {*names}, f"docs/{page} has no commands that are marked like that: {names}"
    return "\n".join(commands for _, commands in found)


@contextmanager
def port_forward(installation: Installation, target: str, port: int) -> Iterator[int]:
    """A free port of this machine that leads to a port of a Service while the block runs."""
    command = [str(find_kubectl()), f"--kubeconfig={installation.kubectl.kubeconfig}", "-n", installation.namespace]
    with subprocess.Popen([*command, "port-forward", target, f":{port}"], stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            line = process.stdout.readline()
            assert line.startswith(FORWARDING), line
            yield int(line.removeprefix(FORWARDING).split()[0])
        finally:
            process.kill()
