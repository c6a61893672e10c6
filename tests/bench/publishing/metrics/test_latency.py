from __future__ import annotations

from bench.publishing.metrics import evaluate
from tests import records as made


def test_latency_is_the_median_and_not_the_mean() -> None:
    record = made.ok_record(made.kernel_cell(), made.speed([1.0, 1.0, 10.0]))
    assert evaluate(record, ["latency_s", "num_samples"]) == {"latency_s": 1.0, "num_samples": 3}


def test_warm_up_does_not_count() -> None:
    record = made.ok_record(made.kernel_cell(), made.speed([1.0], warmup_s=(50.0, 50.0)))
    assert evaluate(record, ["latency_s"]) == {"latency_s": 1.0}


def test_the_tails_need_a_hundred_samples() -> None:
    names = ["latency_p05_s", "latency_p95_s"]
    samples = [float(i) for i in range(1, 102)]
    many = made.ok_record(made.kernel_cell(), made.speed(samples))
    few = made.ok_record(made.kernel_cell(), made.speed(samples[:99]))
    assert evaluate(many, names) == {"latency_p05_s": 6.0, "latency_p95_s": 96.0}
    assert evaluate(few, names) == {"latency_p05_s": None, "latency_p95_s": None}
