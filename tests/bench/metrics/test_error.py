from __future__ import annotations

from bench.metrics import evaluate
from tests import records as made


def test_errors_are_those_of_the_check_before_timing() -> None:
    expected = {"max_error": 3e-7, "rms_error": 1e-8}
    record = made.ok_record(made.kernel_cell(), made.speed([1.0], **expected))
    assert evaluate(record, expected) == expected
