"""The page in a real Chromium, as a reader has it: from a file, with nothing else to reach."""

import os
import shutil
from pathlib import Path
from typing import Any

import pytest

from bench.publishing.conclusions import MAX_WORDS
from tests import records as made
from tests.bench.publishing.page.made_pages import (
    RUDE,
    diagnosed,
    planned,
    rude_records,
    sweep,
    with_examples,
    written,
)

sync_api = pytest.importorskip("playwright.sync_api", reason="needs playwright (extra dev)")
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(CHROMIUM is None, reason="needs the Debian package chromium"),
]
FLAGS = [
    *("--no-sandbox", "--disable-background-networking", "--disable-component-update"),
    *("--disable-default-apps", "--no-first-run", "--disable-sync"),
]
PICTURES = os.environ.get("ATTNBENCH_PICTURES")
"""A folder for pictures of every view; they are drawn either way."""


@pytest.fixture(scope="module")
def browser():
    with sync_api.sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield chromium
        chromium.close()


@pytest.fixture(scope="module")
def address(tmp_path_factory):
    out = with_examples(diagnosed(tmp_path_factory.mktemp("page")))
    return written(sweep(), out).as_uri()


class Reader:
    """An open page, with what the console said and what was asked of the network."""

    def __init__(self, context: Any, address: str) -> None:
        self.said: list[str] = []
        self.requests: list[str] = []
        self.page = context.new_page()
        self.page.on("console", lambda message: self.said.append(message.text))
        self.page.on("pageerror", lambda error: self.said.append(str(error)))
        self.page.on("request", lambda request: self.requests.append(request.url))
        self.page.goto(address)
        self.settle()

    def settle(self) -> None:
        """Until table and charts show the view."""
        self.page.wait_for_selector("#table .tabulator-row, #table .tabulator-placeholder")
        self.page.wait_for_timeout(90)  # charts begin 60 ms after the table
        self.page.wait_for_function("document.getElementById('charts').dataset.drawn == drawing")

    def names(self) -> list[str]:
        found: list[str] = self.page.locator("#table .tabulator-row button.name").all_inner_texts()
        return found

    def choose(self, name: str, value: str) -> None:
        self.page.select_option(f"#filter-{name}", value)
        self.settle()


@pytest.fixture
def reader(browser, address):
    context = browser.new_context(viewport={"width": 1400, "height": 900})
    opened = Reader(context, address)
    yield opened
    assert opened.said == []
    assert opened.requests == [address.partition("#")[0]]
    context.close()


def test_filters_change_rows_and_the_address(reader):
    before = reader.names()
    assert "softmax" in before and len(before) == 8
    reader.choose("length", "1024")
    assert "softmax_explicit" in reader.names()
    reader.choose("family", "exact")
    assert set(reader.names()) == {"softmax", "softmax_explicit"}
    assert "f.length=1024" in reader.page.url and "family=exact" in reader.page.url
    reader.page.fill("#search", "explicit")
    reader.page.wait_for_timeout(200)
    reader.settle()
    assert reader.names() == ["softmax_explicit"]


def test_an_address_shows_the_view_that_it_was_taken_from(browser, address):
    context = browser.new_context()
    shown = Reader(context, f"{address}#kind=task&f.task=digits&sort=accuracy asc&open=linear")
    assert shown.page.locator("#kind-task").get_attribute("aria-pressed") == "true"
    assert shown.page.locator("#filter-task").input_value() == "digits"
    assert shown.page.locator("#drawer-title").inner_text().startswith("linear")
    assert shown.names()[0] == "none"
    assert shown.said == []
    context.close()


def test_a_click_on_a_header_and_a_key_on_it_sort(reader):
    header = reader.page.locator(".tabulator-col[tabulator-field='latency_s']")
    header.click()
    assert reader.names()[0] == "none"
    header.focus()
    reader.page.keyboard.press("Enter")
    assert reader.names()[0] == "softmax"


def test_columns_are_few_at_first_and_all_by_choice(reader):
    assert reader.page.locator(".tabulator-col[tabulator-field='flops']").count() == 0
    reader.page.locator("#columns summary").click()
    reader.page.locator("#column-flops").check()
    assert reader.page.locator(".tabulator-col[tabulator-field='flops']").count() == 1
    assert "flops" in reader.page.url


def test_charts_draw_marks_and_have_their_numbers_as_a_table(reader):
    charts = reader.page.locator("figure")
    names = {charts.nth(i).get_attribute("data-chart") for i in range(charts.count())}
    assert {"speed-up", "latency_s", "peak_memory_bytes", "flops", "scores"} <= names
    assert {"curves", "roofline", "entropy"} <= names
    assert {"filtered-accuracy", "filtered-latency", "filtered-FLOPs"} <= names
    for name in names:
        figure = reader.page.locator(f"figure[data-chart='{name}']")
        assert figure.locator("svg .role-mark path").count() > 1, name
        assert figure.locator("details table tr").count() > 1, name
        assert figure.locator("[role=img]").get_attribute("aria-label")
    latency = reader.page.locator("figure[data-chart='latency_s'] svg")
    assert latency.locator(".mark-line path").count() == len(reader.names()) + 1


