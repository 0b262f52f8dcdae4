"""A real Thanos Ruler in front of the router instead of an Alertmanager."""

from __future__ import annotations

from typing import ClassVar

from tests.e2e.ruler_contract import RulerContract
from tests.support.rulers import ThanosRuler


class TestThanosRuler(RulerContract):
    ruler = ThanosRuler
    link = "http://thanos.example.com/graph?"
    labels: ClassVar = {"cluster": "eu"}
