"""What a value without quotes is; a test on a cluster holds this table against the real kubectl."""

from __future__ import annotations

import pytest
import yaml

from eventsink.standalone.scalars import FastLoader, Loader

TEXT, BOOLEAN, NUMBER, NULL = "text", "boolean", "number", "null"
SCALARS: dict[str, str] = {
    **dict.fromkeys(["y", "Y", "n", "N", "yes", "Yes", "YES", "no", "No", "NO"], BOOLEAN),
    **dict.fromkeys(["true", "True", "TRUE", "false", "False", "FALSE", "on", "On", "ON", "off", "Off", "OFF"], BOOLEAN),
    **dict.fromkeys(["yES", "oN", "tRue", "nO", "ye", "trues", "y1", "Nein"], TEXT),
    **dict.fromkeys(["0", "1", "-1", "+1", "007", "017", "0o17", "0O17", "0x1F", "0X1f", "0b11", "0B1", "-0b11", "+0x1"], NUMBER),
    **dict.fromkeys(["1_000", "1_", "0x_1", "08", "09", "0_8", ".5_5", ".5e1_0"], NUMBER),
    **dict.fromkeys(["18446744073709551615", "18446744073709551616", "-9223372036854775809"], NUMBER),
    **dict.fromkeys(["1e3", "1E3", "1e-3", "-1e+3", "1.", "1.5", ".5", "-.5", "+.5e1", ".5e1", "1_0.5", "12e03", "0.0"], NUMBER),
    **dict.fromkeys(
        [
            "1e400",
            "._5",
            ".5_",
            "9" * 400,
            "0o8.5",
            ".",
            "+",
            "1e",
            "e3",
            "_1",
            "0b2",
            "0x",
            "0xg",
            "1:30",
            "1.2.3",
            "0o",
            "1e3x",
        ],
        TEXT,
    ),
    **dict.fromkeys(["2026-01-01", "2026-01-01T00:00:00Z", "2026-01-01 12:00:00", "12:30:45", "=", "4h", "1h30m", "a"], TEXT),
    **dict.fromkeys(["~", "null", "Null", "NULL", ""], NULL),
    **dict.fromkeys(["nULL", "none", "nil", "~~"], TEXT),
    **dict.fromkeys(['"y"', "'1e3'", "!!str 1e3"], TEXT),
}
NOT_JSON = [".inf", "-.Inf", "+.INF", ".nan", ".NaN"]
"""Numbers that JSON does not have; kubectl rejects the whole document."""


@pytest.mark.parametrize("loader", [Loader, FastLoader])
def test_a_value_without_quotes_is_what_kubectl_makes_of_it(loader: type[Loader | FastLoader]) -> None:
    found = {text: kind_of(yaml.load(f"a: {text}\n", loader)["a"]) for text in SCALARS}  # type: ignore[arg-type]
    assert found == SCALARS


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("0o17", 15),
        ("017", 15),
        ("-0x10", -16),
        ("+0b11", 3),
        ("1_000", 1000),
        ("08", 8.0),
        ("y", True),
        ("N", False),
        ("1e3", 1e3),
    ],
)
def test_the_value_is_the_same_too(text: str, value: object) -> None:
    assert yaml.load(f"a: {text}", Loader) == {"a": value}


def kind_of(value: object) -> str:
    if isinstance(value, bool):
        return BOOLEAN
    if isinstance(value, int | float):
        return NUMBER
    return NULL if value is None else TEXT
