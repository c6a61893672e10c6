from bench.publishing.charts.ends import together
from bench.publishing.charts.spec import Axis
from tests import records as made
from tests.bench.publishing.charts.boards import drawn, lengths, points


def test_the_rule_at_1_is_left_out_where_it_lies_beyond_the_axis():
    records = [r for r in lengths(("softmax", "nala")) if r.cell.entry == "nala"]
    speedup, *_ = drawn([r for r in records if r.cell.kernel.seq_len > 256])
    scales = [layer["encoding"]["y"].get("scale", {}) for layer in speedup.spec["layer"]]
    ((low, high), *_) = [scale["domain"] for scale in scales if "domain" in scale]
    assert not low <= 1 <= high and not points(speedup, "rules")


def test_a_control_and_a_row_without_a_rank_have_times_and_no_speed_up():
    records = [
        made.changed(r, leaks_future=r.cell.entry == "linear")
        for r in lengths(("softmax", "nala", "linear", "none"))
    ]
    speedup, latency, memory = drawn(records)
    assert {point["name"] for point in points(speedup)} == {"softmax", "nala"}
    assert len({point["name"] for point in points(latency)}) == 4
    for chart in (speedup, latency):
        bands = points(chart, "bands")
        assert bands and all(band["low"] <= band["y"] <= band["high"] for band in bands)
    assert not points(memory, "bands")
    assert drawn(made.block_records(("softmax", "nala"), seq_len=256)) == ()


def test_speed_ups_over_several_references_are_not_drawn_together():
    records = lengths(("softmax", "nala"))
    other = [
        made.changed(r, reference="linear", reference_key="other") if r.cell.entry == "nala" else r
        for r in records
    ]
    assert [chart.name.partition("-")[0] for chart in drawn(other)] == ["latency", "peak"]


def test_lines_that_lie_on_each_other_are_named_together():
    pixels = Axis(kind="linear", ends=(0, 100), pixels=(0, 100))
    heights = {"a": (10.0, 20.0, 30.0), "b": (11.0, 20.5), "c": (10.0, 40.0)}
    lines = [
        [{"name": name, "x": x, "y": y} for x, y in enumerate(own)] for name, own in heights.items()
    ]
    assert [names for _, names in together(lines, pixels)] == [["a", "b"], ["c"]]
