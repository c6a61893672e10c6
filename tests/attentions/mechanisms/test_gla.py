import math
from functools import partial

import pytest
import torch

from attentions import Geometry, build_attention
from tests.attentions.calls import built

build = partial(built, "gla", True, seq_len=9, value_dim=3)


@pytest.mark.parametrize("length", [9, 130])
def test_a_decay_that_was_learned_to_be_infinite_leaves_each_token_its_own_pair(qkv, length):
    q, k, v = qkv(1, 2, length, 4, value_dim=3)
    core = build(seq_len=length)
    with torch.no_grad():
        core.decay_logit.fill_(-math.inf)
    alone = (q * k).sum(dim=-1, keepdim=True) / 2 * v
    torch.testing.assert_close(core(q, k, v), alone)
    torch.testing.assert_close(core.reference(q, k, v), alone)
    state = core.init_state(1, dtype=q.dtype, device=q.device)
    torch.testing.assert_close(core.step(q, k, v, state)[0], alone)


def build_layer(**settings):
    geometry = Geometry(num_heads=2, head_dim=4, seq_len=70, causal=True)
    return build_attention("gla_layer", geometry, **settings).double()


def layer_by_hand(layer, x):
    """Section 4.4 for one sequence: projections, the recurrence, norm and gate, token by token."""
    rows, dim = [], layer.core.geometry.head_dim
    q, k, v = (layer.qkv.weight @ x.T).T.split([dim * 2, dim * 2, 8], dim=-1)
    r, (down, up) = (layer.gate.weight @ x.T).T, layer.gates["log_decay"].project
    alpha = torch.sigmoid((up.weight @ down.weight @ x.T).T + up.bias) ** (1 / 16)
    s = [torch.zeros(dim, 4, dtype=torch.float64) for _ in range(2)]
    for i in range(len(x)):
        heads = []
        for h in range(2):
            keys, values = slice(h * dim, (h + 1) * dim), slice(4 * h, 4 * h + 4)
            s[h] = alpha[i, keys, None] * s[h] + torch.outer(k[i, keys], v[i, values])
            heads.append(layer.norm(q[i, keys] @ s[h] / dim**0.5))
        rows.append(layer.proj.weight @ (torch.cat(heads) * r[i] * torch.sigmoid(r[i])))
    return torch.stack(rows)


@pytest.mark.parametrize("settings", [{}, {"norm": "layer"}, {"expand_k": 1, "gate_rank": 3}])
def test_the_layer_is_that_of_the_paper(settings):
    layer = build_layer(**settings)
    x = torch.randn(1, 70, 8, dtype=torch.float64)
    torch.testing.assert_close(layer(x)[0], layer_by_hand(layer, x[0]))


@pytest.mark.parametrize(
    ("settings", "kind"),
    [({}, torch.nn.RMSNorm), ({"norm": "layer"}, torch.nn.LayerNorm)],
)
def test_the_norm_of_a_head_is_the_one_that_is_named(settings, kind):
    assert isinstance(build_layer(**settings).norm, kind)
