from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from rich.console import Console

from bench.badges import Badge, BadgeStatus, read_badges
from bench.verify.config import VerifyConfig
from bench.verify.conformance import run_conformance
from tests.bench.verify.goldens import PUBLIC, ROOT

PLUGIN = """
import attentions
from attentions import Capabilities, register_attention
from attentions.softmax_explicit import SoftmaxExplicit


@register_attention(
    "{name}",
    title="T",
    source="S",
    capabilities=Capabilities(causal=True, cross=True, recurrent=True, exact={exact}),
)
class Mine(SoftmaxExplicit):
    def forward(self, q, k, v):
        return super().forward(q, k, v)
"""


def run_with_plugin(folder: Path, exact: bool, *words: str) -> subprocess.CompletedProcess[str]:
    name = f"mine_{exact}".lower()
    (folder / f"plug_{name}.py").write_text(PLUGIN.format(name=name, exact=exact))
    entries = folder / "conf" / "attention"
    entries.mkdir(parents=True, exist_ok=True)
    (entries / f"{name}.yaml").write_text(f"{name}:\n  mechanism: {name}\n")
    return subprocess.run(
        [
            *(sys.executable, "-m", "bench.verify", "--config-dir", str(folder / "conf")),
            *(f"attention=[{name}]", f"plugins=[plug_{name}]", f"out={folder}/out/verify.json"),
            *words,
        ],
        capture_output=True,
        text=True,
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": str(folder), "OMP_NUM_THREADS": "1"},
        check=False,
    )


def test_a_plugins_claims_are_tested_and_its_badges_kept(tmp_path: Path) -> None:
    done = run_with_plugin(tmp_path, True, "conformance=true")
    assert done.returncode == 0, done.stdout + done.stderr
    badges = read_badges(tmp_path / "out")["mine_true"]
    assert badges["exact"].status is BadgeStatus.PASSED
    assert badges["padding"].status is BadgeStatus.NOT_CLAIMED
    assert badges["exact"].source
    assert "[1/1] mine_true" in done.stdout


def test_a_claim_that_fails_is_told_with_its_reason_and_ends_with_1(tmp_path: Path) -> None:
    done = run_with_plugin(tmp_path, False, "conformance=true")
    assert done.returncode == 1
    assert "FAILED mine_false: exact" in done.stdout
    badge = read_badges(tmp_path / "out")["mine_false"]["exact"]
    assert badge.status is BadgeStatus.FAILED
    assert "claim exact" in (badge.reason or "")


def test_badges_of_finished_mechanisms_outlive_ctrl_c(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def badges_of(name: str, source: str) -> tuple[Badge, ...]:
        if name == "softmax":
            raise KeyboardInterrupt
        return (Badge(claim="causal", status=BadgeStatus.PASSED),)

    monkeypatch.setattr("bench.verify.conformance.badges_of", badges_of)
    asked = VerifyConfig(
        golden=PUBLIC, attention=("linear", "softmax"), out=tmp_path / "verify.json"
    )
    console = Console(record=True, width=120)
    with pytest.raises(KeyboardInterrupt):
        run_conformance(asked, console)
    assert list(read_badges(tmp_path)) == ["linear"]
    assert "1 passed, 0 failed" in console.export_text()
