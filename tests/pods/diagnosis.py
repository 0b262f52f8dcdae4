"""What a person would look at first when a test on pods fails."""

from __future__ import annotations

from tests.support.cluster import SINKS_NAMESPACE, SYSTEM_NAMESPACE
from tests.support.kubectl import Kubectl

LOG_LINES = 60
COMMAND_SECONDS = 30.0
ALL = "--all-namespaces"


def diagnosis(kubectl: Kubectl) -> list[tuple[str, str]]:
    """Sections for the report of a failed test: pods, sinks, Events, and the logs of the system's pods, also of their previous containers."""
    looks: list[tuple[str, ...]] = [
        ("get", "nodes,pods,statefulsets,deployments,persistentvolumeclaims", ALL, "-o", "wide"),
        ("get", "eventsinks", ALL, "-o", "wide"),
        ("get", "events", ALL, "--sort-by=.lastTimestamp"),
        ("get", "secrets", "-n", SINKS_NAMESPACE),
        ("get", "leases", "-n", SYSTEM_NAMESPACE, "-o", "yaml"),
    ]
    pods = kubectl.run("get", "pods", "-n", SYSTEM_NAMESPACE, "-o", "name", check=False).stdout.split()
    logs = [("logs", "-n", SYSTEM_NAMESPACE, pod, f"--tail={LOG_LINES}") for pod in pods]
    looks += [(*log, *previous) for log in logs for previous in ((), ("--previous",))]
    return [(f"kubectl {' '.join(look)}", _said(kubectl, look)) for look in looks]


def _said(kubectl: Kubectl, arguments: tuple[str, ...]) -> str:
    try:
        done = kubectl.run(*arguments, check=False, timeout=COMMAND_SECONDS)
    except Exception as error:  # a diagnosis never hides the failure that it is about
        return f"{type(error).__name__}: {error}"
    return done.stdout + done.stderr
