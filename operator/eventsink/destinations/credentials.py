"""Reads the values that an EventSink's references mean; no message shows one."""

from __future__ import annotations

from collections.abc import Mapping

from eventsink.destinations.problem import Effect, Problem
from eventsink.resources.model import SecretKeyRef

MAX_VALUE_BYTES = 64 * 1024
"""Of one key of a Secret that a sink uses."""

REST_SECRET_PREFIX = "eventsink-rest-"
"""Of the names of Secrets that the REST API creates: it may delete one and create another of the same name."""
ORIGIN_KEY = "origin"
"""Key of such a Secret: scheme and host (and an unusual port) that its values may be sent to."""
TOKEN_ORIGIN_KEY = "token-origin"
"""The same, of the authorization server that a client's secret may be sent to."""

SecretValues = Mapping[str, Mapping[str, bytes]]
"""Name of a Secret -> its decoded data."""


def secret_text(path: str, ref: SecretKeyRef, secrets: SecretValues, namespace: str) -> str:
    """The text that a reference means, without one trailing newline.

    Raises
    ------
    Problem
        The Secret or the key is missing, or the value is no text, empty or too long.
    """
    data = secrets.get(ref.name)
    if data is None:
        raise secret_missing(path, ref, namespace)
    value = data.get(ref.key)
    if value is None:
        raise Problem(
            "SecretKeyNotFound",
            path,
            f"the Secret {ref.name} has no key {ref.key}; add it to the Secret, or correct the reference",
            effect=Effect.GRACE,
            may_pass=True,
        )
    if len(value) > MAX_VALUE_BYTES:
        raise Problem("InvalidSecretValue", path, f"the value has more than {MAX_VALUE_BYTES} bytes")
    try:
        text = value.decode()
    except UnicodeDecodeError:
        raise Problem("InvalidSecretValue", path, "the value is not UTF-8 text") from None
    text = text.removesuffix("\n").removesuffix("\r")
    if not text:
        raise Problem("InvalidSecretValue", path, f"the value of the key {ref.key} is empty")
    return text


def secret_missing(path: str, ref: SecretKeyRef, namespace: str) -> Problem:
    """The problem of a reference to a Secret that is not there."""
    kind = f"generic {ref.name} --from-literal={ref.key}=..."
    if path.endswith("clientCertSecretRef"):
        kind = f"tls {ref.name} --cert=FILE --key=FILE"
    return Problem(
        "SecretNotFound",
        path,
        f"Secret {ref.name} not found, create it with: kubectl -n {namespace} create secret {kind}",
        effect=Effect.GRACE,
        may_pass=True,
    )
