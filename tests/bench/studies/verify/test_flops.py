"""`attnbench verify flops=true`, on a plug-in whose formulas are right, wrong and unseen."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from bench.core.cli.errors import ConfigError
from bench.studies.verify.settings import Verify

ROOT = Path(__file__).resolve().parents[4]


def verify(folder, *names):
    entries = folder / "conf" / "attention"
    entries.mkdir(parents=True, exist_ok=True)
    for name in ("right", "wrong", "unseen"):
        (entries / f"{name}.yaml").write_text(f"{name}:\n  mechanism: {name}\n")
    return subprocess.run(
        [
            *(sys.executable, "-m", "bench.verify", "--config-dir", str(folder / "conf")),
            *(
                "flops=true",
                f"attention=[{','.join(names)}]",
                "plugins=[tests.bench.measuring.costs.plugin]",
            ),
            f"out={folder}/verify.json",
        ],
        cwd=folder,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=300,
    )


def rows(folder):
    found = json.loads((folder / "verify-flops.json").read_text())
    return {(row["mechanism"], row["form"]): row for row in found}


def test_three_numbers_stand_side_by_side_and_a_wrong_one_is_a_verdict(tmp_path):
    done = verify(tmp_path, "right", "wrong", "unseen")
    assert done.returncode == 1, done.stderr
    assert "3 confirmed, 3 failed, 1 unconfirmed" in done.stdout
    assert "[1/3] right: 3 confirmed" in done.stdout and "(0 s left)" in done.stdout
    assert "failed wrong causal: " in done.stdout
    assert "unconfirmed unseen bidirectional: no slow form takes" in done.stdout
    right = rows(tmp_path)["right", "causal"]
    assert right["status"] == "confirmed" and right["reason"] is None
    assert right["formula"] == right["needed"] < right["executed"] == right["counted"]
    shown = next(line for line in done.stdout.splitlines() if "right" in line and "causal" in line)
    assert f"{right['formula']:,}" in shown and f"{right['counted']:,}" in shown
    assert not (tmp_path / "verify.json").exists(), "the rows of outputs are left alone"


def test_what_nothing_confirms_is_no_failure(tmp_path):
    done = verify(tmp_path, "unseen")
    assert done.returncode == 0, done.stderr
    assert "0 confirmed, 0 failed, 1 unconfirmed" in done.stdout


def test_no_golden_files_are_needed_for_it(monkeypatch, tmp_path):
    monkeypatch.setattr("bench.studies.verify.settings.CHECKOUT", tmp_path / "installed")
    monkeypatch.chdir(tmp_path)
    config = {"golden": None, "attention": {}, "out": "v.json", "plugins": [], "flops": True}
    assert Verify.read(config).flops
    with pytest.raises(ConfigError, match="no golden files"):
        _ = Verify.read(config | {"flops": False}).goldens
    with pytest.raises(ConfigError, match="flops is 'yes'"):
        Verify.read(config | {"flops": "yes"})
