"""Compiles an EventSink: from its spec and its resolved target to all that delivery needs. Pure; knows no cluster and no destination type."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from eventsink.alerts.matcher_syntax import InvalidMatcher
from eventsink.alerts.matchers import is_classic, parse_matchers
from eventsink.cel.condition import read_condition
from eventsink.destinations.problem import Problem
from eventsink.resources import defaults
from eventsink.resources.eventsink import EventSink, InvalidSpec
from eventsink.resources.mutes import MAX_MUTE_MATCHERS, MAX_MUTES
from eventsink.resources.spec import CommonSpec
from eventsink.resources.times import TimeIntervalSpec
from eventsink.runtime.durations import parse_duration
from eventsink.runtime.times import parse_time
from eventsink.sinks.sink import (
    DOCUMENT_VERSION,
    CompiledFrom,
    Sink,
    SinkDelivery,
    SinkMatch,
    SinkMute,
    SinkTimeInterval,
    SinkTimes,
)
from eventsink.sinks.target import Target

COMPILER_VERSION = 4
"""Recorded in each compiled sink. An operator whose version differs from the recorded one compiles each sink again, once.

Raise it by one in a change after which the same spec, Secrets and settings are compiled to another `Sink`, in this module or in the
`resolve` or `target` part of a destination type: a new field, another default, another destination digest. A router of the previous
version must still read the result.
"""

MAX_SINK_SIZE = 5000
"""Instructions of the regular expressions of one sink together: in the worst case they take 15 ms of a processor for an alert (measured)."""

MAX_SINK_MATCHERS = 64
"""Matchers of one sink: an entry may hold several."""

MAX_BAD_MATCHERS = 8
"""So many matchers of one sink are reported as unusable; the others are not looked at then: to find out takes up to 5 ms each (measured)."""


def compile_sink(sink: EventSink, target: Target, compiled_from: CompiledFrom) -> Sink:
    """Compile an EventSink whose claim was accepted.

    Parameters
    ----------
    sink, target
        The spec, and what its destination resolved to.
    compiled_from
        What it is made from, recorded in the result.

    Raises
    ------
    Problem
        The spec has a matcher that cannot be used, in its match or in a mute.
    """
    spec = sink.spec
    match, times, mutes = compile_match(spec), _times(spec), compile_mutes(spec)
    misread = (
        times is not None
        or bool(mutes)
        or match.expression is not None
        or not all(map(is_classic, match.matchers))
        or target.can_be_misread()
    )
    more = {"version": DOCUMENT_VERSION} if misread else {}
    return Sink(
        **more,
        uid=sink.uid,
        namespace=sink.namespace,
        name=sink.name,
        display_name=spec.name,
        tenant=spec.tenant,
        compiled_from=compiled_from,
        suspend=bool(spec.suspend),
        destination=target.destination(),
        match=match,
        times=times,
        mutes=mutes,
        delivery=_delivery(spec),
        dispatch=target.dispatch_parameters(),
        target=target,
    )


def compile_match(spec: CommonSpec) -> SinkMatch:
    """Which alerts the sink wants.

    Raises
    ------
    Problem
        A matcher cannot be used.
    """
    match = spec.match
    if match is None:
        return SinkMatch()
    for problem in match_problems(spec):
        raise problem
    return SinkMatch(
        min_severity=match.min_severity,
        sources=tuple(match.sources or ()),
        namespaces=tuple(match.namespaces or ()),
        matchers=tuple(match.matchers or ()),
        expression=match.expression,
    )


UNKNOWN_FIELD = "UnknownField"
"""Reason of a field that only a newer version knows."""


def spec_problems(invalid: InvalidSpec) -> list[Problem]:
    """What is wrong with a spec that cannot be read, each by itself."""
    return [
        Problem("UnknownField" if error.unknown_field else "InvalidSpec", error.path, error.message) for error in invalid.errors
    ]


def spec_problem(invalid: InvalidSpec) -> Problem:
    """The same as one, for a status: about the first field, and the others are named."""
    first, *others = found = spec_problems(invalid)
    unknown = any(one.reason == UNKNOWN_FIELD for one in found)
    sentence = "; ".join([first.sentence, *(one.message for one in others)])
    return Problem("UnknownField" if unknown else "InvalidSpec", first.path, sentence)


def match_problems(spec: CommonSpec) -> Iterator[Problem]:
    """What keeps the matchers of a sink from being used: the first `MAX_BAD_MATCHERS` of it."""
    match = spec.match
    if match is None:
        return
    sizes = {}
    if match.expression is not None:
        sizes["spec.match.expression"] = read_condition(match.expression).size
    matchers = [(f"spec.match.matchers[{index}]", text) for index, text in enumerate(match.matchers or ())]
    yield from _matcher_problems("spec.match.matchers", matchers, sizes, MAX_SINK_MATCHERS)


def mute_problems(spec: CommonSpec) -> Iterator[Problem]:
    """The same of its mutes."""
    matchers = [
        (f"spec.mutes[{index}].matchers[{number}]", text)
        for index, mute in enumerate(spec.mutes or ())
        for number, text in enumerate(mute.matchers)
    ]
    yield from _matcher_problems("spec.mutes", matchers, {}, MAX_MUTES * MAX_MUTE_MATCHERS)


def _matcher_problems(field: str, matchers: Iterable[tuple[str, str]], sizes: dict[str, int], most: int) -> Iterator[Problem]:
    """Of matchers, each with its path, that one sink evaluates together: so many at most, beside what is of these sizes."""
    bad = count = 0
    for path, text in matchers:
        try:
            found = parse_matchers(text)
            sizes[path] = sum(one.size for one in found)
            count += len(found)
        except InvalidMatcher as error:
            yield Problem("InvalidMatcher", path, str(error))
            bad += 1
            if bad == MAX_BAD_MATCHERS:
                return
    if count > most:
        sentence = f'this sink has {count} matchers, and {most} are allowed; name several values in one, such as team=~"a|b"'
        yield Problem("InvalidMatcher", field, sentence)
    if (size := sum(sizes.values())) > MAX_SINK_SIZE:
        largest = max(sizes, key=lambda path: sizes[path])
        yield Problem(
            "InvalidMatcher",
            largest,
            f"the regular expressions of this sink are too large together: compiled, they have {size} instructions, and {MAX_SINK_SIZE} are "
            f'allowed; the largest has {sizes[largest]}: write it more simply, or name the values, such as team=~"a|b"',
        )


def compile_mutes(spec: CommonSpec) -> tuple[SinkMute, ...]:
    """Of which alerts the sink is not notified for a time.

    Raises
    ------
    Problem
        A matcher cannot be used.
    """
    for problem in mute_problems(spec):
        raise problem
    return tuple(
        SinkMute(
            matchers=tuple(one.matchers),
            since=parse_time(one.from_).timestamp() if one.from_ is not None else 0.0,
            until=parse_time(one.until).timestamp(),
        )
        for one in spec.mutes or ()
    )


def _times(spec: CommonSpec) -> SinkTimes | None:
    match = spec.match
    if match is None or not (match.active_times or match.mute_times):
        return None
    return SinkTimes(
        active=tuple(map(_interval, match.active_times or ())),
        mute=tuple(map(_interval, match.mute_times or ())),
        drop=(match.outside_times or defaults.OUTSIDE_TIMES) == "drop",
    )


def _interval(spec: TimeIntervalSpec) -> SinkTimeInterval:
    return SinkTimeInterval(
        times=tuple((one.start_time, one.end_time) for one in spec.times or ()),
        weekdays=tuple(spec.weekdays or ()),
        days_of_month=tuple(spec.days_of_month or ()),
        months=tuple(spec.months or ()),
        years=tuple(spec.years or ()),
        location=spec.location,
    )


def _delivery(spec: CommonSpec) -> SinkDelivery:
    delivery = spec.delivery
    if delivery is None:
        return SinkDelivery()
    return SinkDelivery(
        send_resolved=delivery.send_resolved if delivery.send_resolved is not None else defaults.SEND_RESOLVED,
        repeat_interval=parse_duration(delivery.repeat_interval) if delivery.repeat_interval is not None else None,
        max_age=parse_duration(delivery.max_age or defaults.MAX_AGE),
    )
