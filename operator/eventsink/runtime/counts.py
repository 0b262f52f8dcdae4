"""Metrics of what happens very often: counted in the event loop alone, without locks, and written out when they are asked for."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Sequence
from itertools import accumulate

from prometheus_client import CollectorRegistry
from prometheus_client.core import CounterMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector
from prometheus_client.utils import floatToGoString


class Counts(Collector):
    """A counter by labels, of which there are few values."""

    def __init__(self, name: str, text: str, labels: Sequence[str], registry: CollectorRegistry) -> None:
        self._family = (name, text)
        self.label_names = tuple(labels)
        self._values: dict[tuple[str, ...], int] = {}
        registry.register(self)

    def add(self, count: int, *labels: str) -> None:
        """Count so many more."""
        self._values[labels] = self._values.get(labels, 0) + count

    def describe(self) -> Iterable[Metric]:
        return [self._metric()]

    def collect(self) -> Iterable[Metric]:
        family = self._metric()
        for labels, value in self._values.items():
            family.add_metric(labels, value)
        yield family

    def _metric(self) -> CounterMetricFamily:
        return CounterMetricFamily(*self._family, labels=self.label_names)


class Durations(Collector):
    """A histogram without labels, in seconds."""

    def __init__(self, name: str, text: str, buckets: Sequence[float], registry: CollectorRegistry) -> None:
        self._family = (name, text)
        self.label_names: tuple[str, ...] = ()
        self._bounds = tuple(buckets)
        self._counts = [0] * (len(buckets) + 1)
        self._sum = 0.0
        registry.register(self)

    def observe(self, seconds: float) -> None:
        """Count one of this length."""
        self._counts[bisect_left(self._bounds, seconds)] += 1
        self._sum += seconds

    def describe(self) -> Iterable[Metric]:
        return [HistogramMetricFamily(*self._family)]

    def collect(self) -> Iterable[Metric]:
        family = HistogramMetricFamily(*self._family)
        bounds = [*map(floatToGoString, self._bounds), "+Inf"]
        family.add_metric([], list(zip(bounds, accumulate(self._counts), strict=True)), self._sum)
        yield family
