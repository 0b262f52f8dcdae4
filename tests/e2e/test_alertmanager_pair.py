"""A real pair of Alertmanagers, a router that is killed again and again, and sinks that change: against a webhook attached to the pair."""

from __future__ import annotations

import secrets
from pathlib import Path

from tests.controlplane.alertmanager import CurrentAlertmanager
from tests.soak.alertmanager_pair import play
from tests.support.scenarios import OF_ANY, half_restarted


def test_no_sink_misses_what_a_webhook_attached_to_the_pair_got(
    current_alertmanager: CurrentAlertmanager, tmp_path: Path
) -> None:
    print(play(current_alertmanager, OF_ANY, [half_restarted], tmp_path, seed=secrets.randbits(32)))
