"""What is scraped of a duration is what prometheus_client's own histogram would say."""

import random

from prometheus_client import CollectorRegistry, Histogram
from prometheus_client.openmetrics.exposition import generate_latest
from prometheus_client.parser import text_string_to_metric_families

from bff.core.durations import BUCKETS, Durations


def samples(registry):
    text = generate_latest(registry).decode().replace("# EOF\n", "")
    return {
        (sample.name, *sorted(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
        if not sample.name.endswith("_created")
    }


def test_it_counts_as_the_librarys_histogram_does():
    ours, theirs = CollectorRegistry(), CollectorRegistry()
    durations = Durations("took_seconds", "How long it took.", ["route", "status"], ours)
    histogram = Histogram("took_seconds", "How long it took.", ["route", "status"], buckets=BUCKETS, registry=theirs)
    rng = random.Random(1)  # noqa: S311
    for seconds in [0.0, *BUCKETS, 31.0, *(rng.expovariate(10) for _ in range(200))]:
        labels = (rng.choice(["users", 'with "quotes"']), rng.choice(["200", "499"]))
        durations.observe(seconds, labels)
        histogram.labels(*labels).observe(seconds)
    assert samples(ours) == samples(theirs)


def test_before_anything_is_observed_there_is_nothing_to_scrape():
    registry = CollectorRegistry()
    Durations("took_seconds", "How long it took.", [], registry)
    assert samples(registry) == {}
