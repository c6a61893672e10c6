import math

import pytest
import torch

from attentions import Geometry, build_attention
from tests.attentions.calls import call_of


def build(causal=False, seq_len=7, head_dim=4, **settings):
    geometry = Geometry(num_heads=2, head_dim=head_dim, seq_len=seq_len, value_dim=3, causal=causal)
    return build_attention("taylor", geometry, **settings)


def by_hand(q, k, v, causal=False, eps=1e-6):
    out = torch.zeros(*q.shape[:3], v.shape[-1], dtype=q.dtype)
    for b, h, i in torch.cartesian_prod(*(torch.arange(n) for n in q.shape[:3])).tolist():
        total = eps
        for j in range(i + 1 if causal else k.shape[2]):
            s = float(q[b, h, i] @ k[b, h, j]) / math.sqrt(q.shape[-1])
            weight = 1 + s + s * s / 2
            out[b, h, i] += weight * v[b, h, j]
            total += weight
        out[b, h, i] /= total
    return out


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("form", ["features", "explicit"])
def test_it_is_the_formula_of_the_paper(causal, form, qkv):
    q, k, v = qkv(2, 2, 7, 4, value_dim=3)
    core, expected = build(causal, form=form), by_hand(q, k, v, causal)
    torch.testing.assert_close(core(q, k, v), expected)
    torch.testing.assert_close(core.reference(q, k, v), expected)


@pytest.mark.parametrize("head_dim", [1, 2, 5])
def test_features_multiply_to_the_expansion(head_dim):
    x, y = torch.randn(2, 1, 1, 3, head_dim, dtype=torch.float64)
    core = build(head_dim=head_dim)
    phi_x, phi_y = core.query_features(x), core.key_features(y)
    assert phi_x.shape[-1] == 1 + head_dim + head_dim * (head_dim + 1) // 2 == core.feature_dim
    s = (x * y).sum(dim=-1) / head_dim**0.5
    torch.testing.assert_close((phi_x * phi_y).sum(dim=-1), 1 + s + s.square() / 2)


@pytest.mark.parametrize("form", ["features", "explicit"])
@pytest.mark.parametrize("causal", [False, True])
def test_both_forms_hide_keys_alike(form, causal, qkv):
    q, k, v = qkv(1, 2, 200, 4, value_dim=3)
    key_mask = torch.arange(200)[None] % 3 != 0
    out = build(causal, 200, form=form)(q, k, v, key_mask=key_mask)
    kept = key_mask[0]
    fewer = build(causal, 200)(q[:, :, kept], k[:, :, kept], v[:, :, kept])
    if causal:
        torch.testing.assert_close(out[:, :, kept], fewer)
    else:
        torch.testing.assert_close(out[:, :, kept], fewer)
    assert (
        build(form=form)(
            *(x[:, :, :7] for x in (q, k, v)), key_mask=torch.zeros(1, 7, dtype=torch.bool)
        )
        .eq(0)
        .all()
    )


def test_the_explicit_form_also_continues_a_prompt(qkv):
    q, k, v = qkv(1, 2, 7, 4, value_dim=3)
    core = build(causal=True, form="explicit")
    state = core.init_state(1, dtype=torch.float64, device=torch.device("cpu"))
    first, state = core.step(q[:, :, :5], k[:, :, :5], v[:, :, :5], state)
    rest, _ = core.step(q[:, :, 5:], k[:, :, 5:], v[:, :, 5:], state)
    torch.testing.assert_close(torch.cat((first, rest), dim=2), by_hand(q, k, v, causal=True))


def test_the_explicit_form_counts_pairs_and_is_cheaper_while_they_are_few():
    def flops(form, length):
        shape = call_of(length, 4, 3)
        return build(form=form).flops(shape)

    assert flops("explicit", 5) == 2 * 2 * 25 * 7
    assert flops("explicit", 5) < flops("features", 5)
    assert flops("explicit", 50) > flops("features", 50)


def test_eps_is_added_to_the_sum_of_weights(qkv):
    q, k, v = qkv(1, 2, 7, 4, value_dim=3)
    torch.testing.assert_close(build(eps=9.0)(q, k, v), by_hand(q, k, v, eps=9.0))


def test_a_step_goes_by_features_in_either_form():
    shape = call_of(50, 4, 3, causal=True)
    explicit, features = (build(True, 50, form=form) for form in ("explicit", "features"))
    assert explicit.decode_flops(shape) == features.decode_flops(shape)
    assert explicit.decode_flops(shape) == features.flops(call_of(1, 4, 3))
