"""What the router knows of sinks: one of all tenants may send only while the tenancy says that its namespace is the platform's."""

from __future__ import annotations

from eventsink.router.directory import SinkChange, SinkDirectory
from eventsink.sinks.sink import Tenancy
from tests.unit.router.sinks import sink, withdrawn_sink

OF_ALL = sink("all", tenant="*")
MARKED = Tenancy(platform=("acme",))


def test_a_sink_of_all_tenants_is_withdrawn_until_the_tenancy_names_its_namespace_and_when_it_does_not_any_more() -> None:
    directory = SinkDirectory()
    changes: list[SinkChange] = []
    directory.subscribe(changes.append)
    for tenancy, active in (
        (None, False),
        (Tenancy(), False),
        (MARKED, True),
        (Tenancy(platform=("other",)), False),
        (MARKED, True),
    ):
        if tenancy is None:
            directory.put(OF_ALL)
        else:
            directory.set_tenancy(tenancy)
        known = directory.sinks[OF_ALL.uid]
        assert (known.withdrawn is None, known.target is not None) == (active, active)
        if known.withdrawn is not None:
            assert known.withdrawn.reason == "NotPlatformNamespace"
    assert [one.after is not None and one.after.withdrawn is None for one in changes] == [False, True, False, True]


def test_a_sink_that_the_operator_withdrew_stays_withdrawn_for_its_reason() -> None:
    directory = SinkDirectory()
    directory.set_tenancy(MARKED)
    withdrawn = withdrawn_sink("all", tenant="*")
    directory.put(withdrawn)
    assert directory.sinks[withdrawn.uid] is withdrawn


def test_the_tenancy_changes_no_other_sink_and_brings_no_deleted_one_back() -> None:
    directory = SinkDirectory()
    of_acme = sink("of-acme")
    directory.put(of_acme)
    directory.put(OF_ALL)
    directory.remove(OF_ALL.uid)
    directory.set_tenancy(MARKED)
    assert dict(directory.sinks) == {of_acme.uid: of_acme}
    directory.put(OF_ALL)
    directory.put(OF_ALL.model_copy(update={"tenant": "acme"}))
    directory.set_tenancy(Tenancy())
    assert directory.sinks[OF_ALL.uid].withdrawn is None
