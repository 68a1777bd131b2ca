"""Metrics as values, and as Prometheus reads them back."""

from __future__ import annotations

import pytest
from prometheus_client import parser
from prometheus_client.openmetrics import parser as openmetrics

from septum.telemetry.exposition import Exposition
from septum.telemetry.metric import Distribution, Histogram, Kind, Metric, Sample, by, counter, gauge, info

METRICS = (
    counter("septum_applies_total", "Applies.", *by("outcome", {"held": 3, "refused": 1})),
    gauge("septum_agent_connected", "Connected.", True),
    gauge("septum_nothing_known", "Nothing yet."),
    info("septum_build_info", "The version.", version='1"\n\\'),
    Metric(
        "septum_apply_duration_seconds",
        "How long.",
        Kind.HISTOGRAM,
        (Sample(Distribution((0.1, 1.0), (2, 3, 4), 7.5)),),
    ),
)


def read(text: bytes, of=parser) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
    families = list(of.text_string_to_metric_families(text.decode()))
    return {(s.name, tuple(sorted(s.labels.items()))): s.value for family in families for s in family.samples}


@pytest.mark.parametrize(
    ("accept", "of", "media_type"),
    [
        ("", parser, "text/plain; version=0.0.4; charset=utf-8"),
        ("application/openmetrics-text;version=1.0.0,text/plain;q=0.5", openmetrics, "application/openmetrics-text"),
        ("application/openmetrics-text; version=x\r, */*", openmetrics, "application/openmetrics-text"),
    ],
)
def test_both_formats_read_back_as_what_was_written(accept, of, media_type):
    text, said = Exposition().write(METRICS, accept)
    assert said.startswith(media_type)
    values = read(text, of)
    assert values["septum_applies_total", (("outcome", "held"),)] == 3
    assert values["septum_agent_connected", ()] == 1
    assert values["septum_build_info", (("version", '1"\n\\'),)] == 1
    buckets = {
        dict(labels)["le"]: value
        for (name, labels), value in values.items()
        if name.endswith("duration_seconds_bucket")
    }
    assert {float(bound): count for bound, count in buckets.items()} == {0.1: 2, 1.0: 3, float("inf"): 4}
    assert values["septum_apply_duration_seconds_sum", ()] == 7.5
    assert values["septum_apply_duration_seconds_count", ()] == 4


def test_the_process_is_among_the_metrics_and_no_other_registry_is():
    from prometheus_client import REGISTRY, Counter

    Counter("somebody_elses", "Not ours.")
    text, _ = Exposition().write(METRICS)
    assert read(text)["process_resident_memory_bytes", ()] > 0
    assert b"somebody_elses" not in text
    assert not any(family.name.startswith("septum") for family in REGISTRY.collect())


def test_two_metrics_of_one_name_are_an_error():
    with pytest.raises(ValueError, match="two metrics are called septum_applies_total"):
        Exposition().write((METRICS[0], METRICS[0]))


@pytest.mark.parametrize(
    ("name", "kind", "samples"),
    [
        ("applies_total", Kind.COUNTER, ()),
        ("septum_applies", Kind.COUNTER, ()),
        ("septum_applies_total", Kind.GAUGE, ()),
        ("septum_build_info", Kind.GAUGE, ()),
        ("septum_build", Kind.INFO, ()),
        ("septum_Applies", Kind.GAUGE, ()),
        ("septum_applies\n", Kind.GAUGE, ()),
        ("septum_x", Kind.GAUGE, (Sample(1, {"a": "x"}), Sample(2, {"b": "x"}))),
        ("septum_x", Kind.GAUGE, (Sample(1, {"a": "x"}), Sample(2, {"a": "x"}))),
        ("septum_x", Kind.GAUGE, (Sample(1, {"le-gal": "x"}),)),
        ("septum_x", Kind.GAUGE, (Sample(Distribution((), (0,), 0)),)),
        ("septum_x_seconds", Kind.HISTOGRAM, (Sample(1),)),
    ],
)
def test_what_prometheus_would_refuse_is_no_metric(name, kind, samples):
    with pytest.raises(ValueError):
        Metric(name, "help", kind, samples)


def test_a_histogram_counts_a_value_in_the_bucket_of_its_bound():
    histogram = Histogram((0.1, 1))
    for value in (0.05, 0.1, 0.5, 1, 30):
        histogram.observe(value)
    assert histogram.distribution() == Distribution((0.1, 1), (2, 4, 5), pytest.approx(31.65))


@pytest.mark.parametrize("counts", [(1,), (2, 1), (1, 2, 3)])
def test_counts_that_are_not_cumulative_are_no_distribution(counts):
    with pytest.raises(ValueError):
        Distribution((0.1,), counts, 0)
