"""What choices on the page keep and what they clear, and what it prints; in a real Chromium."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from bench.core.record import Record, Status
from tests import records as made
from tests.bench.publishing.page.made_pages import sweep, written
from tests.bench.publishing.page.test_browser import (
    Reader,
    browser,  # noqa: F401
    pytestmark,  # noqa: F401
)

Open = Callable[..., Reader]


@pytest.fixture
def opened(browser: Any, tmp_path: Path) -> Iterator[Open]:  # noqa: F811
    """Opens pages of a test's own records."""
    pages: list[Reader] = []

    def page_of(records: list[Record], fragment: str = "", scheme: str = "light") -> Reader:
        size = {"width": 1400, "height": 900}
        context = browser.new_context(viewport=size, color_scheme=scheme)
        pages.append(Reader(context, f"{written(records, tmp_path).as_uri()}{fragment}"))
        return pages[-1]

    yield page_of
    for one in pages:
        assert one.said == []
        one.page.context.close()


def focused(shown: Reader) -> str:
    found: str = shown.page.evaluate("document.activeElement.id")
    return found


@pytest.mark.parametrize("button", ["#reset", "#kind-task"])
def test_a_fresh_view_compares_no_pair(opened: Open, button: str) -> None:
    shown = opened(sweep(), "#a=linear&b=softmax")
    assert shown.page.locator("#compare table").count()
    shown.page.locator(button).click()
    shown.settle()
    assert shown.page.locator("#compare-a").input_value() == ""
    assert shown.page.locator("#compare table").count() == 0
    assert "a=linear" not in shown.page.url


def test_a_choice_keeps_the_focus(opened: Open) -> None:
    shown = opened(sweep())
    shown.page.locator("summary", has_text="Which one for me?").click()
    for name, value in (("compare-a", "linear"), ("advice-task", "digits"), ("search", None)):
        shown.page.locator(f"#{name}").focus()
        if value:
            shown.page.select_option(f"#{name}", value)
        else:
            shown.page.keyboard.press("s")
            shown.page.wait_for_timeout(200)
        shown.settle()
        assert focused(shown) == name
    shown.page.locator("#pictures button", has_text="Accuracy").focus()
    shown.page.keyboard.press("Enter")
    shown.settle()
    assert focused(shown) == "picture-pareto-latency_s"


def test_every_row_of_a_long_table_is_printed(opened: Open) -> None:
    records = made.block_records(["softmax"], num_rounds=7)
    twins = [made.kernel_cell(f"twin_{number}") for number in range(80)]
    shown = opened([*records, *(replace(records[0], cell=twin) for twin in twins)])
    shown.page.emulate_media(media="print")
    assert shown.page.locator("#table .tabulator-row").count() == 81


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_charts_are_printed_for_white_paper(opened: Open, scheme: str) -> None:
    shown = opened(sweep(), scheme=scheme)
    shown.page.emulate_media(media="print", color_scheme=scheme)
    look = shown.page.evaluate("getComputedStyle(document.querySelector('#charts svg')).filter")
    assert look == ("none" if scheme == "light" else "invert(1) hue-rotate(180deg)")


def test_a_cell_that_broke_before_has_its_latency_of_today(opened: Open) -> None:
    cell = made.kernel_cell("nala", seq_len=256)
    broken = made.failed_record(cell, Status.ERROR, "It broke.")
    broken = replace(broken, started_at="2031-05-05T00:00:00Z", sweep="older")
    shown = opened([broken, *made.block_records(("softmax", "nala"), seq_len=256)])
    shown.page.select_option("#compare-before", "older")
    shown.page.select_option("#compare-after", made.SWEEP)
    [row] = shown.page.locator("#compare tbody tr").all()
    before, after, _ = row.locator("td").all_inner_texts()
    assert before == "error" and after.endswith("s")


def test_a_row_over_tasks_is_of_its_mechanism(opened: Open) -> None:
    shown = opened(sweep(), "#kind=task&f.task=mean%20of%202%20tasks&family=exact")
    assert set(shown.names()) == {"softmax", "softmax_explicit"}
    shown.page.locator("button.name").first.click()
    drawer = shown.page.locator("#drawer").inner_text()
    assert "Formula" in drawer and "No source here" not in drawer
