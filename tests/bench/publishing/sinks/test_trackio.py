"""trackio for real, in a process of its own: where it writes is settled when it is imported."""

import importlib.util
import json
import os
import sqlite3
import subprocess
import sys
from contextlib import closing

import pytest

from bench.publishing.sinks import publish_runs
from tests.bench.publishing.sweeps import config, small_sweep
from tests.records import stored

pytestmark = pytest.mark.usefixtures("nobody_at_home")


def logged(folder):
    """Run, step and values of every row of the project's database."""
    with closing(sqlite3.connect(folder / "trackio" / "attnbench.db")) as database:
        rows = database.execute("select run_name, step, metrics from metrics").fetchall()
    return [(run, step, json.loads(metrics)) for run, step, metrics in rows]


def test_mechanisms_are_runs_with_curves_and_the_second_time_they_are_replaced(
    tmp_path, nobody_at_home
):
    pytest.importorskip("trackio")
    for sweep in ("a", "b"):
        stored(tmp_path, *small_sweep(sweep), name=sweep)
    words = ["publish=trackio", f"out={tmp_path}", "charts=false"]
    program = (
        "import sys; from bench.report import main; words = sys.argv[1:]; "
        "sys.exit(main(words) or main(words))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, *words],
        env=os.environ | {"HOME": str(nobody_at_home)},
        capture_output=True,
        text=True,
        timeout=90,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert f"TRACKIO_DIR={tmp_path / 'trackio'} trackio show" in done.stdout.replace("\n", " ")
    rows = logged(tmp_path)
    names = {run for run, _, _ in rows}
    assert names == {f"{e}{s})" for s in "ab" for e in ("softmax (", "nala (")} | {"a", "b"}
    latencies = [
        (step, values["latency_s/float32 forward"])
        for run, step, values in rows
        if run == "nala (a)" and "latency_s/float32 forward" in values
    ]
    assert sorted(step for step, _ in latencies) == [256, 1024]  # once, not twice
    tables = {name for _, _, values in rows for name, value in values.items() if is_table(value)}
    assert {"leaderboard", "measurements", "scaling", "pareto"} <= tables
    assert list(nobody_at_home.iterdir()) == []
    assert not (tmp_path / "wandb").exists()


def is_table(value):
    return isinstance(value, dict) and value.get("_type") == "trackio.table"


def test_without_the_extra_there_is_a_note_that_names_it(tmp_path, monkeypatch):
    found = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name: None if name == "trackio" else found(name)
    )
    folders, notes = publish_runs(small_sweep(), config(tmp_path).but(dashboard="trackio"))
    assert folders == []
    assert notes == ["publish=trackio needs its package: pip install attnbench[dashboard]"]
