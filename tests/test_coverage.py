"""The coverages that docs/methodology/ prints are those of `tools.coverage`."""

import math
from functools import cache

import pytest

from tests.pages import ROOT
from tools.coverage import DRAWS, measured, spans, stored

PAGE = ROOT / "docs" / "methodology" / "statistics.md"
FEWER = 20
"""How many times fewer draws than the page has."""


@cache
def shown():
    """Shares by case and column, from the page's tables."""
    found = {}
    for line in PAGE.read_text().partition("## Coverage")[2].splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        if line.startswith("| of"):
            columns = cells[3:]
        elif line.startswith("| "):
            own = dict(zip(columns, cells[3:], strict=True))
            found |= {(*cells[:3], column): float(cell) for column, cell in own.items() if cell}
    return found


def test_the_page_shows_every_case_as_fewer_draws_measure_it():
    here = {
        (*one.line, one.nominal, one.column): one
        for part in measured(draws=DRAWS // FEWER)
        for one in part
    }
    assert here.keys() == shown().keys()
    for case, one in here.items():
        smoothed = (shown()[case] / 100 * one.draws + 1) / (one.draws + 2)
        error = 100 * math.sqrt(smoothed * (1 - smoothed) / one.draws)
        assert one.percent == pytest.approx(shown()[case], abs=4 * error + 0.05), case


def test_sentences_of_the_pages_hold_the_same_numbers():
    text = " ".join(PAGE.read_text().split())
    one = stored()
    assert f"in {one.happened} of {one.draws} cases, {one.percent:.0f} %" in text
    findings = " ".join((ROOT / "docs" / "findings.md").read_text().split())
    assert f"the median of five other processes in {one.percent:.0f} % of cases" in findings
    means = [
        share
        for (of, truth, _, column), share in shown().items()
        if of.endswith("mean") and truth.endswith("fails") and column == "3 seeds"
    ]
    assert f"in {min(means):.0f} to {max(means):.0f} % of cases only" in text
    middle, tenth, worst = (f"{100 * share:.0f} %" for share in spans())
    said = f"is {middle} above the smallest in the median row, {tenth} or less in nine of ten, and "
    assert said + worst in " ".join((PAGE.parent / "timing.md").read_text().split())
