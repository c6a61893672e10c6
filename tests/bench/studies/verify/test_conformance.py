import pytest
from rich.console import Console

from bench.core.proofs import Badge, BadgeStatus, read_badges
from bench.studies.conformance.table import reasons
from bench.studies.verify.command import main, run_conformance
from bench.studies.verify.settings import Verify
from tests.bench.studies.verify.goldens import PUBLIC, session

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


def test_claims_of_plugins_are_tested_kept_and_told_and_one_that_fails_ends_with_1(
    tmp_path, monkeypatch, capsys, own_registry
):
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr("bench.studies.conformance.run.CLAIMS", ("shape", "padding", "exact"))
    entries = tmp_path / "conf" / "attention"
    entries.mkdir(parents=True)
    names = {"mine_true": True, "mine_false": False}
    for name, exact in names.items():
        (tmp_path / f"plug_{name}.py").write_text(PLUGIN.format(name=name, exact=exact))
        (entries / f"{name}.yaml").write_text(f"{name}:\n  mechanism: {name}\n")
    words = ["--config-dir", str(tmp_path / "conf"), f"attention=[{','.join(names)}]"]
    words += ["conformance=true", "plugins=[plug_mine_true,plug_mine_false]"]
    assert main([*words, f"out={tmp_path}/out/verify.json"]) == 1
    said = capsys.readouterr().out
    assert "[1/2] mine_true" in said
    assert "FAILED mine_false: exact" in said and "FAILED mine_true" not in said
    badges = read_badges(tmp_path / "out")
    told = {claim: badge.status for claim, badge in badges["mine_true"].items()}
    assert told == {
        "shape": BadgeStatus.PASSED,
        "padding": BadgeStatus.NOT_CLAIMED,
        "exact": BadgeStatus.PASSED,
    }
    assert badges["mine_true"]["exact"].source
    failed = badges["mine_false"]["exact"]
    assert failed.status is BadgeStatus.FAILED and "claim exact" in (failed.reason or "")


@pytest.mark.parametrize(
    ("status", "code"),
    [
        (BadgeStatus.PASSED, 0),
        (BadgeStatus.NOT_CLAIMED, 0),
        (BadgeStatus.SKIPPED, 0),
        (BadgeStatus.FAILED, 1),
    ],
)
def test_only_a_claim_that_fails_ends_with_1(status, code, tmp_path, monkeypatch):
    def badges_of(name, source):
        of_linear = status if name == "linear" else BadgeStatus.PASSED
        return (Badge(claim="causal", status=of_linear, reason="a reason"),)

    monkeypatch.setattr("bench.studies.verify.command.badges_of", badges_of)
    asked = Verify(golden=PUBLIC, attention=("linear", "softmax"), out=tmp_path / "verify.json")
    assert run_conformance(asked, session(Console(quiet=True))) == code


def test_badges_of_finished_mechanisms_outlive_ctrl_c(tmp_path, monkeypatch):
    def badges_of(name, source):
        if name == "softmax":
            raise KeyboardInterrupt
        return (Badge(claim="causal", status=BadgeStatus.PASSED),)

    monkeypatch.setattr("bench.studies.verify.command.badges_of", badges_of)
    asked = Verify(golden=PUBLIC, attention=("linear", "softmax"), out=tmp_path / "verify.json")
    console = Console(record=True, width=120)
    stopped = session(console)
    run_conformance(asked, stopped)
    assert stopped.is_stopped
    assert list(read_badges(tmp_path)) == ["linear"]
    assert "1 passed, 0 failed" in console.export_text()


def test_a_leak_is_told_before_all_other_failures():
    def failed(claim, reason):
        return Badge(claim=claim, status=BadgeStatus.FAILED, reason=reason)

    tested = {
        "near": (failed("exact", "is off"),),
        "leaky": (failed("heads", "are not"), failed("causal", "leaks the future")),
    }
    assert reasons(tested)[0] == "FAILED leaky: causal: leaks the future"
    assert len(reasons(tested)) == 3
