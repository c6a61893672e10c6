from dataclasses import replace

import pytest

import attentions
from bench import estimate
from bench.estimate import expected_s, needed_bytes
from bench.measure.stopping import Stopping
from bench.subject import build_module, shape_of
from tests.bench.test_subject import cell


def needed(mechanism, **changes):
    hyperparameters = attentions.hyperparameters(mechanism)
    return needed_bytes(replace(cell(mechanism, **changes), hyperparameters=hyperparameters))


@pytest.mark.parametrize("mode", ["prefill", "decode"])
def test_the_state_is_part_of_what_a_cell_needs(mode):
    forward = needed("softmax", mode="forward", causal=True, seq_len=1000)
    # Keys and values of 1000 tokens, 2 heads of 8 each, in float32.
    assert needed("softmax", mode=mode, causal=True, seq_len=1000) == forward + 2 * 1000 * 64
    forward = needed("linear", mode="forward", causal=True, seq_len=1000)
    assert needed("linear", mode=mode, causal=True, seq_len=1000) == forward + 2 * (8 * 8 + 8) * 4


def test_a_cache_of_shared_heads_needs_their_share():
    sizes = {"mode": "decode", "causal": True, "seq_len": 1000, "num_heads": 4}
    whole = needed("softmax", **sizes)
    shared = needed("softmax", **sizes, num_kv_heads=1)
    written_out = 2 * 4 * 1000 * 8 * 4  # for the first prompt, which is one call of `forward`
    assert whole - shared == 2 * (4 - 1) * 1000 * 8 * 4 - written_out


@pytest.mark.parametrize(
    ("scope", "mode", "tensors"),
    [
        ("core", "forward", 5),  # q, k, v, a cotangent and the output
        ("core", "forward_backward", 8),  # and the gradients of q, k and v
        ("layer", "forward", 3),
        ("layer", "forward_backward", 4),
    ],
)
def test_inputs_output_and_gradients_are_part_of_what_a_cell_needs(scope, mode, tensors):
    asked = replace(cell("linear", scope=scope, mode=mode, seq_len=100), hyperparameters={})
    backward = mode == "forward_backward"
    extra = build_module(asked).extra_elements(shape_of(asked.kernel), backward=backward)
    work = asked.kernel
    per_tensor = work.batch_size * 100 * work.num_heads * work.head_dim
    assert needed_bytes(asked) == (tensors * per_tensor + extra) * 4


def test_work_is_expected_to_take_half_with_twice_the_threads_and_three_times_with_gradients():
    stopping = Stopping(min_rounds=7, budget_s=0.0)

    def expected(mode, num_threads):
        asked = replace(cell("softmax", mode=mode, seq_len=4096), num_threads=num_threads)
        return expected_s(asked, stopping) - estimate._TRIAL_S

    one = expected("forward", 1)
    assert one > 0
    assert expected("forward", 2) == pytest.approx(one / 2)
    assert expected("forward_backward", 1) == pytest.approx(3 * one)
