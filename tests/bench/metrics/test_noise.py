from __future__ import annotations

from bench.metrics import evaluate
from tests import records as made

NAMES = ["is_noisy", "foreign_cores"]


def test_noise_is_reported_as_it_was_observed() -> None:
    loud = made.speed([1.0], is_noisy=True, load={"foreign_cores": 0.75})
    record = made.ok_record(made.kernel_cell(), loud)
    assert evaluate(record, NAMES) == {"is_noisy": True, "foreign_cores": 0.75}


def test_a_load_that_was_not_observed_is_none() -> None:
    record = made.ok_record(made.kernel_cell(), made.speed([1.0]))
    assert evaluate(record, NAMES) == {"is_noisy": False, "foreign_cores": None}
