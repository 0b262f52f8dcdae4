"""Every limit of Slack that the body of a message can break: https://docs.slack.dev/reference/block-kit/blocks and its neighbours."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

MAX_TEXT = 4000
"""Of the top-level text: longer ones are cut, at 40,000 characters; 4,000 is what Slack recommends."""
MAX_BLOCKS = 50
MAX_ATTACHMENTS = 100
MAX_ALL_BLOCKS = 10_000
"""Characters in all blocks: from roughly here on Slack was seen to return msg_blocks_too_long."""
SECTION_TEXT, FIELD_TEXT, FIELDS, HEADER_TEXT = 3000, 2000, 10, 150
CONTEXT_ELEMENTS, ACTIONS_ELEMENTS, BUTTON_TEXT, URL, ACTION_ID, BLOCK_ID = 10, 25, 75, 3000, 255, 255
_KINDS = {
    "section": {"type", "block_id", "text", "fields", "accessory", "expand"},
    "header": {"type", "block_id", "text"},
    "context": {"type", "block_id", "elements"},
    "actions": {"type", "block_id", "elements"},
    "divider": {"type", "block_id"},
    "rich_text": {"type", "block_id", "elements"},
}
_ELEMENTS = {
    "text": {"type", "text", "style"},
    "link": {"type", "url", "text", "style"},
    "user": {"type", "user_id"},
    "usergroup": {"type", "usergroup_id"},
    "broadcast": {"type", "range"},
}
_ATTACHMENT = {"color", "fallback", "blocks"}
_BODY = {
    "channel",
    "text",
    "blocks",
    "attachments",
    "unfurl_links",
    "unfurl_media",
    "mrkdwn",
    "parse",
    "thread_ts",
    "reply_broadcast",
    "metadata",
}
_DATE = re.compile(r"<!date\^\d+\^[^|<>]+\|[^<>|]+>")
_WEB_URL = re.compile(
    r"https?://(?:[^\s/?#@]*@)?(?:[^\s\x00-\x20/?#@:<>\[\]]+|\[[0-9a-f:.]+\])(?::\d*)?(?:[/?#]\S*)?", re.IGNORECASE
)
_MENTION = re.compile(r"@(?:here|channel|everyone)\b|<[!@#]")
_MENTIONED = re.compile(r"<@[UW]\w+>|<!subteam\^S\w+>|<!here>")
_USER, _GROUP = re.compile("[UW][A-Z0-9]{2,20}"), re.compile("S[A-Z0-9]{2,20}")


def problems(body: Mapping[str, Any], *, webhook: bool = False, may_mention: bool = False) -> list[str]:
    """What Slack would reject in the body, or would take for more than text, as sentences; empty: it is fine.

    Parameters
    ----------
    may_mention
        Whether somebody may be mentioned; Slack itself does not mind.
    """
    found = list(_problems(body, webhook, may_mention))
    if not may_mention and (who := mentioned(body)):
        found.append(f"it mentions {', '.join(who)}")
    return found


def mentioned(body: Mapping[str, Any]) -> list[str]:
    """Whom a message notifies, as Slack writes them in texts: by its blocks; without any, by its text. In attachments nobody is notified."""
    if not body.get("blocks"):
        return _MENTIONED.findall(str(body.get("text") or ""))
    found = []
    for block in body["blocks"]:
        for one in block.get("elements") or ():
            found += [name for part in one.get("elements") or () if (name := _mention(part))]
    return found


def _mention(part: Mapping[str, Any]) -> str:
    if part.get("type") == "user":
        return f"<@{part.get('user_id')}>"
    if part.get("type") == "usergroup":
        return f"<!subteam^{part.get('usergroup_id')}>"
    return f"<!{part.get('range')}>" if part.get("type") == "broadcast" else ""


def _problems(body: Mapping[str, Any], webhook: bool, may_mention: bool) -> Iterator[str]:
    unknown = set(body) - _BODY
    if unknown:
        yield f"unknown members {sorted(unknown)}"
    if webhook and "channel" in body:
        yield "an incoming webhook names no channel"
    text = body.get("text") or ""
    if not isinstance(text, str):
        yield "text is no text"
        return
    if len(text) > MAX_TEXT:
        yield f"text has more than {MAX_TEXT} characters"
    parsed = not (body.get("mrkdwn") is False and body.get("parse") == "none")
    yield from _formatted(_MENTIONED.sub("", text) if may_mention else text, "text", parsed=parsed)
    attachments = body.get("attachments") or []
    if len(attachments) > MAX_ATTACHMENTS:
        yield f"more than {MAX_ATTACHMENTS} attachments"
    lists = [("blocks", body.get("blocks") or [])]
    for number, one in enumerate(attachments):
        if set(one) - _ATTACHMENT:
            yield f"attachments[{number}] has unknown members {sorted(set(one) - _ATTACHMENT)}"
        if not re.fullmatch(r"#[0-9a-f]{6}|good|warning|danger", str(one.get("color", "good"))):
            yield f"attachments[{number}].color is no colour"
        yield from _formatted(str(one.get("fallback") or ""), f"attachments[{number}].fallback", parsed=False)
        lists.append((f"attachments[{number}].blocks", one.get("blocks") or []))
    if not text and not any(blocks for _, blocks in lists):
        yield "no text"
    total = 0
    for path, blocks in lists:
        if len(blocks) > MAX_BLOCKS:
            yield f"{path} has more than {MAX_BLOCKS} blocks"
        for number, block in enumerate(blocks):
            yield from _block(block, f"{path}[{number}]")
            total += sum(map(len, _texts(block)))
    if total > MAX_ALL_BLOCKS:
        yield f"all blocks have {total} characters, more than {MAX_ALL_BLOCKS}"


def _block(block: Mapping[str, Any], path: str) -> Iterator[str]:
    kind = block.get("type")
    if kind not in _KINDS:
        yield f"{path}.type {kind!r} is unknown"
        return
    if unknown := set(block) - _KINDS[kind]:
        yield f"{path} has unknown members {sorted(unknown)}"
    if len(str(block.get("block_id") or "")) > BLOCK_ID:
        yield f"{path}.block_id is too long"
    if kind == "header":
        yield from _text(block.get("text"), f"{path}.text", HEADER_TEXT, plain=True)
    elif kind == "section":
        if "text" in block:
            yield from _text(block["text"], f"{path}.text", SECTION_TEXT)
        elif not block.get("fields"):
            yield f"{path} has neither text nor fields"
        if len(block.get("fields") or []) > FIELDS:
            yield f"{path}.fields has more than {FIELDS}"
        for number, one in enumerate(block.get("fields") or []):
            yield from _text(one, f"{path}.fields[{number}]", FIELD_TEXT)
    elif kind == "context":
        elements = block.get("elements") or []
        if not 1 <= len(elements) <= CONTEXT_ELEMENTS:
            yield f"{path}.elements has {len(elements)}, not 1 to {CONTEXT_ELEMENTS}"
        for number, one in enumerate(elements):
            yield from _text(one, f"{path}.elements[{number}]", FIELD_TEXT)
    elif kind == "rich_text":
        if not block.get("elements"):
            yield f"{path}.elements is empty"
        for number, one in enumerate(block.get("elements") or []):
            yield from _rich_text(one, f"{path}.elements[{number}]", "attachments" in path)
    elif kind == "actions":
        yield from _actions(block.get("elements") or [], f"{path}.elements")


def _rich_text(one: Mapping[str, Any], path: str, attached: bool) -> Iterator[str]:
    if one.get("type") not in ("rich_text_section", "rich_text_preformatted"):
        yield f"{path}.type {one.get('type')!r} is unknown"
        return
    elements = one.get("elements") or []
    if not elements:
        yield f"{path}.elements is empty"
    if sum(map(len, _texts([{**each, "type": ""} for each in elements]))) > SECTION_TEXT:
        yield f"{path} has more than {SECTION_TEXT} characters"
    for number, each in enumerate(elements):
        where = f"{path}.elements[{number}]"
        allowed = _ELEMENTS.get(str(each.get("type")))
        if allowed is None:
            yield f"{where}.type {each.get('type')!r} is unknown"
        elif unknown := set(each) - allowed:
            yield f"{where} has unknown members {sorted(unknown)}"
        if each.get("type") == "text" and not each.get("text"):
            yield f"{where}.text is empty"
        if _mention(each) and attached:
            yield f"{where} mentions somebody in an attachment, which notifies nobody"
        if each.get("type") == "user" and not _USER.fullmatch(str(each.get("user_id"))):
            yield f"{where}.user_id is no id of a user"
        if each.get("type") == "usergroup" and not _GROUP.fullmatch(str(each.get("usergroup_id"))):
            yield f"{where}.usergroup_id is no id of a user group"
        if each.get("type") == "broadcast" and each.get("range") not in ("here", "channel", "everyone"):
            yield f"{where}.range is unknown"
        if each.get("type") == "link" and not (len(url := str(each.get("url") or "")) <= URL and _WEB_URL.fullmatch(url)):
            yield f"{where}.url is not an absolute http(s) URL with a host, without spaces"


def _actions(elements: list[Mapping[str, Any]], path: str) -> Iterator[str]:
    if not 1 <= len(elements) <= ACTIONS_ELEMENTS:
        yield f"{path} has {len(elements)}, not 1 to {ACTIONS_ELEMENTS}"
    identifiers = [one.get("action_id") for one in elements]
    if len(set(identifiers)) < len(identifiers):
        yield f"{path}: duplicate action_id"
    for number, one in enumerate(elements):
        where = f"{path}[{number}]"
        if one.get("type") != "button":
            yield f"{where}.type is not button"
        yield from _text(one.get("text"), f"{where}.text", BUTTON_TEXT, plain=True)
        url = str(one.get("url") or "")
        if len(url) > URL:
            yield f"{where}.url has {len(url)} characters, more than {URL}"
        if not _WEB_URL.fullmatch(url):
            yield f"{where}.url is not an absolute http(s) URL with a host, without spaces"
        if not 1 <= len(str(one.get("action_id") or "")) <= ACTION_ID:
            yield f"{where}.action_id has not 1 to {ACTION_ID} characters"


def _text(one: Any, path: str, most: int, *, plain: bool = False) -> Iterator[str]:
    if not isinstance(one, Mapping) or one.get("type") not in ("plain_text", "mrkdwn"):
        yield f"{path} is no text object"
        return
    allowed = {"type", "text", "emoji" if one["type"] == "plain_text" else "verbatim"}
    if unknown := set(one) - allowed:
        yield f"{path} has unknown members {sorted(unknown)}"
    if plain and one["type"] != "plain_text":
        yield f"{path} must be plain_text"
    text = one.get("text")
    if not isinstance(text, str) or not text.strip():
        yield f"{path} is empty"
        return
    if len(text) > most:
        yield f"{path} has {len(text)} characters, more than {most}"
    if one["type"] == "mrkdwn":
        yield from _formatted(text, path)


def _formatted(text: str, path: str, *, parsed: bool = True) -> Iterator[str]:
    """What in a formatted text is not meant as text; where Slack does not look for names and URLs (not `parsed`), only markup is."""
    rest = _DATE.sub("", text)
    if parsed and _MENTION.search(rest):
        yield f"{path} mentions somebody"
    if "<" in rest or ">" in rest or re.search(r"&(?!amp;|lt;|gt;)", rest):
        yield f"{path} has an unescaped &, < or >"
    if parsed and re.search(r"https?://\w|www\.\w", rest):
        yield f"{path} holds something that becomes a link"


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        for inner in value.values():
            yield from _texts(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from _texts(inner)
