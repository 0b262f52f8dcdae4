"""No alert ever arrives at another tenant's sink, and none that should arrive is missing, whatever happens to a cluster.

Hypothesis makes up clusters and what happens to them; `tests/support/tenants_cluster.py` holds the operator and the router against the model
of `tests/support/tenants.py`. `python -m tests.benchmarks.tenants` does the same for a million alerts.
"""

from __future__ import annotations

import asyncio
import tempfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule

from tests.support.tenants import ALL, FORMS, KEYS, LABELS, LOOK_ALIKES, QUIET, SOURCES, SPACES, TENANTS
from tests.support.tenants_cluster import Cluster

spaces = st.sampled_from(SPACES)
tenants = st.sampled_from(TENANTS)
keys = st.sampled_from(KEYS)
sources = st.sampled_from(sorted(SOURCES))
owners = st.sampled_from(("", "", *TENANTS))
forms = st.sampled_from(sorted(FORMS))
values = st.sampled_from((*SPACES, *TENANTS)) | st.sampled_from((*LOOK_ALIKES, ""))
labels = st.fixed_dictionaries(
    {}, optional={**dict.fromkeys(LABELS, values), "namespace": spaces | values, "tenant": tenants | values}
)
"""Of an alert: what names its tenant to some source, and what looks as if it did."""
own = st.tuples(st.just("own"), spaces, owners)
claims = st.just("") | st.sampled_from((*TENANTS, ALL, ALL))
create = st.tuples(st.just("create"), keys, claims, forms)
"""An empty tenant is the one of the namespace, here and in `claim`."""
claim = st.tuples(st.just("claim"), keys, claims)
mark = st.tuples(st.just("mark"), spaces, st.booleans())
"""A namespace becomes the platform's, or is not any more."""
hand_over = st.tuples(st.just("hand over"), keys, tenants)
"""A namespace gets another owner, and a sink in it follows."""
of_each = st.permutations(TENANTS).map(
    lambda named: [{"namespace": one, "exported_namespace": one, "tenant": of} for one, of in zip(SPACES, named, strict=False)]
)
post = st.tuples(st.just("post"), sources, st.tuples(of_each, st.lists(labels, max_size=3)).map(lambda two: [*two[0], *two[1]]))
again = st.tuples(st.just("again"), st.integers(0, 20), st.sets(st.integers(0, 6)))
quiet = st.tuples(st.just("quiet"), keys, st.sampled_from((*QUIET, *QUIET, "")))
passes = st.tuples(st.just("an hour passes"))
others = st.one_of(
    st.tuples(st.just("delete namespace"), spaces),
    st.tuples(st.just("rename"), keys, st.sampled_from("xy")),
    st.tuples(st.just("delete"), keys),
    st.tuples(st.just("rotate"), sources, labels),
    st.tuples(st.just("restart router")),
)
chosen = (own, mark, create, claim, hand_over, quiet, quiet, passes, post, post, again, again, others)
moves = st.sampled_from(chosen).flatmap(lambda one: one)


class Clusters(RuleBasedStateMachine):
    """A cluster and what may happen to it; after each step everything is compared."""

    def __init__(self) -> None:
        super().__init__()
        self._loop = asyncio.Runner()
        self._folder = tempfile.TemporaryDirectory()
        self._there: Cluster | None = None

    @initialize(
        allow_unowned=st.booleans(),
        owned=st.tuples(*[owners] * len(SPACES)),
        claims=st.tuples(*[tenants] * len(SPACES)),
        forms=st.tuples(*[forms] * len(SPACES)),
        marked=st.booleans(),
    )
    def start(
        self, *, allow_unowned: bool, owned: tuple[str, ...], claims: tuple[str, ...], forms: tuple[str, ...], marked: bool
    ) -> None:
        self._there = Cluster(Path(self._folder.name), allow_unowned=allow_unowned)
        self._loop.run(self._there.open())
        for namespace, owner, claimed, form in zip(SPACES, owned, claims, forms, strict=True):
            self.happens(("own", namespace, owner))
            self.happens(("create", (namespace, "a"), owner or claimed, form))
        self.happens(("mark", SPACES[0], marked))
        self.happens(("create", (SPACES[0], "b"), ALL, forms[0]))

    @rule(move=moves)  # one rule: of several, Hypothesis leaves most out of each run
    def happens(self, move: tuple[Any, ...]) -> None:
        assert self._there is not None
        self._loop.run(self._there.do(*move))

    def teardown(self) -> None:
        if self._there is not None:
            self._loop.run(self._there.close())
        self._loop.close()
        self._folder.cleanup()


