"""What a compiled sink points at: the base of every destination type's target, and how deliveries to it are dispatched."""

from __future__ import annotations

import hashlib
from enum import StrEnum
from typing import Any

from pydantic import BaseModel, ConfigDict
from pydantic.alias_generators import to_camel

_NO_FIELDS: set[str] = set()
"""Shared by all compiled documents. Pydantic copies it for a changed copy of a document and never changes that of a frozen one."""


class CompiledDocument(BaseModel):
    """Base of what the operator compiles for the router: camelCase JSON, immutable, unknown members ignored (a newer writer adds some)."""

    model_config = ConfigDict(
        alias_generator=to_camel,
        populate_by_name=True,
        frozen=True,
        extra="ignore",
        hide_input_in_errors=True,
    )

    def model_post_init(self, context: Any, /) -> None:
        """Hook of pydantic: forget which fields were given. Nobody asks, and the sets would be a third of what a sink takes in memory."""
        object.__setattr__(self, "__pydantic_fields_set__", _NO_FIELDS)

    def to_json(self) -> str:
        """The document as JSON text, with credentials; fit for a Secret only."""
        return self.model_dump_json(by_alias=True, exclude_none=True)


class SecretDocument(CompiledDocument):
    """A document that holds credentials: its representation shows nothing of it."""

    def __repr_args__(self) -> list[tuple[str | None, Any]]:
        return []


class PayloadKind(StrEnum):
    """What the bytes of a delivery are."""

    ALERT = "alert"
    """JSON of one `Alert`."""
    GROUP = "group"
    """A notification in Alertmanager's webhook format."""


class DispatchParameters(CompiledDocument):
    """How deliveries to a destination leave, whatever its type."""

    concurrency: int | None = None
    """Most messages in flight at once; None: the router's setting."""
    batch: int = 1
    """Most alerts in one message."""
    joins_key: bool = False
    """Whether one message may hold several deliveries about one alert, in their order: it fires, and has ended."""
    rate_limit_key: str = ""
    """What the destination counts messages by: sinks with the same key share one rate; empty: no limit."""
    keeps_receipts: bool = False
    """Whether it is recorded in which message an alert was delivered, for a destination that shows messages to people."""
    follows_posts: bool = False
    """Whether it is recorded which message announced a firing alert, since later ones about it change that message or reply to it. A message
    is then about alerts that none announced yet, or about those of one."""
    edit_rate_limit_key: str = ""
    """What the destination counts changes of messages by, as `rate_limit_key`; empty: messages are not changed."""
    payload: PayloadKind = PayloadKind.ALERT
    """Whether each alert is a delivery of its own, or the group as the source sent it."""


class Target(SecretDocument):
    """All that messages to one destination need, credentials included. Each destination type has a subclass (`target.TARGET`).

    This class itself is the target of a type that this version does not know.
    """

    type: str
    """Name of the destination type, as in the spec."""

    def can_be_misread(self) -> bool:
        """Whether it has members that a router of the version before ignores though they change what is sent."""
        return False

    def destination(self) -> str:
        """Digest that identifies the destination without showing it; another value means that nothing was sent there yet."""
        return destination_of(self.type)

    def dispatch_parameters(self) -> DispatchParameters:
        """How deliveries to it leave."""
        return DispatchParameters()


def destination_of(kind: str, *parts: str) -> str:
    """Digest that identifies a destination without showing it: 32 hex digits of the kind and its parts (URL; team, channel)."""
    digest = hashlib.blake2b(digest_size=16)
    for part in (kind, *parts):
        digest.update(b"%d:" % len(part.encode()))
        digest.update(part.encode())
    return digest.hexdigest()
