import pytest

from bench.publishing.metrics import evaluate
from bench.publishing.metrics.roofline import bound, roof, times_faster
from tests import records as made

TENSOR = 2 * 256 * 4 * 64  # elements of q, with a batch of 2
NAMES = ["min_bytes_moved", "arithmetic_intensity", "floor_s", "roofline_fraction"]


def ceiling(**changes):
    rates = [[1_000_000, 4e8], [10_000_000, 2e8], [100_000_000, 1e8]]
    return made.ceiling(**({"bytes_per_s": rates} | changes))


def record(*ceilings, flops=100, latency=1.0, observed=None, **cell):
    environment = made.ENVIRONMENT | {"calibration": {"ceilings": list(ceilings)}}
    result = made.speed([latency], flops=flops, **(observed or {}))
    return made.ok_record(
        made.kernel_cell(**({"batch_size": 2} | cell)), result, environment=environment
    )


LAYER = {"scope": "layer", "observed": {"num_parameters": 1000}}
GATE = {"observed": {"num_gate_values": 1024}}  # two for each of 2 x 256 tokens
STATE = {"observed": {"state_bytes": 5000}}
MOVED = {
    "forward: three tensors read, one written": ({}, 4 * TENSOR * 4),
    "forward of bfloat16": ({"dtype": "bfloat16"}, 4 * TENSOR * 2),
    "forward of float64": ({"dtype": "float64"}, 4 * TENSOR * 8),
    "backward: four read, three written": ({"mode": "backward"}, 7 * TENSOR * 4),
    "both passes": ({"mode": "forward_backward"}, 11 * TENSOR * 4),
    "keys that heads share are read once": ({"num_kv_heads": 1}, 2 * (TENSOR + TENSOR // 4) * 4),
    "fewer keys": ({"key_len": 64}, 2 * (TENSOR + TENSOR // 4) * 4),  # of 256 tokens
    "padding need not be read": ({"padding": 0.75}, 2 * (TENSOR + TENSOR // 4) * 4),
    "causal padding": ({"padding": 0.75, "causal": True}, 4 * TENSOR // 4 * 4),
    "gates are read as the inputs are": (GATE, (4 * TENSOR + 1024) * 4),
    "gates backward": (GATE | {"mode": "backward"}, (7 * TENSOR + 2048) * 4),
    "a step's gates": (GATE | {"mode": "decode"}, (4 * TENSOR + 1024) // 256 * 4),
    "gates of padding": (GATE | {"padding": 0.75, "causal": True}, (4 * TENSOR + 1024) // 4 * 4),
    "a layer: one input and its parameters": (LAYER, (2 * TENSOR + 1000) * 4),
    "a layer backward": (LAYER | {"mode": "backward"}, (3 * TENSOR + 2000) * 4),
    "a layer's step of training": (LAYER | {"mode": "train_step"}, (5 * TENSOR + 10_000) * 4),
    "decode: one token and the state": (STATE | {"mode": "decode"}, 4 * TENSOR // 256 * 4 + 5000),
    "prefill": (STATE | {"mode": "prefill"}, 4 * TENSOR * 4 + 5000),
}


@pytest.mark.parametrize("name", MOVED)
def test_each_pass_moves_what_it_has_to_read_and_write(name):
    cell, num_bytes = MOVED[name]
    assert evaluate(record(**cell), NAMES)["min_bytes_moved"] == num_bytes


def test_intensity_is_flops_per_byte_and_needs_no_calibration():
    values = evaluate(record(flops=8 * 4 * TENSOR), NAMES)
    assert values["arithmetic_intensity"] == 2.0
    assert values["floor_s"] is None and values["roofline_fraction"] is None
    assert bound(record()) is None


def test_the_slower_side_sets_the_floor():
    memory_s = 4 * TENSOR * 4 / 2e8  # within the second cache
    by_memory = record(ceiling(), latency=10 * memory_s)
    assert evaluate(by_memory, NAMES)["floor_s"] == pytest.approx(memory_s)
    assert evaluate(by_memory, NAMES)["roofline_fraction"] == pytest.approx(0.1)
    assert bound(by_memory) == "memory"
    by_compute = record(ceiling(), flops=10**9, latency=4.0)
    assert evaluate(by_compute, NAMES)["floor_s"] == 1.0
    assert evaluate(by_compute, NAMES)["roofline_fraction"] == 0.25
    assert bound(by_compute) == "compute"


@pytest.mark.parametrize(("seq_len", "rate"), [(64, 4e8), (256, 2e8), (4096, 1e8), (65_536, 1e8)])
def test_bytes_move_at_the_rate_of_the_smallest_cache_that_could_hold_them(seq_len, rate):
    one = record(ceiling(), seq_len=seq_len, flops=0)
    num_bytes = 4 * 2 * seq_len * 4 * 64 * 4
    assert evaluate(one, NAMES)["floor_s"] == pytest.approx(num_bytes / rate)


def test_with_a_cold_cache_nothing_is_in_it():
    cold = record(ceiling(), flops=0, cache="cold")
    assert evaluate(cold, NAMES)["floor_s"] == pytest.approx(4 * TENSOR * 4 / 1e8)


@pytest.mark.parametrize(
    "other",
    [
        {"dtype": "bfloat16"},
        {"num_threads": 2},
        {"device": "cuda:0"},
        {"device_name": "Imaginary 9001"},
    ],
)
def test_a_ceiling_of_something_else_is_not_used(other):
    assert evaluate(record(ceiling(**other)), NAMES)["floor_s"] is None
    assert evaluate(record(ceiling(**other), ceiling()), NAMES)["floor_s"] is not None


def test_what_one_thread_can_do_two_can_as_well():
    slow = {"flops_per_s": 1e8, "bytes_per_s": [[100_000_000, 5e7]]}
    both = record(ceiling(), ceiling(num_threads=2, **slow), num_threads=2, flops=10**9)
    assert evaluate(both, NAMES)["floor_s"] == 1.0
    fewer = record(ceiling(num_threads=1), num_threads=2)
    assert evaluate(fewer, NAMES)["floor_s"] is None
    more = record(ceiling(flops_per_s=5e8), ceiling(num_threads=2), flops=10**9)
    assert evaluate(more, NAMES)["floor_s"] == 2.0
    idle = record(ceiling(), ceiling(num_threads=2, **slow), num_threads=2, flops=0)
    assert evaluate(idle, NAMES)["floor_s"] == pytest.approx(4 * TENSOR * 4 / 2e8)
    found = roof(both)
    assert found is not None and found["flops_per_s"] == 1e9
    assert [rate for _, rate in found["bytes_per_s"]] == [4e8, 1e8]


def test_a_larger_cache_that_was_measured_to_be_faster_lowers_the_floor() -> None:
    rates = [[1_000_000, 4e8], [10_000_000, 1e8], [100_000_000, 2e8]]
    one = record(ceiling(bytes_per_s=rates), flops=0)
    assert evaluate(one, NAMES)["floor_s"] == pytest.approx(4 * TENSOR * 4 / 2e8)


def test_threads_of_a_cell_do_not_matter_on_an_accelerator():
    one = record(ceiling(num_threads=None), num_threads=7)
    assert evaluate(one, NAMES)["floor_s"] is not None


def test_a_mechanism_without_a_formula_has_no_floor():
    values = evaluate(record(ceiling(), flops=None), NAMES)
    assert values["min_bytes_moved"] and values["arithmetic_intensity"] is None
    assert values["floor_s"] is None and values["roofline_fraction"] is None


def test_a_training_run_has_none_of_it():
    run = made.task_records(["nala"], seeds=[0])[0]
    assert evaluate(run, NAMES) == dict.fromkeys(NAMES)
    assert bound(run) is None


def seen(latency, *, is_noisy=False, **changes):
    """A record without a calibration, whose block was preceded by a look at 100 FLOPs a second."""
    glance = {"flops_per_s": 100.0, "bytes_per_s": [[1e9, 1e9]], "is_noisy": is_noisy}
    return record(latency=latency, observed={"ceiling": glance}, **changes)


def test_a_time_is_held_against_what_was_seen_before_its_rounds_without_a_calibration():
    assert times_faster(seen(0.5)) == (2.0, False)
    assert times_faster(seen(0.5, is_noisy=True)) == (2.0, True)
    assert times_faster(seen(0.5, flops=0)) == (0.0, False), "a control"
    assert times_faster(record()) == (0.0, False), "nobody has looked"
    assert evaluate(seen(0.5), NAMES)["floor_s"] is None, "a glance is no calibration"


def test_a_calibration_says_more_than_a_glance():
    calibrated = ceiling(flops_per_s=50.0, bytes_per_s=[[1e9, 1e9]])
    glance = {"flops_per_s": 100.0, "bytes_per_s": [[1e9, 1e9]], "is_noisy": True}
    found = record(calibrated, latency=0.5, observed={"ceiling": glance})
    assert times_faster(found) == (4.0, False)
    busy = record(ceiling(is_noisy=True), ceiling(num_threads=2), num_threads=2)
    assert times_faster(busy)[1], "any of them may be too low"


def test_a_state_need_not_be_read_as_a_whole():
    glance = {"flops_per_s": 1e9, "bytes_per_s": [[1e9, 1e3]], "is_noisy": False}
    few = {"ceiling": glance, "state_bytes": 10**6}
    num_bytes = 4 * (TENSOR // 256) * 4
    found = record(latency=num_bytes / 1e3, mode="decode", observed=few)
    assert times_faster(found) == (1.0, False)
    layer = {"ceiling": glance, "num_parameters": 10**6}
    num_bytes = (2 * TENSOR + 10**6) * 4
    found = record(latency=num_bytes / 1e3, scope="layer", observed=layer)
    assert times_faster(found) == (1.0, False), "parameters have to be"
