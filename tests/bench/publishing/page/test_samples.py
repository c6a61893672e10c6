from bench.publishing.page import samples as of_page
from bench.publishing.page.rows import table
from bench.publishing.page.samples import samples
from tests import records as made
from tests.bench.publishing.page.made_pages import METRICS, board


def test_few_samples_come_with_the_page(tmp_path):
    records = made.block_records(("softmax", "linear"), num_rounds=7)
    values = samples(table(board(records), METRICS), tmp_path)["values"]
    assert [[len(one) for one in row] for row in values] == [[7], [7]]


def test_many_samples_are_named_by_file_and_line(tmp_path, monkeypatch):
    monkeypatch.setattr(of_page, "MAX_BYTES", 100)
    records = made.block_records(("softmax", "linear"))
    made.stored(tmp_path, *records, name="one")
    rows = table(board(records), METRICS)
    found = samples(rows, tmp_path)
    assert found["files"] == ["one.jsonl"]
    lines = (tmp_path / "records" / "one.jsonl").read_text().splitlines()
    for own, places in zip(rows.records, found["places"], strict=True):
        [(file, line)] = places
        assert file == 0
        assert own[0].cell.key in lines[line - 1]
