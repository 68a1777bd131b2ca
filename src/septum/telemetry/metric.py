"""Metrics as values: what a process says of itself at one moment, in the names and units of Prometheus."""

from __future__ import annotations

import re
from bisect import bisect_left
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from itertools import accumulate

_NAME = re.compile(r"septum_[a-z0-9]+(?:_[a-z0-9]+)*")
_LABEL = re.compile(r"[a-z][a-z0-9_]*")


class Kind(StrEnum):
    """A counter only grows while its process runs; an info is 1, and says what it says in its labels."""

    COUNTER = "counter"
    GAUGE = "gauge"
    INFO = "info"
    HISTOGRAM = "histogram"


@dataclass(frozen=True, slots=True)
class Distribution:
    """How many values were observed, up to each bound (cumulative, the last without a bound), and their sum."""

    bounds: tuple[float, ...]
    counts: tuple[int, ...]
    sum: float

    def __post_init__(self) -> None:
        if len(self.counts) != len(self.bounds) + 1 or list(self.counts) != sorted(self.counts):
            raise ValueError(f"not a distribution: {self.bounds} {self.counts}")


@dataclass(frozen=True, slots=True)
class Sample:
    """One value, and the labels that tell it from the others of its metric."""

    value: float | Distribution
    labels: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Metric:
    """A metric and its samples. Raises ValueError for a name, a label or a sample that Prometheus would refuse.

    Names begin with `septum_` and end with their base unit; counters end with `_total`, infos with `_info`.
    """

    name: str
    help: str
    kind: Kind
    samples: tuple[Sample, ...]

    def __post_init__(self) -> None:
        ending = next((end for end in ("total", "info") if self.name.endswith(f"_{end}")), "")
        wanted = {Kind.COUNTER: "total", Kind.INFO: "info"}.get(self.kind, "")
        if not _NAME.fullmatch(self.name) or ending != wanted:
            raise ValueError(f"not the name of a {self.kind}: {self.name!r}")
        for sample in self.samples:
            if isinstance(sample.value, Distribution) != (self.kind is Kind.HISTOGRAM):
                raise ValueError(f"not a value of the {self.kind} {self.name}: {sample.value!r}")
        self._check_labels()

    def _check_labels(self) -> None:
        names = [sorted(sample.labels) for sample in self.samples]
        if any(name != names[0] for name in names) or not all(_LABEL.fullmatch(label) for of in names for label in of):
            raise ValueError(f"the samples of {self.name} do not all have the same labels: {names}")
        if len({tuple(sorted(sample.labels.items())) for sample in self.samples}) < len(self.samples):
            raise ValueError(f"two samples of {self.name} have the same labels")


class Histogram:
    """Counts values by size, for as long as its process runs."""

    def __init__(self, bounds: Sequence[float]) -> None:
        self._bounds = tuple(bounds)
        self._counts = [0] * (len(self._bounds) + 1)
        self._sum = 0.0

    def observe(self, value: float) -> None:
        """Count a value; one that is a bound belongs below it."""
        self._counts[bisect_left(self._bounds, value)] += 1
        self._sum += value

    def distribution(self) -> Distribution:
        """All that was observed until now."""
        return Distribution(self._bounds, tuple(accumulate(self._counts)), self._sum)


def counter(name: str, help: str, *samples: Sample | float) -> Metric:
    """A counter; a bare number is a sample without labels."""
    return Metric(name, help, Kind.COUNTER, _samples(samples))


def gauge(name: str, help: str, *samples: Sample | float) -> Metric:
    """A gauge; a bare number is a sample without labels."""
    return Metric(name, help, Kind.GAUGE, _samples(samples))


def info(name: str, help: str, **labels: str) -> Metric:
    """An info."""
    return Metric(name, help, Kind.INFO, (Sample(1, labels),))


def by(label: str, values: Mapping[str, float]) -> tuple[Sample, ...]:
    """One sample for each value of a label."""
    return tuple(Sample(value, {label: name}) for name, value in values.items())


def _samples(given: Iterable[Sample | float]) -> tuple[Sample, ...]:
    return tuple(one if isinstance(one, Sample) else Sample(one) for one in given)
