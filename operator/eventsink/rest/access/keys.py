"""API keys: created, stored as hashes, compared in constant time. Pure.

A key is `esk_<id>_<secret>`: the id finds the record; the secret has 256 random bits, so one SHA-256 of the whole suffices for storage.
"""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from eventsink.resources.rules import TENANT_PATTERN
from eventsink.runtime.times import format_time

PREFIX = "esk_"
MAX_KEYS = 1000
MAX_LENGTH = 128
"""Characters of a key; anything longer is not one."""
_FORM = re.compile(r"esk_([a-z0-9]{10})_[A-Za-z0-9_-]{43}")
_ID_LETTERS = "abcdefghijklmnopqrstuvwxyz0123456789"
_NOBODY = hashlib.sha256(b"").hexdigest()


class KeyRecord(BaseModel):
    """What is stored of a key."""

    model_config = ConfigDict(extra="ignore", frozen=True, hide_input_in_errors=True)

    id: Annotated[str, Field(pattern=r"^[a-z0-9]{10}$")]
    name: Annotated[str, Field(min_length=1, max_length=128)]
    """For people: who has it."""
    tenants: tuple[Annotated[str, Field(pattern=TENANT_PATTERN, max_length=63)], ...] | None
    """Tenants that it has access to; None: all."""
    hash: Annotated[str, Field(pattern=r"^sha256:[0-9a-f]{64}$", repr=False)]
    created: str
    """RFC 3339 UTC."""
    expires: datetime | None = None

    def is_expired(self, now: datetime) -> bool:
        """Whether it has expired."""
        return self.expires is not None and now >= self.expires


def make_key(name: str, tenants: tuple[str, ...] | None, now: datetime, *, lasts: float | None = None) -> tuple[str, KeyRecord]:
    """A new key and its record; the key itself is not stored.

    Parameters
    ----------
    tenants
        None: all.
    lasts
        Seconds until it expires; None: never.

    Raises
    ------
    ValueError
        The name or a tenant is invalid.
    """
    ident = "".join(secrets.choice(_ID_LETTERS) for _ in range(10))
    key = f"{PREFIX}{ident}_{secrets.token_urlsafe(32)}"
    if tenants is not None and not tenants:
        raise ValueError("name a tenant, or say that the key is for all of them")
    for tenant in tenants or ():
        if not re.fullmatch(TENANT_PATTERN, tenant) or len(tenant) > 63:
            raise ValueError("a tenant consists of at most 63 letters, digits, -, _ and .")
    if not name.strip() or len(name) > 128 or not name.isprintable():
        raise ValueError("the name of a key is one line of at most 128 characters")
    expires = (now + timedelta(seconds=lasts)).astimezone(UTC).replace(microsecond=0) if lasts is not None else None
    return key, KeyRecord(
        id=ident, name=name, tenants=tenants, hash=f"sha256:{_digest(key)}", created=format_time(now), expires=expires
    )


def read_records(texts: Mapping[str, str]) -> tuple[dict[str, KeyRecord], list[str]]:
    """Records by id, from their JSON texts; and the names of those that cannot be read."""
    records, unreadable = {}, []
    for name, text in texts.items():
        try:
            record = KeyRecord.model_validate_json(text)
        except ValidationError:
            unreadable.append(name)
            continue
        if record.id == name:
            records[name] = record
        else:
            unreadable.append(name)
    return records, unreadable


def find(records: Mapping[str, KeyRecord], key: str, now: datetime) -> KeyRecord | None:
    """The record of a key; an invalid one takes the same time whether its id is known or not."""
    form = _FORM.fullmatch(key) if len(key) <= MAX_LENGTH else None
    record = records.get(form[1]) if form is not None else None
    known = record.hash.removeprefix("sha256:") if record is not None else _NOBODY
    if not hmac.compare_digest(_digest(key), known) or record is None or record.is_expired(now):
        return None
    return record


def _digest(key: str) -> str:
    return hashlib.sha256(key.encode("utf-8", "surrogatepass")).hexdigest()
