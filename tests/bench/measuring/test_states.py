import pytest
import torch

from attentions import Geometry, build_attention
from bench.measuring.states import bytes_after

MANY = 2**30


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("softmax", MANY * 2 * 2 * 8 * 4),  # keys and values of two heads
        ("gla", 2 * 8 * 8 * 4),
        ("log_linear", 31 * 2 * 8 * 8 * 4),  # a matrix per level: log2(N) + 1
    ],
)
def test_a_state_after_more_tokens_than_can_be_stepped_over_is_extrapolated(name, expected):
    geometry = Geometry(num_heads=2, head_dim=8, seq_len=MANY, causal=True)
    found = bytes_after(lambda: build_attention(name, geometry), MANY, dtype=torch.float32)
    assert found == expected
