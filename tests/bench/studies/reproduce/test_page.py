from dataclasses import replace
from pathlib import Path

import pytest

from bench.core.store import read_records
from bench.publishing import naming
from bench.publishing.charts.plain import Curves
from bench.publishing.naming import commits_in_words
from bench.studies.reproduce.command import main
from bench.studies.reproduce.findings import Finding, FindingRow, write_finding
from bench.studies.reproduce.page import PAGE, page
from bench.studies.reproduce.papers import read_papers
from bench.studies.reproduce.runs import records_of
from bench.studies.reproduce.verdicts import PaperVerdict
from tests.records import stored

ROOT = Path(__file__).resolve().parents[4]


@pytest.mark.skipif("†" not in commits_in_words(["0000000"]), reason="needs a whole repository")
def test_the_page_is_what_its_sources_say():
    found = (ROOT / "docs" / PAGE).read_text(encoding="utf-8")
    assert found == page(read_papers(), ROOT / "results" / "reproductions"), (
        "run attnbench reproduce page=true"
    )


def test_the_first_paragraph_counts_softmax_apart_and_a_lost_commit_is_marked(
    tmp_path, monkeypatch
):
    papers, known = read_papers(), "a" * 40
    monkeypatch.setattr(naming, "_not_here", lambda commits: frozenset(commits) - {known[:7]})
    kept = ROOT / "results" / "reproductions"
    cell = papers.entries["h3-associative-recall-attention"]
    own = [r for runs in records_of(cell, read_records(kept)).values() for r in runs.values()]
    for record, commit in zip(own, (known, known, "b" * 40), strict=True):
        facts = {"commit": commit, "is_dirty": commit == known}
        stored(tmp_path, replace(record, environment=record.environment | facts), name=commit[0])
    text = page(papers, tmp_path)
    assert "1 of 1 cell that were run are of softmax attention: 1 reproduced" in text
    assert "0 of 1 cell that were run are of other mechanisms. No efficient mechanism" in text
    assert r"aaaaaaa\*" in text and "bbbbbbb†" in text
    assert "is not evidence (†), and the other 2 are too few for a verdict" in text


def test_runs_of_other_settings_stand_beside_the_finding(tmp_path):
    text = page(read_papers(), ROOT / "results" / "reproductions")
    (row,) = (line for line in text.splitlines() if line.startswith("| retnet | 24.8 25.3 25.5"))
    assert "| 0.006 (not searched) | commit fd26aaa" in row
    assert "recall_causal with num_pairs=4, head_norm=false, no part of the verdict:" in text


def test_an_old_page_is_found_and_written_anew(tmp_path):
    stores = [f"keep={tmp_path / 'keep'}", f"out={tmp_path / 'out'}"]
    words = [*stores, f"docs={tmp_path}", "page=true"]
    assert main([*words, "check=true"]) == 1
    assert main(words) == 0
    assert main([*words, "check=true"]) == 0


def test_a_claims_figure_is_drawn_beside_the_page(tmp_path):
    file, out = tmp_path / "own.py", tmp_path / "out"
    file.write_text(
        "from bench.studies.reproduce.described import Claim, Paper\n"
        'words = {"where": "T", "sentence": "it grows", "refuted_by": "it falls"}\n'
        'claim = Claim(id="own-claim", cost_s=1.0, **words)\n'
        'PAPER = Paper(title="Nobody, 2020", entries=[claim])\n'
    )
    curves = Curves(title="t", x="norm", y="entropy", lines={"nala": [[1.0, 0.5], [2.0, 0.4]]})
    rows = (FindingRow(name="nala", value=0.4, rate=0.003, rate_chosen="searched", num_seeds=3),)
    found = Finding(verdict=PaperVerdict.HOLDS, words="so", rows=rows, curves=curves)
    write_finding(out, "own-claim", found)
    words = [f"keep={tmp_path / 'keep'}", f"out={out}", f"docs={tmp_path}", f"papers={file}"]
    assert main([*words, "page=true"]) == 0
    text = (tmp_path / PAGE).read_text()
    assert "> it grows (Nobody, 2020, T)" in text and "Refuted by: it falls" in text
    assert "**holds**: so; its criterion was not recorded" in text
    assert "| nala | 0.4 |  | rate 0.003 (searched), 3 seeds |" in text
    assert "(reproductions/own-claim.svg)" in text
    assert (tmp_path / "reproductions" / "own-claim.svg").is_file()
