"""`make bench-scale`, with a few cells."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.page_parts import with_part
from tools import scale

ROOT = Path(__file__).resolve().parent.parent


def test_its_command_runs_with_nothing_but_what_make_installs():
    plain = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    step = [sys.executable, "-m", "tools.scale", "planning", "60"]
    said = subprocess.run(step, cwd=ROOT, env=plain, capture_output=True, text=True, check=True)
    assert json.loads(said.stdout)["peak_mib"] > 0
    assert "python -m tools.scale\n" in (ROOT / "Makefile").read_text()


def test_each_step_tells_what_it_took(tmp_path, capsys):
    for step in scale.STEPS:
        getattr(scale, step)(60, tmp_path / step)
        cost = json.loads(capsys.readouterr().out)
        assert cost.keys() == {"wall_s", "cpu_s", "peak_mib"} and cost["peak_mib"] > 0


def test_what_takes_too_much_is_a_failure_and_the_page_has_the_table(tmp_path, monkeypatch):
    page = tmp_path / "page.md"
    page.write_text("Before\n<!-- scale: begin -->\nold\n<!-- scale: end -->\nAfter\n")
    monkeypatch.setattr(scale, "PAGE", page)
    cost = {"wall_s": 90.0, "cpu_s": 59.0, "peak_mib": 2000}
    for cpu_s, code in ((59.0, 0), (61.0, 1)):
        costs = {(1000, "planning"): cost | {"cpu_s": cpu_s}}
        monkeypatch.setattr(scale, "run", lambda sizes, costs=costs: costs)
        assert scale.main([]) == code
    lines = page.read_text().splitlines()
    assert lines[0] == "Before" and lines[-1] == "After" and "old" not in lines
    assert "| 1,000 | planning | 61.0 s | 90.0 s | 2,000 MiB |" in lines
    with pytest.raises(ValueError, match="no <!-- torture: begin -->"):
        with_part(page.read_text(), "torture", "")
