"""Findings of `bench.diagnose` in a store, in a report on that store."""

import pytest

from bench.core.numbers import FILE, Number, Origin, write_lines
from bench.publishing.config import PublishConfig, WandbConfig
from bench.publishing.publish import publish
from tests import records as made


def config(out):
    return PublishConfig(
        out=out,
        metrics=("latency_s",),
        columns=("latency_s",),
        wandb=WandbConfig(mode="disabled"),
    )


@pytest.mark.parametrize("place", [FILE, f"diagnostics/{FILE}"])
def test_a_report_has_a_table_and_a_chart_of_them(place, tmp_path):
    norms = [("norm 0.5", 0.9), ("norm 2", 0.8), ("norm 8", 0.3)]
    found = [
        Number(attention="softmax", inputs="random", measure="entropy", at=at, samples=(x, x))
        for at, x in norms
    ]
    origin = Origin(command="attnbench diagnose x", settings=("64 tokens.",), machine="m")
    write_lines(tmp_path / place, found, origin)
    published = publish(made.block_records(), config(tmp_path))
    page = (tmp_path / "leaderboard.md").read_text()
    assert "## Diagnostics" in page and "attnbench diagnose x on m." in page
    assert "(charts/entropy-against-norm.svg)" in page
    assert tmp_path / "charts" / "entropy-against-norm.svg" in published.files


def test_a_bad_line_is_named_and_the_report_is_made(tmp_path):
    (tmp_path / FILE).write_text("nonsense\n")
    published = publish(made.block_records(), config(tmp_path))
    (note,) = published.notes
    assert note.endswith("line 1 is left out: it is no JSON object.")
    assert "## Diagnostics" not in (tmp_path / "leaderboard.md").read_text()
