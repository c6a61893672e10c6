"""`attnbench verify flops=true`, on a plug-in whose formulas are right, wrong and unseen."""

import json

import pytest

from bench.studies.verify.command import main

NAMES = ("right", "wrong", "unseen")


def rows(folder):
    found = json.loads((folder / "verify-flops.json").read_text())
    return {(row["mechanism"], row["form"]): row for row in found}


@pytest.mark.slow
def test_three_numbers_stand_side_by_side_and_a_wrong_one_is_a_verdict(
    tmp_path, capsys, own_registry
):
    entries = tmp_path / "conf" / "attention"
    entries.mkdir(parents=True)
    for name in NAMES:
        (entries / f"{name}.yaml").write_text(f"{name}:\n  mechanism: {name}\n")
    words = ["--config-dir", str(tmp_path / "conf"), "flops=true", f"out={tmp_path}/verify.json"]
    words += ["plugins=[tests.attentions.testing.formula_plugin]"]
    assert main([*words, f"attention=[{','.join(NAMES)}]"]) == 1
    said = capsys.readouterr().out
    assert "3 confirmed, 3 failed, 1 unconfirmed" in said
    assert "[1/3] right: 3 confirmed" in said and "(0 s left)" in said
    assert "FAILED wrong-causal-flops-" in said
    assert "bidirectional: no slow form takes" in said
    right = rows(tmp_path)["right", "causal"]
    assert right["status"] == "confirmed" and right["reason"] is None
    assert right["formula"] == right["needed"] < right["executed"] == right["counted"]
    shown = next(line for line in said.splitlines() if "right" in line and "causal" in line)
    assert f"{right['formula']:,}" in shown and f"{right['counted']:,}" in shown
    assert not (tmp_path / "verify.json").exists(), "the rows of outputs are left alone"
    assert main([*words, "attention=[unseen]"]) == 0, "what nothing confirms is no failure"
    assert "0 confirmed, 0 failed, 1 unconfirmed" in capsys.readouterr().out
