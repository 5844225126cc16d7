"""Reads a page of metrics with Prometheus' own parser: `metrics.py FILE` prints its samples as JSON."""

import json
import sys

from prometheus_client.parser import text_string_to_metric_families

# What has no sample before a request was answered, or a round trip measured.
EMPTY_AT_FIRST = {"ephemwork_requests", "ephemwork_lane_round_trip_seconds"}

samples = {}
with open(sys.argv[1], encoding="utf-8") as page:
    text = page.read()
for family in text_string_to_metric_families(text):
    assert family.name.startswith("ephemwork_"), family
    assert family.type in ("counter", "gauge", "histogram"), family
    assert family.documentation.strip(), family
    assert family.samples or family.name in EMPTY_AT_FIRST, family
    for sample in family.samples:
        labels = "".join(f",{name}={value}" for name, value in sorted(sample.labels.items()))
        key = sample.name + labels
        assert key not in samples, f"{key} stands twice"
        samples[key] = sample.value
    if family.type == "histogram":
        buckets = [(float(s.labels["le"]), s.value) for s in family.samples if s.name.endswith("_bucket")]
        assert buckets == sorted(buckets) and buckets[-1][0] == float("inf"), buckets
        assert [v for _, v in buckets] == sorted(v for _, v in buckets), buckets
        assert buckets[-1][1] == samples[family.name + "_count"], buckets
print(json.dumps(samples))
