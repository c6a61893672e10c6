import json
from dataclasses import replace

import pytest

from bench.core.proofs import Badge, BadgeStatus, line_of, stored_proofs
from bench.measuring.machine.environment import mechanism_syntax
from bench.studies.session import Session
from bench.studies.verify.command import run_keep
from bench.studies.verify.settings import Verify
from tests.bench.studies.verify.goldens import RESULT, told

BADGE = Badge(claim="causal", status=BadgeStatus.PASSED, tested_at="2026-11-29", torch="2.13")
SAID = {"golden": "a/b", "mechanism": "linear", "case": "b", "status": "passed"}
CASE = replace(RESULT, claim="golden", facts=(SAID,))
OPEN = replace(CASE, outcome="skipped", facts=({**SAID, "status": "not_covered"},))


@pytest.fixture
def path(tmp_path):
    return tmp_path / "proofs.jsonl"


@pytest.fixture
def prove(path, monkeypatch):
    """Prove mechanisms, those in `broken` with a failed claim: the code, and what was tested."""
    monkeypatch.setattr("bench.studies.verify.keep.STORED", path)

    def run(*names, broken=(), force=False):
        tested = []

        def results_of(name):
            tested.append(name)
            outcome = "failed" if name in broken else "passed"
            found = [replace(RESULT, outcome=outcome, reason="it leaks")]
            return found + [CASE, OPEN] * (name == "linear")

        told(monkeypatch, results_of)
        rows = {name: {"mechanism": name} for name in names}
        asked = Verify.read({"attention": rows, "keep": True, "force": force})
        with Session("verify", {"attention": rows}) as session:
            return run_keep(asked, session), tested

    return run


def test_only_what_changed_is_proven_again_unless_that_is_forced(prove, path):
    assert prove("linear", "softmax") == (0, ["linear", "softmax"])
    assert stored_proofs(path)["linear"].goldens == (1, 1), "what is not covered is not counted"
    assert stored_proofs(path)["softmax"].goldens is None
    assert prove("linear", "softmax") == (0, [])
    before = line_of("softmax", {"causal": replace(BADGE, source="before")}, None)
    path.write_text(f"{path.read_text().splitlines()[0]}\n{before}\n")
    assert prove("linear", "softmax") == (0, ["softmax"])
    assert prove("linear", force=True) == (0, ["linear"])


def test_a_mechanism_that_fails_keeps_its_line_and_the_others_are_stored(prove, path, capsys):
    code, tested = prove("linear", "nala", broken=["linear"])
    assert (code, tested) == (1, ["linear", "nala"])
    assert stored_proofs(path).keys() == {"nala"}
    assert stored_proofs(path)["nala"].source == mechanism_syntax("nala")
    assert f"FAILED {RESULT.id}: it leaks" in capsys.readouterr().out


def test_lines_of_mechanisms_that_there_are_no_longer_are_left_out(prove, path):
    path.write_text(line_of("of_a_plugin", {"causal": BADGE}, None) + "\n")
    prove("linear")
    assert [json.loads(line)["mechanism"] for line in path.read_text().splitlines()] == ["linear"]
