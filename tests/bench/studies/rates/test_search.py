"""The search: what is trained, what is chosen, what stays of a search that was stopped."""

from dataclasses import replace

import pytest

from bench.core.cli.command import CONF, read_yaml
from bench.core.clock import now_s
from bench.core.presets import read_presets
from bench.core.record import Quality, Record, Status
from bench.measuring import engine
from bench.measuring.engine import Done
from bench.measuring.machine.environment import freshness
from bench.studies import session
from bench.studies.rates import search
from bench.studies.rates.search import USUAL

SCORES = {0.001: 0.3, 0.003: 0.5, 0.01: 0.7, 0.03: 0.9, 0.1: 0.6}
"""Accuracies of softmax, by rate: at first the best lies at the edge."""


@pytest.fixture
def trained(monkeypatch):
    """Cells in the order of training, with a made-up end for each; `left` of them are trained."""
    state = {"cells": [], "records": [], "left": 1000}

    def measure(config, todo, here, server, sweep_id, console, **_):
        for p in todo:
            if not state["left"]:
                return Done(is_interrupted=True)
            state["left"] -= 1
            state["cells"].append(p.cell)
            state["records"].append(record(p.cell, here))
        return Done()

    monkeypatch.setattr(engine, "measure", measure)
    monkeypatch.setattr(session, "read_records", lambda out, missing_ok: state["records"])
    return state


def record(cell, here):
    rate = cell.task.settings["learning_rate"]
    score = SCORES[rate] if cell.mechanism == "softmax" else 0.03
    quality = Quality(
        accuracy=0.0,  # of the test set, which has no say
        chance=0.03,
        guess="any",
        num_examples=1,
        num_parameters=1,
        validation_steps=(600,),
        validation=(score,),
    )
    done = Record(cell=cell, status=Status.OK, result=quality, environment={}, started_at="")
    return replace(done, freshness=freshness(cell, here))


def run(tmp_path, *words, task="recall"):
    presets = tmp_path / "searched.yaml"
    given = ["attention=[softmax,none]", f"task=[{task}]", f"out={tmp_path}", f"presets={presets}"]
    code = search.main([*given, *words])
    found = read_presets(read_yaml(presets)) if presets.exists() else ()
    return code, {p.entry: p for p in found}


def test_every_rate_is_trained_once_and_a_best_one_at_the_edge_widens_the_grid(tmp_path, trained):
    code, found = run(tmp_path)
    assert code == 0
    rates = [(c.mechanism, c.task.settings["learning_rate"]) for c in trained["cells"]]
    assert sorted(rates) == sorted([("softmax", rate) for rate in SCORES] + [("none", 0.006)])
    best = found["softmax"]
    assert (best.learning_rate, best.is_at_edge) == (0.03, False)
    assert dict(best.tried) == SCORES
    assert best.settings["learning_rate"] == 0.006  # what rows share
    assert found.keys() == {"softmax"}  # nothing is searched for a control
    assert run(tmp_path)[0] == 0 and len(trained["cells"]) == 6  # nothing is trained twice


def test_a_best_rate_that_is_still_at_the_edge_after_all_widenings_is_stored_with_that(
    tmp_path, trained, monkeypatch
):
    monkeypatch.setitem(SCORES, 0.1, 0.95)
    monkeypatch.setitem(SCORES, 0.3, 0.97)
    code, found = run(tmp_path)
    best = found["softmax"]
    assert code == 0 and (best.learning_rate, best.is_at_edge) == (0.3, True)
    assert dict(best.tried) == SCORES


def test_further_seeds_are_trained_at_the_best_rate(tmp_path, trained):
    assert run(tmp_path, "seed=[0,1,2]")[0] == 0
    rates = [c.task.settings["learning_rate"] for c in trained["cells"] if c.mechanism == "softmax"]
    assert sorted(rates) == sorted([*SCORES, 0.03, 0.03])


def test_steps_are_doubled_until_the_mean_of_the_seeds_changes_by_less_than_a_point(
    tmp_path, trained, monkeypatch
):
    ends = {600: 0.5, 1200: 0.8, 2400: 0.9, 4800: 0.905}
    monkeypatch.setattr(engine, "measure", trains_to(ends, trained))
    assert run(tmp_path, "seed=[0,1]", "converge=true")[0] == 0
    softmax = {c.task.settings["num_steps"] for c in trained["cells"] if c.mechanism == "softmax"}
    assert softmax == set(ends)
    assert {c.task.settings["num_steps"] for c in trained["cells"] if c.mechanism == "none"} == {
        600
    }


