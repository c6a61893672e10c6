"""The race: what is trained first, which rates go on, when it ends, and what it leaves out."""

import signal
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest

from bench.core.grid import Trained
from bench.core.record import Quality, Record, Status
from bench.core.store import Store, read_records
from bench.measuring import engine
from bench.measuring.engine import Done
from bench.measuring.machine.environment import current, freshness
from bench.measuring.worker import jobs
from bench.measuring.worker.jobs import Deadline
from bench.studies.rates import race
from bench.studies.rates.race import leading, next_runs
from bench.studies.rates.rows import TaskRow
from tests import records as made

GRID = (0.006, 0.001, 0.003, 0.01)


def row(rates=GRID, shared_rate=None):
    cell = made.task_cell("softmax", settings={"learning_rate": rates[0], "num_steps": 600})
    work = replace(cell.task, shared_rate=shared_rate)
    return TaskRow(cell=replace(cell, workload=work), rates=rates)


def through(*runs):
    """Runs by (rate, seed) with their validation scores."""
    return {(rate, seed): Trained(score=score) for rate, seed, score in runs}


ONE_SEED = ((0.006, 0, 0.9), (0.001, 0, 0.2), (0.003, 0, 0.8), (0.01, 0, None))


def test_the_first_rate_comes_first_then_the_grid_then_a_second_seed_of_the_better_half():
    assert next_runs(row(), {})[0] == (0, (0.006, 0))
    assert [stage for stage, _ in next_runs(row(), {})] == [0, 1, 1, 1]
    assert next_runs(row(), through(*ONE_SEED)) == [(2, (0.006, 1)), (2, (0.003, 1))]
    assert next_runs(row(), through(*ONE_SEED, (0.006, 1, 0.9))) == [(2, (0.003, 1))]


def test_the_best_rate_of_two_seeds_goes_on_to_five():
    two = through(*ONE_SEED, (0.006, 1, 0.1), (0.003, 1, 0.85))
    assert leading(row(), two) == [0.003, 0.006]
    assert next_runs(row(), two) == [(3, (0.003, 2)), (4, (0.003, 3)), (5, (0.003, 4))]
    five = two | through(*((0.003, seed, 0.8) for seed in (2, 3, 4)))
    assert next_runs(row(), five) == []


def test_the_best_rate_of_a_task_with_a_loss_is_the_lowest():
    lower = row()
    work = replace(lower.cell.task, task="bytes")
    lower = replace(lower, cell=replace(lower.cell, workload=work))
    assert leading(lower, through(*ONE_SEED)) == [0.001, 0.003, 0.006, 0.01]


def test_of_two_rates_with_one_score_that_which_learned_sooner_is_ahead():
    at = {0.003: 200, 0.01: 100, 0.001: None}
    runs = {(rate, 0): Trained(score=0.9, steps_to_90=steps) for rate, steps in at.items()}
    assert leading(row(), runs) == [0.01, 0.003, 0.001]


def test_what_would_not_end_in_time_is_not_begun(monkeypatch):
    monkeypatch.setattr(race, "expected_s", lambda cell, measure: 30.0)
    config: Any = SimpleNamespace(axes=SimpleNamespace(num_threads=(2,)), measure=None)
    machine: Any = SimpleNamespace(num_cores=4)  # so that two run at once
    known, unknown = row().cell, replace(row().cell, entry="nala")
    before = [record(row().at(0.001, seed), here()) for seed in (0, 1)]
    before = [replace(one, cost_s={"total": s}) for one, s in zip(before, (5.0, 15.0), strict=True)]

    def begun(left_s):
        cells = [known, unknown, known, known]
        return [c.entry for c in race.affordable(cells, before, left_s, config, machine)]

    assert begun(9.9) == []
    assert begun(10.0) == ["softmax", "softmax"]
    assert begun(29.9) == ["softmax"] * 3
    assert begun(30.0) == ["softmax", "nala", "softmax", "softmax"]


def test_a_row_with_a_searched_rate_needs_seeds_alone():
    assert next_runs(row((0.01,), 0.006), {}) == [(0, (0.01, 0))]
    assert next_runs(row((0.01,), 0.006), through((0.01, 0, 0.5))) == [(2, (0.01, 1))]


def test_every_row_gets_its_first_wish_before_any_gets_its_second(monkeypatch):
    monkeypatch.setattr(race, "_through", lambda row, records, here: {(0.006, 0): done})
    done = record(row().at(0.006), here())
    both = [row(), replace(row(), cell=replace(row().cell, entry="nala"))]
    order = [
        (cell.entry, cell.task.settings["learning_rate"])
        for cell in race.next_cells(both, [], here())
    ]
    rates = GRID[1:]
    assert order == [(entry, rate) for rate in rates for entry in ("softmax", "nala")]


def test_time_ends_a_race_as_ctrl_c_does(monkeypatch):
    clock = [0.0]
    monkeypatch.setattr(jobs, "now_s", lambda: clock[0])
    until = Deadline(ends_s=5.0)
    assert not until.is_asked
    clock[0] = 5.0
    assert until.is_asked and until.is_over
    stopped = Deadline(ends_s=99.0)
    stopped.is_asked = True
    assert stopped.is_asked and not stopped.is_over


