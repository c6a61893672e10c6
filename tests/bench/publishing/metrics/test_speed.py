from bench.publishing.metrics import evaluate
from tests import records as made


def test_latency_is_the_median_and_not_the_mean():
    record = made.ok_record(made.kernel_cell(), made.speed([1.0, 1.0, 10.0]))
    found = evaluate(record, ["latency_s", "num_samples"])
    assert (found["latency_s"], found["num_samples"]) == (1.0, 3)


def test_warm_up_does_not_count():
    record = made.ok_record(made.kernel_cell(), made.speed([1.0], warmup_s=(50.0, 50.0)))
    assert evaluate(record, ["latency_s"])["latency_s"] == 1.0


def test_the_tails_need_a_hundred_samples():
    names = ["latency_p05_s", "latency_p95_s"]
    samples = [float(i) for i in range(1, 102)]
    many = made.ok_record(made.kernel_cell(), made.speed(samples))
    few = made.ok_record(made.kernel_cell(), made.speed(samples[:99]))
    assert evaluate(many, names) == {"latency_p05_s": 6.0, "latency_p95_s": 96.0}
    assert evaluate(few, names) == {"latency_p05_s": None, "latency_p95_s": None}


IMAGES, TOKENS = "throughput_images_per_s", "throughput_tokens_per_s"


def test_throughput_is_tokens_of_the_whole_batch_per_second():
    cell = made.kernel_cell(batch_size=8, seq_len=1024)
    record = made.ok_record(cell, made.speed([0.5, 0.5, 9.0], tokens_per_call=8 * 1024))
    assert evaluate(record, ["throughput_tokens_per_s"]) == {"throughput_tokens_per_s": 16384.0}


def test_a_whole_model_is_counted_in_images_and_a_mechanism_in_tokens():
    model = made.ok_record(made.model_cell(batch_size=4), made.speed([0.5, 0.5, 9.0]))
    assert evaluate(model, [IMAGES, TOKENS]) == {IMAGES: 8.0, TOKENS: None}
    core = made.ok_record(made.kernel_cell(), made.speed([0.5]))
    assert evaluate(core, [IMAGES]) == {IMAGES: None}


def test_the_rate_is_of_the_mathematics_at_the_median_latency():
    record = made.ok_record(
        made.kernel_cell(), made.speed([0.5, 0.5, 8.0], flops=100, executed_flops=900)
    )
    assert evaluate(record, ["flops_per_s"]) == {"flops_per_s": 200.0}


def test_a_mechanism_without_a_formula_has_no_rate():
    record = made.ok_record(made.kernel_cell(), made.speed([0.5], counted_flops=100))
    assert evaluate(record, ["flops", "flops_per_s"]) == {"flops": None, "flops_per_s": None}
