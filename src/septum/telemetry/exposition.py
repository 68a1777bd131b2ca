"""Metrics as Prometheus reads them: its text format, or OpenMetrics for who asks for that."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import assert_never

from prometheus_client import CollectorRegistry, ProcessCollector, exposition, openmetrics
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    InfoMetricFamily,
)
from prometheus_client.core import Metric as Family
from prometheus_client.registry import Collector

from septum.telemetry.metric import Distribution, Kind, Metric, Sample

_OPENMETRICS = "application/openmetrics-text"


class Exposition:
    """Writes metrics, and after them those of the process (CPU, memory, descriptors) that Prometheus knows."""

    def __init__(self) -> None:
        # Nothing global: the registry of this process has this one collector.
        self._process = CollectorRegistry(auto_describe=False)
        ProcessCollector(registry=self._process)

    def write(self, metrics: Iterable[Metric], accept: str = "") -> tuple[bytes, str]:
        """The text and its media type, chosen by an Accept header. Raises ValueError for two metrics of one name."""
        page = CollectorRegistry(auto_describe=False)
        page.register(_Page((*map(_family, _distinct(metrics)), *self._process.collect())))
        if _OPENMETRICS in accept:
            text: bytes = openmetrics.exposition.generate_latest(page)  # type: ignore[no-untyped-call]
            return text, openmetrics.exposition.CONTENT_TYPE_LATEST
        return exposition.generate_latest(page), exposition.CONTENT_TYPE_PLAIN_0_0_4


class _Page(Collector):
    """Families that stand already."""

    def __init__(self, families: tuple[Family, ...]) -> None:
        self._families = families

    def collect(self) -> Iterable[Family]:
        return self._families


def _distinct(metrics: Iterable[Metric]) -> Iterator[Metric]:
    seen: set[str] = set()
    for metric in metrics:
        if metric.name in seen:
            raise ValueError(f"two metrics are called {metric.name}")
        seen.add(metric.name)
        yield metric


def _family(metric: Metric) -> Family:
    labels = sorted(metric.samples[0].labels) if metric.samples else []
    match metric.kind:
        case Kind.COUNTER:
            return _numbers(CounterMetricFamily(metric.name, metric.help, labels=labels), metric, labels)
        case Kind.GAUGE:
            return _numbers(GaugeMetricFamily(metric.name, metric.help, labels=labels), metric, labels)
        case Kind.INFO:
            family = InfoMetricFamily(metric.name.removesuffix("_info"), metric.help)
            for sample in metric.samples:
                family.add_metric([], dict(sample.labels))
            return family
        case Kind.HISTOGRAM:
            return _histogram(metric, labels)
        case _:
            assert_never(metric.kind)


def _numbers(family: CounterMetricFamily | GaugeMetricFamily, metric: Metric, labels: list[str]) -> Family:
    for sample in metric.samples:
        assert not isinstance(sample.value, Distribution)
        family.add_metric(_values(sample, labels), sample.value)
    return family


def _histogram(metric: Metric, labels: list[str]) -> Family:
    family = HistogramMetricFamily(metric.name, metric.help, labels=labels)
    for sample in metric.samples:
        assert isinstance(sample.value, Distribution)
        bounds = (*map(str, map(float, sample.value.bounds)), "+Inf")
        family.add_metric(
            _values(sample, labels), list(zip(bounds, sample.value.counts, strict=True)), sample.value.sum
        )
    return family


def _values(sample: Sample, labels: list[str]) -> list[str]:
    return [sample.labels[label] for label in labels]
