"""`python -m tests.controlplane build` builds the programs of the tests, `... senders` what only `make senders` needs; `... up` runs a control
plane until it is interrupted."""

from __future__ import annotations

import signal
import sys
from pathlib import Path

from tests.controlplane.alertmanager import find_or_build_alertmanager
from tests.controlplane.binaries import find_or_build
from tests.controlplane.cluster import ControlPlane
from tests.controlplane.gitops import find_or_build_gitops
from tests.controlplane.go import MissingProgram, find_or_build_program, say
from tests.controlplane.helm import find_or_build_helm
from tests.controlplane.senders import THANOS, TRIVY_OPERATOR, VMALERT


def main(arguments: list[str]) -> int:
    """Run one of the commands; exit status 0, 1 (failed) or 2 (usage)."""
    if arguments[:1] in (["build"], ["senders"]):
        try:
            _build() if arguments[:1] == ["build"] else _build_senders()
        except MissingProgram as error:
            say(str(error))
            return 1
        return 0
    if arguments[:1] == ["up"] and len(arguments) <= 2:
        folder = Path(arguments[1]).absolute() if len(arguments) == 2 else None
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
        with ControlPlane(folder) as control_plane:
            say(f"up; in another terminal: export KUBECONFIG={control_plane.admin_kubeconfig}")
            say("Ctrl-C ends it")
            try:
                signal.pause()
            except KeyboardInterrupt:
                pass
        return 0
    say("usage: python -m tests.controlplane build | senders | up [FOLDER]")
    return 2


def _build() -> None:
    find_or_build()
    find_or_build_alertmanager()
    find_or_build_helm()
    find_or_build_gitops()
    find_or_build_program(VMALERT)


def _build_senders() -> None:
    for program in (THANOS, TRIVY_OPERATOR):
        find_or_build_program(program)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
