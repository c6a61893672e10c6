"""Arms of a comparison: each at a rate of its own, and what is stuck is looked at further."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from math import log10

from bench.core.cell import Cell
from bench.core.grid import Trained
from bench.core.record import Record, Status
from bench.studies.rates.tuned import MORE_STEPS, TaskRow, tuned, widened
from tests import records as made

Score = Callable[[str, float, int, int], float]
"""Entry, rate, seed and steps to a score."""


class Trainer:
    """Gives made-up records, and remembers what was asked for."""

    def __init__(self, score: Score) -> None:
        self.score = score
        self.asked: list[Cell] = []

    def __call__(self, cells: Sequence[Cell]) -> dict[str, Record]:
        self.asked += cells
        return {cell.key: self.record(cell) for cell in cells}

    def record(self, cell: Cell) -> Record:
        work = cell.task
        rate, steps = work.settings["learning_rate"], work.settings["num_steps"]
        score = self.score(cell.entry, rate, work.seed, steps)
        (record,) = made.task_records([cell.entry], seeds=[work.seed])
        known = {"validation": (score,), "validation_steps": (steps,), "accuracy": score}
        known |= {"plateaus": {"one of the shown values": 0.25}, "ended": "plateau"}
        return replace(made.changed(record, **known), cell=cell)


def cell(entry):
    settings = {"num_steps": 600, "learning_rate": 0.006}
    return made.task_cell(entry, settings=settings, shared_rate=None)


def test_each_arm_has_the_rate_that_was_best_for_it_and_its_other_seeds_follow_there():
    best = {"softmax": 0.003, "nala": 0.01}
    trainer = Trainer(lambda entry, rate, seed, steps: 0.9 if rate == best[entry] else 0.5)
    arms = tuned([cell("softmax"), cell("nala")], (0, 1, 2), trainer)
    assert {name: arm.rate for name, arm in arms.items()} == best
    assert all(arm.is_tuned and arm.scores == [0.9] * 3 for arm in arms.values())
    others = [c for c in trainer.asked if c.task.seed > 0]
    assert {(c.entry, c.task.settings["learning_rate"]) for c in others} == set(best.items())
    assert all(c.task.shared_rate == 0.006 for c in trainer.asked)


def test_a_search_goes_beyond_an_edge_and_says_where_it_still_stands_at_one():
    within = Trainer(lambda e, rate, *_: {3e-4: 0.9, 1e-3: 0.8}.get(rate, 0.3))
    inner = tuned([cell("nala")], (0, 1), within)
    assert inner["nala"].rate == 3e-4 and inner["nala"].is_tuned
    edge = tuned([cell("nala")], (0, 1), Trainer(lambda e, rate, *_: 0.2 - 0.1 * log10(rate)))
    assert edge["nala"].is_at_edge and not edge["nala"].is_tuned
    changed = edge["nala"].changed(1, "recall softmax_layers=1", softmax_layers=1).task
    assert changed.is_at_edge and changed.settings["learning_rate"] == edge["nala"].rate


def test_a_row_without_a_score_at_any_rate_has_the_tasks_own() -> None:
    def lost(cells: Sequence[Cell]) -> dict[str, Record]:
        return {c.key: made.failed_record(c, Status.DIVERGED, "nan") for c in cells}

    arm = tuned([cell("nala")], (0, 1), lost)["nala"]
    assert arm.rate == 0.006 and arm.scores == [] and {score for _, score in arm.tried} == {None}


def test_controls_are_trained_at_the_tasks_rate_and_nothing_is_searched_for_them():
    trainer = Trainer(lambda *_: 1 / 32)
    arms = tuned([cell("none")], (0, 1), trainer)
    assert arms["none"].is_control and arms["none"].is_tuned and arms["none"].rate == 0.006
    assert [c.task.seed for c in trainer.asked] == [0, 1]


def test_what_is_stuck_in_all_seeds_is_trained_at_all_rates_and_at_four_times_the_steps():
    trainer = Trainer(lambda *_: 0.25)
    arm = tuned([cell("gla")], (0, 1, 2), trainer)["gla"]
    assert arm.stuck == dict.fromkeys((0, 1, 2), "one of the shown values")
    assert arm.not_learned.startswith(f"not learned within {MORE_STEPS * 600:,} steps at rates ")
    assert all(f"{rate:g}" in arm.not_learned for rate, _ in arm.tried)
    everywhere = {(c.task.settings["learning_rate"], c.task.seed) for c in trainer.asked}
    assert everywhere >= {(rate, seed) for rate, _ in arm.tried for seed in (0, 1, 2)}


def test_an_arm_that_more_steps_teach_is_not_said_to_be_unlearned():
    trainer = Trainer(lambda e, rate, s, steps: 0.99 if steps > 600 and rate == 0.003 else 0.25)
    arm = tuned([cell("gla")], (0, 1), trainer)["gla"]
    assert arm.beyond and not arm.not_learned


def test_a_search_whose_runs_are_all_stuck_goes_on_with_the_next_seed_and_says_so():
    trainer = Trainer(lambda e, rate, seed, *_: 0.9 if rate == 0.01 and seed == 1 else 0.25)
    arm = tuned([cell("nala")], (0, 1, 2), trainer, looks_further=False)["nala"]
    assert arm.rate == 0.01 and dict(arm.tried)[0.01] == 0.9
    assert arm.caveat == "searched with seed 1, since every run was stuck with seed 0"
    assert {c.task.settings["learning_rate"] for c in trainer.asked if c.task.seed == 2} == {0.01}
    assert not arm.beyond and not arm.not_learned


def test_a_search_that_finds_nothing_with_any_seed_says_so_and_ends():
    trainer = Trainer(lambda *_: 0.25)
    arm = tuned([cell("nala")], (0, 1), trainer, looks_further=False)["nala"]
    assert arm.caveat == "nothing found: every run was stuck with seeds 0, 1"
    assert len({c.key for c in trainer.asked}) == 2 * len(arm.tried) and not arm.beyond


def test_a_grid_of_which_a_rate_is_missing_is_not_widened():
    row = TaskRow(cell=cell("nala"), rates=(0.001, 0.003, 0.01, 0.03))
    runs = {0.003: Trained(score=0.5), 0.01: Trained(score=0.6), 0.03: Trained(score=0.9)}
    assert widened(row, runs) == row
    assert widened(row, runs | {0.001: Trained(score=0.1)}).rates == (*row.rates, 0.1)


def test_an_arm_of_which_some_seeds_learned_is_not_looked_at_further():
    trainer = Trainer(
        lambda e, rate, seed, steps: 0.25 if seed == 1 else 0.9 if rate == 0.01 else 0.5
    )
    arm = tuned([cell("gla")], (0, 1, 2), trainer)["gla"]
    assert set(arm.stuck) == {1} and not arm.beyond
    assert {c.task.settings["learning_rate"] for c in trainer.asked if c.task.seed} == {0.01}
    assert {c.task.settings["num_steps"] for c in trainer.asked} == {600}
