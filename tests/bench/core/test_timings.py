"""Stages of a command and their sum."""

from bench.core.timings import Timings


def test_stages_follow_each_other_and_are_told_in_seconds_and_in_units():
    timings = Timings(began_s=10.0)
    for stage, end_s in {"interpreter": 10.5, "import torch": 12.5, "plan": 13.5}.items():
        timings.end(stage, end_s)
    assert dict(timings.stages()) == {"interpreter": 0.5, "import torch": 2.0, "plan": 1.0}
    first, unit, _, last = timings.lines("import torch")
    assert first.split() == ["interpreter", "0.50", "s", "0.25", "x", "import", "torch"]
    assert unit.split()[2:5] == ["2.00", "s", "1.00"]
    assert last.split()[:4] == ["all", "3.50", "s", "1.75"]


def test_without_the_unit_there_are_seconds_alone():
    timings = Timings(began_s=0.0)
    timings.end("compose", 1.0)
    assert [line.split() for line in timings.lines("import torch")] == [
        ["compose", "1.00", "s"],
        ["all", "1.00", "s"],
    ]
