"""What is kept of TLS between connections, and how much of it."""

from __future__ import annotations

import gc
import ssl
import weakref

import pytest
import trustme

from eventsink.sinks import tls
from eventsink.sinks.tls import Contexts


@pytest.fixture(autouse=True)
def _limits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tls, "MAX_CACHED_CONTEXTS", 6)
    monkeypatch.setattr(tls, "MAX_WITH_SYSTEM_AUTHORITIES", 3)
    # What a certificate is does not matter here.
    monkeypatch.setattr(tls, "present", lambda context, certificate: None)


def kept(contexts: list[weakref.ref[ssl.SSLContext]]) -> list[int]:
    gc.collect()
    return [number for number, one in enumerate(contexts) if one() is not None]


def test_few_contexts_with_the_systems_authorities_are_kept_those_that_are_used_and_more_with_small_ones() -> None:
    contexts, pem = Contexts(), trustme.CA().cert_pem.bytes().decode()
    small = [weakref.ref(contexts.of(pem, f"small {number}")) for number in range(3)]
    plain = weakref.ref(contexts.of(None))
    large = []
    for number in range(5):
        large.append(weakref.ref(contexts.of(None, f"large {number}")))
        assert contexts.of(None) is plain()
    assert kept(large) == [3, 4]
    assert kept(small) == [0, 1, 2]
    small += [weakref.ref(contexts.of(pem, f"small {number}")) for number in range(3, 6)]
    assert kept(small) == [3, 4, 5]
    assert contexts.of(None) is plain()