def test_what_a_doubling_changes_is_printed_in_the_unit_of_the_score(
    tmp_path, trained, monkeypatch, capsys
):
    ends = {600: 2.3, 1200: 2.304}
    monkeypatch.setattr(engine, "measure", trains_to(ends, trained, unit="bits per byte"))
    assert run(tmp_path, "converge=true")[0] == 0
    said = "1,200 steps change the mean by +0.004 bits per byte\n"
    assert said in capsys.readouterr().out


def trains_to(ends, state, **changes):
    """Gives each run the score of its number of steps."""

    def measure(config, todo, here, server, sweep_id, console, **_):
        for p in todo:
            made = record(p.cell, here)
            accuracy = ends[p.cell.task.settings["num_steps"]]
            state["cells"].append(p.cell)
            result = replace(made.result, accuracy=accuracy, **changes)
            state["records"].append(replace(made, result=result))
        return Done()

    return measure


def test_rates_of_every_task_are_kept_and_every_task_is_trained_for_longer(
    tmp_path, trained, monkeypatch
):
    monkeypatch.setattr(engine, "measure", trains_to({600: 0.5, 1200: 0.501}, trained))
    assert run(tmp_path, "converge=true", task="recall,recall_causal")[0] == 0
    kept = read_presets(read_yaml(tmp_path / "searched.yaml"))
    assert sorted((p.task, p.settings["num_steps"], p.learning_rate) for p in kept) == [
        (task, steps, 0.03) for task in ("recall", "recall_causal") for steps in (600, 1200)
    ]


def test_a_row_that_ends_without_a_score_at_every_rate_is_not_trained_for_longer(
    tmp_path, trained, monkeypatch, capsys
):
    def measure(config, todo, here, server, sweep_id, console, **_):
        for p in todo:
            failed = {"status": Status.DIVERGED, "result": None, "reason": "The loss was nan."}
            trained["records"].append(replace(record(p.cell, here), **failed))
            trained["cells"].append(p.cell)
        return Done()

    monkeypatch.setattr(engine, "measure", measure)
    code, found = run(tmp_path, "converge=true")
    assert code == 0 and not found
    assert {c.task.settings["num_steps"] for c in trained["cells"]} == {600}
    assert "the task's 0.006 instead of 0.001: failed" in capsys.readouterr().out


@pytest.mark.parametrize("left", [6, 8])
def test_the_tasks_before_a_stop_are_written_with_all_their_rates(tmp_path, trained, left):
    trained["left"] = left  # recall whole, of recall_causal nothing, or not all rates
    assert run(tmp_path, task="recall,recall_causal")[0] == 130
    (kept,) = read_presets(read_yaml(tmp_path / "searched.yaml"))
    assert (kept.task, kept.learning_rate, kept.is_at_edge) == ("recall", 0.03, False)


def test_what_is_through_is_written_when_a_search_is_stopped(tmp_path, trained):
    trained["left"] = 4
    code, found = run(tmp_path)
    assert code == 130 and found.keys() == {"softmax"}
    assert (found["softmax"].learning_rate, found["softmax"].is_at_edge) == (0.03, True)
    trained["left"] = 1000
    code, found = run(tmp_path)
    assert code == 0 and not found["softmax"].is_at_edge
    assert len(trained["cells"]) == 6


def test_the_rows_and_tasks_of_make_bench_are_what_is_searched():
    suite = read_yaml(CONF / "experiment" / "suite.yaml")
    chosen = {group: names for item in suite["defaults"] for group, names in item.items()}
    rows = [e for e in chosen["override /attention"] if e not in suite["speed_only"]]
    assert USUAL["attention"] == f"[{','.join(rows)}]"
    assert USUAL["task"] == f"[{','.join(chosen['override /task'])}]"


def test_a_budget_ends_a_search_with_exit_code_0_and_it_goes_on_later(
    tmp_path, trained, monkeypatch, capsys
):
    def measure(config, todo, here, server, sweep_id, console, *, until, **_):
        assert until.ends_s - now_s() <= 1800
        until.ends_s = 0.0
        return Done(is_interrupted=True)

    whole = engine.measure
    monkeypatch.setattr(engine, "measure", measure)
    assert run(tmp_path, "budget=30m") == (0, {})
    assert "The time is over. The same command goes on from here." in capsys.readouterr().out
    monkeypatch.setattr(engine, "measure", whole)
    assert run(tmp_path, "budget=30m")[1].keys() == {"softmax"}


@pytest.mark.parametrize("word", ["force=true", "only=[failed]", "shard=1/2", "timings=true"])
def test_a_key_that_would_change_nothing_is_refused(tmp_path, trained, capsys, word):
    assert run(tmp_path, word)[0] == 2
    assert f"{word.partition('=')[0]}= is of sweep alone" in capsys.readouterr().err
    assert not trained["cells"]
