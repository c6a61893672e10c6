import io
from pathlib import Path

import pytest
from rich.console import Console

from bench.publishing.config import PublishConfig
from bench.publishing.leaderboard import build_leaderboard
from bench.publishing.terminal import print_files, print_leaderboard
from tests import records as made

CONFIG = PublishConfig(
    out=Path("unused"),
    metrics=("latency_s",),
    columns=(
        "speedup_over",
        "latency_s",
        "peak_memory_bytes",
        "throughput_tokens_per_s",
        "saved_for_backward_bytes",
        "flops",
        "flops_per_s",
        "rms_error",
    ),
    controls=("uniform", "none"),
)


def printed(records, width):
    """Text for a log: no terminal, so neither colour nor control characters."""
    file = io.StringIO()
    print_leaderboard(
        build_leaderboard(records, CONFIG.controls), CONFIG, Console(file=file, width=width)
    )
    return file.getvalue()


@pytest.mark.parametrize("width", [80, 120])
def test_no_line_is_wider_than_the_terminal_and_no_entry_is_cut(width):
    text = printed(made.sweep_records(), width)
    assert max(map(len, text.splitlines())) <= width
    for entry in made.ENTRIES:
        assert f"{entry} " in text
    assert "\x1b" not in text


def test_marks_are_whole_in_a_narrow_terminal_and_go_on_in_a_second_line():
    found = made.speed([1.0] * 9, leaks_future=True, checked_len=64, is_foreign=True)
    record = made.ok_record(made.kernel_cell("a_plugin"), found)
    text = printed([*made.block_records(["softmax"]), record], 80)
    assert max(map(len, text.splitlines())) <= 80
    assert "leaks the future;" in text
    assert {"64", "of", "256", "tokens;", "claims", "untested", "speed-up"} <= set(text.split())


def test_files_are_named_one_a_line_and_a_folder_of_charts_once():
    file = io.StringIO()
    charts = [Path("out/charts/a.svg"), Path("out/charts/b.svg")]
    print_files([Path("out/table.csv"), *charts], ["A note [x]."], Console(file=file, width=20))
    assert file.getvalue().splitlines() == [
        "A note [x].",
        "Wrote out/table.csv",
        "Wrote out/charts",
    ]
