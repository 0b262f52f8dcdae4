"""Whether the stand-in for Slack accepts the content of a message."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tests.support import slack_limits

MAX_MARKDOWN_TEXT = 12_000
"""Characters; beyond, msg_too_long."""


class SlackError(Exception):
    """A call that Slack rejects.

    Attributes
    ----------
    error
        The documented name.
    details
        Further members of the response.
    retry_after
        Whole seconds to wait, where the call may be repeated.
    """

    def __init__(self, error: str, *, retry_after: int | None = None, **details: Any) -> None:
        super().__init__(error)
        self.error = error
        self.details = details
        self.retry_after = retry_after


def check(body: Mapping[str, Any], *, webhook: bool) -> None:
    """Check that Slack accepts a message's content.

    Raises
    ------
    SlackError
        It does not.
    """
    if not any(body.get(name) for name in ("text", "blocks", "attachments", "markdown_text")):
        raise SlackError("no_text")
    if len(str(body.get("markdown_text") or "")) > MAX_MARKDOWN_TEXT:
        raise SlackError("msg_too_long")
    attachments = body.get("attachments") or []
    if not _objects(attachments):
        raise SlackError("invalid_payload" if webhook else "invalid_attachments")
    lists = [body.get("blocks") or [], *(one.get("blocks") or [] for one in attachments)]
    if not all(_objects(one) for one in lists):
        raise SlackError("invalid_payload" if webhook else "invalid_blocks_format")
    if sum(_characters(one) for one in lists) > slack_limits.MAX_ALL_BLOCKS:
        raise SlackError("invalid_payload" if webhook else "msg_blocks_too_long")
    found = slack_limits.problems(body, webhook=webhook, may_mention=True)
    if found:
        messages = [f"[ERROR] {one}" for one in found]
        raise SlackError("invalid_payload" if webhook else "invalid_blocks", response_metadata={"messages": messages})


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
