"""What people write into an EventSink: the models of its spec, the single source of the CRD's schema.

Shapes and bounds are here; the rules attached to them are in `rules.py`. Each destination type adds a field of its name, with the
model and the rules of its part `spec`. Rules that depend on the cluster (tenancy, references, policy) are the operator's. Defaults
that are policy stay out of the schema: absent is absent.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import Field, create_model

from eventsink.cel.condition import read_condition
from eventsink.cel.reading import MAX_EXPRESSION_CHARACTERS
from eventsink.destinations import registry

from . import defaults, rules
from .model import SET, Duration, Severity, SpecModel
from .mutes import MAX_MUTES, MuteSpec
from .rule import Readable, exactly_one
from .times import MAX_INTERVALS, TimeIntervalSpec


class MatchSpec(SpecModel):
    """Which alerts of the tenant to deliver; an alert must satisfy every part that is given."""

    min_severity: Severity | None = Field(
        default=None,
        description="Lowest severity to deliver. An alert whose severity is unknown is always delivered.",
    )
    sources: (
        Annotated[
            list[Annotated[str, Field(max_length=63), rules.SOURCE]],
            Field(min_length=1, max_length=32, json_schema_extra=SET),
            rules.UNIQUE_ENTRIES,
        ]
        | None
    ) = Field(default=None, description="Names of sources, as the platform configured them. Default: all.")
    namespaces: (
        Annotated[
            list[Annotated[str, Field(max_length=63), rules.NAMESPACE_GLOB]],
            Field(min_length=1, max_length=64, json_schema_extra=SET),
            rules.UNIQUE_ENTRIES,
        ]
        | None
    ) = Field(
        default=None,
        description="Kubernetes namespaces that the alert is about; * matches any characters. An alert without a "
        "namespace is then not delivered.",
    )
    matchers: (
        Annotated[
            list[
                Annotated[
                    str,
                    Field(max_length=1024),
                    rules.MATCHER,
                    rules.MATCHER_OPERATOR,
                    rules.MATCHER_QUOTES,
                    rules.MATCHER_UNQUOTED,
                ]
            ],
            Field(min_length=1, max_length=32, json_schema_extra=SET),
            rules.UNIQUE_ENTRIES,
        ]
        | None
    ) = Field(
        default=None,
        description='Label matchers as in Alertmanager, such as alertname=~"Kube.+" or team!="batch"; an alert must '
        "satisfy all of them. Regular expressions are RE2 and match the whole value.",
    )
    expression: Annotated[str, Field(min_length=1, max_length=MAX_EXPRESSION_CHARACTERS), Readable(read_condition)] | None = (
        Field(
            default=None,
            description="A condition on the alert in the Common Expression Language (CEL), for what matchers cannot say, such as "
            'alert.labels.team == "payments" || alert.severity.atLeast("critical").',
        )
    )
    active_times: Annotated[list[TimeIntervalSpec], Field(min_length=1, max_length=MAX_INTERVALS)] | None = Field(
        default=None, description="When alerts are sent: in one of these intervals. Default: at any time."
    )
    mute_times: Annotated[list[TimeIntervalSpec], Field(min_length=1, max_length=MAX_INTERVALS)] | None = Field(
        default=None, description="When no alerts are sent, also within activeTimes: in each of these intervals."
    )
    outside_times: Literal["wait", "drop"] | None = Field(
        default=None,
        description="What becomes of alerts outside of activeTimes and within muteTimes. wait: they are sent when the time comes, unless "
        "maxAge has passed. drop: only what still fires then is sent, and the ends of what was sent before. "
        f"Default: {defaults.OUTSIDE_TIMES}.",
    )


class DeliverySpec(SpecModel):
    """How alerts are delivered."""

    send_resolved: bool | None = Field(
        default=None, description=f"Also notify when an alert resolves. Default: {str(defaults.SEND_RESOLVED).lower()}."
    )
    repeat_interval: Annotated[Duration, rules.REPEAT_INTERVAL] | None = Field(
        default=None,
        description="How often to notify again of an alert that keeps firing, for sources that resend it all the time "
        "(Prometheus without Alertmanager), and of a Kubernetes Event whose count grows. Alertmanager decides about repeats itself. "
        "1m to 30d. Absent: never.",
    )
    max_age: Annotated[Duration, rules.MAX_AGE] | None = Field(
        default=None,
        description="How long to retry before a message is dead-lettered. 1m to 30d. Default: " + defaults.MAX_AGE + ".",
    )


class CommonSpec(SpecModel):
    """Deliver the alerts of one tenant, or of all, that match to one destination."""

    tenant: Annotated[str, Field(max_length=rules.MAX_TENANT_LENGTH), rules.TENANT, rules.TENANT_IMMUTABLE] = Field(
        description="The tenant whose alerts are delivered: a UUID or a name; * in a namespace that the platform has marked for it: "
        "all tenants. Cannot be changed."
    )
    name: Annotated[str, Field(max_length=128), rules.DISPLAY_NAME] = Field(description="Display name.")
    description: str | None = Field(default=None, max_length=1024, description="What the sink is for, for people.")
    suspend: bool | None = Field(
        default=None, description="Pause this sink: while true, alerts are neither queued nor sent. Default: false."
    )
    match: MatchSpec | None = Field(default=None, description="Which alerts to deliver. Default: every alert of the tenant.")
    mutes: Annotated[list[MuteSpec], Field(min_length=1, max_length=MAX_MUTES)] | None = Field(
        default=None, description="Alerts of which the sink is not notified for a time."
    )
    delivery: DeliverySpec | None = Field(default=None, description="How alerts are delivered.")

    @property
    def type(self) -> str:
        """The destination type: the name of the field that says where to deliver."""
        return next(name for name in registry.names() if getattr(self, name) is not None)

    @property
    def destination(self) -> SpecModel:
        """The field that says where to deliver: the model of the destination type."""
        found: SpecModel = getattr(self, self.type)
        return found


_ONE_OF = f"exactly one of {', '.join(registry.names()[:-1])} and {registry.names()[-1]}"
ONE_DESTINATION = exactly_one(registry.names(), f"set {_ONE_OF}; for a second destination create a second EventSink")


def _destination_fields() -> dict[str, Any]:
    fields = {}
    for name in registry.names():
        model = registry.load(name, "spec").SPEC
        summary = (model.__doc__ or "").partition("\n")[0]
        fields[name] = (model | None, Field(default=None, description=f"{summary} Set {_ONE_OF}."))
    return fields


if TYPE_CHECKING:

    class EventSinkSpec(CommonSpec):
        """The spec of an EventSink, with one optional field for each destination type."""

else:
    EventSinkSpec = create_model(
        "EventSinkSpec", __base__=CommonSpec, __module__=__name__, __doc__=CommonSpec.__doc__, **_destination_fields()
    )
    EventSinkSpec.RULES = (ONE_DESTINATION,)
