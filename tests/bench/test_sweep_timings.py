"""Stages of a command and their sum."""

import io

from rich.console import Console

from bench.core.clock import now_s
from bench.sweep import Timings


def test_stages_follow_each_other_and_are_told_in_seconds_and_in_units():
    now = now_s()
    timings = Timings(began_s=now - 1.0, composes_s=now - 0.5)
    timings.end("import torch", now + 2.0)
    timings.end("plan", now + 3.0)
    stages = dict(timings.stages())
    assert list(stages) == ["interpreter", "compose", "import torch", "plan"]
    assert round(stages["interpreter"], 6) == 0.5 and round(stages["plan"], 6) == 1.0
    assert round(sum(stages.values()), 6) == 4.0
    *_, last = timings.lines("plan")
    assert last.split() == ["all", "4.00", "s", "4.00", "x", "plan"]


def test_without_the_unit_there_are_seconds_alone():
    now = now_s()
    printed = io.StringIO()
    timings = Timings(began_s=now - 1.0, composes_s=now)
    timings.print(Console(file=printed), "import torch")
    _, _, first, *_ = [line.split() for line in printed.getvalue().splitlines()]
    assert first == ["interpreter", "1.00", "s"]
