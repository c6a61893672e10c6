"""Tables in the terminal's words, on the page and as CSV."""

from __future__ import annotations

import csv
import io

import pytest

from bench.mechanisms.crossovers import crossovers_of
from bench.mechanisms.findings import rows_of
from bench.mechanisms.page import page_of
from bench.mechanisms.sheets import sheets_of, slower_sheet
from bench.mechanisms.table import csv_of
from bench.mechanisms.units import FORMS
from tests.bench.mechanisms.runs import line, measured, pair_lines, place, saved_line, threads_line

BACKWARD = place(mode="forward_backward")
DATA = measured(
    *pair_lines(place(), 0.5, 2.0, 1.0),
    *pair_lines(place(seq_len=1024), 0.5, 1.0, 2.0),
    *pair_lines(BACKWARD, 3.0, 2.0, 1.0),
    saved_line(BACKWARD, 2560),
)
ROWS = rows_of(DATA)


def test_a_sheet_has_a_column_for_each_length_and_a_mark_where_ours_is_slower() -> None:
    sheets = {sheet.title: sheet for sheet in sheets_of(ROWS, crossovers_of(ROWS))}
    forward = sheets["x other form: forward, 1 thread, retain allocator"]
    assert forward.header == ("entry / other", "N=256", "N=1024")
    assert forward.rows == (("nala / official", "0.25 [0.25, 0.25]", "0.5 [0.5, 0.5]"),)
    backward = sheets["x other form: forward_backward, 1 thread, retain allocator"]
    assert backward.rows[0][1] == "1.5 [1.5, 1.5] !"
    saved = sheets["Bytes kept for backward, per token"]
    assert saved.rows == (("nala / official", "10"),)
    assert not any("floor" in title for title in sheets), "the machine was not calibrated"


def test_two_threads_over_one_are_sheets_of_their_own_and_may_be_slower() -> None:
    at = place(num_threads=2)
    rows = rows_of(measured(*pair_lines(at, 0.5, 2.0, 1.0), threads_line(at, 1.5, 1.0)))
    sheets = {sheet.title: sheet.rows for sheet in sheets_of(rows, crossovers_of(rows))}
    assert sheets["x 1 thread: forward, 2 threads, retain allocator"] == (
        ("nala / 1 thread", "1.5 [1.5, 1.5] !"),
    )
    forms = sheets["x other form: forward, 2 threads, retain allocator"]
    assert forms == (("nala / official", "0.25 [0.25, 0.25]"),)
    assert slower_sheet(rows).rows == (
        ("nala / 1 thread", "256", "forward, 2 threads, retain", "1.5 [1.5, 1.5]"),
    )
    last = list(csv.DictReader(io.StringIO(csv_of(rows))))[-1]
    assert (last["against"], last["num_threads"], last["ratio"]) == ("1 thread", "2", "1.5")
    assert (last["is_slower"], last["softmax_ratio"], last["floor_fraction"]) == ("True", "", "")


def test_records_without_threads_or_calibration_still_make_a_page() -> None:
    page = page_of(DATA, ROWS, crossovers_of(ROWS))
    assert "### x 1 thread" not in page
    assert "### Rates of this machine" not in page


def test_what_was_measured_beside_others_is_marked() -> None:
    noisy = line(FORMS, {"nala": 1.0, "nala official": 2.0}, place(), is_noisy=True)
    (sheet,) = sheets_of(rows_of(measured(noisy)), ())
    assert sheet.rows[0][1].endswith(" ~")


def test_the_page_names_machine_command_and_what_is_slower() -> None:
    page = page_of(DATA, ROWS, crossovers_of(ROWS))
    assert "Imaginary 9000" in page
    assert "`python -m bench.mechanisms`" in page
    assert "| nala / official | 256 | forward_backward, 1 thread, retain | 1.5 [1.5, 1.5] |" in (
        page.replace("\\", "")
    )
    assert "linear_unnormalised" in page.replace("\\", "")
    assert page == page_of(DATA, ROWS, crossovers_of(ROWS))


def test_a_page_without_anything_slower_says_so() -> None:
    data = measured(*pair_lines(place(), 0.5, 2.0, 1.0))
    rows = rows_of(data)
    assert not slower_sheet(rows).rows
    assert "Nowhere, by the whole interval" in page_of(data, rows, crossovers_of(rows))


def test_failures_stand_on_the_page() -> None:
    failed = line(FORMS, {"nala": 1.0, "nala official": 1.0}, place(), reason="crashed: it broke")
    assert "it broke" in page_of(measured(failed), (), ())


def test_the_csv_has_a_line_for_each_row_with_all_numbers() -> None:
    lines = list(csv.DictReader(io.StringIO(csv_of(ROWS))))
    assert len(lines) == len(ROWS) == 3
    assert (lines[0]["entry"], lines[0]["seq_len"], lines[0]["ratio"]) == ("nala", "256", "0.25")
    assert lines[2]["saved_bytes_per_token"] == "10"
    assert lines[2]["is_slower"] == "True"
    assert csv_of(()) == ""


@pytest.mark.parametrize(
    ("field", "words"),
    [("confirmed_from", "of before that"), ("build_in_turns", "that was always our form")],
)
def test_a_page_says_what_was_not_yet_done_when_it_was_measured(field: str, words: str) -> None:
    lines = pair_lines(place(), 0.5, 2.0, 1.0)
    assert words not in page_of(measured(*lines), (), ())
    del lines[0][field]
    assert words in page_of(measured(*lines), (), ())
