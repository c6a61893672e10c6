from dataclasses import replace

import pytest

import attentions
from bench.estimate import needed_bytes
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
