import pytest

from bench.core.cli.errors import ConfigError
from bench.core.record import Quality
from bench.core.store import read_records
from bench.studies.reproduce.claims import registry
from bench.studies.reproduce.claims.registry import (
    Lab,
    claim_function,
    row,
)
from tests.bench.studies.reproduce.conftest import given_arm, quiet


def test_an_unknown_function_is_answered_with_the_nearest():
    with pytest.raises(ConfigError, match="Did you mean performer-unbiased"):
        claim_function("performer-unbiassed")


@pytest.mark.slow
def test_training_that_is_stored_counts_with_the_time_that_it_took(tmp_path):
    settings = {"num_steps": 4, "batch_size": 4, "num_test_examples": 16, "embed_dim": 8}
    rows = {"linear": row("linear")}
    with quiet("1") as one, quiet("2") as two:
        first, again = Lab(one, tmp_path), Lab(two, tmp_path)
        arms = first.tuned(rows, "recall", settings, seeds=[0])
        assert first.earlier == {}
        assert again.tuned(rows, "recall", settings, seeds=[0]) == arms
        kept = Lab(two, tmp_path / "other", kept=tuple(read_records(tmp_path)))
        assert kept.tuned(rows, "recall", settings, seeds=[0]) == arms
        assert not read_records(tmp_path / "other", missing_ok=True)
    took = {
        record.cell.key: record.result.train_s
        for record in read_records(tmp_path)
        if isinstance(record.result, Quality)
    }
    assert again.earlier == took  # each once, though a search asks for some of them again


def test_a_seed_without_a_score_is_named(lab, monkeypatch):
    arms = {"linear": given_arm("linear", [0.5, 0.5])}
    monkeypatch.setattr(registry, "tuned", lambda *args: arms)
    rows = {"linear": row("linear")}
    assert Lab.tuned(lab, rows, "recall", {}, seeds=[0, 1]) == arms
    with pytest.raises(ConfigError, match="linear on recall under seed 2 ended without a score"):
        Lab.tuned(lab, rows, "recall", {}, seeds=[0, 1, 2])
