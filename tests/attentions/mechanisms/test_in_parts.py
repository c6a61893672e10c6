"""Mechanisms that never hold all pairs of tokens: what they take, and gradients under a mask."""

import pytest
import torch

from attentions import Geometry, build_attention
from bench.measuring.device import device_named
from tests.attentions.calls import call_of

SETTINGS = {
    "block_sparse": {"block_size": 16},
    "reformer": {"chunk_size": 16},
    "sliding_window": {"window": 32},
    "softmax_chunked": {"chunk_size": 64},
    "topk": {"k": 4, "chunk_size": 16},
}
MOST_WORK = {"block_sparse": 4.5, "reformer": 5, "sliding_window": 4}


@pytest.mark.parametrize(
    ("name", "causal"), [*((name, False) for name in SETTINGS), ("softmax_chunked", True)]
)
def test_time_and_memory_grow_with_the_tokens_and_not_with_their_square(name, causal):
    work, peaks = [], []
    for seq_len in (256, 1024):
        geometry = Geometry(num_heads=2, head_dim=8, seq_len=seq_len, causal=causal)
        core = build_attention(name, geometry, **SETTINGS[name])
        work.append(core.executed_flops(call_of(seq_len, 8)))
        q, k, v = (torch.randn(1, 2, seq_len, 8, requires_grad=True) for _ in range(3))
        call = lambda core=core, q=q, k=k, v=v: core(q, k, v).sum().backward()  # noqa: E731
        peaks.append(device_named("cpu").profile(call).peak_bytes)
    assert work[1] <= MOST_WORK.get(name, 16) * work[0]
    assert peaks[1] < (4.5 if name in ("softmax_chunked", "topk") else 5) * peaks[0]


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("name", ["sigmoid", "softmax_chunked", "topk"])
def test_gradients_under_a_mask_are_those_of_finite_differences(name, causal, qkv):
    tensors = [x.requires_grad_() for x in qkv(1, 2, 11, 4, value_dim=3)]
    mask = torch.rand(11, 11) < 0.7
    mask[3] = False
    geometry = Geometry(num_heads=2, head_dim=4, seq_len=11, value_dim=3, causal=causal)
    core = build_attention(name, geometry, chunk_size=3, **({"k": 3} if name == "topk" else {}))
    assert torch.autograd.gradcheck(lambda *x: core(*x, mask=mask), tensors, fast_mode=True)
