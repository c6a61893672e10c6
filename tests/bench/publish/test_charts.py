from __future__ import annotations

import importlib.util
import itertools
import json
import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench.metrics import find_metric
from bench.publish.charts import (
    CHART_METRICS,
    Chart,
    charts,
    place_labels,
    spread,
    write_charts,
)
from bench.publish.leaderboard import build_leaderboard
from bench.record import Record
from tests import records as made

needs_renderer = pytest.mark.skipif(
    importlib.util.find_spec("vl_convert") is None, reason="needs the extra `charts`"
)


def drawn(records: list[Record]) -> tuple[Chart, ...]:
    board = build_leaderboard(records, metrics=CHART_METRICS, controls=("uniform", "none"))
    return charts(board)


def lengths(entries: tuple[str, ...] = made.ENTRIES, **shape: Any) -> list[Record]:
    return [r for n in (256, 1024, 4096) for r in made.block_records(entries, seq_len=n, **shape)]


def scale(spec: dict[str, Any], channel: str) -> dict[str, Any]:
    """What each entry is drawn with."""
    scale = spec["layer"][0]["encoding"][channel]["scale"]
    return dict(zip(scale["domain"], scale["range"], strict=True))


def points(chart: Chart) -> list[dict[str, Any]]:
    values: list[dict[str, Any]] = chart.spec["data"]["values"]
    return values


def test_latency_and_memory_are_drawn_for_each_setting_and_accuracy_for_each_task() -> None:
    assert [chart.name for chart in drawn(made.sweep_records())] == [
        f"{what}-cpu-1-thread-{dtype}-{mode}-core-1x4x64"
        for dtype in ("float32", "bfloat16")
        for mode in ("forward", "forward-backward")
        for what in ("latency", "peak-memory")
    ] + ["accuracy-digits-cpu-1-thread", "accuracy-recall-cpu-1-thread"]


def test_nothing_is_drawn_of_a_single_length_of_failures_or_of_nothing() -> None:
    assert drawn(made.block_records()) == ()
    assert drawn(made.one_of_each_failure()) == ()
    assert drawn([]) == ()
    assert drawn(made.task_records()) == ()


def test_settings_never_share_a_file() -> None:
    records = lengths() + lengths(causal=True) + lengths(batch_size=2) + lengths(scope="layer")
    names = [chart.name for chart in drawn(records)]
    assert len(names) == len(set(names)) == 8
    assert all(re.fullmatch(r"[\w-]+", name) for name in names)


def test_values_are_shown_in_the_unit_that_the_axis_names() -> None:
    records = lengths(("softmax", "nala"))
    seconds = {
        (r.cell.entry, r.cell.kernel.seq_len): find_metric("latency_s").of(r) for r in records
    }
    latency, memory = drawn(records)
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
    _, memory = drawn(lengths())
    assert "none" not in {p["entry"] for p in points(memory)}
    assert "Not drawn, being 0: none" in memory.spec["title"]["subtitle"]


def test_softmax_stands_out_and_controls_stand_back() -> None:
    spec = drawn(lengths())[0].spec
    width, colour = scale(spec, "strokeWidth"), scale(spec, "color")
    assert width["softmax"] == max(width.values())
    assert colour["softmax"] == "#000000"
    assert colour["none"] == colour["uniform"] == "#999999"
    assert [e for e, c in colour.items() if c == "#000000"] == ["softmax"]


def test_an_entry_looks_the_same_in_every_chart() -> None:
    looks: dict[str, set[str]] = {}
    for chart in drawn(lengths() + lengths(("softmax", "nala"), dtype="bfloat16")):
        for entry, colour in scale(chart.spec, "color").items():
            looks.setdefault(entry, set()).add(colour)
    assert all(len(colours) == 1 for colours in looks.values())


