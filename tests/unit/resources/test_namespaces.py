"""The setting `namespaces` of operator and REST API."""

from __future__ import annotations

from pathlib import Path

import pytest

from eventsink.controller.config import OperatorSettings
from eventsink.resources.namespaces import MAX_NAMESPACES
from eventsink.rest.config import RestSettings
from eventsink.runtime.settings import ConfigurationError, ProcessSettings, load_settings

ACME = "{name: acme, tenant: acme}"


def load(model: type[ProcessSettings], part: str, text: str, folder: Path) -> ProcessSettings:
    file = folder / "settings.yaml"
    file.write_text(text)
    return load_settings(model, part=part, path=file)


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        (f"namespaces: [{ACME}, {ACME}]", "namespaces: the namespace acme is there twice"),
        ("namespaces: [{name: acme}]", "namespaces[0].tenant: is required"),
        ("namespaces: [{name: Acme, tenant: acme}]", "namespaces[0].name: String should match pattern"),
        ("namespaces: [{name: acme, tenant: a b}]", "namespaces[0].tenant: String should match pattern"),
        ("namespaces: [{name: acme, tenant: acme, label: x}]", "namespaces[0].label: there is no such setting"),
        (f"{{namespaces: [{ACME}], sinksNamespace: acme}}", "the namespace of compiled sinks (sinksNamespace) cannot be"),
        (
            f"namespaces: [{', '.join(f'{{name: n{i}, tenant: a}}' for i in range(MAX_NAMESPACES + 1))}]",
            f"namespaces: Tuple should have at most {MAX_NAMESPACES} items",
        ),
    ],
)
def test_a_wrong_list_of_namespaces_stops_the_start_with_its_name(text: str, sentence: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError) as caught:
        load(OperatorSettings, "operator", text, tmp_path)
    assert sentence in str(caught.value)


def test_a_default_namespace_beside_listed_ones_is_rejected(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="defaultNamespace: has no meaning beside namespaces"):
        load(RestSettings, "rest", f"{{namespaces: [{ACME}], defaultNamespace: shared}}", tmp_path)


def test_the_list_can_come_from_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EVENTSINK_REST__NAMESPACES", f"[{ACME}]")
    settings = load(RestSettings, "rest", "", tmp_path)
    assert isinstance(settings, RestSettings)
    assert [(one.name, one.tenant) for one in settings.namespaces] == [("acme", "acme")]
