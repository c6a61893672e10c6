"""docs/adding-a-task.md, done literally: its files in an empty folder, its command, two scores."""

import csv
import re
import subprocess
import sys

import pytest
import yaml

from tests.pages import text_of, typed

PAGE = "adding-a-task.md"
pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("a task")]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return typed(PAGE, tmp_path_factory.mktemp("own-task"))


def test_a_task_outside_the_package_is_trained_and_scored(folder):
    with (folder / "results" / "table.csv").open(newline="") as file:
        rows = {row["entry"]: row for row in csv.DictReader(file) if row["task"] == "first"}
    assert rows.keys() == {"softmax", "none"}
    assert all(row["status"] == "ok" for row in rows.values()), rows
    assert float(rows["softmax"]["accuracy"]) > 0.9
    assert float(rows["none"]["accuracy"]) < 0.3


def test_the_yaml_writes_settings_with_their_defaults(folder):
    (given,) = yaml.safe_load((folder / "conf" / "task" / "first.yaml").read_text()).values()
    # As the page's package, it is found by its entry point.
    info = folder / "my_package-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: my-package\nVersion: 1.0\n")
    group = re.search(r'entry-points\."(.+)"\]\n(.+ = )"my_package\.(.+)"', text_of(PAGE))
    (info / "entry_points.txt").write_text(f"[{group[1]}]\n{group[2]}{group[3]}\nlost = lost\n")
    script = "import json; from bench.measuring.tasks.base import task_settings as s; "
    script += "print(json.dumps(s('first')))"
    shown = subprocess.run(
        [sys.executable, "-c", script], cwd=folder, capture_output=True, text=True, check=True
    )
    assert "The task plugin 'lost' (lost, of my-package 1.0) is left out: Mod" in shown.stderr
    assert given.pop("task") == "first"
    assert given.items() <= yaml.safe_load(shown.stdout).items()
