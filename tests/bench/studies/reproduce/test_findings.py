import json
from dataclasses import replace
from math import nan

import pytest

from bench.core.cli.errors import ConfigError
from bench.publishing.charts.plain import Curves
from bench.studies.reproduce.findings import (
    Finding,
    FindingRow,
    finding_file,
    newest_finding,
    read_finding,
    write_finding,
)
from bench.studies.reproduce.verdicts import PaperVerdict


def test_a_finding_comes_back_as_it_was_written(tmp_path):
    finding = Finding(
        verdict=PaperVerdict.HOLDS_WHERE,
        words="below 2",
        rows=(
            FindingRow(name="nala", value=0.1, low=0.0, high=0.2),
            FindingRow(name="exact", value=1.0),
        ),
        curves=Curves(title="t", x="norm", y="entropy", lines={"nala": [[1.0, 0.5]]}),
    )
    write_finding(tmp_path, "claim", finding)
    assert read_finding(tmp_path, "claim") == finding
    assert read_finding(tmp_path, "other") is None


def test_a_number_that_is_not_finite_is_refused(tmp_path):
    finding = Finding(
        verdict=PaperVerdict.HOLDS, words="so", rows=(FindingRow(name="a", value=nan),)
    )
    with pytest.raises(ConfigError, match="claim: a number of its finding is not finite"):
        write_finding(tmp_path, "claim", finding)
    assert read_finding(tmp_path, "claim") is None


def test_a_finding_from_before_training_was_told_is_read(tmp_path):
    row = {"name": "nala", "value": 0.1, "low": None, "high": None}
    flat = {"verdict": "holds", "words": "so", "rows": [row], "unit": "", "curves": None}
    finding_file(tmp_path, "claim").parent.mkdir()
    finding_file(tmp_path, "claim").write_text(json.dumps(flat))
    found = read_finding(tmp_path, "claim")
    assert found is not None and found.criterion == "" and found.rows[0].training == ""


def test_the_newest_of_several_folders_counts(tmp_path):
    old = Finding(verdict=PaperVerdict.HOLDS, words="old", measured_at="2026-01-01T00:00:00Z")
    new = replace(old, words="new", measured_at="2026-01-02T00:00:00Z")
    stores = (tmp_path / "a", tmp_path / "b")
    for first, second in ((old, new), (new, old)):
        write_finding(stores[0], "claim", first)
        write_finding(stores[1], "claim", second)
        assert newest_finding(stores, "claim") == new
    assert newest_finding(stores, "other") is None
