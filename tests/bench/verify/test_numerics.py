from __future__ import annotations

from pathlib import Path

import pytest
from rich.console import Console

from bench.numerics.official import PLACES
from bench.numerics.page import page_of
from bench.numerics.store import read_findings
from bench.verify.config import VerifyConfig
from bench.verify.numerics import run_numerics
from tests.bench.verify.goldens import PUBLIC, ROOT


def test_numerics_are_kept_and_become_a_page(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bench.numerics.measure.LENGTHS", (64,))
    monkeypatch.setattr("bench.verify.numerics.PLACES", PLACES[:1])
    asked = VerifyConfig(golden=PUBLIC, attention=("uniform",), out=tmp_path / "verify.json")
    assert run_numerics(asked, Console(record=True)) == 0
    page = (tmp_path / "numerics" / "numerics.md").read_text()
    assert "| uniform, causal |" in page
    assert (
        "| nala | a zero query | float32 | 49 | output and gradient not finite | finite |" in page
    )


def test_the_page_of_numerics_is_made_of_the_findings_in_git() -> None:
    page = page_of(read_findings(ROOT / "results"))
    assert (ROOT / "docs" / "numerics.md").read_text() == page
