"""Whole models in everything that is published: tables, pictures, curves and rows of their own."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from bench.core.record import Record, Status
from bench.publishing.charts import charts
from bench.publishing.config import PublishConfig
from bench.publishing.csv import flat_rows
from bench.publishing.leaderboard import Leaderboard, build_leaderboard
from bench.publishing.markdown import leaderboard_page
from bench.publishing.sinks.curves import curves
from bench.publishing.tables import model_sections, speed_sections
from bench.publishing.terminal import print_leaderboard
from tests import records as made
from tests.bench.publishing.charts.boards import axis

COLUMNS = ("speedup_over", "latency_s", "throughput_tokens_per_s")
MODEL_COLUMNS = ("speedup_over", "throughput_images_per_s", "num_parameters", "flops")
METRICS = tuple(dict.fromkeys([*COLUMNS, *MODEL_COLUMNS, "peak_memory_bytes"]))


def board(records: Sequence[Record]) -> Leaderboard:
    return build_leaderboard(records)


def mixed() -> list[Record]:
    return [
        *made.block_records(("softmax", "nala")),
        *(r for size in (224, 384) for r in made.model_records(image_size=size)),
        *made.model_records(model="deit_tiny"),
    ]


def test_no_table_mixes_models_image_sizes_or_mechanisms_with_models() -> None:
    sections = model_sections(board(mixed()), MODEL_COLUMNS)
    assert [(s.title.partition(" · ")[0], [t.title for t in s.tables]) for s in sections] == [
        ("deit_tiny", ["image_size 224"]),
        ("nalaformer_xt", ["image_size 224", "image_size 384"]),
    ]
    assert all(len(t.texts()) == 3 for s in sections for t in s.tables)
    (kernels,) = speed_sections(board(mixed()), COLUMNS)
    assert [table.title for table in kernels.tables] == ["seq_len 256"]


def test_a_model_is_ranked_by_its_ratio_to_the_same_model_with_softmax() -> None:
    table = model_sections(board(made.model_records()), MODEL_COLUMNS)[0].tables[0]
    assert table.header == (
        "rank",
        "entry",
        "speed-up over softmax",
        "throughput (images/s)",
        "parameters",
        "compute (GFLOP)",
    )
    assert table.texts()[0] == ("1", "original", "2.00x", "10.0", "8,000,000", "2.00")
    assert [row[:3] for row in table.texts()[1:]] == [
        ("2", "softmax", "1.00x"),
        ("3", "nala", "0.500x"),
    ]


def test_a_models_columns_are_left_out_of_the_tables_of_mechanisms() -> None:
    page = leaderboard_page(board(mixed()), COLUMNS, (), MODEL_COLUMNS)
    kernels, models = page.partition("## Whole models")[::2]
    assert "tokens/s" in kernels and "images/s" not in kernels
    assert "images/s" in models and "| throughput (tokens/s)" not in models


def test_a_model_that_could_not_be_measured_stands_below_with_its_reason() -> None:
    cell = made.model_cell("gla", image_size=384)
    hole = made.failed_record(cell, Status.SKIPPED, "gla is causal only; images are seen whole.")
    page = leaderboard_page(board([*made.model_records(), hole]), COLUMNS)
    assert "nalaformer_xt image_size=384 float32 forward cpu batch_size=1" in page
    assert "gla is causal only" in page


def test_the_terminal_shows_both_kinds() -> None:
    console = Console(width=120, record=True)
    config = PublishConfig(
        out=Path("unused"), metrics=METRICS, columns=COLUMNS, model_columns=MODEL_COLUMNS
    )
    print_leaderboard(board(mixed()), config, console)
    text = console.export_text()
    assert "seq_len 256" in text and "image_size 384" in text and "nalaformer_xt · cpu" in text


def test_charts_of_a_model_run_along_the_image_size() -> None:
    drawn = charts(board(mixed()))
    kinds = {chart.name.partition("-cpu")[0] for chart in drawn}
    assert kinds == {"latency", "peak-memory", "speedup"}
    assert all("nalaformer-xt" in chart.name for chart in drawn)  # deit_tiny has one size only
    assert all("image size" in chart.title for chart in drawn)
    along = axis(drawn[0], "x")["axis"]
    assert along["title"] == "Image size (pixels)" and along["values"] == [224, 384]


def test_curves_of_a_model_have_the_image_size_for_their_step() -> None:
    own = dict(curves(board(mixed()), ["latency_s"], "image_size"))
    assert sorted(own) == [224, 384]
    assert own[384]["model/latency_s/float32 forward model=nalaformer_xt/nala"] == 0.4
    assert own[224]["model/latency_s/float32 forward model=deit_tiny/nala"] == 0.4
    others = dict(curves(board(mixed()), ["latency_s"]))
    assert sorted(others) == [256]
    assert not any("model" in name for name in others[256])


def test_a_users_own_factory_makes_names_that_files_and_curves_can_have() -> None:
    own = "my/own.py:build"
    records = [r for size in (32, 64) for r in made.model_records(model=own, image_size=size)]
    assert all("/" not in chart.name and ":" not in chart.name for chart in charts(board(records)))
    several = board([*records, *made.model_records(image_size=32)])
    names = {name for _, scalars in curves(several, ["flops"], "image_size") for name in scalars}
    assert "model/flops/float32 forward model=my-own.py-build/nala" in names


def test_a_row_of_the_csv_names_the_model_and_its_image_size() -> None:
    columns, rows = flat_rows(mixed(), METRICS)
    assert {"model", "image_size", "scope"} <= set(columns)
    assert {row["scope"] for row in rows} == {"core", "model"}
    model = next(row for row in rows if row["scope"] == "model")
    assert (model["model"], model["image_size"], model["seq_len"]) == ("nalaformer_xt", 224, None)
