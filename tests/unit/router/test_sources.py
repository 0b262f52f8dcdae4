"""Who may send alerts: tokens, and settings that are rejected at the start."""

from __future__ import annotations

import hashlib
import hmac
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from eventsink.router.sources import TOKEN_REREAD_SECONDS, PostingSource, PostingSourceSettings, authenticate, open_sources
from eventsink.runtime.settings import ConfigurationError
from tests.unit.router.sinks import TOKEN, source, source_settings


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"tenant": {}}, "set exactly one of fixed, namespaceOwner and label"),
        ({"tenant": {"fixed": "a", "label": "b"}}, "set exactly one of"),
        ({"tokenHashes": []}, "needs tokenFiles or tokenHashes"),
        ({"tokenHashes": ["md5:abc"]}, "should match pattern"),
        ({"tokenHashes": [f"sha256:{hashlib.sha256(b'').hexdigest()}"]}, "the hash of no text at all"),
        ({"tenant": {"fixed": ""}}, "should match pattern"),
        ({"tenant": {"fixed": "acme"}, "allowedTenants": ["globex"]}, "every alert would be rejected"),
        ({"tenant": {"label": ""}}, "at least 1 character"),
        ({"tenant": {"namespaceOwner": {"label": ""}}}, "at least 1 character"),
        ({"defaultTenant": "not a tenant"}, "should match pattern"),
        ({"name": "Not A Name"}, "should match pattern"),
        ({"format": "smoke-signals"}, "no source format has this name; known formats: alertmanager"),
    ],
)
def test_a_wrong_source_stops_the_start(settings: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ValidationError, match=sentence):
        source_settings(**settings)


def test_two_sources_of_one_name_stop_the_start() -> None:
    with pytest.raises(ConfigurationError, match="two have the name alertmanager"):
        open_sources((source_settings(), source_settings()))


def test_only_the_right_token_of_the_right_source_is_accepted() -> None:
    others = f"sha256:{hashlib.sha256(b'of-falco').hexdigest()}"
    sources = open_sources((source_settings(), source_settings(name="falco", tokenHashes=[others])))
    assert authenticate(sources, "alertmanager", TOKEN) is sources["alertmanager"]
    assert authenticate(sources, "falco", "of-falco") is sources["falco"]
    for name, token in (
        ("falco", TOKEN),
        ("alertmanager", "of-falco"),
        ("alertmanager", "wrong"),
        ("alertmanager", ""),
        ("other", TOKEN),
        ("", ""),
        ("alertmanager", "\udc80"),
    ):
        assert authenticate(sources, name, token) is None


@pytest.mark.parametrize("name", ["alertmanager", "no-such-source"])
def test_tokens_are_compared_as_hashes_in_constant_time(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    compared: list[bytes] = []

    def compare(given: bytes, known: bytes) -> bool:
        compared.append(given)
        return given == known

    monkeypatch.setattr(hmac, "compare_digest", compare)
    assert authenticate({"alertmanager": source()}, name, "wrong") is None
    assert compared == [hashlib.sha256(b"wrong").digest()], "also where there is no such source"


def test_two_tokens_are_valid_at_once_and_a_rotated_file_takes_effect_without_a_restart(tmp_path: Path) -> None:
    now = 0.0
    old, new = tmp_path / "old", tmp_path / "new"
    old.write_text("one\n")
    new.write_text("two\n")
    rotating = PostingSource(source_settings(tokenHashes=[], tokenFiles=[str(old), str(new)]), clock=lambda: now)
    assert rotating.knows("one")
    assert rotating.knows("two")
    old.write_text("three")
    now += TOKEN_REREAD_SECONDS + 1
    assert (rotating.knows("one"), rotating.knows("three")) == (False, True)
    old.unlink()  # a Secret that is being replaced: the tokens read last stay
    now += TOKEN_REREAD_SECONDS + 1
    assert rotating.knows("three")


def test_tokens_may_come_from_hashes_and_files_at_once(tmp_path: Path) -> None:
    file = tmp_path / "token"
    file.write_text("from-the-file\n")
    both = source(tokenFiles=[str(file)])
    assert both.knows(TOKEN)
    assert both.knows("from-the-file")
    assert not both.knows("from-the-file\n")


@pytest.mark.parametrize("content", [None, b"", b"\n", b"\xff", b"x" * 70_000])
def test_a_token_file_that_holds_no_token_stops_the_start(tmp_path: Path, content: bytes | None) -> None:
    file = tmp_path / "token"
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(ConfigurationError, match=str(file)):
        open_sources((source_settings(tokenHashes=[], tokenFiles=[str(file)]),))


def test_no_representation_of_a_source_shows_a_token(tmp_path: Path) -> None:
    file = tmp_path / "token"
    file.write_text("canary-token")
    assert "canary" not in repr(source(tokenFiles=[str(file)])) + repr(source_settings(tokenFiles=[str(file)]))


def test_settings_of_a_format_are_for_sources_of_that_format() -> None:
    common = {"name": "s", "tokenHashes": ["sha256:" + "0" * 64], "tenant": {"fixed": "acme"}, "audit": {"defaultRules": False}}
    with pytest.raises(ValidationError, match="audit is for the format audit only"):
        PostingSourceSettings.model_validate(common)
    body = b'{"apiVersion": "audit.k8s.io/v1", "items": [{"auditID": "1", "verb": "get", "objectRef": {"resource": "secrets"}}]}'
    for members, count in (({}, 0), ({"audit": {}}, 1), ({"audit": None}, 1)):
        source = PostingSource(PostingSourceSettings.model_validate({**common, "format": "audit", **members}))
        assert len(source.format.parse(body).alerts) == count
