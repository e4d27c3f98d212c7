"""The events of the benchmark on a broker are events, the same each time, and as its report says of them."""

from __future__ import annotations

from collections import Counter

from bench.kafka import percentile, picture, table
from bench.stream import records
from pmsync.core.claims import claimed, read
from pmsync.core.events import WorkItem, decode, encode


def test_the_template_writes_what_encode_writes() -> None:
    """As far as the content goes; fields that have their default may be left out."""
    for record in records(1200):
        event = decode(record.value)
        assert read(record.value) == claimed(event) == read(encode(event))
        assert event.project == record.key


def test_the_same_count_gives_the_same_events() -> None:
    assert list(records(900)) == list(records(900))


def test_events_are_what_the_report_says_of_them() -> None:
    told = [decode(record.value) for record in records(4000)]
    assert len(told) == 4000
    items = [event for event in told if getattr(event, "thing", ("", ""))[1] == "work_item"]
    repeats = sum(n - 1 for n in Counter((event.thing, event.version) for event in items).values())
    assert 0.01 < repeats / len(items) < 0.03
    newest, late = 0, 0
    for event in items:
        late += event.version < newest
        newest = max(newest, event.version)
    assert 0.03 < late / len(items) < 0.1
    lengths = {len(event.content.history) for event in items if isinstance(event.content, WorkItem)}
    assert lengths >= set(range(11)), "histories grow to ten changes"


def test_the_report() -> None:
    runs = {
        name: [{"count": 1000.0, "seconds": seconds, "cpu": seconds, "peak_mb": 100.0}] * 3
        for name, seconds in (("pmsync", 0.5), ("quix", 1.0))
    }
    lines = table({"throughput": runs, "latency": [1.0, 2.0, 30.0], "restart": [1.5]})
    assert "| pmsync | 2,000 | 500 | 100 | 1 |" in lines
    assert "| quix | 1,000 | 1,000 | 100 | 2 |" in lines
    assert any("2.0 / 30.0 / 30.0 / 30.0 ms" in line for line in lines)
    assert "<svg" in picture(runs)


def test_percentiles_are_by_nearest_rank() -> None:
    values = [float(n) for n in range(1, 101)]
    assert [percentile(values, share) for share in (0.5, 0.95, 0.99, 1)] == [50, 95, 99, 100]
    assert percentile([7.0], 0.99) == 7
