"""A tenant that sends far more than its quota, to a router that is killed: others lose nothing, and it gets to know what fires in the end."""

from __future__ import annotations

from pathlib import Path

from tests.soak.kills import Recorder
from tests.support.parts import Router, alert, notification
from tests.support.router_process import start_router
from tests.support.waiting import wait_until

QUOTAS = {"tenants": {"noisy": {"waitingDeliveries": 300, "rate": 50, "burst": 100}}}
ROUNDS, AT_ONCE, KILLS = 15, 60, (5, 10)
STAYS = 20
"""Of so many noisy alerts, one stays firing; the others end a round after they fired."""


def both(number: int) -> list[dict[str, object]]:
    """What a round posts of both tenants, in one notification."""
    begin = [alert(f"N{number}-{one}", namespace="noisy") for one in range(AT_ONCE)]
    end = [alert(f"N{number - 1}-{one}", status="resolved", namespace="noisy") for one in range(AT_ONCE) if one % STAYS]
    quiet = [alert(f"Q{number}", namespace="quiet"), alert(f"Q{number - 1}", status="resolved", namespace="quiet")]
    return [*begin, *end, *quiet] if number else [*begin, quiet[0]]


def quota_metrics(router: Router) -> list[str]:
    return [line for line in router.metrics().splitlines() if line.startswith("eventsink_router_over_quota_total{")]


def test_a_tenant_over_its_quota_costs_others_nothing_and_converges_through_kills(tmp_path: Path) -> None:
    recorder = Recorder()
    origin = f"http://127.0.0.1:{recorder.port}"
    addresses = (f"{origin}/noisy#tenant=noisy", f"{origin}/quiet#tenant=quiet")
    stays = {f"N{one}-{two}" for one in range(ROUNDS) for two in range(AT_ONCE) if not two % STAYS or one == ROUNDS - 1}
    number = 0
    for until in (*KILLS, ROUNDS):
        with start_router(tmp_path, *addresses, quotas=QUOTAS) as router:
            while number < until:
                status, response = router.post(notification(*both(number), group=f"g{number}"))
                assert (status, response["rejected"]) == (200, [])
                number += 1
            if until in KILLS:
                router.running.kill9()
                continue
            noisy, quiet = router.admin("/v1/sinks")[1]["sinks"]
            assert noisy["reason"] == "QuotaExceeded"
            assert "quotas.tenants.noisy" in noisy["message"]
            assert quiet["reason"] != "QuotaExceeded"
            assert all('tenant="noisy"' in line and 'outcome="deferred"' in line for line in quota_metrics(router))
            wait_until("everything of the quiet tenant", lambda: len(recorder.facts.get("/quiet", ())) >= 2 * ROUNDS - 1)
            wait_until("what fires of the noisy tenant", lambda: stays <= firing(recorder))
            wait_until("the noisy tenant's ends", lambda: firing(recorder) <= stays)
    assert len(recorder.facts["/noisy"]) < 2 * ROUNDS * AT_ONCE  # what had ended before there was room is not sent


def firing(recorder: Recorder) -> set[str]:
    """What fires, as far as the noisy tenant's receiver knows."""
    facts = set(recorder.facts.get("/noisy", ()))
    return {name for name, status in facts if status == "firing" and (name, "resolved") not in facts}
