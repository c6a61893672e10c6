from dataclasses import replace

import pytest

from bench.core.cli.errors import ConfigError
from bench.core.record import Status
from bench.publishing import naming
from bench.studies.reproduce.runs import (
    chosen_by,
    ends_of,
    entry_of,
    next_runs,
    origins,
    records_of,
    runs_of,
    scores_of,
    whole_scores,
)
from tests.bench.studies.reproduce.given import CELL, PROTOCOL, RUNS, record
from tests.records import changed


def test_a_protocol_has_a_run_per_variant_and_point_of_the_grid():
    assert [run.variant for run in RUNS] == [0, 0, 1, 1]
    assert RUNS[1].label == "p vocab_size=16 learning_rate=0.01"
    varying = {"num_steps": 7, "vocab_size": 16, "learning_rate": 0.01}
    assert RUNS[1].task == entry_of("task", "recall") | varying


def test_the_newest_record_of_a_run_counts():
    old = replace(record(RUNS[0], 0.1), started_at="2026-01-01T00:00:00Z")
    new = replace(record(RUNS[0], 0.9), started_at="2026-01-02T00:00:00Z")
    for records in ([old, new], [new, old]):
        assert records_of(CELL, records)[0][RUNS[0].label] is new


def test_runs_of_two_training_versions_are_not_mixed():
    old = [record(run, 0.1) for run in RUNS]
    new = replace(record(RUNS[1], 0.9), training_version=2)
    found = records_of(CELL, [*old, new])
    assert found == {0: {RUNS[1].label: new}}
    lost = replace(new, status=Status.DIVERGED, result=None, reason="nan")
    assert scores_of({0: {"a": new, "b": lost}}) == {0: {"a": 0.9, "b": 0.0}}


def test_a_record_of_other_settings_is_not_of_the_cell():
    assert records_of(CELL, [record(RUNS[0], num_steps=8)]) == {}
    assert list(records_of(CELL, [record(RUNS[0], seed=3)])) == [3]


def test_settings_that_came_after_a_record_do_not_orphan_it():
    assert records_of(CELL, [record(RUNS[0], added_later=1)]) != {}


def test_an_unknown_entry_is_answered_with_the_nearest():
    with pytest.raises(ConfigError, match="Did you mean softmax"):
        entry_of("attention", "softmx")


def test_a_setting_that_a_record_lacks_must_have_its_usual_value():
    old = record(RUNS[0])
    settings = {k: v for k, v in old.cell.task.settings.items() if k != "weight_decay"}
    lacking = replace(
        old, cell=replace(old.cell, workload=replace(old.cell.task, settings=settings))
    )
    assert records_of(CELL, [lacking]) != {}
    settings = {**PROTOCOL.settings, "weight_decay": 0.5}
    other = replace(PROTOCOL, settings=settings)
    assert records_of(replace(CELL, protocol=other), [lacking]) == {}


def test_a_hyperparameter_that_a_record_lacks_must_have_its_usual_value():
    old = record(RUNS[0])
    lacking = replace(old, cell=replace(old.cell, hyperparameters={}))
    assert records_of(CELL, [lacking]) != {}
    other = replace(CELL, hyperparameters={"scale": 0.25})
    assert records_of(other, [lacking]) == {}
    own, foreign = (
        replace(old, cell=replace(old.cell, hyperparameters={"scale": scale}))
        for scale in (0.25, 2)
    )
    assert records_of(other, [own]) != {} and records_of(other, [foreign]) == {}


def scored(*scores):
    """Scores of runs in their order; None for one that is missing."""
    return {run.label: own for run, own in zip(RUNS, scores, strict=True) if own is not None}


def places(found):
    return [(seed, RUNS.index(run)) for seed, run in found]


WHOLE = scored(0.1, 0.4, 0.6, 0.3)


def test_the_first_seed_trains_the_whole_grid_and_the_others_its_best_points():
    assert places(next_runs(PROTOCOL, {}, [0, 1, 2])) == [(0, i) for i in range(4)]
    part = scored(0.1, 0.4, 0.6, None)
    assert places(next_runs(PROTOCOL, {0: part}, [0, 1, 2])) == [(0, 3)]
    assert places(next_runs(PROTOCOL, {0: WHOLE}, [0])) == []
    assert places(next_runs(PROTOCOL, {0: WHOLE}, [0, 1, 2])) == [(1, 1), (1, 2), (2, 1), (2, 2)]
    own = scored(None, 0.5, None, None)
    assert places(next_runs(PROTOCOL, {0: WHOLE, 1: own}, [0, 1])) == [(1, 2)]


def test_a_protocol_without_a_grid_trains_all_seeds_at_once():
    plain = replace(PROTOCOL, grid={})
    first, second = runs_of(plain)
    found = next_runs(plain, {1: {first.label: 0.5}}, [0, 1])
    assert found == [(0, first), (0, second), (1, second)]


def test_further_seeds_are_scored_at_the_points_that_the_first_chose():
    by_seed = {0: WHOLE, 1: scored(0.9, 0.2, 0.2, 0.9), 2: scored(0.9, None, 0.2, 0.9)}
    chosen = chosen_by(PROTOCOL, by_seed)
    assert chosen == [RUNS[1], RUNS[2]]
    assert whole_scores(chosen, by_seed) == pytest.approx({0: 0.5, 1: 0.2})
    assert chosen_by(PROTOCOL, {1: scored(None, 0.2, None, None)}) is None
    later_first = {1: scored(0.9, 0.2, 0.2, 0.9), 0: WHOLE}
    assert chosen_by(PROTOCOL, later_first) == chosen  # the lowest seed with a whole grid


def test_records_name_their_commits_and_machines(tmp_path, monkeypatch):
    monkeypatch.setattr(naming, "CHECKOUT", tmp_path)  # no repository to ask
    found = replace(record(RUNS[0]), environment={"commit": "1a2b3c4d5e", "processor": "Xeon"})
    assert origins([found, found]) == "commit 1a2b3c4 on Xeon"
    earlier = replace(found, environment={"commit": "0f", "processor": "Xeon"}, started_at="")
    assert origins([replace(found, started_at="2"), earlier]) == "commits 0f, 1a2b3c4 on Xeon"
    plateau = changed(found, ended="plateau").result
    assert ends_of([plateau, plateau, found.result]) == "plateau 2, not recorded 1"
    assert scores_of(records_of(CELL, [found])) == {0: {RUNS[0].label: 0.5}}
