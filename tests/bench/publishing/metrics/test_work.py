from __future__ import annotations

from bench.publishing.metrics import evaluate
from tests import records as made


def test_the_rate_is_of_the_mathematics_at_the_median_latency() -> None:
    record = made.ok_record(
        made.kernel_cell(), made.speed([0.5, 0.5, 8.0], flops=100, executed_flops=900)
    )
    assert evaluate(record, ["flops_per_s"]) == {"flops_per_s": 200.0}


def test_a_mechanism_without_a_formula_has_no_rate() -> None:
    record = made.ok_record(made.kernel_cell(), made.speed([0.5], counted_flops=100))
    assert evaluate(record, ["flops", "flops_per_s"]) == {"flops": None, "flops_per_s": None}
