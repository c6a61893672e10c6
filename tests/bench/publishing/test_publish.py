import csv
import io
import sys
from dataclasses import replace

import pytest
from rich.console import Console

from bench.core.cli.errors import ConfigError
from bench.core.record import Status
from bench.publishing.config import PublishConfig, WandbConfig
from bench.publishing.publish import publish
from bench.publishing.terminal import print_leaderboard
from tests import records as made

METRICS = ("latency_s", "speedup_over")


def config(out, *, charts=True, mode="disabled"):
    return PublishConfig(
        out=out,
        metrics=METRICS,
        columns=("speedup_over",),
        controls=("uniform", "none"),
        charts=charts,
        wandb=WandbConfig(mode=mode),
    )


def block():
    return [r for n in (256, 1024) for r in made.block_records(("softmax", "nala"), seq_len=n)]


def test_page_table_and_charts_are_written_under_out(tmp_path):
    published = publish(block(), config(tmp_path))
    assert published.notes == ()
    written = {path.relative_to(tmp_path).as_posix() for path in published.files}
    assert {"leaderboard.md", "table.csv"} <= written
    assert {path for path in written if path.endswith(".vl.json")}
    assert {
        p.relative_to(tmp_path).as_posix() for p in tmp_path.rglob("*") if p.is_file()
    } == written
    with (tmp_path / "table.csv").open(newline="") as file:
        assert len(list(csv.DictReader(file))) == 4


def test_the_page_shows_the_pictures_that_were_drawn(tmp_path):
    pytest.importorskip("vl_convert")
    publish(block(), config(tmp_path))
    page = (tmp_path / "leaderboard.md").read_text()
    pictures = sorted((tmp_path / "charts").glob("*.svg"))
    assert len(pictures) == 3
    assert all(f"](charts/{path.name})" in page for path in pictures)


def test_without_charts_there_is_no_folder_and_no_picture_on_the_page(tmp_path):
    publish(block(), config(tmp_path, charts=False))
    assert not (tmp_path / "charts").exists()
    assert "](charts/" not in (tmp_path / "leaderboard.md").read_text()


def test_what_wandb_has_to_say_is_passed_on_and_the_tables_are_written(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "wandb", None)
    published = publish(block(), config(tmp_path, charts=False, mode="offline"))
    assert "W&B was left out" in published.notes[0]
    assert (tmp_path / "leaderboard.md").exists()


def test_an_out_that_cannot_be_written_is_a_config_error(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match="cannot be written"):
        publish(block(), config(tmp_path / "file"))


def test_a_rude_text_can_be_printed_and_exported_everywhere(tmp_path, nobody_at_home):
    rude = "[/red] <b>|\n\x1b[2J\0\ud800" + "x" * 10**6
    cell = made.kernel_cell("nala", seq_len=256)
    records = [*block(), made.failed_record(cell, Status.ERROR, rude, detail=rude)]
    published = publish(records, config(tmp_path / "out", charts=False, mode="offline"))
    assert published.notes == ()
    for name in ("leaderboard.md", "table.csv"):
        text = (tmp_path / "out" / name).read_text()
        assert "1,000,018 characters" in text and "x1b[2J" in text and "\x1b" not in text
    console = Console(file=io.TextIOWrapper(io.BytesIO(), encoding="utf-8"), width=100)
    print_leaderboard(published.board, config(tmp_path), console)


def test_rows_of_any_printable_names_are_published(tmp_path):
    names = ["[/red]x", "<img src=x onerror=alert(1)>", "a|b`c", "\\", "{{7*7}}", "%s", "x" * 300]
    made_up = [r for n in (64, 128) for r in made.block_records(["nala"], num_rounds=3, seq_len=n)]
    made_up += made.task_records(["nala"], seeds=[0])
    records = [
        replace(record, cell=replace(record.cell, entry=name))
        for record in made_up
        for name in names
    ]
    published = publish(records, config(tmp_path))
    assert all(file.exists() for file in published.files)
    print_leaderboard(published.board, config(tmp_path), Console(file=io.StringIO(), width=120))
    page = (tmp_path / "leaderboard.md").read_text()
    assert "<img" not in page.replace("\\<img", "")
