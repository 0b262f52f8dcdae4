"""All rules about an EventSink: the general ones, and those of each destination type."""

from __future__ import annotations

from eventsink.destinations import registry
from eventsink.resources import mutes, rules, spec, times
from eventsink.resources.rule import Rule

RULES: dict[str, Rule] = {
    name: rule
    for module in (rules, spec, times, mutes, *(registry.load(name, "spec") for name in registry.names()))
    for name, rule in vars(module).items()
    if isinstance(rule, Rule)
}
