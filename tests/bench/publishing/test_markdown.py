from __future__ import annotations

import re

import pytest

from bench.core.record import Record
from bench.publishing.document import escape, pipe_table, text_table
from bench.publishing.leaderboard import build_leaderboard
from bench.publishing.markdown import leaderboard_page
from tests import records as made

COLUMNS = ("speedup_over", "latency_s")


def page(records: list[Record], pictures: tuple[tuple[str, str], ...] = ()) -> str:
    board = build_leaderboard(records, ("uniform", "none"))
    return leaderboard_page(board, COLUMNS, pictures)


def tables(text: str) -> list[list[str]]:
    """Lines of each pipe table."""
    return [block.splitlines() for block in text.split("\n\n") if block.startswith("|")]


def test_the_page_has_its_parts_in_order() -> None:
    text = page(made.sweep_records(), (("A chart", "charts/a.svg"),))
    heads = re.findall(r"^## (.+)$", text, re.M)
    assert heads == [
        "Speed and memory",
        "Growth with the sequence length",
        "Task accuracy",
        "Charts",
        "Cells without a number",
        "How to read this",
    ]
    assert "Measured on Imaginary 9000, 2 cores" in text
    assert "![A chart](charts/a.svg)" in text
    assert text.endswith("\n")
    assert not text.endswith("\n\n")


def test_parts_without_content_are_left_out() -> None:
    text = page(made.block_records(["nala"]))
    assert re.findall(r"^## (.+)$", text, re.M) == ["Speed and memory", "How to read this"]


def test_an_interval_stands_behind_the_speed_up() -> None:
    assert re.search(
        r"\| 1 +\| linear +\| +1\.\d\dx \[1\.\d\d, 1\.\d\d\] \|",
        page(made.block_records(["linear", "softmax"])),
    )


def test_every_row_of_a_table_has_as_many_cells_as_its_header() -> None:
    found = tables(page(made.sweep_records()))
    # Speed, growth, two tasks with their fronts and their mean, and holes.
    assert len(found) == 12 + 4 + 2 * 2 + 1 + 1
    for lines in found:
        counts = {len(re.findall(r"(?<!\\)\|", line)) for line in lines}
        assert len(counts) == 1


def test_pipes_and_newlines_in_a_reason_stay_inside_of_their_cell() -> None:
    text = page(made.one_of_each_failure())
    assert r"flatten has no causal form \| it sees all keys." in text


@pytest.mark.parametrize(
    ("text", "escaped"),
    [
        ("a|b", r"a\|b"),
        ("a\nb\r\n c", "a b c"),
        ("softmax_explicit", "softmax_explicit"),
        ("_init_ __main__", r"\_init\_ \_\_main\_\_"),
        ("*x* `y` <z>", r"\*x\* \`y\` \<z>"),
        ("back\\slash", r"back\\slash"),
        ("1.83x [1.79, 1.88]", "1.83x [1.79, 1.88]"),
        ("[click](here)", r"[click\](here)"),
    ],
)
def test_text_is_shown_as_it_is(text: str, escaped: str) -> None:
    assert escape(text) == escaped


def test_words_are_aligned_left_and_numbers_right() -> None:
    table = text_table(
        title="t", header=("entry", "ms"), rows=(("a", "1.5"), ("long", "10")), num_words=1
    )
    assert pipe_table(table).splitlines() == [
        "| entry |  ms |",
        "| ----- | --: |",
        "| a     | 1.5 |",
        "| long  |  10 |",
    ]
