"""kubectl as people use it: the real program, with one kubeconfig."""

from __future__ import annotations

import json
import os
import subprocess
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import yaml

from tests.controlplane.binaries import kubectl as find_kubectl
from tests.support.waiting import DEADLINE_SECONDS, wait_until

Manifest = str | Path | Mapping[str, Any] | Iterable[Mapping[str, Any]]
"""YAML text, a file or folder, one object, or several."""

RUN_TIMEOUT_SECONDS = 120
POLL_SECONDS = 0.2
"""Between two looks of a wait: each is a process, and the machine has other things to do."""
TENANT_LABEL = "eventsink.dev/tenant"


class KubectlFailed(AssertionError):
    """kubectl ended with another status than expected; the text holds the command and what it wrote."""


class Kubectl:
    """Runs kubectl with one kubeconfig, and so with the permissions of one user.

    Parameters
    ----------
    kubeconfig
        Its folder also holds kubectl's discovery cache, so that two clusters never share one.
    """

    def __init__(self, kubeconfig: Path) -> None:
        self.kubeconfig = kubeconfig
        self._program = find_kubectl()
        self._cache = kubeconfig.parent / "kubectl-cache"

    def run(
        self, *arguments: str, input: str | None = None, check: bool = True, timeout: float = RUN_TIMEOUT_SECONDS
    ) -> subprocess.CompletedProcess[str]:
        """Run one command, with `input` on its standard input.

        Raises
        ------
        KubectlFailed
            Its status is not 0 and `check` is set.
        """
        result = subprocess.run(
            [self._program, f"--kubeconfig={self.kubeconfig}", f"--cache-dir={self._cache}", *arguments],
            input=input,
            capture_output=True,
            text=True,
            timeout=timeout,
            env={"PATH": os.environ["PATH"], "HOME": str(self.kubeconfig.parent)},
        )
        if check and result.returncode:
            raise KubectlFailed(f"kubectl {' '.join(arguments)}: status {result.returncode}\n{result.stdout}{result.stderr}")
        return result

    def apply(
        self, manifest: Manifest, *, namespace: str | None = None, server_side: bool = False, expect_failure: bool = False
    ) -> str:
        """`kubectl apply -f`.

        Returns
        -------
        str
            What a person sees: standard output, or standard error where a failure is expected.

        Raises
        ------
        KubectlFailed
            It failed, or did not although it should.
        """
        arguments = ["apply", *_namespace(namespace)]
        if server_side:
            arguments += ["--server-side", "--force-conflicts"]
        if isinstance(manifest, Path):
            result = self.run(*arguments, "-f", str(manifest), check=False)
        else:
            result = self.run(*arguments, "-f", "-", input=_text(manifest), check=False)
        if bool(result.returncode) is not expect_failure:
            expected = "a failure" if expect_failure else "success"
            raise KubectlFailed(f"kubectl apply: expected {expected}, got\n{result.stdout}{result.stderr}")
        return result.stderr if expect_failure else result.stdout

    def get(self, kind: str, name: str, *, namespace: str | None = None) -> dict[str, Any]:
        """One object; an absent one is a KubectlFailed."""
        return _object(self.run("get", kind, name, *_namespace(namespace), "-o", "json").stdout)

    def find(self, kind: str, name: str, *, namespace: str | None = None) -> dict[str, Any] | None:
        """One object, or None where there is none of that name."""
        found = self.run("get", kind, name, *_namespace(namespace), "-o", "json", "--ignore-not-found").stdout
        return _object(found) if found.strip() else None

    def list(self, kind: str, *, namespace: str | None = None, selector: str | None = None) -> list[dict[str, Any]]:
        """All objects of a kind in a namespace (absent: the cluster), in the order of their names."""
        where = _namespace(namespace) or ["--all-namespaces"]
        chosen = [f"--selector={selector}"] if selector else []
        found: list[dict[str, Any]] = _object(self.run("get", kind, *where, *chosen, "-o", "json").stdout)["items"]
        return found

    def delete(self, kind: str, name: str, *, namespace: str | None = None, wait: bool = True) -> None:
        """Delete one object; that it is absent already is no failure."""
        self.run("delete", kind, name, *_namespace(namespace), "--ignore-not-found", f"--wait={str(wait).lower()}")

    def wait_until(
        self,
        kind: str,
        name: str,
        condition: Callable[[dict[str, Any]], object],
        *,
        namespace: str | None = None,
        deadline: float = DEADLINE_SECONDS,
    ) -> dict[str, Any]:
        """Poll one object until `condition` holds of it; an absent object is `{}`.

        Returns
        -------
        dict
            The object as it then was.

        Raises
        ------
        TimeoutError
            After `deadline` seconds, with the object's last state.
        """
        seen: dict[str, Any] = {}

        def probe() -> bool:
            nonlocal seen
            seen = self.find(kind, name, namespace=namespace) or {}
            return bool(condition(seen))

        where = f" in {namespace}" if namespace else ""
        wait_until(
            f"awaited state of {kind} {name}{where}", probe, deadline=deadline, poll=POLL_SECONDS, show=lambda: _shown(seen)
        )
        return seen

    def wait_gone(self, kind: str, name: str, *, namespace: str | None = None, deadline: float = DEADLINE_SECONDS) -> None:
        """Poll until there is no such object."""
        self.wait_until(kind, name, lambda found: not found, namespace=namespace, deadline=deadline)

    def wait_condition(
        self,
        kind: str,
        name: str,
        type: str,
        status: str,
        *,
        reason: str | None = None,
        namespace: str | None = None,
        deadline: float = DEADLINE_SECONDS,
    ) -> dict[str, Any]:
        """Poll until the object's current generation has the condition; returns that condition."""

        def holds(found: dict[str, Any]) -> bool:
            return is_current(found, type, status) and reason in (None, condition(found, type)["reason"])

        return condition(self.wait_until(kind, name, holds, namespace=namespace, deadline=deadline), type)

    def wait_established(self, *crds: str) -> None:
        """Poll until the API server serves each CRD; `kubectl wait` fails at one so new that its conditions are null."""
        for name in crds:
            self.wait_until("crd", name, lambda found: condition(found, "Established").get("status") == "True")

    @contextmanager
    def namespace(self, *, tenant: str | None = None, prefix: str = "test") -> Iterator[str]:
        """A namespace of its own, labelled as the tenant's where one is given; it is deleted at the end, without waiting."""
        name = f"{prefix}-{uuid.uuid4().hex[:10]}"
        labels = {TENANT_LABEL: tenant} if tenant is not None else {}
        self.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": labels}})
        try:
            yield name
        finally:
            self.run("delete", "namespace", name, "--wait=false", "--ignore-not-found", check=False)


