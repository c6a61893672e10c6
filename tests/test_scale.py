"""`make bench-scale`, with a few cells."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tools import scale

ROOT = Path(__file__).resolve().parent.parent


@pytest.mark.slow
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