@pytest.mark.parametrize("width", [1400, 420])
def test_the_first_screen_has_the_picture_the_sentence_and_three_rows(browser, address, width):
    context = browser.new_context(viewport={"width": width, "height": 900})
    shown = Reader(context, address)
    said = shown.page.locator("#headline")
    assert 0 < len(said.inner_text().split()) <= MAX_WORDS
    said.evaluate("own => (own.textContent += ' ' + own.textContent)")  # with the other direction
    rows = shown.page.locator("#table .tabulator-row")
    for part in (said, shown.page.locator("#picture svg"), *(rows.nth(i) for i in range(3))):
        box = part.bounding_box()
        assert box and box["height"] > 10
        assert box["x"] >= 0 and box["x"] + box["width"] <= width
        assert box["y"] >= 0 and box["y"] + box["height"] <= 900
    context.close()


def test_the_picture_can_be_switched_and_follows_the_filters(reader):
    figure = reader.page.locator("#picture figure")
    assert figure.get_attribute("data-chart") == "speed-up"
    assert figure.locator(".mark-symbol path[stroke-width='2']").count() > 0  # crossovers
    reader.page.locator("#pictures button", has_text="Accuracy").click()
    reader.settle()
    assert figure.get_attribute("data-chart") == "pareto-latency_s"
    assert "picture=pareto-latency_s" in reader.page.url
    before = reader.page.locator("#headline").inner_text()
    reader.choose("length", "1024")
    assert "1,024 tokens" in reader.page.locator("#headline").inner_text() != before


def test_intervals_are_shown_on_demand(reader):
    cell = reader.page.locator("#table [tabulator-field='speedup_over'] .value").first
    assert "[" not in cell.inner_text()
    assert (cell.get_attribute("title") or "").startswith("95 % interval [")
    reader.page.locator("#columns summary").click()
    reader.page.locator("#column-intervals").check()
    assert "[" in cell.inner_text() and "intervals=yes" in reader.page.url


def test_names_on_charts_do_not_overlap(reader):
    boxes = reader.page.evaluate(
        """[...document.querySelectorAll('figure')].map((figure) =>
             [...figure.querySelectorAll('.mark-text.role-mark text')]
             .filter((text) => !text.hasAttribute('stroke-width')) // rims behind names
             .map((text) => {
               const { left, right, top, bottom } = text.getBoundingClientRect();
               return [left, top, right, bottom];
             }))"""
    )
    assert any(len(own) > 5 for own in boxes)
    for own in boxes:
        for i, (left, top, right, bottom) in enumerate(own):
            for other in own[i + 1 :]:
                apart = right <= other[0] or other[2] <= left
                # A line of text is lower than its box.
                assert apart or bottom - 3 <= other[1] or other[3] - 3 <= top


def test_the_page_answers_which_one_to_take(reader):
    box = reader.page.locator("#advice")
    reader.page.locator("summary", has_text="Which one for me?").click()
    answer = box.locator(".answer")
    assert "rows that reach 95 % on" in answer.inner_text()
    reader.page.select_option("#advice-least", "")
    reader.settle()
    assert answer.inner_text().startswith("Of the rows that were timed, ")
    reader.page.select_option("#advice-length", "1024")
    reader.settle()
    assert "at 1,024 tokens, forward" in answer.inner_text()
    assert reader.page.locator("#filter-length").input_value() == "1024"
    assert "attnbench advise seq_len=1024 mode=forward" in box.inner_text()
    assert box.locator("tr").count() > len(reader.names()) - 2  # controls are no answer


@pytest.fixture
def opened(browser, tmp_path):
    """Opens pages of a test's own records."""
    pages: list[Reader] = []

    def page_of(records, fragment=""):
        context = browser.new_context(viewport={"width": 1400, "height": 900})
        pages.append(Reader(context, f"{written(records, tmp_path).as_uri()}{fragment}"))
        return pages[-1]

    yield page_of
    for one in pages:
        assert one.said == []
        one.page.context.close()


def test_scores_beside_timed_rows_are_those_of_the_first_settings(opened):
    records = made.block_records(("softmax", "nala"))
    for record in made.task_records(("softmax", "nala")):
        worse = made.changed(record, accuracy=0.2)
        records += [planned(record, "recall"), planned(worse, "recall", num_steps=900)]
    shown = opened(records)
    scores = shown.page.locator("#table [tabulator-field='accuracy'] .value").all_inner_texts()
    assert len(scores) == 2 and all(float(score) > 90 for score in scores)