def condition(found: Mapping[str, Any], type: str) -> dict[str, Any]:
    """The condition of that type in an object's status; `{}` where it has none."""
    stated: list[dict[str, Any]] = found.get("status", {}).get("conditions") or []  # a new CRD's are null
    return next((one for one in stated if one["type"] == type), {})


def is_current(found: Mapping[str, Any], type: str, status: str) -> bool:
    """Whether an object's condition has that status, and says so of its current generation."""
    stated = condition(found, type)
    return stated.get("status") == status and stated.get("observedGeneration", -1) == found["metadata"]["generation"]


def _namespace(name: str | None) -> list[str]:
    return ["--namespace", name] if name else []


def _text(manifest: Manifest) -> str:
    if isinstance(manifest, str):
        return manifest
    objects = [manifest] if isinstance(manifest, Mapping) else list(manifest)  # type: ignore[arg-type]
    return yaml.safe_dump_all(objects)


def _object(text: str) -> dict[str, Any]:
    parsed: dict[str, Any] = json.loads(text)
    return parsed


def _shown(found: Mapping[str, Any]) -> str:
    if not found:
        return "(no such object)"
    if found.get("kind") == "Secret":  # its content must not appear in any output, not even of tests
        found = {**found, "data": dict.fromkeys(found.get("data") or {}, "(not shown)")}
    return yaml.safe_dump({key: value for key, value in found.items() if key != "metadata"} | {"metadata": _brief(found)})


def _brief(found: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in found["metadata"].items() if key not in ("managedFields", "annotations")}
