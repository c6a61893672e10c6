import pytest
import torch

from attentions import Geometry, build_attention


def build(name, causal=False):
    return build_attention(name, Geometry(num_heads=2, head_dim=4, seq_len=9, causal=causal))


@pytest.mark.parametrize("causal", [False, True])
def test_uniform_gives_the_mean_of_the_visible_values(causal, qkv):
    q, k, v = qkv(2, 2, 9, 4)
    out = build("uniform", causal)(q, k, v)
    for i in range(9):
        torch.testing.assert_close(out[:, :, i], v[:, :, : i + 1 if causal else 9].mean(dim=2))


def test_a_long_mean_of_half_values_is_taken_in_float32():
    core = build_attention("uniform", Geometry(num_heads=1, head_dim=1, seq_len=4096, causal=True))
    v = torch.ones(1, 1, 4096, 1, dtype=torch.bfloat16)
    assert core(v, v, v).eq(1).all()
