from unittest.mock import Mock

import pytest

from attentions import attention_class
from bench.studies.numerics import Findings, page_of, read_findings
from bench.studies.verify.command import run_numerics
from bench.studies.verify.settings import Verify
from tests.bench.studies.verify.goldens import ROOT, session


def test_numerics_are_kept_and_become_a_page(tmp_path, monkeypatch):
    monkeypatch.setattr("bench.studies.numerics.SEQ_LEN", 64)
    monkeypatch.setattr("bench.studies.state_precision.SEQ_LEN", 64)
    names = ("nala_published", "uniform", "deltanet")
    asked = Verify(attention=names, out=tmp_path / "verify.json")
    assert run_numerics(asked, session()) == 0
    page = (tmp_path / "numerics" / "numerics.md").read_text()
    assert "| uniform |" in page and "| nala |" in page and "| deltanet | none |" in page
    assert (tmp_path / "numerics" / "numerics" / "state-precision.svg").exists()


@pytest.mark.parametrize("error", [RuntimeError("no more than 10 tokens"), SystemExit(0)])
def test_a_mechanism_that_raises_leaves_the_others_measured(tmp_path, monkeypatch, error):
    monkeypatch.setattr("bench.studies.numerics.SEQ_LEN", 64)
    monkeypatch.setattr("bench.studies.state_precision.SEQ_LEN", 64)
    monkeypatch.setattr(attention_class("linear"), "forward", Mock(side_effect=error))
    here = session()
    names = ("linear", "uniform")
    asked = Verify(attention=names, out=tmp_path / "verify.json")
    assert run_numerics(asked, here) == 1
    shown = here.console.export_text()
    assert f"linear: FAILED: {type(error).__name__}: {error}" in shown
    assert "| uniform |" in (tmp_path / "numerics" / "numerics.md").read_text()
    asked = Verify(attention=("linear",), out=tmp_path / "empty" / "verify.json")
    assert run_numerics(asked, session()) == 1


def test_one_output_that_is_not_finite_ends_with_exit_code_1(tmp_path, monkeypatch):
    broken = {"float16": ["all zero"]}

    def found(form):
        lost = broken if form.name == "uniform" and form.causal else {}
        rest = {"is_published": False, "tested_at": "2026-11-29", "torch": "2"}
        return Findings(mechanism=form.name, causal=form.causal, broken=lost, **rest)

    monkeypatch.setattr("bench.studies.numerics.findings_of", found)
    asked = Verify(attention=("uniform", "none"), out=tmp_path / "verify.json")
    assert run_numerics(asked, session()) == 1
    broken.clear()
    assert run_numerics(asked, session()) == 0


def test_the_page_of_numerics_is_made_of_the_findings_in_git():
    page = page_of(read_findings(ROOT / "results"))
    assert (ROOT / "docs" / "numerics.md").read_text() == page
