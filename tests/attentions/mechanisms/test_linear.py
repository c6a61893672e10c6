from functools import partial

import pytest
import torch

from attentions import Geometry, build_attention
from tests.attentions.calls import built

build = partial(built, "linear", seq_len=9, value_dim=3)


def test_very_negative_inputs_keep_their_relative_size():
    core = build(eps=1e-30)
    q, k = torch.full((1, 2, 9, 4), -20.0), torch.full((1, 2, 9, 4), -20.0)
    v = torch.randn(1, 2, 9, 3)
    torch.testing.assert_close(core(q, k, v), v.mean(dim=2, keepdim=True).expand(-1, -1, 9, -1))


@pytest.mark.parametrize("causal", [False, True])
def test_long_sums_do_not_overflow_float16(causal):
    geometry = Geometry(num_heads=1, head_dim=64, seq_len=4096, causal=causal)
    core = build_attention("linear", geometry)
    q, k, v = torch.rand(3, 1, 1, 4096, 64).half().unbind()
    assert torch.finfo(torch.float16).max < 4096 * 64
    out = core(q, k, v)
    assert out.isfinite().all()
    assert (out.float() - core(q.double(), k.double(), v.double())).abs().max() < 1e-3
