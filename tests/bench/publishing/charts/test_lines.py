from __future__ import annotations

import pytest

from bench.publishing.charts import Chart
from bench.publishing.charts.lines import _together
from bench.publishing.metrics import find_metric
from tests import records as made
from tests.bench.publishing.charts.boards import drawn, lengths, points


def test_values_are_shown_in_the_unit_that_the_axis_names() -> None:
    records = lengths(("softmax", "nala"))
    seconds = {
        (r.cell.entry, r.cell.kernel.seq_len): find_metric("latency_s").of(r) for r in records
    }
    _, latency, memory = drawn(records)
    assert axis_title(latency) == "Latency (ms)"
    for point in points(latency):
        expected = seconds[point["entry"], point["size"]]
        assert point["value"] / 1e3 == pytest.approx(expected)
    assert axis_title(memory) == "Peak memory (MiB)"
    (peak,) = [p for p in points(memory) if p["entry"] == "nala" and p["size"] == 256]
    assert peak["value"] == 1.25


def axis_title(chart: Chart) -> str:
    title: str = chart.spec["layer"][0]["encoding"]["y"]["axis"]["title"]
    return title


def test_axes_are_logarithmic_and_hold_every_point() -> None:
    for chart in drawn(lengths()):
        encoding = chart.spec["layer"][0]["encoding"]
        for channel in ("x", "y"):
            low, high = encoding[channel]["scale"]["domain"]
            assert encoding[channel]["scale"]["type"] == "log"
            assert all(low <= p[encoding[channel]["field"]] <= high for p in points(chart))


def test_what_is_zero_is_named_instead_of_drawn() -> None:
    *_, memory = drawn(lengths())
    assert "none" not in {p["entry"] for p in points(memory)}
    assert "Not drawn, being 0: none" in memory.spec["title"]["subtitle"]


def test_a_latency_has_the_interval_of_its_median_as_a_band_and_memory_has_none() -> None:
    _, latency, memory = drawn(lengths(("softmax", "nala")))
    assert all(p["low"] < p["value"] < p["high"] for p in points(latency))
    assert [layer["mark"]["type"] for layer in latency.spec["layer"]].count("area") == 1
    assert not any("low" in p for p in points(memory))
    assert "area" not in [layer["mark"]["type"] for layer in memory.spec["layer"]]


def test_speed_up_leaves_controls_out_and_marks_where_rows_overtake_the_reference() -> None:
    speedup, *_ = drawn(lengths())
    assert speedup.title.startswith("Speed-up over softmax against sequence length")
    assert {"none", "uniform"}.isdisjoint(p["entry"] for p in points(speedup))
    assert {p["value"] for p in points(speedup) if p["entry"] == "softmax"} == {1.0}
    marks = [layer["mark"] for layer in speedup.spec["layer"]]
    diamonds = [mark for mark in marks if mark.get("shape") == "diamond"]
    assert len(diamonds) <= 1


def test_speed_ups_over_several_references_are_not_drawn_together() -> None:
    records = lengths(("softmax", "nala"))
    other = [
        made.changed(r, reference="linear", reference_key="other") if r.cell.entry == "nala" else r
        for r in records
    ]
    assert [chart.name.partition("-")[0] for chart in drawn(other)] == ["latency", "peak"]


def test_lines_that_lie_on_each_other_are_named_together() -> None:
    lines = {
        "a": [{"size": 1, "at": 10.0}, {"size": 2, "at": 20.0}, {"size": 3, "at": 30.0}],
        "b": [{"size": 1, "at": 11.0}, {"size": 2, "at": 20.5}],
        "c": [{"size": 1, "at": 10.0}, {"size": 2, "at": 40.0}],
    }
    found = [names for _, names in _together(lines, lambda point: point["at"])]
    assert found == [["a", "b"], ["c"]]
