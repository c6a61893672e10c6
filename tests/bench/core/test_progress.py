"""Texts of others, such as a lease's words, are shown as they are."""

import io

import pytest
from rich.console import Console

from bench.core import progress as progresses
from bench.core.progress import Part, SweepProgress, UnitProgress
from tests import records as made


def test_words_of_others_are_no_markup():
    shown = io.StringIO()
    console = Console(file=shown, force_terminal=True, width=100)
    with SweepProgress(console, {"a": 1.0}) as progress:
        progress.say("waiting for [/red] on [link=x]node[/link]")
        progress._bar.refresh()
    part = Part(name="[/red]", outcome="done")
    with UnitProgress(console, [part]) as units:
        units.begin(part)
    assert "[/red] on [link=x]node[/link]" in shown.getvalue()


@pytest.mark.parametrize(("ends_s", "left"), [(None, "1 min 0 s"), (135.0, "15 s"), (110.0, "0 s")])
def test_the_time_left_is_what_is_expected_at_the_pace_so_far_and_ends_with_the_budget(
    ends_s, left, monkeypatch
):
    now = [100.0]
    monkeypatch.setattr(progresses, "now_s", lambda: now[0])
    first, second = (made.kernel_cell(name) for name in ("nala", "linear"))
    shown = io.StringIO()
    expected = {first.entry + first.key: 10.0, second.entry + second.key: 30.0}
    with SweepProgress(Console(file=shown, width=200), expected, ends_s) as progress:
        now[0] += 20.0
        progress.finish(made.ok_record(first, made.speed([0.1])))
    line = shown.getvalue()
    assert line.startswith("[1/2] ") and line.rstrip().endswith(f"({left} left)")
