import json

import pytest

from bench.studies.verify.command import main
from bench.studies.verify.rows import write_rows


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
