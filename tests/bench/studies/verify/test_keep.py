import json
from dataclasses import asdict, replace

import pytest

from bench.core.cli.errors import ConfigError
from bench.core.proofs import Badge, BadgeStatus, append_badges, line_of, stored_proofs
from bench.measuring.machine.environment import mechanism_source
from bench.studies.golden.proof import Proof, ProofStatus
from bench.studies.verify.keep import keep


def proven(out, name, source):
    badge = Badge(claim="causal", status=BadgeStatus.PASSED, source=source, tested_at="2026-11-29")
    append_badges(out, "run", name, [badge])


def test_only_proofs_of_the_present_source_are_kept(tmp_path):
    path = tmp_path / "proofs.jsonl"
    now = {name: mechanism_source(name, ()) for name in ("linear", "nala", "softmax")}
    proven(tmp_path, "linear", now["linear"])
    proven(tmp_path, "nala", "before")
    proven(tmp_path, "of_a_plugin", "any")
    case = Proof(golden="a/b", mechanism="linear", case="b", status=ProofStatus.PASSED)
    rows = [replace(case, source=now["linear"]), replace(case, mechanism="softmax")]
    rows.append(replace(rows[0], golden="a/c", status=ProofStatus.FAILED))
    (tmp_path / "verify.json").write_text(json.dumps([asdict(row) for row in rows]))
    assert keep(tmp_path, path) == ["linear"]
    assert stored_proofs(path)["linear"].goldens == (1, 2)
    proven(tmp_path, "nala", now["nala"])
    assert keep(tmp_path, path) == ["linear", "nala"]
    assert stored_proofs(path)["nala"].goldens is None


def test_nothing_to_keep_is_bad_input(tmp_path):
    with pytest.raises(ConfigError, match="holds no proofs of the present source"):
        keep(tmp_path, tmp_path / "proofs.jsonl")


def test_golden_cases_that_were_not_compared_again_are_kept(tmp_path):
    path, now = tmp_path / "proofs.jsonl", mechanism_source("linear", ())
    proven(tmp_path, "linear", now)
    case = Proof(golden="a/b", mechanism="linear", case="b", status=ProofStatus.PASSED, source=now)
    (tmp_path / "verify.json").write_text(json.dumps([asdict(case)]))
    keep(tmp_path, path)
    other = replace(case, mechanism="softmax", source=mechanism_source("softmax", ()))
    (tmp_path / "verify.json").write_text(json.dumps([asdict(other)]))
    keep(tmp_path, path)
    assert stored_proofs(path)["linear"].goldens == (1, 1)


def test_lines_of_others_stay_and_what_was_tested_in_part_before_is_not_kept(tmp_path):
    path, now = tmp_path / "proofs.jsonl", mechanism_source("softmax", ())
    old = Badge(claim="causal", status=BadgeStatus.PASSED, source="before", tested_at="2026-11-28")
    stored = [line_of(name, {"causal": old}, None) for name in ("nala", "of_a_plugin")]
    path.write_text("".join(f"{line}\n" for line in stored))
    proven(tmp_path, "linear", mechanism_source("linear", ()))
    append_badges(tmp_path, "run", "softmax", [replace(old, claim="exact", source=now), old])
    assert keep(tmp_path, path) == ["linear"]
    assert {name: own.source == "before" for name, own in stored_proofs(path).items()} == {
        "linear": False,
        "nala": True,
    }
