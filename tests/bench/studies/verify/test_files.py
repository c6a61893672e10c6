import json
from collections import Counter

import pytest

from bench.studies.verify.command import main
from bench.studies.verify.outputs import write_rows

FIELDS = ["golden", "mechanism", "case", "status", "error", "bound", "dtype", "reason", "source"]


def test_rows_have_the_fields_that_readers_expect(public, tmp_path):
    path = tmp_path / "deep" / "verify.json"
    write_rows(path, public)
    rows = json.loads(path.read_text())
    assert [list(row) for row in rows] == [FIELDS] * len(public)
    assert Counter(row["status"] for row in rows) == Counter(p.status.value for p in public)
    for row in rows:
        assert row["golden"].endswith(f"/{row['case']}")
        numbers = (row["error"], row["bound"], row["dtype"])
        assert (None not in numbers) == (row["status"] == "passed")


def test_rows_replace_an_older_file_and_leave_nothing_beside_it(tmp_path):
    path = tmp_path / "verify.json"
    path.write_text("old")
    write_rows(path, [])
    assert json.loads(path.read_text()) == []
    assert [p.name for p in tmp_path.iterdir()] == ["verify.json"]


@pytest.mark.parametrize(("out", "words"), [("file/a.json", "cannot be written"), ("", "a folder")])
def test_an_unwritable_out_is_refused_before_anything_is_proven(
    small, tmp_path, capsys, out, words
):
    (tmp_path / "file").write_text("")
    assert main([f"golden={small}", f"out={tmp_path / out}"]) == 2
    said = capsys.readouterr()
    assert words in said.err and not said.out
