"""One running control plane: starts, stops, writes kubeconfigs."""

from __future__ import annotations

import ctypes
import json
import os
import shutil
import signal
import ssl
import subprocess
import tempfile
import time
import urllib.request
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import yaml

from tests.controlplane.binaries import Binaries, find_or_build
from tests.controlplane.certificates import Authority, signing_key
from tests.support.ports import free_ports

START_TIMEOUT_SECONDS = 90
STOP_TIMEOUT_SECONDS = 20
TOKEN_LIFETIME_SECONDS = 3600
START_ATTEMPTS = 3
"""A port that was free may be taken by the time that its program listens; that is rare, so a few attempts are enough."""
_PR_SET_PDEATHSIG = 1

AUDIT_POLICY = {
    "apiVersion": "audit.k8s.io/v1",
    "kind": "Policy",
    "omitStages": ["RequestReceived", "ResponseStarted"],
    "rules": [
        {"level": "None", "users": ["system:apiserver", "system:kube-controller-manager"]},
        {"level": "Metadata"},
    ],
}


class ProgramEnded(RuntimeError):
    """A program of the control plane ended by itself; the text holds its status and what all of them logged last."""


class ControlPlane:
    """etcd, kube-apiserver (RBAC on) and kube-controller-manager on loopback, with data in a folder of their own.

    Use as a context manager. `server` is the API server's URL, `ca` the certificate that signed its own, `audit_log` a file of
    JSON lines, one per finished request. `api_server_flags` are added to those of the API server.
    """

    def __init__(
        self, folder: Path | None = None, binaries: Binaries | None = None, *, api_server_flags: Sequence[str] = ()
    ) -> None:
        self.binaries = binaries or find_or_build()
        self._own_folder = folder is None
        self._more_flags = api_server_flags
        self.folder = folder or Path(tempfile.mkdtemp(prefix="controlplane-"))
        self.folder.mkdir(parents=True, exist_ok=True)
        self.audit_log = self.folder / "audit.log"
        self._processes: dict[str, subprocess.Popen[bytes]] = {}
        self._authority = Authority(self.folder / "pki")
        self.ca = self._authority.certificate
        self._ports: list[int] = []
        self._issue()

    def __enter__(self) -> ControlPlane:
        try:
            self.start()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    @property
    def server(self) -> str:
        return f"https://127.0.0.1:{self._ports[2]}"

    @property
    def admin_kubeconfig(self) -> Path:
        return self.folder / "admin.kubeconfig"

    def start(self) -> None:
        """Start everything on free ports and wait until the API server is ready and service accounts are made."""
        for attempt in range(1, START_ATTEMPTS + 1):
            self._ports = free_ports(3)
            self._configure()
            try:
                self._start_etcd()
                self.start_api_server()
                self._start_controller_manager()
                wait_for("the first service account", lambda: self._service_account_exists("default", "default"), self._logs)
                return
            except ProgramEnded as error:
                if attempt == START_ATTEMPTS or "address already in use" not in str(error):
                    raise
                self._end_all()
                for log in self._log_files():
                    log.unlink()

    def stop(self) -> None:
        """End everything; a folder that was made for it is removed."""
        self._end_all()
        if self._own_folder:
            shutil.rmtree(self.folder, ignore_errors=True)

    def stop_api_server(self) -> None:
        """Stop the API server; its data are kept."""
        self._end("kube-apiserver")

    def start_api_server(self) -> None:
        """Start the API server (again), on the same port, and wait until it is ready."""
        self._run("kube-apiserver", self.binaries.kube_apiserver, self._api_server_flags)
        wait_for("the API server", self._api_server_ready, self._logs)

    def compact(self) -> None:
        """Have etcd forget every version of every object but the newest: whoever goes on from an older one gets a 410."""
        etcd = f"http://127.0.0.1:{self._ports[0]}/v3/kv"
        header = self._ask_etcd(f"{etcd}/range", {"key": "AA=="})["header"]
        self._ask_etcd(f"{etcd}/compaction", {"revision": header["revision"], "physical": True})

    def _ask_etcd(self, url: str, body: dict[str, Any]) -> dict[str, Any]:
        with urllib.request.urlopen(url, data=json.dumps(body).encode(), timeout=10) as response:
            found: dict[str, Any] = json.loads(response.read())
            return found

    def service_account_kubeconfig(self, namespace: str, name: str) -> Path:
        """A kubeconfig with a token of an existing ServiceAccount, valid for an hour."""
        path = f"/api/v1/namespaces/{namespace}/serviceaccounts/{name}/token"
        body = {
            "apiVersion": "authentication.k8s.io/v1",
            "kind": "TokenRequest",
            "spec": {"expirationSeconds": TOKEN_LIFETIME_SECONDS},
        }
        response = json.loads(self.request(path, method="POST", body=json.dumps(body).encode()))
        file = self.folder / f"{namespace}.{name}.kubeconfig"
        self._write_kubeconfig(file, {"token": response["status"]["token"]})
        return file

    def audited(self) -> list[dict[str, Any]]:
        """The requests that were finished so far, as audit events."""
        if not self.audit_log.exists():
            return []
        return [json.loads(line) for line in self.audit_log.read_text().splitlines() if line.endswith("}")]

    def request(self, path: str, *, method: str = "GET", body: bytes | None = None) -> bytes:
        """One request as cluster administrator."""
        context = ssl.create_default_context(cafile=str(self.ca))
        pki = self._authority.folder
        context.load_cert_chain(pki / "admin.crt", pki / "admin.key")
        request = urllib.request.Request(f"{self.server}{path}", data=body, method=method)
        request.add_header("Content-Type", "application/json")
        with urllib.request.urlopen(request, timeout=10, context=context) as response:
            return bytes(response.read())

    def _issue(self) -> None:
        issue = self._authority.issue
        issue(
            "apiserver",
            common_name="kube-apiserver",
            addresses=("127.0.0.1", "10.0.0.1", "localhost", "kubernetes", "kubernetes.default", "kubernetes.default.svc"),
        )
        issue("admin", common_name="admin", groups=("system:masters",))
        issue("controller-manager", common_name="system:kube-controller-manager")
        self._signing_key, self._verifying_key = signing_key(self._authority.folder)

    def _configure(self) -> None:
        for name in ("admin", "controller-manager"):
            certificate, key = self._authority.folder / f"{name}.crt", self._authority.folder / f"{name}.key"
            self._write_kubeconfig(
                self.folder / f"{name}.kubeconfig", {"client-certificate": str(certificate), "client-key": str(key)}
            )
        policy = self.folder / "audit-policy.yaml"
        policy.write_text(yaml.safe_dump(AUDIT_POLICY))
        pki = self._authority.folder
        self._api_server_flags = [
            f"--etcd-servers=http://127.0.0.1:{self._ports[0]}",
            "--bind-address=127.0.0.1",
            "--advertise-address=127.0.0.1",
            f"--secure-port={self._ports[2]}",
            f"--tls-cert-file={pki / 'apiserver.crt'}",
            f"--tls-private-key-file={pki / 'apiserver.key'}",
            f"--client-ca-file={self.ca}",
            f"--service-account-key-file={self._verifying_key}",
            f"--service-account-signing-key-file={self._signing_key}",
            "--service-account-issuer=https://kubernetes.default.svc",
            "--authorization-mode=Node,RBAC",
            "--service-cluster-ip-range=10.0.0.0/24",
            "--endpoint-reconciler-type=none",
            # Webhooks are called at the endpoints of their Service: no kube-proxy says at once that it has none.
            "--enable-aggregator-routing=true",
            f"--audit-policy-file={policy}",
            f"--audit-log-path={self.audit_log}",
            "--audit-log-mode=blocking",
            *self._more_flags,
        ]

    def _start_etcd(self) -> None:
        client, peer, _ = self._ports
        flags = [
            f"--data-dir={self.folder / 'etcd'}",
            "--unsafe-no-fsync",
            "--log-level=error",
            f"--listen-client-urls=http://127.0.0.1:{client}",
            f"--advertise-client-urls=http://127.0.0.1:{client}",
            f"--listen-peer-urls=http://127.0.0.1:{peer}",
            f"--initial-advertise-peer-urls=http://127.0.0.1:{peer}",
            f"--initial-cluster=default=http://127.0.0.1:{peer}",
        ]
        self._run("etcd", self.binaries.etcd, flags)

    def _start_controller_manager(self) -> None:
        flags = [
            f"--kubeconfig={self.folder / 'controller-manager.kubeconfig'}",
            f"--service-account-private-key-file={self._signing_key}",
            f"--root-ca-file={self.ca}",
            "--use-service-account-credentials",
            "--leader-elect=false",
            "--secure-port=0",
            "--bind-address=127.0.0.1",
            "--concurrent-namespace-syncs=4",
        ]
        self._run("kube-controller-manager", self.binaries.kube_controller_manager, flags)

    def _run(self, name: str, program: Path, flags: Sequence[str]) -> None:
        log = (self.folder / f"{name}.log").open("ab")
        self._processes[name] = subprocess.Popen(
            [program, *flags],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
            preexec_fn=die_with_parent,
        )
        log.close()

    def _end(self, name: str) -> None:
        """Kill a program: on SIGTERM, the API server would first wait for all watches, which no test needs."""
        process = self._processes.pop(name, None)
        if process is not None:
            process.kill()
            process.wait(STOP_TIMEOUT_SECONDS)

    def _end_all(self) -> None:
        for name in reversed(list(self._processes)):
            self._end(name)

    def _check_running(self) -> None:
        for name, process in self._processes.items():
            if process.poll() is not None:
                raise ProgramEnded(f"{name} ended with {process.returncode}:\n{self._logs()}")

    def _api_server_ready(self) -> bool:
        self._check_running()
        return self.request("/readyz") == b"ok"

    def _service_account_exists(self, namespace: str, name: str) -> bool:
        self._check_running()
        return bool(self.request(f"/api/v1/namespaces/{namespace}/serviceaccounts/{name}"))

    def _log_files(self) -> list[Path]:
        return sorted(set(self.folder.glob("*.log")) - {self.audit_log})

    def _logs(self) -> str:
        return "\n".join(f"--- {log.name}\n{log.read_text(errors='replace')[-3000:]}" for log in self._log_files())

    def _write_kubeconfig(self, file: Path, user: dict[str, str]) -> None:
        file.touch(mode=0o600)
        config = {
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{"name": "tests", "cluster": {"server": self.server, "certificate-authority": str(self.ca)}}],
            "users": [{"name": "tests", "user": user}],
            "contexts": [{"name": "tests", "context": {"cluster": "tests", "user": "tests"}}],
            "current-context": "tests",
        }
        file.write_text(yaml.safe_dump(config))


def wait_for(what: str, condition: Callable[[], bool], explain: Callable[[], str]) -> None:
    """Poll until `condition` holds; errors of the network count as not yet.

    Raises
    ------
    TimeoutError
        After START_TIMEOUT_SECONDS, with what `explain` says.
    """
    deadline = time.monotonic() + START_TIMEOUT_SECONDS
    while True:
        try:
            if condition():
                return
        except OSError:
            pass
        if time.monotonic() > deadline:
            raise TimeoutError(f"timed out waiting for {what}:\n{explain()}")
        time.sleep(0.1)


def die_with_parent() -> None:
    """In a child, before it becomes its program: be killed when the parent ends, however it ends (Linux)."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() == 1:
        os._exit(1)
