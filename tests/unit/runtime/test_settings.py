"""Configuration comes from a file and the environment, and a mistake is reported with file and field."""

from __future__ import annotations

from pathlib import Path

import pytest

from eventsink.runtime.address import Address
from eventsink.runtime.settings import (
    ConfigurationError,
    ProcessSettings,
    Seconds,
    Settings,
    load_settings,
    read_secret_file,
    seconds,
)


class Intake(Settings):
    address: Address = "127.0.0.1:8080"
    read_timeout: Seconds = 10.0


class Example(ProcessSettings):
    intake: Intake = Intake()
    ha_window: Seconds = 60.0
    names: tuple[str, ...] = ()


def load(tmp_path: Path, text: str) -> Example:
    file = tmp_path / "example.yaml"
    file.write_text(text)
    return load_settings(Example, part="example", path=file)


@pytest.mark.parametrize(
    ("written", "expected"),
    [("90s", 90.0), ("4h", 14400.0), ("3d", 259200.0), ("1h30m", 5400.0), ("250ms", 0.25), (7, 7.0), ("7", 7.0)],
)
def test_a_duration_is_read(written: object, expected: float) -> None:
    assert seconds(written) == expected


@pytest.mark.parametrize("written", ["", "h", "4 h", "-1s", "1.5h", True, -1, float("inf"), None, [], "5y"])
def test_an_invalid_duration_is_rejected(written: object) -> None:
    with pytest.raises(ValueError, match="duration"):
        seconds(written)


def test_defaults_apply_where_the_file_sets_nothing(tmp_path: Path) -> None:
    assert load(tmp_path, "") == Example()


def test_the_file_is_read_in_camel_case(tmp_path: Path) -> None:
    settings = load(tmp_path, "haWindow: 2m\nintake: {readTimeout: 5s, address: '[::1]:0'}\n")
    assert settings.ha_window == 120
    assert settings.intake == Intake(read_timeout=5.0, address="[::1]:0")


def test_the_environment_overrides_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EVENTSINK_EXAMPLE__INTAKE__READ_TIMEOUT", "3s")
    monkeypatch.setenv("EVENTSINK_EXAMPLE__NAMES", '["a", "b"]')
    monkeypatch.setenv("EVENTSINK_OTHER__HA_WINDOW", "nonsense")
    settings = load(tmp_path, "intake: {readTimeout: 5s, address: '127.0.0.1:1'}\n")
    assert settings.intake == Intake(read_timeout=3.0, address="127.0.0.1:1")
    assert settings.names == ("a", "b")


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("haWindw: 2m", "haWindw: there is no such setting; did you mean haWindow?"),
        ("intake: {readTimout: 2m}", "intake.readTimout: there is no such setting; did you mean readTimeout?"),
        ("zzz: 1", "zzz: there is no such setting; known here: intake, haWindow, names"),
        (
            "haWindow: soon",
            "haWindow: write a duration as whole numbers with units (ms, s, m, h, d, w), such as 90s, 4h, 3d or 1h30m",
        ),
        ("intake: {address: '8080'}", "intake.address: write an address as host:port, such as 127.0.0.1:8080"),
        ("intake: {address: 'x:70000'}", "intake.address: write an address as host:port"),
        ("names: a", "names: Input should be a valid tuple"),
        ("a: b: c", "is not valid YAML at line 1, column 5"),
        ("haWindow: !!bool x", "cannot be read as YAML: a value is none of its type, or it is nested too deeply"),
        ("haWindow: 2026-13-01", "cannot be read as YAML"),
        ("[" * 2000, "cannot be read as YAML"),
        ("haWindow: &a [*a]", "an alias (*) in it refers to what contains it"),
        ("- a", "must hold settings"),
    ],
)
def test_a_mistake_is_reported_with_file_and_field(tmp_path: Path, text: str, sentence: str) -> None:
    with pytest.raises(ConfigurationError) as error:
        load(tmp_path, text)
    assert sentence in str(error.value)
    assert "example.yaml" in str(error.value)


def test_a_missing_file_is_reported(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"none.yaml: cannot be read: No such file"):
        load_settings(Example, part="example", path=tmp_path / "none.yaml")


def test_a_wrong_value_is_never_repeated(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError) as error:
        load(tmp_path, "haWindow: canary-value")
    assert "canary" not in str(error.value)


def test_only_one_trailing_newline_of_a_secret_file_is_removed(tmp_path: Path) -> None:
    file = tmp_path / "token"
    file.write_text("abc \n\n")
    assert read_secret_file(file) == "abc \n"


@pytest.mark.parametrize("content", [b"", b"\n", b"\xff", b"x" * 70000])
def test_an_unusable_secret_file_is_rejected_without_showing_its_content(tmp_path: Path, content: bytes) -> None:
    file = tmp_path / "token"
    file.write_bytes(content)
    with pytest.raises(ConfigurationError) as error:
        read_secret_file(file)
    assert str(file) in str(error.value)
    assert "xxx" not in str(error.value)
