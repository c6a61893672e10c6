"""The share of pairs that sparse mechanisms keep is that of the weights which are not zero."""

import pytest
import torch

from attentions import Geometry, MultiHeadAttention, build_attention
from attentions.testing.forms import gates_of
from bench.core.rows import settings_of
from bench.measuring.measure.kept import kept_share

N, D = 50, 8
SETTINGS = {
    "topk": {"k": 5},
    "block_sparse": {
        "block_size": 4, "num_window_blocks": 3, "num_global_blocks": 1, "num_random_blocks": 1,
    },
    "moba": {"block_size": 8, "top_k": 2},
    "nsa": {"block_size": 4, "num_blocks": 4, "window": 9},
    "dsa": {"top_k": 7},
}  # fmt: skip


def built(name, *, causal=True):
    geometry = Geometry(num_heads=2, head_dim=D, value_dim=N, seq_len=N, causal=causal)
    core = build_attention(name, geometry, **SETTINGS[name]).double()
    q, k = torch.randn(2, 3, 2, N, D).double()
    v = torch.eye(N).double().expand(3, 2, N, N)  # the output is the weights
    gates = gates_of(core, (q, k, v))
    if name == "nsa":
        gates["gate_compression"] = torch.zeros(3, 2, N).double()
    return core, (q, k, v), gates


@pytest.mark.parametrize(
    ("name", "causal"),
    [*((name, True) for name in SETTINGS), ("topk", False), ("block_sparse", False)],
)
def test_it_is_that_of_the_weights_which_are_not_zero(name, causal):
    core, tensors, gates = built(name, causal=causal)
    weights = core(*tensors, **gates) != 0
    visible = N * (N + 1) / 2 if causal else N * N
    share = kept_share(core, lambda: core(*tensors, **gates))
    assert share == pytest.approx(float(weights.sum()) / (6 * visible))
    last = kept_share(core, lambda: core(*tensors, **gates), last=True)
    assert last == pytest.approx(float(weights[:, :, -1].sum()) / (6 * N))


def test_a_mechanism_that_keeps_all_has_none():
    core = build_attention("softmax", Geometry(num_heads=2, head_dim=D, seq_len=N))
    q = torch.randn(1, 2, N, D)
    assert kept_share(core, lambda: core(q, q, q)) is None


@pytest.mark.parametrize("row", ["topk", "block_sparse_half", "moba_half", "nsa_half", "dsa_half"])
def test_rows_for_tasks_keep_at_most_half_of_the_pairs_of_64_tokens(row):
    settings = settings_of(row)
    geometry = Geometry(num_heads=4, head_dim=16, seq_len=64, causal=True)
    layer = MultiHeadAttention(build_attention(settings.pop("mechanism"), geometry, **settings))
    share = kept_share(layer, lambda: layer(torch.randn(2, 64, 64)))
    assert 0.2 < share <= 0.5
