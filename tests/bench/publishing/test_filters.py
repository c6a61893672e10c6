"""Token filters in tables: beside the whole model, with oracles named and reasons said."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from bench.core.record import Filtered, Quality, Record
from bench.publishing.charts import charts
from bench.publishing.charts.write import write_picture
from bench.publishing.csv import flat_rows
from bench.publishing.leaderboard import build_leaderboard
from bench.publishing.task_tables import task_sections
from tests import records as made


def row(name: str, accuracy: float, **changes: Any) -> Filtered:
    made_up: Any = {
        "filter": name,
        "keep": 0.5,
        "num_tokens": 19,
        "accuracy": accuracy,
        "flops": 300,
        "latency_s": [1.0] * 15,
        "unfiltered_latency_s": [2.0] * 15,
    }
    return made_up | changes  # type: ignore[no-any-return]


def with_filters(*rows: Filtered) -> list[Record]:
    (record,) = made.task_records(["softmax"], seeds=[0])
    assert isinstance(record.result, Quality)
    result = replace(record.result, accuracy=0.9, flops=1000, filtered=rows)
    return [replace(record, result=result)]


def test_each_filter_stands_beside_the_whole_model() -> None:
    records = with_filters(
        row("random", 0.5),
        row("object_rate", 0.8),
        {"filter": "attention_rate", "keep": 0.5, "reason": "it owns its projections."},
    )
    (section,) = task_sections(build_leaderboard(records, ("none",)))
    (table,) = [table for table in section.tables if "token filters" in table.title]
    assert table.texts() == (
        ("softmax", "whole model", "1", "", "90.0", "", "1", "2.00", "100 (1.00 kFLOP)"),
        (
            *("softmax", "object_rate (oracle)", "0.5", "19", "80.0", "-10.0"),
            *("2.00 [2.00, 2.00]", "1.00", "30.0"),
        ),
        (
            *("softmax", "random", "0.5", "19", "50.0", "-40.0"),
            *("2.00 [2.00, 2.00]", "1.00", "30.0"),
        ),
    )
    assert table.header[5:] == ("minus whole (points)", "speed-up", "latency (s)", "FLOPs (%)")
    notes = " ".join(section.notes)
    assert "object_rate is an oracle" in notes
    assert "softmax has no attention_rate: it owns its projections." in notes


def test_a_record_with_filters_is_read_as_it_was_written() -> None:
    (record,) = with_filters(row("random", 0.5))
    assert Record.from_json(record.to_json()) == record


@pytest.mark.parametrize("change", [{"keep": 1.5}, {"latency_s": [-1.0]}, {"num_tokens": 0}])
def test_a_filter_that_cannot_be_is_no_record(change: dict[str, Any]) -> None:
    (record,) = with_filters(row("random", 0.5, **change))
    with pytest.raises(ValueError, match="is"):
        Record.from_json(record.to_json())


def test_what_a_filter_costs_is_taken_seed_by_seed() -> None:
    records = [
        replace(r, cell=replace(r.cell, workload=replace(r.cell.task, seed=seed)))
        for seed, accuracy in ((0, 0.5), (1, 0.6))
        for r in with_filters(row("random", accuracy))
    ]
    (section,) = task_sections(build_leaderboard(records, ("none",)))
    (table,) = [table for table in section.tables if "token filters" in table.title]
    # -40 and -30: Student's t of one degree of freedom, 12.7, times a standard error of 5.
    assert table.texts()[1][4:6] == ("55.0 [0.0, 100.0]", "-35.0 [-98.5, +28.5]")


def test_a_table_of_records_has_columns_for_each_filter_and_share() -> None:
    records = with_filters(
        row("random", 0.5),
        row("patch_contrast", 0.7, keep=0.25),
        {"filter": "attention_rate", "keep": 0.5, "reason": "it owns its projections."},
    )
    columns, (found,) = flat_rows([*records], ("accuracy",))
    assert found["random_0.5_accuracy"] == 0.5 and found["patch_contrast_0.25_accuracy"] == 0.7
    assert found["random_0.5_latency_s"] == 1.0 and found["random_0.5_speedup_over_whole"] == 2.0
    assert found["random_0.5_flops"] == 300 and found["random_0.5_flops_over_whole"] == 0.3
    assert not [name for name in columns if name.startswith("attention_rate")]


def test_a_chart_shows_all_three_against_the_share_kept_beside_the_whole_model(
    tmp_path: Path,
) -> None:
    records = with_filters(row("random", 0.5), row("object_rate", 0.8, keep=0.25))
    (chart,) = charts(build_leaderboard(records, ("none",)))
    [panels] = chart.spec["vconcat"]
    accuracy, latency, flops = panels["hconcat"]
    own = {"random": 0.5, "object_rate (oracle)": 0.25}
    right = {"random": 50.0, "object_rate (oracle)": 80.0}
    assert panel(accuracy) == ("Accuracy (%)", [90.0], right, own)
    assert panel(latency) == ("Latency (% of whole)", [100.0], dict.fromkeys(own, 50.0), own)
    assert panel(flops) == ("FLOPs (% of whole)", [100.0], dict.fromkeys(own, 30.0), own)
    assert "object_rate (oracle)" in write_picture(chart, tmp_path).read_text()


def panel(spec: dict[str, Any]) -> tuple[str, list[float], dict[str, float], dict[str, float]]:
    """Words, the whole model's number, and the number and the share of each filter."""
    layers = spec["layer"]
    [dots] = [one for one in layers if one["mark"]["type"] == "point"]
    [whole] = [one for one in layers if one["mark"].get("color") == "#888888"]
    points = dots["data"]["values"]
    return (
        dots["encoding"]["y"]["axis"]["title"],
        [pytest.approx(point["y"]) for point in whole["data"]["values"]],
        {point["name"]: pytest.approx(point["y"]) for point in points},
        {point["name"]: point["x"] for point in points},
    )
