"""Golden cases by the command: rows, summary, exit codes."""

import json
from dataclasses import replace

from attentions.testing.authors.proof import Proof, ProofStatus
from bench.measuring.machine.environment import mechanism_syntax
from bench.studies.verify.command import main, run_outputs
from bench.studies.verify.rows import listed_gaps, proofs_of, remarks, summary
from tests.attentions.testing.authors.copies import PUBLIC
from tests.bench.studies.verify.goldens import RESULT, config, session, told

FIELDS = ["golden", "mechanism", "case", "status", "error", "bound", "dtype", "reason", "source"]
CASE = "linear_elu/full_b2h2n49d16"
GOLDEN = replace(RESULT, claim="golden", check=CASE)


def test_the_command_compares_with_goldens_and_writes_rows(small, tmp_path, exits):
    out = tmp_path / "deep" / "verify.json"
    words = [f"golden={small}", f"out={out}", "attention=[linear,performer,linear_published,none]"]
    said = exits(0, main(words))
    assert "2 passed, 0 failed, 0 not covered; published: 1 passed" in said
    assert "No golden file is about: none\n" in said
    rows = json.loads(out.read_text())
    assert [list(row) for row in rows] == [FIELDS] * 3
    assert [row["mechanism"] for row in rows] == ["linear", "linear_published", "performer"]
    for row in rows:
        assert row["golden"].endswith(f"/{row['case']}") and 0 <= row["error"] <= row["bound"]
        assert row["source"] == mechanism_syntax(row["mechanism"])


def test_a_case_whose_comparison_never_ended_has_failed(monkeypatch, small, tmp_path):
    lost = replace(GOLDEN, outcome="failed", reason="the process was killed", is_last=True)
    told(monkeypatch, lambda name: [lost])
    asked = config(small, "linear", out=tmp_path / "verify.json")
    here = session()
    assert run_outputs(asked, here) == 1
    said = here.console.export_text()
    assert f"FAILED {lost.id}: the process was killed" in said
    assert "pytest --pyargs attentions.testing --attention linear" in said
    (row,) = json.loads(asked.out.read_text())
    assert (row["golden"], row["status"]) == (CASE, "failed")


def test_strict_fails_a_case_that_is_not_covered_and_not_listed(monkeypatch, small, tmp_path):
    why = listed_gaps(PUBLIC)[name := "performer/softmax_causal_b2h2n49d16m24 performer"]
    open_one = Proof(
        golden=name.split()[0],
        mechanism="performer",
        case="c",
        status=ProofStatus.NOT_COVERED,
        reason=why,
    )
    facts = (vars(open_one),)
    told(monkeypatch, lambda _: [replace(GOLDEN, outcome="skipped", reason=why, facts=facts)])
    usual = config(small, "performer", out=tmp_path / "verify.json")
    asked, here = usual.model_copy(update={"strict": True}), session()
    assert run_outputs(usual, session()) == 0 and run_outputs(asked, here) == 1
    assert f"NOT COVERED {name}: {why}" in here.console.export_text()
    (small / "not_covered.yaml").write_text(f"{name}: another reason\n")
    assert run_outputs(asked, session()) == 1
    (small / "not_covered.yaml").write_text((PUBLIC / "not_covered.yaml").read_text())
    assert run_outputs(asked, session()) == 0


def test_the_authors_operators_are_counted_apart_and_a_remark_gets_a_line():
    said = {"golden": "a/b", "case": "b", "status": "passed"}
    ours, theirs = (
        replace(GOLDEN, mechanism=name, facts=({**said, "mechanism": name, "reason": why},))
        for name, why in (("nala", "2 rows were left out"), ("nala_published", None))
    )
    proofs = [*proofs_of([ours, theirs, theirs])]
    assert summary(proofs) == (
        "1 passed, 0 failed, 0 not covered; published: 2 passed, 0 failed, 0 not covered"
    )
    assert remarks(proofs) == ["passed a/b by nala: 2 rows were left out"]
