"""Rates of conversions and of their controls, with made-up scores in place of trained models."""

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from bench.convert import main
from bench.core.lines import Lines
from bench.measuring.tasks.train import Diverged
from bench.studies.convert import models, study
from bench.studies.convert.page import AT_EDGE, NOT_SEARCHED, Arm, Curve, write_page
from tests.bench.studies.convert.test_study import TINY, convert, curve


def fit(monkeypatch, scores):
    """Give arms made-up scores instead of training them; returns what would have been trained.

    `scores` takes seed, arm and rate; it is not finite where training diverges.
    """
    asked: list[tuple[int, str, float]] = []

    def trained(_, __, seed, phases, rate, *___):
        asked.append((seed, "converted" if len(phases) == 3 else "from scratch", rate))
        if not np.isfinite(scores(*asked[-1])):
            raise Diverged(1, float("nan"))
        return (0.1,) * 7

    monkeypatch.setattr(models, "trained", trained)
    monkeypatch.setattr(study, "score_on_validation", lambda *_: scores(*asked[-1]))
    return asked


def test_each_arm_has_the_best_of_its_own_rates_and_other_seeds_follow(tmp_path, monkeypatch):
    # With seed 1 other rates would be best.
    best = {"converted": 0.01, "from scratch": 0.003}
    asked = fit(monkeypatch, lambda seed, arm, rate: rate if seed else float(rate == best[arm]))
    words = ("attention=[linear]", "keep=0", "seed=[0,1]", "learning_rates=[0.001,0.003,0.01,0.03]")
    first, second = convert(tmp_path, *words)
    assert first.rates == second.rates == (0.01, 0.003)
    assert first.mark == second.mark == ""
    took = [arm.train_s for arm in Lines[Arm](tmp_path / "arms.jsonl", Arm).read()]
    assert first.train_s == pytest.approx(sum(took[:8]))
    assert second.train_s == pytest.approx(sum(took[8:]))
    lines = Lines[Arm](tmp_path / "arms.jsonl", Arm).read()
    assert {(arm.arm, arm.rate) for arm in lines} == {(arm, rate) for _, arm, rate in asked[:10]}
    assert lines[0].run == "linear, keep 0, recall_causal, seed 0"
    assert len(asked) == 10 and asked[8:] == [(1, "converted", 0.01), (1, "from scratch", 0.003)]
    assert "| 0.01, 0.003" in (tmp_path / "conversion.md").read_text()
    convert(tmp_path, *words[:2], "seed=[0,1,2]", words[3])
    assert asked[10:] == [(2, "converted", 0.01), (2, "from scratch", 0.003)]


@pytest.mark.parametrize(
    ("scores", "rate", "mark"),
    [
        ({0.001: 0.1, 0.003: 0.2, 0.01: 0.9, 0.03: 0.95, 0.1: 0.5}, 0.03, ""),
        ({0.001: 0.1, 0.003: 0.2, 0.01: 0.3, 0.03: 0.4, 0.1: 0.5, 0.3: 0.6}, 0.3, AT_EDGE),
    ],
)
def test_a_search_is_widened_where_its_best_rate_lies_at_the_edge(
    tmp_path, monkeypatch, scores, rate, mark
):
    asked = fit(monkeypatch, lambda _, __, rate: scores[rate])
    grid = "learning_rates=[0.001,0.003,0.01,0.03]"
    curves = convert(tmp_path, "attention=[linear]", "keep=0", "seed=[0,1]", grid)
    assert [(one.rates, one.mark) for one in curves] == [((rate, rate), mark)] * 2
    assert len(asked) == 2 * len(scores) + 2


def test_of_losses_the_lowest_is_best_and_every_rate_that_was_tried_has_a_cost(
    tmp_path, monkeypatch
):
    losses = {0.001: 3.0, 0.003: 1.0, 0.01: 2.0}
    seconds = iter(range(100))
    monkeypatch.setattr(study, "cpu_s", lambda: float(next(seconds)))
    monkeypatch.setattr(study, "score_on_validation", lambda rate, *_: losses[rate])
    task: Any = SimpleNamespace(better="lower")
    train: Any = lambda rate: (rate, (rate,))  # noqa: E731
    for _ in range(2):  # the second time nothing is trained
        lines = Lines[Arm](tmp_path / "arms.jsonl", Arm)
        found = study.best_arm(lines, "key", "run", "converted", losses, task, train)
        assert (found.rate, found.scores, found.train_s) == (0.003, (0.003,), 3.0)


def test_an_arm_that_diverges_at_every_rate_has_no_curve_and_is_not_trained_again(
    tmp_path, monkeypatch, exits
):
    asked = fit(monkeypatch, lambda *_: float("nan"))
    words = (f"out={tmp_path}", "attention=[linear]", "keep=0", "learning_rates=[0.01,0.03]")
    for _ in range(2):
        said = exits(0, main([*TINY, *words]))
        assert "diverged at all rates that were tried: 0.01, 0.03" in said
    assert len(asked) == 2


def test_one_rate_is_no_search_and_gets_no_verdict(tmp_path):
    (one,) = convert(tmp_path, "attention=[linear]", "keep=0")
    assert (one.rates, one.mark) == ((0.006, 0.006), NOT_SEARCHED)
    lines = Lines[Curve](tmp_path / "curves.jsonl", Curve)
    lines.write([curve(seed=s, mark=NOT_SEARCHED, converted=(0.1, 0.8 + s / 99)) for s in range(5)])
    page = write_page(tmp_path, tmp_path / "page.md", "COMMAND")[0].read_text()
    assert "| undecided" in page and "better" not in page.split("**Recovered**")[0]