def test_the_first_ctrl_c_after_the_time_is_over_lets_the_round_end():
    with Deadline(ends_s=0.0) as until:
        signal.raise_signal(signal.SIGINT)
        assert until.is_asked
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)


@pytest.fixture
def trained(monkeypatch):
    """Each cell takes 10 s of a made-up clock, two at a time; the rate 0.01 is best."""
    state = {"clock": 0.0, "cells": []}

    def measure(config, todo, here, server, sweep_id, console, *, until, tail):
        store = Store(config.out, f"part-{len(state['cells'])}")
        for number, p in enumerate(todo):
            state["clock"] += 10.0 * (number % 2 == 0)
            if until.is_asked:
                return Done(is_interrupted=True)
            state["cells"].append(p.cell)
            store.append(record(p.cell, here))
        return Done()

    monkeypatch.setattr(engine, "measure", measure)
    for module in (race, jobs):
        monkeypatch.setattr(module, "now_s", lambda: state["clock"])
    return state


def record(cell, here):
    rate = cell.task.settings["learning_rate"]
    score = 0.9 if rate == 0.01 else 0.5
    quality = Quality(
        accuracy=score - 0.1,
        chance=0.03,
        guess="any",
        num_examples=1,
        num_parameters=1,
        ended="plateau",
        validation_steps=(600,),
        validation=(score,),
    )
    return Record(
        cell=cell,
        status=Status.OK,
        result=quality,
        environment=here.to_dict(),
        freshness=freshness(cell, here),
        started_at="2031-05-06T07:08:09Z",
        cost_s={"measured": 10.0, "total": 10.0},
    )


def test_a_best_rate_at_the_edge_of_what_was_tried_says_so(monkeypatch):
    monkeypatch.setattr(race, "_through", lambda row, records, here: runs)
    runs = {(rate, 0): record(row().at(rate), here()) for rate in (0.001, 0.003, 0.01)}
    (shown,) = race.table_records([row()], [], here())
    assert shown.cell.task.is_at_edge and shown.cell.task.shared_rate == 0.006
    runs[0.03, 0] = record(row().at(0.03), here())
    (shown,) = race.table_records([row()], [], here())
    assert not shown.cell.task.is_at_edge
    del runs[0.001, 0], runs[0.003, 0]
    (shown,) = race.table_records([row()], [], here())
    assert shown.cell.task.is_at_edge


def here():
    return current(("cpu",), "default", {})


def test_a_rate_that_was_searched_before_is_shown_as_searched_and_one_alone_is_not(monkeypatch):
    for shared_rate, label in ((0.006, 0.006), (None, None)):
        one = row((0.01,), shared_rate)
        runs = {(0.01, 0): record(one.at(0.01), here())}
        monkeypatch.setattr(race, "_through", lambda *_, own=runs: own)
        (shown,) = race.table_records([one], [], here())
        assert shown.cell.task.shared_rate == label


def run(tmp_path, budget):
    given = ["attention=[softmax,none]", "task=[recall]", "rates=shared", f"out={tmp_path}"]
    return race.main([*given, f"budget={budget}", "wandb.mode=disabled", "charts=false"])


def test_a_small_budget_trains_every_row_once_and_names_what_is_left_out(tmp_path, trained, capsys):
    assert run(tmp_path, "20s") == 0
    assert [(c.mechanism, c.task.settings["learning_rate"]) for c in trained["cells"]] == [
        ("softmax", 0.006),
        ("none", 0.006),
    ]
    words = " ".join(capsys.readouterr().out.split())
    assert "2 runs; 20 s of the budget are left." in words
    assert "Left out: softmax on recall at 0.01, 0.003, 0.03, 0.001" in words
    assert "Fewer than 5 seeds: softmax on recall 1, none on recall 1." in words
    assert "The budget was 20 s." in words
    assert "0.006 shared" in (tmp_path / "leaderboard.md").read_text()


def test_a_larger_budget_goes_on_from_there_and_reports_the_best_rate_with_its_seeds(
    tmp_path, trained, capsys
):
    run(tmp_path, "20s")
    trained["clock"] = 0.0
    capsys.readouterr()
    assert run(tmp_path, "1h") == 0
    keys = [cell.key for cell in trained["cells"]]
    assert len(keys) == len(set(keys)) == 2 * (5 + 2 + 3)  # nothing twice
    assert "Left out" not in capsys.readouterr().out
    page = (tmp_path / "leaderboard.md").read_text()
    assert page.count("0.01 searched") == page.count("80.0 80.0 80.0 80.0 80.0") == 2
    assert len(read_records(tmp_path)) == len(keys)


def test_a_race_goes_on_in_a_folder_in_which_something_was_timed(tmp_path, trained):
    for timed in made.block_records(["softmax"]):
        Store(tmp_path, "timed").append(timed)
    assert run(tmp_path, "20s") == 0
    assert len(trained["cells"]) == 2


@pytest.mark.parametrize("budget", ["600", "0s"])
def test_a_budget_without_a_unit_or_of_nothing_is_refused(tmp_path, trained, exits, budget):
    assert "budget is" in exits(2, run(tmp_path, budget))


def test_a_dry_run_trains_nothing(tmp_path, trained, exits):
    said = exits(0, race.main(["attention=[softmax,none]", "task=[recall]", "dry_run=true"]))
    assert "2 rows; nothing was trained." in said
    assert not trained["cells"]
