"""Who may send alerts: tokens, and settings that are rejected at the start."""

from __future__ import annotations

import hashlib
import hmac
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError
from structlog.testing import capture_logs

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


class Rotating:
    """A source with these tokens, each in a file, which are read again."""

    def __init__(self, folder: Path, *tokens: str) -> None:
        self.now = 0.0
        self.files = [folder / f"token-{number}" for number in range(len(tokens))]
        for file, token in zip(self.files, tokens, strict=True):
            file.write_text(token)
        settings = source_settings(tokenHashes=[], tokenFiles=[str(file) for file in self.files])
        self.source = PostingSource(settings, clock=lambda: self.now)

    def known(self, *tokens: str) -> list[str]:
        """Which of these are accepted, a few seconds later."""
        self.now += TOKEN_REREAD_SECONDS + 0.1
        return [token for token in tokens if self.source.knows(token)]


def test_two_tokens_are_valid_at_once_and_a_rotated_file_takes_effect_without_a_restart(tmp_path: Path) -> None:
    rotating = Rotating(tmp_path, "one\n", "two\n")
    assert rotating.known("one", "two", "three") == ["one", "two"]
    rotating.files[0].write_text("three\n")
    assert rotating.known("one", "two", "three") == ["two", "three"]


def test_a_token_that_was_replaced_in_its_file_is_refused_within_seconds(tmp_path: Path) -> None:
    assert TOKEN_REREAD_SECONDS <= 5
    rotating = Rotating(tmp_path, "one")
    assert rotating.known("one") == ["one"]
    rotating.files[0].write_text("two")  # as long, and maybe at the same time by the file's clock
    assert rotating.known("one", "two") == ["two"]


@pytest.mark.parametrize("content", [None, b"", b"\n", b"\xffcanary", b"canary" * 20_000])
@pytest.mark.parametrize("broken", [0, 1])
def test_a_token_file_that_cannot_be_read_keeps_its_last_token_says_so_once_and_holds_up_no_other(
    tmp_path: Path, broken: int, content: bytes | None
) -> None:
    rotating = Rotating(tmp_path, "one", "two")
    kept = ["one", "two"][broken]
    with capture_logs() as logs:
        if content is None:
            rotating.files[broken].unlink()
        else:
            rotating.files[broken].write_bytes(content)
        assert rotating.known("one", "two") == ["one", "two"]
        rotating.files[1 - broken].write_text("three")
        assert rotating.known("one", "two", "three") == [kept, "three"]
    [line] = logs
    assert line["log_level"] == "warning"
    assert line["event"].endswith("its last token stays valid until another one is written there")
    assert line["source"] == "alertmanager"
    assert line["reason"].startswith(f"{rotating.files[broken]}: ")
    assert "canary" not in str(line)
    rotating.files[broken].write_text("four")
    assert rotating.known("one", "two", "three", "four") == ["three", "four"]
    rotating.files[broken].unlink()
    with capture_logs() as logs:
        assert rotating.known("three", "four") == ["three", "four"]
    assert len(logs) == 1, "what becomes unreadable again is said again"


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