def test_twenty_eight_entries_are_told_apart_by_colour_and_dash(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    names = tuple(f"m{i:02}" for i in range(28))
    for i, name in enumerate(names):
        monkeypatch.setitem(made._COSTS, name, (1e-6 * (i + 1), 0.0))
    spec = drawn(lengths(names))[0].spec
    colour, dash = scale(spec, "color"), scale(spec, "strokeDash")
    assert len({(colour[name], tuple(dash[name])) for name in names}) == 28


def test_accuracy_is_set_against_the_longest_length_that_most_entries_have() -> None:
    explicit_stops = [
        r for r in lengths() if r.cell.entry != "softmax_explicit" or r.cell.kernel.seq_len <= 1024
    ]
    (chart,) = [c for c in drawn(explicit_stops + made.task_records()) if "recall" in c.name]
    x_axis = chart.spec["layer"][1]["encoding"]["x"]["axis"]
    assert x_axis["title"] == "Latency at seq_len 1,024 (ms)"
    assert {p["entry"] for p in points(chart)} == set(made.ENTRIES)


def test_accuracy_of_one_machine_is_not_set_against_latency_of_another() -> None:
    elsewhere = made.ENVIRONMENT | {"processor": "B", "devices": {"cpu": "B"}}
    moved = [
        made.ok_record(r.cell, r.result, environment=elsewhere)  # type: ignore[arg-type]
        for r in made.task_records()
    ]
    assert [c for c in drawn(lengths() + moved) if c.name.startswith("accuracy")] == []


@given(
    st.lists(st.floats(0, 300), max_size=30),
    st.floats(1, 20),
)
def test_spread_labels_keep_their_order_their_distance_and_the_range(
    wanted: list[float], gap: float
) -> None:
    wanted = sorted(wanted)
    places = spread(wanted, gap=gap, low=0, high=300)
    room = min(gap, 300 / max(1, len(wanted) - 1))
    assert len(places) == len(wanted)
    assert all(b - a >= room - 1e-6 for a, b in itertools.pairwise(places))
    assert all(-1e-6 <= place <= 300 + 1e-6 for place in places)


def test_labels_with_room_stay_where_they_were_wanted() -> None:
    assert spread([10.0, 40.0, 90.0], gap=14, low=0, high=100) == [10.0, 40.0, 90.0]
    assert spread([50.0, 50.0], gap=10, low=0, high=100) == [45.0, 55.0]


def test_no_label_of_a_scatter_covers_another_or_a_point() -> None:
    places = [(100.0 + 3 * i, 60.0 + (i % 3)) for i in range(12)]
    names = [f"mechanism_{i}" for i in range(12)]
    boxes = []
    for (x, y, side), name in zip(place_labels(places, names, 400), names, strict=True):
        width = 6.0 * len(name)
        left = x if side == "right" else x - width
        boxes.append((left, y - 6, left + width, y + 6))
    dots = [(x - 4, y - 4, x + 4, y + 4) for x, y in places]
    for a, b in [*itertools.combinations(boxes, 2), *itertools.product(boxes, dots)]:
        assert not (a[0] < b[2] and b[0] < a[2] and a[1] < b[3] and b[1] < a[3])


@needs_renderer
def test_each_specification_is_rendered_to_a_picture_beside_it(tmp_path: Path) -> None:
    made_charts = drawn(lengths() + made.task_records())
    files, note = write_charts(made_charts, tmp_path)
    assert note is None
    assert sorted(p.name for p in tmp_path.iterdir()) == sorted(p.name for p in files)
    for chart in made_charts:
        assert json.loads((tmp_path / f"{chart.name}.vl.json").read_text()) == chart.spec
        picture = (tmp_path / f"{chart.name}.svg").read_text()
        assert picture.startswith("<svg")
        words = set(re.findall(r">([^<>]+)</text>", picture))
        assert {p["entry"] for p in points(chart)} <= words


def test_without_a_renderer_specifications_are_written_and_the_extra_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    files, note = write_charts(drawn(lengths()), tmp_path)
    assert [p.suffix for p in files] == [".json", ".json"]
    assert note is not None
    assert "attnbench[charts]" in note


def test_no_charts_are_no_files_and_no_note(tmp_path: Path) -> None:
    assert write_charts((), tmp_path / "charts") == ([], None)
    assert not (tmp_path / "charts").exists()
