import re

from bench.selftest.findings import findings_of
from bench.selftest.page import page_of
from tests.bench.selftest.runs import (
    COMMAND,
    gate_line,
    overhead_line,
    precision_line,
    rival_line,
    write_run,
)

LINES = [
    *(gate_line(i, is_loaded=loaded) for i in range(30) for loaded in (False, True)),
    *(gate_line(i, "SLOWER", ratio=1.05, repeat_every=20) for i in range(10)),
    rival_line(0, "pytest_benchmark", unchanged=(1.07,), every_20=(1.01,), every_10=(1.2,)),
    rival_line(0, "torch_timer", is_loaded=True, unchanged=(1.0,), every_20=(1.1,)),
    precision_line(),
    overhead_line(),
]


def page(tmp_path, lines=LINES):
    run = write_run(tmp_path, lines)
    return page_of(run, findings_of(run))


def test_machine_commit_and_command_stand_below_every_table(tmp_path):
    text = page(tmp_path)
    blocks = text.split("\n\n")
    tables = [index for index, block in enumerate(blocks) if block.startswith("| ")]
    assert len(tables) == 6
    for index in tables:
        caption = blocks[index + 1]
        assert "Imaginary 9000, 2 cores" in caption
        assert "commit 000000000000" in caption and f"`{COMMAND}`" in caption


def test_the_page_shows_the_counts_with_their_exact_intervals(tmp_path):
    text = page(tmp_path)
    assert "| together | 0 of 60 = 0.0 % [0.0, 6.0] | 0 | 0 | 60 |" in text
    assert "| idle | 5 % | 10 of 10 = 100.0 % [69.2, 100.0] | 0 | 1.050 |" in text


def test_the_gate_stands_beside_its_rivals(tmp_path):
    text = page(tmp_path)
    rivals = text.partition("## Other tools")[2].partition("## Precision")[0]
    names = re.findall(r"^\| ([^|]+), (?:idle|beside the load) \|", rivals, re.M)
    assert names == ["pytest-benchmark", "torch.utils.benchmark", "this gate", "this gate"]
    assert "1 of 1 = 100.0 %" in rivals and "median:5%" in rivals


def test_what_was_not_measured_has_no_table_and_no_number(tmp_path):
    text = page(tmp_path, [gate_line()])
    assert "## Precision" not in text and "## Other tools" not in text
    assert "| the harness takes less than 60 ms per cell | not measured | not measured |" in text


def test_a_machine_that_was_not_idle_is_confessed_at_the_top(tmp_path):
    text = page(tmp_path, [gate_line(busy_cores=1.8)])
    assert text.index("was not idle** in 1 of the 1") < text.index("## Goals")
    assert "was not idle" not in page(tmp_path / "quiet", [gate_line()])


def test_comparisons_that_failed_are_counted(tmp_path):
    assert "1 comparisons ended without a verdict" in page(tmp_path, [gate_line(0, "incomparable")])


def test_every_row_of_a_table_is_as_long_as_its_header(tmp_path):
    for block in page(tmp_path).split("\n\n"):
        if block.startswith("| "):
            assert len({line.count(" | ") for line in block.splitlines()}) == 1
