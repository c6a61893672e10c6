"""docs/adding-a-task.md, done literally: its files in an empty folder, its command, two scores."""

import csv
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

PAGE = (Path(__file__).resolve().parents[3] / "docs" / "adding-a-task.md").read_text()
FENCE = re.compile(r"^```(\w+) (\S+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """What the page's reader has after typing all of it."""
    folder = tmp_path_factory.mktemp("own-task")
    commands = []
    for _, what, text in FENCE.findall(PAGE):
        if what == "run":
            commands.append(text)
            continue
        path = folder / what.removeprefix("file=")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    assert commands
    search = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    for command in commands:
        done = subprocess.run(
            ["bash", "-euc", command],
            cwd=folder,
            env={**os.environ, "PATH": search, "WANDB_MODE": "disabled"},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr
    return folder


def test_a_task_outside_the_package_is_trained_and_scored(folder):
    with (folder / "results" / "table.csv").open(newline="") as file:
        rows = {row["entry"]: row for row in csv.DictReader(file) if row["task"] == "first"}
    assert rows.keys() == {"softmax", "none"}
    assert all(row["status"] == "ok" for row in rows.values()), rows
    assert float(rows["softmax"]["accuracy"]) > 0.9
    assert float(rows["none"]["accuracy"]) < 0.3


def test_the_yaml_writes_every_setting_with_its_default(folder):
    (given,) = yaml.safe_load((folder / "conf" / "task" / "first.yaml").read_text()).values()
    # As the page's package, it is found by its entry point.
    info = folder / "my_package-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: my-package\nVersion: 1.0\n")
    group = re.search(r'entry-points\."(.+)"\]\n(.+ = )"my_package\.(.+)"', PAGE)
    (info / "entry_points.txt").write_text(f"[{group[1]}]\n{group[2]}{group[3]}\nlost = lost\n")
    script = "import json; from bench.tasks.base import task_settings as s; "
    script += "print(json.dumps(s('first')))"
    shown = subprocess.run(
        [sys.executable, "-c", script], cwd=folder, capture_output=True, text=True, check=True
    )
    assert "The task plugin 'lost' (lost, of my-package 1.0) is left out: Mod" in shown.stderr
    assert given == {"task": "first"} | yaml.safe_load(shown.stdout)
