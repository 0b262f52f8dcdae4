"""Links of alerts: which annotations hold them, and what a browser opens."""

from __future__ import annotations

import re
import string
from collections.abc import Mapping
from urllib.parse import quote, urlsplit

from eventsink.alerts.limits import MAX_SHARED_URL_CHARACTERS, MAX_URL_CHARACTERS

RUNBOOKS = ("runbook_url", "runbook")
"""Names of annotations, the first of which counts."""
DASHBOARDS = ("dashboard_url", "dashboardURL", "dashboard", "__dashboard_url__")
REPLICAS = frozenset({"prometheus_replica", "replica"})
"""Labels in which the servers of a pair usually differ."""
MAX_KEPT_EQUALITIES = 4096
MAX_KEPT_CHARACTERS = 128
_equalities: dict[tuple[str, str], str] = {}
"""A label -> how a link says it; all are dropped when there are too many."""
MAX_REPLACED = 16
"""Different characters that are encoded one after the other."""
_UNRESERVED = frozenset(f"{string.ascii_letters}{string.digits}_.-~")
_CLASSIC_NAME = re.compile(r"[a-zA-Z_:][a-zA-Z0-9_:]*")
_NO_HOST = ("", "/", "?", "#", ":")
_HOST = re.compile(r"(?![.-])[\w.-]+(?<!-)|\[[0-9a-fA-F:.]+\]")


def web_url(text: str, longest: int = MAX_URL_CHARACTERS) -> str:
    """The URL without the space around it, where it begins as one that a browser opens; otherwise an empty text. Cheap: see `is_web_url`."""
    text = text.strip()
    if not text or len(text) > longest or not text.isprintable() or " " in text:
        return ""
    if not text.startswith(("http://", "https://")) and not text[:8].lower().startswith(("http://", "https://")):
        return ""
    after = text.index("//") + 2
    return "" if text[after : after + 1] in _NO_HOST else text


def is_web_url(text: str) -> bool:
    """Whether it is an absolute http(s) URL with a host (and a port, if it has one, that is a number), without spaces."""
    if not web_url(text, len(text)) or text != text.strip():
        return False
    try:
        parts = urlsplit(text)
        port = parts.port
    except ValueError:
        return False
    host = parts.netloc.rpartition("@")[2]
    host = host[: host.rindex(":")] if port is not None or host.endswith(":") else host
    return _HOST.fullmatch(host) is not None


def first_of(texts: Mapping[str, str], names: tuple[str, ...]) -> str:
    """The first text that is not empty, of these names; otherwise an empty one."""
    if texts:
        for name in names:
            if text := texts.get(name):
                return text
    return ""


def silence_url(external_url: str, labels: Mapping[str, str], without: frozenset[str] = frozenset()) -> str:
    """Alertmanager's page for a new silence with these labels filled in, but for `REPLICAS`; none where they are too long for a link.

    Parameters
    ----------
    external_url
        Of the Alertmanager; its query is kept, its fragment is the page.
    without
        Names of further labels in which the replicas of a source differ: a silence is for the alerts of all of them.
    """
    if not external_url:
        return ""
    if without or not REPLICAS.isdisjoint(labels):
        labels = {name: value for name, value in labels.items() if name not in without and name not in REPLICAS}
    if len("".join(labels)) + len("".join(labels.values())) + 4 * len(labels) > MAX_SHARED_URL_CHARACTERS:
        return ""
    equal = "%2C".join([_equalities.get(pair) or _equality(pair) for pair in sorted(labels.items())])
    page, query = external_url, ""
    if "#" in page or "?" in page:
        page, _, query = page.partition("#")[0].partition("?")
    return f"{page.rstrip('/')}/{query and '?'}{query}#/silences/new?filter=%7B{equal}%7D"


def _equality(pair: tuple[str, str]) -> str:
    """A matcher, percent-encoded; most labels are met again and again, long ones are not kept."""
    name, value = pair
    if _CLASSIC_NAME.fullmatch(name) is None:
        name = _quoted(name)
    text = percent_encoded(f"{name}={_quoted(value)}")
    if len(text) <= MAX_KEPT_CHARACTERS:
        if len(_equalities) >= MAX_KEPT_EQUALITIES:
            _equalities.clear()
        _equalities[pair] = text
    return text


def percent_encoded(text: str) -> str:
    """As `quote` without safe characters, in a tenth of the time where few different characters are encoded."""
    encoded = set(text) - _UNRESERVED
    if len(encoded) > MAX_REPLACED:
        return quote(text, safe="")
    if "%" in encoded:
        encoded.remove("%")
        text = text.replace("%", "%25")
    for character in encoded:
        text = text.replace(character, quote(character, safe=""))
    return text


def _quoted(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
    return f'"{escaped}"'
