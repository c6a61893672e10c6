import math
from functools import partial

import pytest
import torch

from tests.attentions.calls import built

build = partial(built, seq_len=6, value_dim=3, stir=0.3)


def feature(core, x, h):
    """Sines and cosines of one vector, row by row."""
    if core.normalise:
        x = x / math.sqrt(sum(x_c * x_c for x_c in x.tolist()))
    else:
        x = x / x.shape[-1] ** 0.25
    angles = [float((core.sigma[h].detach() / core.tau * row) @ x) for row in core.projection[h]]
    waves = [math.sin(a) for a in angles] + [math.cos(a) for a in angles]
    return torch.tensor(waves, dtype=torch.float64) / math.sqrt(len(angles))


def recurrence_by_hand(core, q, k, v):
    """S and z of the paper, token by token, with its gate or without."""
    out = torch.zeros(*q.shape[:3], v.shape[-1], dtype=q.dtype)
    for b, h in torch.cartesian_prod(*(torch.arange(n) for n in q.shape[:2])).tolist():
        features = 2 * core.num_features
        s, z = torch.zeros(features, v.shape[-1]).double(), torch.zeros(features).double()
        for t in range(q.shape[2]):
            kept, taken = 1.0, 1.0
            if core.name == "rfa_gated":
                score = float((core.gate_weight[h] @ k[b, h, t] + core.gate_bias[h]).detach())
                kept = 1 / (1 + math.exp(-score))
                taken = 1 - kept
            phi_k, phi_q = feature(core, k[b, h, t], h), feature(core, q[b, h, t], h)
            s = kept * s + taken * torch.outer(phi_k, v[b, h, t])
            z = kept * z + taken * phi_k
            out[b, h, t] = phi_q @ s / max(float(phi_q @ z), core.least)
    return out


@pytest.mark.parametrize("gated", [False, True])
@pytest.mark.parametrize("settings", [{}, {"normalise": False}, {"tau": 0.5, "num_features": 9}])
def test_the_causal_form_is_the_papers_recurrence(gated, settings, qkv):
    q, k, v = qkv(2, 2, 6, 4, value_dim=3)
    core = build("rfa_gated" if gated else "rfa", causal=True, **settings)
    expected = recurrence_by_hand(core, q, k, v)
    torch.testing.assert_close(core(q, k, v).detach(), expected)
    torch.testing.assert_close(core.reference(q, k, v).detach(), expected)


@pytest.mark.parametrize("projection", ["gaussian", "orthogonal"])
def test_many_features_come_near_the_kernel(projection):
    core = built("rfa", num_heads=1, seq_len=5, num_features=20_000, projection=projection)
    q, k = torch.randn(2, 1, 1, 5, 4, dtype=torch.float64)
    phi_q, phi_k = core.query_features(q), core.key_features(k)
    weights = phi_q @ phi_k.mT
    directions = q / q.norm(dim=-1, keepdim=True), k / k.norm(dim=-1, keepdim=True)
    exact = (directions[0] @ directions[1].mT - 1).exp()
    assert (weights - exact).abs().max() < 0.03


@pytest.mark.parametrize("score", [-1e18, -1e5, -1e3, -1.0, 1e3])
def test_a_gate_that_forgets_all_leaves_later_ones_their_digits(score, qkv):
    q, k, v = qkv(1, 2, 300, 4, value_dim=3)
    core = build("rfa_gated", causal=True, seq_len=300)
    with torch.no_grad():
        core.gate_weight[:, 0] = 1.0
        k[..., 0] = 2.0
        k[:, :, ::17, 0] = score
        expected = core.reference(q, k, v)
        out = core.float()(*(x.float() for x in (q, k, v)))
    torch.testing.assert_close(out.double(), expected, rtol=1e-5, atol=1e-5)


def test_the_least_sum_of_weights_is_eps(qkv):
    q, k, v = qkv(1, 2, 6, 4, value_dim=3)
    core = build("rfa", eps=100.0)
    phi_q, phi_k = core.query_features(q), core.key_features(k)
    weights = phi_q @ phi_k.mT
    torch.testing.assert_close(core(q, k, v), weights @ v / 100)