TestTenants = Clusters.TestCase
# The same clusters each time, so that a failure is everybody's. It is printed as the calls that lead to it, not shrunk: that may take
# five minutes, and is had by leaving `phases` out.
TestTenants.settings = settings(
    max_examples=25,
    stateful_step_count=25,
    derandomize=True,
    phases=(Phase.generate,),
    deadline=None,
    database=None,
    print_blob=True,
    suppress_health_check=list(HealthCheck),
)


async def test_the_end_of_an_alert_does_not_follow_a_sink_to_another_tenant(tmp_path: Path) -> None:
    there = await Cluster(tmp_path, allow_unowned=False).open()
    await there.do("own", "shop", "acme")
    await there.do("create", ("shop", "a"), "", "events")
    await there.do("post", "trusted", [{"tenant": "acme"}, {"tenant": "acme"}])
    assert there.world.counts["arrivals"] == 2
    await there.do("hand over", ("shop", "a"), "globex")
    await there.do("again", 0, {0})
    await there.close()
    assert there.world.counts["arrivals"] == 2


@pytest.mark.parametrize("how", QUIET)
async def test_a_sink_that_is_quiet_gets_what_fires_when_it_is_not_any_more(tmp_path: Path, how: str) -> None:
    there = await Cluster(tmp_path, allow_unowned=False).open()
    got = there.world.got
    await there.do("own", "shop", "acme")
    await there.do("create", ("shop", "a"), "", "events")
    await there.do("quiet", ("shop", "a"), how)
    await there.do("post", "trusted", [{"tenant": "acme"}, {"tenant": "acme"}])
    await there.do("again", 0, {0})
    assert len(got) == 0
    await there.do("restart router")
    await there.do("an hour passes")
    await there.close()
    assert len(got) == (3 if how == "waiting" else 1)


@pytest.mark.parametrize("form", sorted(FORMS))
async def test_a_sink_of_the_platform_gets_the_alerts_of_all_tenants_while_its_namespace_is_marked(
    tmp_path: Path, form: str
) -> None:
    there = await Cluster(tmp_path, allow_unowned=False).open()
    got = there.world.got
    await there.do("own", "acme", "acme")
    await there.do("own", "shop", "platform")
    await there.do("post", "trusted", [{"tenant": "acme"}, {"tenant": "globex"}])
    await there.do("create", ("shop", "a"), ALL, form)
    assert len(got) == 0, "the label of a tenant is not that of the platform"
    await there.do("delete", ("shop", "a"))
    await there.do("mark", "shop", True)
    await there.do("create", ("shop", "a"), ALL, form)
    assert len(got) == 2, "what fires when it is created"
    await there.do("post", "cluster", [{"namespace": "acme"}, {"namespace": "shop"}])
    assert len(got) == 4
    await there.do("restart router")
    await there.do("again", 0, {0, 1})
    assert len(got) == 6, "the ends of what it was notified of"
    await there.do("mark", "shop", False)
    await there.do("post", "trusted", [{"tenant": "acme"}])
    assert len(got) == 6, "withdrawn at once"
    await there.close()


async def test_no_label_of_an_alert_reaches_the_sinks_of_the_platform_alone(tmp_path: Path) -> None:
    there = await Cluster(tmp_path, allow_unowned=True).open()
    await there.do("own", "shop", "")
    await there.do("mark", "shop", True)
    await there.do("create", ("shop", "a"), ALL, "events")
    await there.do("post", "trusted", [{"tenant": ALL}])
    await there.close()
    assert (there.world.counts["arrivals"], there.world.counts["without a tenant"]) == (0, 1)
