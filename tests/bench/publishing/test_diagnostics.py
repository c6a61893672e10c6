"""Findings of `bench.diagnose` in a store, in a report on that store."""

from dataclasses import replace

import pytest

from bench.core.numbers import FILE, LeftOut, Number, Origin, write_lines
from bench.publishing.config import PublishConfig, WandbConfig
from bench.publishing.publish import publish
from tests import records as made


def numbers():
    norms = [("norm 0.5", 0.9), ("norm 2", 0.8), ("norm 8", 0.3)]
    found = [
        Number(attention="softmax", inputs="random", measure="entropy", at=at, samples=(x, x))
        for at, x in norms
    ]
    own = replace(found[0], inputs="recall, layer 0", measure="query norm", at="", samples=(2.0,))
    rank = replace(found[0], measure="effective rank", at="", samples=(30.0, 34.0))
    regret = replace(own, inputs="recall", measure="drop-in regret", at="before", samples=(0.25,))
    left_out = LeftOut(attention="gla", inputs="random", why="it needs gates.")
    return [*found, own, rank, regret, left_out]


def config(out):
    return PublishConfig(
        out=out,
        metrics=("latency_s",),
        columns=("latency_s",),
        wandb=WandbConfig(mode="disabled"),
    )


@pytest.mark.parametrize("place", [FILE, f"diagnostics/{FILE}"])
def test_a_report_has_a_table_and_a_chart_of_them(place, tmp_path):
    origin = Origin(command="attnbench diagnose x", settings=("64 tokens.",), machine="m")
    write_lines(tmp_path / place, numbers(), origin)
    published = publish(made.block_records(), config(tmp_path))
    page = (tmp_path / "leaderboard.md").read_text()
    chapter = page[page.index("## Diagnostics") : page.index("## Charts")]
    assert "|                  -0.1 |                -0.5 |     32 ± 3e+01 |" in chapter
    assert "change, norm 0.5 to 2" in chapter and "change, norm 2 to 8" in chapter
    assert (
        "recall, layer 0" in chapter and "| softmax   |            - |          0.25 |" in chapter
    )
    assert "attnbench diagnose x on m." in chapter and "64 tokens." in chapter
    assert "gla, random: it needs gates." in chapter
    assert "(charts/entropy-against-norm.svg)" in page
    assert tmp_path / "charts" / "entropy-against-norm.svg" in published.files
    assert not published.notes


def test_a_bad_line_is_named_and_the_report_is_made(tmp_path):
    (tmp_path / FILE).write_text("nonsense\n")
    published = publish(made.block_records(), config(tmp_path))
    (note,) = published.notes
    assert note.endswith("line 1 is left out: it is no JSON object.")
    assert "## Diagnostics" not in (tmp_path / "leaderboard.md").read_text()
