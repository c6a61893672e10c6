"""The rates that floors stand on, beside the tables that they explain."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from bench.mechanisms.ceilings import ceilings_sheet
from bench.mechanisms.crossovers import crossovers_of
from bench.mechanisms.findings import rows_of
from bench.mechanisms.page import page_of
from bench.mechanisms.sheets import sheets_of
from tests.bench.mechanisms.runs import measured, pair_lines, place

CEILING: dict[str, Any] = {
    "device": "cpu",
    "device_name": "Imaginary 9000",
    "dtype": "float32",
    "num_threads": 1,
    "flops_per_s": 24e10,
    "product": [1024, 64, 1024],
    "library": "oneDNN",
    "library_flops_per_s": [["torch.mm", 11e10], ["oneDNN", 24e10]],
    "bytes_per_s": [[524_288, 2e11], [134_217_728, 4e10]],
}
OLD = {k: CEILING[k] for k in CEILING if k not in ("library", "library_flops_per_s")}
LINES = pair_lines(place(), 0.5, 2.0, 1.0)


def test_the_fastest_product_stands_beside_that_of_torch_mm() -> None:
    two = CEILING | {"num_threads": 2, "flops_per_s": 4e11}
    other = CEILING | {"dtype": "bfloat16"}
    data = measured(*LINES, calibration={"ceilings": [two, CEILING, other]})
    sheet = ceilings_sheet(data)
    assert sheet.header[-2:] == ("copy of 0.5 MiB, GB/s", "copy of 128 MiB, GB/s")
    first, second, *_ = sheet.rows
    product = "1024 x 64 x 1024 by oneDNN"
    assert first == ("1 thread, default", product, "240", "110", "200", "40")
    assert second[:3] == ("2 threads, default", product, "400")
    assert len(sheet.rows) == 4, "both allocators, and no other dtype"


def test_a_calibration_of_before_libraries_were_told_apart_is_of_torch_mm() -> None:
    data = measured(*LINES, calibration={"ceilings": [OLD | {"flops_per_s": 11e10}]})
    row, _ = ceilings_sheet(data).rows
    assert row[1:4] == ("1024 x 64 x 1024 by torch.mm", "110", "110")


def test_the_page_ends_its_tables_with_the_rates() -> None:
    data = measured(*LINES, calibration={"ceilings": [CEILING]})
    rows = rows_of(data)
    page = page_of(data, rows, crossovers_of(rows))
    assert page.index("Per cent of the floor") < page.index("### Rates of this machine")


def test_a_floor_is_told_at_both_rates_of_products() -> None:
    far = CEILING | {"bytes_per_s": [[2**40, 1e20]]}  # so that products set the floor
    (row,) = rows_of(measured(*LINES, calibration={"ceilings": [far]}))
    assert row.floor_fraction == pytest.approx(10_000 / 24e10 / 0.5)
    assert row.floor_fraction_by_mm == pytest.approx(10_000 / 11e10 / 0.5)


def test_both_fractions_stand_in_a_field_and_one_alone_where_the_other_is_not_known() -> None:
    (row,) = rows_of(measured(*LINES, calibration={"ceilings": [CEILING]}))
    for by_mm, words in ((1.021, "42 (102)"), (None, "42")):
        known = replace(row, floor_fraction=0.42, floor_fraction_by_mm=by_mm)
        (sheet,) = [s for s in sheets_of([known], []) if "floor" in s.title]
        assert sheet.rows[0][1] == words


def test_where_torch_mm_was_not_calibrated_there_is_no_fraction_by_it() -> None:
    only = CEILING | {"library_flops_per_s": [["oneDNN", 24e10]]}
    (row,) = rows_of(measured(*LINES, calibration={"ceilings": [only]}))
    assert row.floor_fraction is not None and row.floor_fraction_by_mm is None


def test_without_a_calibration_there_are_no_rates() -> None:
    assert ceilings_sheet(measured(*LINES)).rows == ()
