from dataclasses import replace

from bench.publishing.page import samples as of_page
from bench.publishing.page.rows import page_rows
from bench.publishing.page.samples import samples, sweeps
from tests import records as made
from tests.bench.publishing.page.made_pages import METRICS, board


def test_few_samples_come_with_the_page(tmp_path):
    records = made.block_records(("softmax", "linear"), num_rounds=7)
    values = samples(page_rows(board(records), METRICS), tmp_path)["values"]
    assert [[len(one) for one in row] for row in values] == [[7], [7]]


def test_many_samples_are_named_by_file_and_line(tmp_path, monkeypatch):
    monkeypatch.setattr(of_page, "MAX_BYTES", 100)
    records = made.block_records(("softmax", "linear"))
    made.stored(tmp_path, *records, name="one")
    rows = page_rows(board(records), METRICS)
    found = samples(rows, tmp_path)
    assert found["files"] == ["one.jsonl"]
    lines = (tmp_path / "records" / "one.jsonl").read_text().splitlines()
    for own, places in zip(rows.records, found["places"], strict=True):
        [(file, line)] = places
        assert file == 0
        assert own[0].cell.key in lines[line - 1]


def test_of_too_many_records_of_several_sweeps_the_last_ones_are_compared(monkeypatch):
    monkeypatch.setattr(of_page, "MAX_CELLS", 3)
    first = made.block_records(("softmax", "linear"))
    alone = made.block_records(("nala",))
    found = sweeps([*first, *(replace(record, sweep="again") for record in first), *alone])
    words = found["rows"]["words"]["sweep"]
    assert [words["vocabulary"][one] for one in words["ids"]] == [made.SWEEP, "again", "again"]
    assert found["num_left_out"] == 1