def test_a_training_is_measured_again_with_its_settings(opened):
    records = made.task_records(("softmax", "linear"))
    changed = [planned(record, "recall num_pairs=16", num_pairs=16) for record in records]
    shown = opened(changed, "#kind=task&open=linear")
    command = shown.page.locator("#drawer details.record[open] .command").inner_text()
    assert "'task=[recall]' 'task.recall.num_pairs=[16]' rates=shared" in command
    assert "'seed=[0,1,2]' device=cpu num_threads=1 force=true" in command
    old = opened(records, "#kind=task&open=linear")
    assert "Measure it again" not in old.page.locator("#drawer").inner_text()


def test_a_printed_page_cuts_no_chart_and_folds_no_conclusion(reader):
    reader.page.emulate_media(media="print")
    reader.page.set_viewport_size({"width": 740, "height": 1000})  # A4
    beyond = reader.page.evaluate(
        """[...document.querySelectorAll('figure svg, #table .tabulator-cell')].map((one) =>
             one.getBoundingClientRect().right - innerWidth)"""
    )
    assert max(beyond) <= 0
    reader.page.evaluate("dispatchEvent(new Event('beforeprint'))")
    assert reader.page.locator(".conclusions:not([open])").count() == 0


def test_the_drawer_tells_all_of_a_mechanism_and_gives_the_focus_back(reader):
    button = reader.page.locator("button.name", has_text="linear").first
    button.click()
    drawer = reader.page.locator("#drawer")
    text = drawer.inner_text()
    for heading in ("Measure it again", "Tested", "Formula", "Capabilities", "Other records ("):
        assert heading in text
    assert "[" in drawer.locator("details.record[open] table").first.inner_text()  # intervals
    command = drawer.locator("details.record[open] .command").inner_text()
    assert "attnbench sweep 'attention=[linear]'" in command
    assert "seq_len=4096" in command
    assert len(drawer.locator("details.record[open] .samples").text_content().split()) == 30
    reader.page.keyboard.press("Escape")
    assert not drawer.is_visible()
    assert reader.page.evaluate("document.activeElement.className") == "name"


def test_two_mechanisms_and_two_sweeps_stand_side_by_side(reader):
    reader.page.select_option("#compare-a", "linear")
    reader.page.select_option("#compare-b", "softmax")
    rows = reader.page.locator("#compare table").first.locator("tbody tr")
    assert rows.count() > 3
    reader.page.select_option("#compare-before", "older")
    reader.page.select_option("#compare-after", index=2)
    assert reader.page.locator("#compare table").nth(1).locator("tbody tr").count() == 2


def test_two_models_show_which_examples_each_solves_and_rank_nothing(reader):
    reader.page.select_option("#compare-a", "softmax")
    reader.page.select_option("#compare-b", "none")
    part = reader.page.locator("#compare details.answers")
    assert part.count() == 1
    said = part.locator("summary").inner_text()
    assert "of the first 2 test examples both solve 0, only softmax 2" in said
    part.locator("summary").click()
    assert part.locator(".solved span").all_inner_texts() == ["1", "1"]
    text = part.inner_text()
    assert "These two trained models: " in text and "(McNemar)" in text and "ranks nothing" in text
    cells = part.locator("tbody tr").first.locator("td").all_inner_texts()
    assert cells[:2] == ["1 2 3 4 5", "11 at 0, 12 at 1, 13 at 2, 14 at 3"]
    assert cells[2] == "4 of 4" and cells[-1] == "only softmax"


def test_the_view_can_be_saved_as_csv(reader):
    with reader.page.expect_download() as download:
        reader.page.locator("#csv").click()
    lines = Path(download.value.path()).read_text().splitlines()
    assert lines[0].startswith(
        "name,rank_first,rank_last,is_control,setting,length,status,reason,marks,"
    )
    assert "latency_low_s" in lines[0]
    assert len(lines) == 1 + len(reader.names())


def test_markup_in_records_is_shown_as_text(opened):
    shown = opened(rude_records())
    assert RUDE in shown.names()
    assert shown.page.locator("img").count() == 0
    shown.page.locator("button.name", has_text="<img").click()
    assert RUDE in shown.page.locator("#drawer-title").inner_text()
    assert shown.page.locator("img").count() == 0


@pytest.mark.parametrize("width", [1400, 420])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_every_view_fits_its_window(browser, address, tmp_path, width, scheme):
    folder = Path(PICTURES) if PICTURES else tmp_path
    folder.mkdir(parents=True, exist_ok=True)
    context = browser.new_context(viewport={"width": width, "height": 900}, color_scheme=scheme)
    views = {"speed": "", "task": "#kind=task", "drawer": "#open=nala", "pair": "#a=nala&b=softmax"}
    for view, fragment in views.items():
        shown = Reader(context, address + fragment)
        assert shown.page.evaluate("document.documentElement.scrollWidth") <= width
        picture = folder / f"{view}-{scheme}-{width}.png"
        shown.page.screenshot(path=picture, full_page=view != "drawer")
        assert picture.stat().st_size > 10_000
        assert shown.said == []
        shown.page.close()
    context.close()
