from __future__ import annotations

import pytest

from bench.publishing.charts.ends import together
from bench.publishing.charts.spec import Axis
from bench.publishing.metrics import find_metric
from tests import records as made
from tests.bench.publishing.charts.boards import axis, drawn, lengths, marks, points


def test_values_are_shown_in_the_unit_that_the_axis_names() -> None:
    records = lengths(("softmax", "nala"))
    seconds = {
        (r.cell.entry, r.cell.kernel.seq_len): find_metric("latency_s").of(r) for r in records
    }
    _, latency, memory = drawn(records)
    assert axis(latency, "y")["axis"]["title"] == "Latency (ms)"
    for point in points(latency):
        expected = seconds[point["name"], point["x"]]
        assert point["y"] / 1e3 == pytest.approx(expected)
    assert axis(memory, "y")["axis"]["title"] == "Peak memory (MiB)"
    (peak,) = [p for p in points(memory) if p["name"] == "nala" and p["x"] == 256]
    assert peak["y"] == 1.25


def test_axes_are_logarithmic_and_hold_every_point() -> None:
    for chart in drawn(lengths()):
        for letter in ("x", "y"):
            scale = axis(chart, letter)["scale"]
            low, high = scale["domain"]
            assert scale["type"] == "log"
            assert all(low <= p[letter] <= high for p in points(chart))


def test_what_is_zero_is_named_instead_of_drawn() -> None:
    *_, memory = drawn(lengths())
    assert "none" not in {p["name"] for p in points(memory)}
    assert "Not drawn, being 0: none" in memory.spec["title"]["subtitle"]


def test_a_latency_has_the_interval_of_its_median_as_a_band_and_memory_has_none() -> None:
    _, latency, memory = drawn(lengths(("softmax", "nala")))
    assert all(p["low"] < p["y"] < p["high"] for p in points(latency))
    assert points(latency, "bands") and marks(latency).count("area") == 1
    assert not any("low" in p for p in points(memory)) and "area" not in marks(memory)


def test_speed_up_leaves_controls_out_and_marks_where_rows_overtake_the_reference() -> None:
    speedup, *_ = drawn(lengths())
    assert speedup.title.startswith("Speed-up over softmax against sequence length")
    assert {"none", "uniform"}.isdisjoint(p["name"] for p in points(speedup))
    assert {p["y"] for p in points(speedup) if p["name"] == "softmax"} == {1.0}
    assert points(speedup, "rules") == [{"y": 1.0, "dash": [1, 0]}]
    assert all(p["y"] == 1.0 and p["x"] for p in points(speedup, "crossings"))


def test_the_rule_at_1_is_left_out_where_it_lies_beyond_the_axis() -> None:
    records = [r for r in lengths(("softmax", "nala")) if r.cell.entry == "nala"]
    speedup, *_ = drawn([r for r in records if r.cell.kernel.seq_len > 256])
    low, high = axis(speedup, "y")["scale"]["domain"]
    assert not low <= 1 <= high and not points(speedup, "rules")


def test_speed_ups_over_several_references_are_not_drawn_together() -> None:
    records = lengths(("softmax", "nala"))
    other = [
        made.changed(r, reference="linear", reference_key="other") if r.cell.entry == "nala" else r
        for r in records
    ]
    assert [chart.name.partition("-")[0] for chart in drawn(other)] == ["latency", "peak"]


def test_lines_that_lie_on_each_other_are_named_together() -> None:
    pixels = Axis(kind="linear", ends=(0, 100), pixels=(0, 100))
    heights = {"a": (10.0, 20.0, 30.0), "b": (11.0, 20.5), "c": (10.0, 40.0)}
    lines = [
        [{"name": name, "x": x, "y": y} for x, y in enumerate(own)] for name, own in heights.items()
    ]
    assert [names for _, names in together(lines, pixels)] == [["a", "b"], ["c"]]
