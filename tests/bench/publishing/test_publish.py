import csv
import io
import sys

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
