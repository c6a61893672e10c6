from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from rich.console import Console

from bench.core.badges import Badge, BadgeStatus, read_badges
from bench.studies.conformance.table import reasons
from bench.studies.verify.conformance import run_conformance
from bench.studies.verify.settings import Verify
from tests.bench.studies.verify.goldens import PUBLIC, ROOT, session

Tested = tuple[subprocess.CompletedProcess[str], Path]

PLUGIN = """
import attentions
from attentions import Capabilities, register_attention
from attentions.mechanisms.softmax_explicit import SoftmaxExplicit


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


@pytest.fixture(scope="module")
def tested(tmp_path_factory: pytest.TempPathFactory) -> Tested:
    """The command on two mechanisms of a user's own, one of which claims too much: it and `out`."""
    folder = tmp_path_factory.mktemp("plugins")
    entries = folder / "conf" / "attention"
    entries.mkdir(parents=True)
    names = {"mine_true": True, "mine_false": False}
    for name, exact in names.items():
        (folder / f"plug_{name}.py").write_text(PLUGIN.format(name=name, exact=exact))
        (entries / f"{name}.yaml").write_text(f"{name}:\n  mechanism: {name}\n")
    done = subprocess.run(
        [
            *(sys.executable, "-m", "bench.verify", "--config-dir", str(folder / "conf")),
            *("conformance=true", f"attention=[{','.join(names)}]"),
            *("plugins=[plug_mine_true,plug_mine_false]", f"out={folder}/out/verify.json"),
        ],
        capture_output=True,
        text=True,
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": str(folder), "OMP_NUM_THREADS": "1"},
        check=False,
    )
    return done, folder / "out"


def test_a_plugins_claims_are_tested_and_its_badges_kept(tested: Tested) -> None:
    done, out = tested
    badges = read_badges(out)["mine_true"]
    assert badges["exact"].status is BadgeStatus.PASSED
    assert badges["padding"].status is BadgeStatus.NOT_CLAIMED
    assert BadgeStatus.FAILED not in {badge.status for badge in badges.values()}
    assert badges["exact"].source
    assert "[1/2] mine_true" in done.stdout


def test_a_claim_that_fails_is_told_with_its_reason_and_ends_with_1(tested: Tested) -> None:
    done, out = tested
    assert done.returncode == 1, done.stdout + done.stderr
    assert "FAILED mine_false: exact" in done.stdout and "FAILED mine_true" not in done.stdout
    badge = read_badges(out)["mine_false"]["exact"]
    assert badge.status is BadgeStatus.FAILED
    assert "claim exact" in (badge.reason or "")


@pytest.mark.parametrize(
    ("status", "code"),
    [
        (BadgeStatus.PASSED, 0),
        (BadgeStatus.NOT_CLAIMED, 0),
        (BadgeStatus.SKIPPED, 0),
        (BadgeStatus.FAILED, 1),
    ],
)
def test_only_a_claim_that_fails_ends_with_1(
    status: BadgeStatus, code: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def badges_of(name: str, source: str) -> tuple[Badge, ...]:
        of_linear = status if name == "linear" else BadgeStatus.PASSED
        return (Badge(claim="causal", status=of_linear, reason="a reason"),)

    monkeypatch.setattr("bench.studies.verify.conformance.badges_of", badges_of)
    asked = Verify(golden=PUBLIC, attention=("linear", "softmax"), out=tmp_path / "verify.json")
    assert run_conformance(asked, session(Console(quiet=True))) == code


def test_badges_of_finished_mechanisms_outlive_ctrl_c(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def badges_of(name: str, source: str) -> tuple[Badge, ...]:
        if name == "softmax":
            raise KeyboardInterrupt
        return (Badge(claim="causal", status=BadgeStatus.PASSED),)

    monkeypatch.setattr("bench.studies.verify.conformance.badges_of", badges_of)
    asked = Verify(golden=PUBLIC, attention=("linear", "softmax"), out=tmp_path / "verify.json")
    console = Console(record=True, width=120)
    with pytest.raises(KeyboardInterrupt):
        run_conformance(asked, session(console))
    assert list(read_badges(tmp_path)) == ["linear"]
    assert "1 passed, 0 failed" in console.export_text()


def test_a_leak_is_told_before_all_other_failures() -> None:
    def failed(claim: str, reason: str) -> Badge:
        return Badge(claim=claim, status=BadgeStatus.FAILED, reason=reason)

    tested = {
        "near": (failed("exact", "is off"),),
        "leaky": (failed("heads", "are not"), failed("causal", "leaks the future")),
    }
    assert reasons(tested)[0] == "FAILED leaky: causal: leaks the future"
    assert len(reasons(tested)) == 3
