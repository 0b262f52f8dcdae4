"""How long something may take that was due while the router was killed."""

from __future__ import annotations

import pytest

from tests.soak.alertmanager_pair import not_acknowledged
from tests.support.pictures import Wanted


@pytest.mark.parametrize(
    ("at", "downs", "until"),
    [
        (10.0, [], 15.0),
        (10.0, [(1.0, 3.0), (15.5, 20.0)], 15.0),
        (10.0, [(11.0, 14.0)], 18.0),
        (10.0, [(8.0, 12.0)], 17.0),
        (10.0, [(11.0, 14.0), (17.0, 20.0)], 21.0),
    ],
    ids=["always runs", "runs meanwhile", "is killed meanwhile", "does not run when it is due", "is killed again"],
)
def test_while_the_router_does_not_run_no_time_passes(at: float, downs: list[tuple[float, float]], until: float) -> None:
    assert Wanted(window=0.0, slack=5.0, downs=downs).until(at) == until


@pytest.mark.parametrize(
    ("failed", "sentences"),
    [
        ((4.0, 503), []),
        ((6.0, 503), ["the router responded with 503 at 6.00 s"]),
        ((4.0, 403), ["the router responded with 403 at 4.00 s"]),
    ],
    ids=["killed", "runs", "refused"],
)
def test_a_router_that_runs_acknowledges_whatever_comes(failed: tuple[float, int], sentences: list[str]) -> None:
    assert not_acknowledged([failed], [(1.0, 2.0), (3.0, 5.0)]) == sentences
