"""A real vmalert in front of the router instead of an Alertmanager."""

from __future__ import annotations

from typing import ClassVar

from tests.e2e.ruler_contract import RulerContract
from tests.support.rulers import Vmalert


class TestVmalert(RulerContract):
    ruler = Vmalert
    link = "http://vmalert.example.com/vmalert/alert?"
    labels: ClassVar = {"alertgroup": "disks", "replica": "a"}
