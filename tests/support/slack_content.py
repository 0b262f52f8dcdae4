"""Whether the stand-in of Slack takes what a message holds."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tests.support import slack_limits

MAX_MARKDOWN_TEXT = 12_000
"""Characters; beyond, msg_too_long."""


class Refused(Exception):
    """A call that Slack does not grant.

    Attributes
    ----------
    error
        The documented name.
    details
        Further members of the answer.
    retry_after
        Whole seconds, where the answer is to come later.
    """

    def __init__(self, error: str, *, retry_after: int | None = None, **details: Any) -> None:
        super().__init__(error)
        self.error = error
        self.details = details
        self.retry_after = retry_after


def check(body: Mapping[str, Any], *, webhook: bool) -> None:
    """Whether a message's content is one that Slack takes.

    Raises
    ------
    Refused
        It is not.
    """
    if not any(body.get(name) for name in ("text", "blocks", "attachments", "markdown_text")):
        raise Refused("no_text")
    if len(str(body.get("markdown_text") or "")) > MAX_MARKDOWN_TEXT:
        raise Refused("msg_too_long")
    attachments = body.get("attachments") or []
    if not _objects(attachments):
        raise Refused("invalid_payload" if webhook else "invalid_attachments")
    lists = [body.get("blocks") or [], *(one.get("blocks") or [] for one in attachments)]
    if not all(_objects(one) for one in lists):
        raise Refused("invalid_payload" if webhook else "invalid_blocks_format")
    if sum(_characters(one) for one in lists) > slack_limits.MAX_ALL_BLOCKS:
        raise Refused("invalid_payload" if webhook else "msg_blocks_too_long")
    found = slack_limits.problems(body, webhook=webhook)
    if found:
        messages = [f"[ERROR] {one}" for one in found]
        raise Refused("invalid_payload" if webhook else "invalid_blocks", response_metadata={"messages": messages})


def _objects(value: object) -> bool:
    return isinstance(value, list) and all(isinstance(one, Mapping) for one in value)


def _characters(value: object) -> int:
    if isinstance(value, str):
        return len(value)
    if isinstance(value, Mapping):
        return sum(_characters(one) for one in value.values())
    if isinstance(value, list):
        return sum(_characters(one) for one in value)
    return 0
