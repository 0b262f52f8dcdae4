"""Each registered format passes the contract, and one that declares what cannot be is not made."""

from __future__ import annotations

import importlib
import pkgutil
from dataclasses import replace

import pytest

from eventsink.alerts import formats
from eventsink.alerts.formats.registry import FORMATS
from tests.support.throwaway_formats import BEACON, TICKER, readings
from tests.unit.alerts.formats.format_contract import FormatContract, MinimalFormatContract


class TestBeaconFormat(MinimalFormatContract):
    format = BEACON

    def sample(self, severity: str = "") -> bytes:
        return readings("Disk", colour=severity)


class TestTickerFormat(MinimalFormatContract):
    format = TICKER

    def sample(self, severity: str = "") -> bytes:
        return readings("Login", colour=severity)


@pytest.mark.parametrize("name", FORMATS)
def test_every_registered_format_has_its_contract_suite(name: str) -> None:
    module = importlib.import_module(f"tests.unit.alerts.formats.test_{name.replace('-', '_')}")
    suites = [one for one in vars(module).values() if isinstance(one, type) and issubclass(one, FormatContract)]
    assert FORMATS[name] in [getattr(one, "format", None) for one in suites]


def test_every_module_that_declares_a_format_is_registered() -> None:
    modules = [importlib.import_module(f"{formats.__name__}.{one.name}") for one in pkgutil.iter_modules(formats.__path__)]
    assert {module.FORMAT.name for module in modules if hasattr(module, "FORMAT")} == set(FORMATS)


def test_a_format_is_registered_under_its_own_name() -> None:
    assert all(name == one.name for name, one in FORMATS.items())


@pytest.mark.parametrize("suffix", ["api", "/api/", "", "/"])
def test_a_url_suffix_starts_with_a_slash_and_does_not_end_with_one(suffix: str) -> None:
    with pytest.raises(ValueError, match="the URL suffix"):
        replace(BEACON, url_suffixes=(suffix,))
