"""Choices on the page, what they keep and clear, and what it prints; in a real Chromium."""

# ruff: noqa: F401, F811  # fixtures are imported

import random
from dataclasses import replace

import numpy as np
import pytest

from bench.core.record import Status
from bench.publishing.fronts import pareto_front
from bench.publishing.metrics.ranks import Ranks
from bench.publishing.page.rows import ahead
from tests import records as made
from tests.bench.publishing.page.made_pages import sweep
from tests.bench.publishing.page.test_browser import (
    Reader,
    browser,
    opened,
    pytestmark,
)


def focused(shown):
    found: str = shown.page.evaluate("document.activeElement.id")
    return found


@pytest.mark.parametrize("button", ["#reset", "#kind-task"])
def test_a_fresh_view_compares_no_pair(opened, button):
    shown = opened(sweep(), "#a=linear&b=softmax")
    assert shown.page.locator("#compare table").count()
    shown.page.locator(button).click()
    shown.settle()
    assert shown.page.locator("#compare-a").input_value() == ""
    assert shown.page.locator("#compare table").count() == 0
    assert "a=linear" not in shown.page.url


def test_a_choice_keeps_the_focus(opened):
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


def test_a_cell_that_broke_before_has_its_latency_of_today(opened):
    cell = made.kernel_cell("nala", seq_len=256)
    broken = made.failed_record(cell, Status.ERROR, "It broke.")
    broken = replace(broken, started_at="2031-05-05T00:00:00Z", sweep="older")
    shown = opened([broken, *made.block_records(("softmax", "nala"), seq_len=256)])
    shown.page.select_option("#compare-before", "older")
    shown.page.select_option("#compare-after", made.SWEEP)
    [row] = shown.page.locator("#compare tbody tr").all()
    before, after, _ = row.locator("td").all_inner_texts()
    assert before == "error" and after.endswith("s")


def test_a_row_over_tasks_is_of_its_mechanism(opened):
    whole = [record for record in sweep() if record.status is not Status.DIVERGED]
    shown = opened(whole, "#kind=task&f.task=mean%20of%202%20tasks&family=exact")
    assert set(shown.names()) == {"softmax", "softmax_explicit"}
    shown.page.locator("button.name").first.click()
    drawer = shown.page.locator("#drawer").inner_text()
    assert "Formula" in drawer and "No source here" not in drawer


def test_the_front_of_the_page_is_that_of_the_tables(opened):
    shown = opened(sweep())
    front = """([points, ahead]) =>
      paretoFront(points, (p, other) => ahead[p.name].includes(other.name)).map((p) => p.name)"""
    draw = random.Random(0)
    for _ in range(20):
        scores = {name: draw.randrange(8) for name in "abcdef"}
        names = tuple(sorted(scores, key=lambda name: -scores[name]))
        settled = np.array([[scores[one] > scores[other] + 1 for other in names] for one in names])
        places = ((1, len(names)),) * len(names)
        ranks = Ranks(names=names, places=places, wins=settled, is_ahead=settled, groups=())
        costs = {name: draw.randrange(4) for name in names}
        points = [{"name": name, "x": costs[name], "y": -scores[name]} for name in names]
        on_front, tied = pareto_front(costs, ranks)
        assert {*shown.page.evaluate(front, [points, ahead(ranks)])} == {*on_front} - {*tied}
