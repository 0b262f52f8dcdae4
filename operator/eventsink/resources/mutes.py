"""Mutes in a spec: which alerts a sink is not notified of, for a time."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from eventsink.runtime.times import parse_time

from . import rules
from .model import SET, SpecModel
from .rule import Readable, Rule, cel_text, form

MAX_MUTES = 32
MAX_MUTE_MATCHERS = 6
MAX_MUTE_MATCHER_CHARACTERS = 256
MAX_TIME_CHARACTERS = 40

TIME_PATTERN = (
    r"^[0-9]{4}-(0[1-9]|1[0-2])-(0[1-9]|[12][0-9]|3[01])T([01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9](\.[0-9]{1,9})?"
    r"(Z|[+-]([01][0-9]|2[0-3]):[0-5][0-9])$"
)
MUTE_TIME = form(TIME_PATTERN, "write a time with its date and zone, as in RFC 3339, such as 2027-01-31T18:00:00Z")
ENDS_AFTER_START = Rule(
    message="until must be after from",
    cel=f"!has(self.from) || ![self.from, self.until].all(one, one.matches({cel_text(TIME_PATTERN)})) "
    "|| timestamp(self.from) < timestamp(self.until)",
    holds=lambda mute: mute.from_ is None or parse_time(mute.from_) < parse_time(mute.until),
    field="until",
)
_Time = Annotated[str, Field(max_length=MAX_TIME_CHARACTERS), MUTE_TIME, Readable(parse_time)]


class MuteSpec(SpecModel):
    """Alerts of which the sink is not notified for a time. What still fires when it is over is sent then."""

    RULES = (ENDS_AFTER_START,)

    matchers: Annotated[
        list[
            Annotated[
                str,
                Field(max_length=MAX_MUTE_MATCHER_CHARACTERS),
                rules.MATCHER,
                rules.MATCHER_OPERATOR,
                rules.MATCHER_QUOTES,
                rules.MATCHER_UNQUOTED,
            ]
        ],
        Field(min_length=1, max_length=MAX_MUTE_MATCHERS, json_schema_extra=SET),
        rules.UNIQUE_ENTRIES,
    ] = Field(description="Label matchers as in spec.match.matchers; an alert that satisfies all of them is muted.")
    from_: _Time | None = Field(default=None, alias="from", description="Since when, in RFC 3339. Default: at once.")
    until: _Time = Field(description="Until when, in RFC 3339, such as 2027-01-31T18:00:00Z.")
    comment: str | None = Field(default=None, max_length=256, description="Why, for people.")
