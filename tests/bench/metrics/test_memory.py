from __future__ import annotations

from bench.metrics import evaluate
from tests import records as made

NAMES = ["peak_memory_bytes", "saved_for_backward_bytes"]


def test_bytes_are_reported_as_they_were_observed_and_zero_is_a_number() -> None:
    record = made.ok_record(
        made.kernel_cell(), made.speed([1.0], peak_memory_bytes=0, saved_for_backward_bytes=12)
    )
    assert evaluate(record, NAMES) == {"peak_memory_bytes": 0, "saved_for_backward_bytes": 12}


def test_what_could_not_be_measured_is_none() -> None:
    record = made.ok_record(made.kernel_cell(), made.speed([1.0]))
    assert evaluate(record, NAMES) == dict.fromkeys(NAMES)
