from __future__ import annotations

from bench.metrics import evaluate
from tests import records as made

NAMES = ["peak_memory_bytes", "peak_rss_bytes", "saved_for_backward_bytes"]


def test_bytes_are_reported_as_they_were_observed_and_zero_is_a_number() -> None:
    seen = {"peak_memory_bytes": 0, "peak_rss_bytes": 40, "saved_for_backward_bytes": 12}
    record = made.ok_record(made.kernel_cell(), made.speed([1.0], **seen))
    assert evaluate(record, NAMES) == seen


def test_what_could_not_be_measured_is_none() -> None:
    record = made.ok_record(made.kernel_cell(), made.speed([1.0]))
    assert evaluate(record, NAMES) == dict.fromkeys(NAMES)


def test_a_state_has_a_size_in_modes_that_keep_one() -> None:
    kept = made.ok_record(made.kernel_cell(mode="decode"), made.speed([1.0], state_bytes=65536))
    assert evaluate(kept, ["state_bytes"]) == {"state_bytes": 65536}
