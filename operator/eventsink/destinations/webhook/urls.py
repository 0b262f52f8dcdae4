"""The rules for a URL that people write into the spec of a webhook.

They belong to the object around it, since the API server repeats the value that a rule is attached to.
"""

from __future__ import annotations

from eventsink.resources.rule import Rule, cel_text
from eventsink.runtime.patterns import Pattern

MAX_URL_LENGTH = 2048
URL_SCHEME_PATTERN = r"^https?://"
URL_BAD_CHARACTER_PATTERN = r"[^!-~]"
URL_USERINFO_PATTERN = r"^[a-z]+://[^/?#]*@"
URL_AUTHORITY_PATTERN = (
    r"^https?://([A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?[.]?|\[[0-9A-Fa-f:.]+\])"
    r"(:([1-9][0-9]{0,3}|[1-5][0-9]{4}|6[0-4][0-9]{3}|65[0-4][0-9]{2}|655[0-2][0-9]|6553[0-5]))?([/?#]|$)"
)
_OCTET = "(25[0-5]|2[0-4][0-9]|1[0-9][0-9]|[1-9]?[0-9])"
URL_NUMBER_PATTERN = r"^https?://([^/?#:@\[]*[.])?([0-9]+|0[xX][0-9A-Fa-f]*)[.]?(:[0-9]*)?([/?#]|$)"
"""The host ends in a number, which makes an IPv4 address of it to many programs (WHATWG URL)."""
URL_IPV4_PATTERN = rf"^https?://{_OCTET}([.]{_OCTET}){{3}}(:[0-9]*)?([/?#]|$)"


def url_rules(field: str, *, no_userinfo: str) -> tuple[Rule, ...]:
    """The rules for one field of a spec's model, in camelCase.

    Parameters
    ----------
    no_userinfo
        What is said of user and password in the URL.
    """
    return (
        _rule(field, "the URL must begin with http:// or https://, in lower case", (URL_SCHEME_PATTERN, True)),
        _rule(
            field,
            "the URL must not contain spaces, control characters or characters beyond ASCII; percent-encode them, "
            "and write such a host name in punycode (xn--...)",
            (URL_BAD_CHARACTER_PATTERN, False),
        ),
        _rule(field, "remove the fragment (# and what follows it) from the URL; it is never sent", ("#", False)),
        _rule(field, no_userinfo, (URL_USERINFO_PATTERN, False)),
        _rule(
            field,
            "the URL needs a host name or an IP address behind its scheme, and a port from 1 to 65535 if it names one",
            (URL_AUTHORITY_PATTERN, True),
            (URL_SCHEME_PATTERN, False),
            (URL_USERINFO_PATTERN, True),
            (URL_BAD_CHARACTER_PATTERN, True),
        ),
        _rule(
            field,
            "write an IPv4 address in the URL as four decimal numbers from 0 to 255 without leading zeros, such as 192.0.2.7; "
            "programs read other forms differently",
            (URL_IPV4_PATTERN, True),
            (URL_NUMBER_PATTERN, False),
        ),
    )


def _rule(field: str, message: str, *ways: tuple[str, bool]) -> Rule:
    """A rule about the URL, where there is one: one of the ways holds, each a pattern and whether it has to be found."""
    compiled = [(Pattern(pattern), found) for pattern, found in ways]
    attribute = "".join(f"_{one.lower()}" if one.isupper() else one for one in field)

    def holds(model: object) -> bool:
        url: str | None = getattr(model, attribute)
        return url is None or any(pattern.search(url) == found for pattern, found in compiled)

    return Rule(
        message=message,
        cel=" || ".join(
            [f"!has(self.{field})"]
            + [f"{'' if found else '!'}self.{field}.matches({cel_text(pattern)})" for pattern, found in ways]
        ),
        holds=holds,
        field=field,
    )
