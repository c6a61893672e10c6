import math

import pytest
import torch

from attentions import Geometry, build_attention


def build(causal=False, **settings):
    torch.manual_seed(0)
    geometry = Geometry(num_heads=2, head_dim=3, seq_len=6, value_dim=4, causal=causal)
    core = build_attention("hedgehog", geometry, **settings).double()
    with torch.no_grad():
        for parameter in core.parameters():
            parameter.add_(0.5 * torch.randn_like(parameter))
    return core


def feature(x, learned, h, joint=False):
    """phi of one vector, one exponential at a time."""
    y = (learned.weight[h].detach() @ x + learned.bias[h].detach()).tolist()
    if joint:
        both = [math.exp(2 * y_c) for y_c in y] + [math.exp(-2 * y_c) for y_c in y]
        return torch.tensor([e / sum(both) for e in both], dtype=torch.float64)
    halves = []
    for sign in (1, -1):
        exponentials = [math.exp(sign * y_c) for y_c in y]
        halves += [e / sum(exponentials) for e in exponentials]
    return torch.tensor(halves, dtype=torch.float64)


def by_hand(core, q, k, v, causal=False, joint=False):
    out = torch.zeros(*q.shape[:3], v.shape[-1], dtype=q.dtype)
    for b, h, i in torch.cartesian_prod(*(torch.arange(n) for n in q.shape[:3])).tolist():
        total = core.eps
        for j in range(i + 1 if causal else k.shape[2]):
            phi_q = feature(q[b, h, i], core.map_q, h, joint)
            phi_k = feature(k[b, h, j], core.map_k, h, joint)
            weight = float(phi_q @ phi_k)
            out[b, h, i] += weight * v[b, h, j]
            total += weight
        out[b, h, i] /= total
    return out


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("normaliser", ["separate", "joint"])
def test_it_is_linear_attention_with_learned_exponentials(causal, normaliser, qkv):
    q, k, v = qkv(2, 2, 6, 3, value_dim=4)
    core = build(causal, normaliser=normaliser)
    expected = by_hand(core, q, k, v, causal, normaliser == "joint")
    torch.testing.assert_close(core(q, k, v).detach(), expected)
    torch.testing.assert_close(core.reference(q, k, v).detach(), expected)


def test_maps_start_as_the_identity():
    core = build_attention("hedgehog", Geometry(num_heads=2, head_dim=3, seq_len=6))
    x = torch.randn(1, 2, 6, 3)
    expected = torch.cat((x.softmax(dim=-1), (-x).softmax(dim=-1)), dim=-1)
    torch.testing.assert_close(core.query_features(x), expected)
    torch.testing.assert_close(core.key_features(x), expected)


def test_the_two_normalisers_are_different_functions(qkv):
    tensors = qkv(1, 2, 6, 3, value_dim=4)
    separate, joint = build(), build(normaliser="joint")
    joint.load_state_dict(separate.state_dict())
    assert (separate(*tensors) - joint(*tensors)).abs().max() > 1e-3


def sizes(core):
    return {name: tuple(p.shape) for name, p in core.named_parameters()}


def test_maps_can_be_shared_by_heads_and_by_queries_and_keys():
    assert sizes(build()) == {
        "map_q.weight": (2, 3, 3),
        "map_q.bias": (2, 3),
        "map_k.weight": (2, 3, 3),
        "map_k.bias": (2, 3),
    }
    assert sizes(build(tie_heads=True, tie_qk=True)) == {
        "map_q.weight": (1, 3, 3),
        "map_q.bias": (1, 3),
    }
    assert sizes(build(bias=False, tie_qk=True)) == {"map_q.weight": (2, 3, 3)}


@pytest.mark.parametrize("settings", [{"tie_heads": True}, {"tie_qk": True}, {"bias": False}])
def test_shared_maps_have_the_same_reference(settings, qkv):
    tensors, core = qkv(1, 2, 6, 3, value_dim=4), build(**settings)
    torch.testing.assert_close(core(*tensors), core.reference(*tensors))


def test_features_that_meet_nowhere_give_a_mean_instead_of_nothing():
    core = build_attention("hedgehog", Geometry(num_heads=1, head_dim=3, seq_len=1))
    q = torch.tensor([500.0, 0.0, -500.0])[None, None, None]
    k = torch.tensor([0.0, 500.0, 500.0])[None, None, None]
    v = torch.ones(1, 1, 1, 3)
    assert core(q, k, v).gt(0.3).all()
