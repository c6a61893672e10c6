import pytest

from bench.core.proofs import BadgeStatus, read_badges
from bench.studies.verify.command import main, run_conformance
from bench.studies.verify.settings import Verify
from tests.bench.studies.verify.goldens import RESULT, replace, session, told

PLUGIN = """
import ctypes
import time

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
        {deed}
        return super().forward(q, k, v)
"""


@pytest.fixture
def verified(tmp_path, monkeypatch, own_registry):
    """Write a plugin for each mechanism, and test them by the command; returns its exit code."""
    monkeypatch.syspath_prepend(str(tmp_path))
    claims = dict.fromkeys(("shape", "padding", "exact"))
    monkeypatch.setattr("bench.studies.verify.command.CLAIMS", claims)
    monkeypatch.setattr("bench.studies.verify.badges.CLAIMS", claims)
    entries = tmp_path / "conf" / "attention"
    entries.mkdir(parents=True)

    def run(deeds, *words, exact=()):
        for name, deed in deeds.items():
            text = PLUGIN.format(name=name, deed=deed, exact=name in exact)
            (tmp_path / f"plug_{name}.py").write_text(text)
            (entries / f"{name}.yaml").write_text(f"{name}:\n  mechanism: {name}\n")
        chosen = ["--config-dir", str(tmp_path / "conf"), f"attention=[{','.join(deeds)}]"]
        plugins = f"plugins=[{','.join(f'plug_{name}' for name in deeds)}]"
        out = f"out={tmp_path}/out/verify.json"
        return main([*chosen, plugins, "conformance=true", out, *words])

    return run


@pytest.mark.slow
def test_claims_of_plugins_are_tested_kept_and_told_and_one_that_fails_ends_with_1(
    verified, tmp_path, capsys
):
    assert verified({"mine_true": "", "mine_false": ""}, exact=["mine_true"]) == 1
    said = capsys.readouterr().out
    assert "[1/2] mine_true" in said
    assert "FAILED mine_false-exact-" in said and "FAILED mine_true" not in said
    assert "--attention mine_false -p plug_mine_true -p plug_mine_false" in said
    badges = read_badges(tmp_path / "out")
    found = {claim: badge.status for claim, badge in badges["mine_true"].items()}
    assert found == {
        "shape": BadgeStatus.PASSED,
        "padding": BadgeStatus.NOT_CLAIMED,
        "exact": BadgeStatus.PASSED,
    }
    assert badges["mine_true"]["exact"].source
    failed = badges["mine_false"]["exact"]
    assert failed.status is BadgeStatus.FAILED and "claim exact" in (failed.reason or "")


@pytest.mark.slow
def test_a_mechanism_that_ends_or_blocks_its_process_fails_and_the_others_are_tested(
    verified, tmp_path, capsys
):
    deeds = {
        "crashes": "ctypes.string_at(0)",
        "hangs": "time.sleep(600)",
        "leaves": "raise SystemExit(3)",
        "sound": "",
    }
    assert verified(deeds, "limit_s=20", exact=deeds) == 1
    said = capsys.readouterr()
    assert "the process that tested it was killed by SIGSEGV" in said.out
    assert "the process that tested it gave no result within 20 s" in said.out
    assert "SystemExit: 3" in said.out and "Traceback" not in said.out + said.err
    badges = read_badges(tmp_path / "out")
    assert {name for name in deeds if badges[name]["shape"].status is BadgeStatus.FAILED} == {
        *("crashes", "hangs", "leaves")
    }
    assert badges["crashes"]["exact"].status is BadgeStatus.SKIPPED


@pytest.mark.parametrize(("outcome", "code"), [("passed", 0), ("skipped", 0), ("failed", 1)])
def test_only_a_claim_that_fails_ends_with_1(outcome, code, tmp_path, monkeypatch):
    def results_of(name):
        return [replace(RESULT, outcome=outcome if name == "linear" else "passed", reason="why")]

    told(monkeypatch, results_of)
    asked = Verify(attention=("linear", "softmax"), out=tmp_path / "verify.json")
    assert run_conformance(asked, session()) == code


def test_badges_of_finished_mechanisms_outlive_ctrl_c(tmp_path, monkeypatch):
    def results_of(name):
        if name == "softmax":
            raise KeyboardInterrupt
        return [RESULT]

    told(monkeypatch, results_of)
    asked = Verify(attention=("linear", "softmax"), out=tmp_path / "verify.json")
    stopped = session()
    run_conformance(asked, stopped)
    assert stopped.is_stopped
    assert list(read_badges(tmp_path)) == ["linear"]
    assert "1 passed, 0 failed" in stopped.console.export_text()
