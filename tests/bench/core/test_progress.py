"""What others wrote, such as a claim's words, is shown as it is."""

from __future__ import annotations

import io

from rich.console import Console

from bench.core.progress import SweepProgress, one_by_one


def test_words_of_others_are_no_markup() -> None:
    shown = io.StringIO()
    console = Console(file=shown, force_terminal=True, width=100)
    with SweepProgress(console, {"a": 1.0}) as progress:
        progress.say("waiting for [/red] on [link=x]node[/link]")
        progress._bar.refresh()
    one_by_one(["[/red]"], lambda name: "done", console)
    assert "[/red] on [link=x]node[/link]" in shown.getvalue()
