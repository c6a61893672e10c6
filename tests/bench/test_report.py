import csv
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from bench import report
from tests import records as made


@pytest.fixture(autouse=True)
def elsewhere(tmp_path, monkeypatch):
    """An empty current folder, in which nothing may appear."""
    folder = tmp_path / "elsewhere"
    folder.mkdir()
    monkeypatch.chdir(folder)
    return folder


def test_tables_are_written_from_the_records_alone(tmp_path, elsewhere, exits):
    made.stored(tmp_path / "out", *made.sweep_records())
    said = exits(0, report.main([f"out={tmp_path / 'out'}"]))
    assert "Cells without a number" in said
    assert f"Wrote {tmp_path}/out/leaderboard.md" in said
    page = (tmp_path / "out" / "leaderboard.md").read_text()
    assert all(entry in page for entry in made.ENTRIES)
    with (tmp_path / "out" / "table.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == len(made.sweep_records())
    assert {row["entry"] for row in rows if row["accuracy"]} == set(made.ENTRIES)
    assert list(elsewhere.iterdir()) == []


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["metrics=[latncy_s]"], "Did you mean latency_s"),
        (["colums=[flops]"], "columns"),
        (["wandb.mode=ofline"], "Did you mean offline"),
        (["out=nowhere"], "run a sweep first"),
    ],
)
def test_a_wrong_word_on_the_command_line_ends_with_2_and_without_a_traceback(
    tmp_path, capsys, words, message
):
    made.stored(tmp_path / "out", *made.block_records(["softmax"]))
    given = [f"out={tmp_path / 'out'}", *words] if "out" not in words[0] else words
    assert report.main(given) == 2
    captured = capsys.readouterr()
    assert message in captured.err
    assert "Traceback" not in captured.err
    assert not (tmp_path / "out" / "leaderboard.md").exists()


def test_a_bad_line_is_named_the_rest_is_published_and_the_exit_code_is_2(tmp_path, capsys, exits):
    words = ["charts=false"]
    records = [*made.block_records(["softmax", "nala"]), *made.task_records(["nala"])]
    path = made.stored(tmp_path, *records)
    lines = path.read_text().splitlines(keepends=True)
    path.write_text("".join([*lines[:2], *lines[3:]]))
    assert report.main([f"out={tmp_path}", *words]) == 0
    page = (tmp_path / "leaderboard.md").read_bytes()
    lines[2] = re.sub(r'"accuracy":[^,]*', '"accuracy":2.0', lines[2])
    path.write_text("".join(lines))
    capsys.readouterr()
    said = exits(2, report.main([f"out={tmp_path}", *words]))
    assert f"{path}:3 is left out: a share of right answers is 2.0; it is 1 at most." in said
    assert (tmp_path / "leaderboard.md").read_bytes() == page


@pytest.mark.parametrize(
    "words", ["versus=[nala,softmax]", "wandb.make=workspace", "format=latex", "site=site"]
)
def test_whatever_a_report_gives_it_names_a_bad_line_and_ends_with_2(
    tmp_path, exits, monkeypatch, words
):
    monkeypatch.setattr(report, "make_for", lambda records, config: (Path("made.py"), []))
    monkeypatch.setattr(report, "build_site", lambda records, config, site: [site])
    path = made.stored(tmp_path, *made.block_records(["softmax", "nala"]))
    path.write_text(path.read_text() + "[]\n")
    assert f"{path}:3 is left out" in exits(2, report.main([f"out={tmp_path}", words]))


def test_only_what_was_asked_for_is_a_column_in_the_order_asked_for(tmp_path):
    made.stored(tmp_path, *made.block_records(["softmax"]))
    words = ["metrics=[flops,latency_s]", "columns=[flops]", "charts=false"]
    assert report.main([f"out={tmp_path}", *words]) == 0
    header = (tmp_path / "table.csv").read_text().partition("\n")[0].split(",")
    numbers = header[header.index("is_control") + 1 :]
    assert numbers[:2] == ["flops", "latency_s"]
    assert "peak_memory_bytes" not in header
    page = (tmp_path / "leaderboard.md").read_text()
    assert "compute (MFLOP)" in page
    assert "latency (" not in page


def test_a_report_loads_neither_torch_nor_wandb(tmp_path):
    made.stored(tmp_path, *made.sweep_records())
    code = (
        "import sys; from bench import report; code = report.main(sys.argv[1:]);"
        "loaded = {'torch', 'wandb'} & set(sys.modules); sys.exit(code or bool(loaded))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, f"out={tmp_path}", "charts=false"],
        env=os.environ | {"COLUMNS": "80"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr


def test_two_rows_are_compared_and_nothing_is_written(tmp_path, exits):
    out = tmp_path / "out"
    made.stored(out, *made.sweep_records())
    before = sorted(out.rglob("*"))
    said = exits(0, report.main([f"out={out}", "versus=[nala,softmax]"]))
    assert "Faster, in 12 places: nala" in said
    assert sorted(out.rglob("*")) == before
    (file,) = (out / "records").iterdir()
    with file.open("a") as lines:
        lines.write('{"entry":"torn')  # as a crash leaves it
    assert report.main([f"out={out}", "versus=[nala,softmax]"]) == 0


@pytest.mark.parametrize("pair", ["[nala]", "[nala,softmax,linear]", "[nala,nobody]"])
def test_a_pair_that_cannot_be_compared_ends_with_2(tmp_path, exits, pair):
    made.stored(tmp_path / "out", *made.block_records())
    said = exits(2, report.main([f"out={tmp_path / 'out'}", f"versus={pair}"]))
    assert "ConfigError: versus" in said


def test_latex_is_the_tables_alone_with_equal_rows_in_bold(tmp_path):
    out = tmp_path / "out"
    made.stored(out, *made.sweep_records())
    before = set(out.rglob("*"))
    assert report.main([f"out={out}", "format=latex"]) == 0
    assert set(out.rglob("*")) - before == {out / "leaderboard.tex"}
    tables = (out / "leaderboard.tex").read_text("utf-8")
    assert tables.count(r"\begin{table}") == tables.count(r"\end{table}") > 1
    assert r"\textbf{1} &" in tables and "textbf{2}" not in tables
