"""The programs that tests build are looked for where people expect, and the error names what is missing."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.controlplane import alertmanager, binaries
from tests.controlplane.go import MissingProgram, cached, go_version

PROGRAMS = ("etcd", "kube-apiserver", "kube-controller-manager")


def put_programs(folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name in PROGRAMS:
        (folder / name).touch()


def test_kubebuilder_assets_are_preferred_to_the_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    put_programs(tmp_path / "assets")
    monkeypatch.setenv("KUBEBUILDER_ASSETS", str(tmp_path / "assets"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    found = binaries.find_or_build()
    assert found.etcd == tmp_path / "assets" / "etcd"
    assert found.kubectl.exists()
    assert not (tmp_path / "cache").exists()


def test_incomplete_assets_are_rejected_with_the_missing_program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    put_programs(tmp_path)
    (tmp_path / "etcd").unlink()
    monkeypatch.setenv("KUBEBUILDER_ASSETS", str(tmp_path))
    with pytest.raises(MissingProgram, match="lacks etcd; unset it to have them built"):
        binaries.find_or_build()


def test_the_cache_is_used_without_building(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("KUBEBUILDER_ASSETS", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    put_programs(binaries.cached())
    assert binaries.find_or_build().kube_apiserver.is_relative_to(tmp_path / "eventsink" / "controlplane")


def test_the_current_alertmanager_is_used_from_the_cache_without_building(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    folder = cached(alertmanager.PROGRAM)
    folder.mkdir(parents=True)
    (folder / "alertmanager").touch()
    assert alertmanager.find_or_build_alertmanager().alertmanager_command() == [folder / "alertmanager"]


def test_the_version_of_the_current_alertmanager_is_the_pinned_one() -> None:
    assert f"github.com/prometheus/alertmanager v{alertmanager.VERSION}" in (alertmanager.MODULE / "go.mod").read_text()


def test_a_failed_build_shows_the_output_of_go_and_leaves_no_program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    go = tmp_path / "bin" / "go"
    go.parent.mkdir()
    go.write_text(
        '#!/bin/sh\n[ "$1" = version ] && echo "go version go1.26.0 linux/amd64" && exit\necho "no space left"; exit 1\n'
    )
    go.chmod(0o755)
    monkeypatch.setenv("PATH", f"{go.parent}:/usr/bin:/bin")
    with pytest.raises(MissingProgram, match="building etcd failed:\nno space left"):
        binaries.build(tmp_path / "cache" / "pins")
    assert [file.name for file in (tmp_path / "cache" / "pins").iterdir()] == ["lock"]


@pytest.mark.parametrize(
    ("shown", "version"),
    [("go version go1.26.8 linux/amd64", (1, 26)), ("go version go1.9 linux/arm64", (1, 9)), ("command not found", (0, 0))],
)
def test_the_version_of_go_is_read(tmp_path: Path, shown: str, version: tuple[int, int]) -> None:
    go = tmp_path / "go"
    go.write_text(f"#!/bin/sh\necho '{shown}'\n")
    go.chmod(0o755)
    assert go_version(str(go)) == version
