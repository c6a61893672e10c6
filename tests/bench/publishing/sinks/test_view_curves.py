from dataclasses import replace

from bench.publishing.leaderboard import build_leaderboard
from bench.publishing.sinks.view import history, named_tasks, training_curves
from tests import records as made

CURVE = {"num_steps": 30, "validation_steps": (15, 30), "validation": (0.5, 0.9)}


def trained(**settings):
    (record,) = made.task_records(["nala"], seeds=[0])
    cell = made.task_cell("nala", settings={"num_steps": 30} | settings)
    return made.changed(replace(record, cell=cell), losses=(), **CURVE)


def test_trainings_of_one_label_have_a_curve_each():
    rates = [trained(learning_rate=rate) for rate in (0.01, 0.03)]
    wide = replace(rates[0].cell, workload=replace(rates[0].cell.task, dtype="bfloat16"))
    records = [*rates, trained(learning_rate=0.01, num_pairs=8), replace(rates[0], cell=wide)]
    board = build_leaderboard(records)
    names = {
        name.removeprefix("train/validation/") for _, own in training_curves(board) for name in own
    }
    assert names == {
        "recall dtype=bfloat16 num_pairs=None/nala/0",
        "recall dtype=float32 num_pairs=None/nala at 0.01/0",
        "recall dtype=float32 num_pairs=None/nala at 0.03/0",
        "recall dtype=float32 num_pairs=8/nala/0",
    }
    assert len({name for name, _ in named_tasks(board)}) == len(board.tasks) == 3


def test_history_is_that_of_the_longest_length_and_settings_are_told_apart() -> None:
    records = [r for n in (256, 4096) for r in made.block_records(("nala",), seq_len=n)]
    there = [replace(r, environment=r.environment | {"processor": "Other"}) for r in records[:1]]
    wide = made.block_records(("nala",), seq_len=256, batch_size=8)
    assert set(history(build_leaderboard([*records, *there, *wide]))) == {
        "history/float32 forward batch_size=1 machine=1 4096/nala",
        "history/float32 forward batch_size=1 machine=2 256/nala",
        "history/float32 forward batch_size=8 machine=1 256/nala",
    }
