from functools import partial

import pytest
import torch

from tests.attentions.calls import built, call_of, in_steps

build = partial(built, "taylor", seq_len=7, value_dim=3)


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
    out = build(causal, seq_len=200, form=form)(q, k, v, key_mask=key_mask)
    kept = key_mask[0]
    fewer = build(causal, seq_len=200)(q[:, :, kept], k[:, :, kept], v[:, :, kept])
    torch.testing.assert_close(out[:, :, kept], fewer)
    nobody = torch.zeros(1, 7, dtype=torch.bool)
    assert build(form=form)(*(x[:, :, :7] for x in (q, k, v)), key_mask=nobody).eq(0).all()


def test_the_explicit_form_also_continues_a_prompt(qkv):
    q, k, v = qkv(1, 2, 7, 4, value_dim=3)
    core = build(causal=True, form="explicit")
    out, _ = in_steps(core, (q, k, v), (5, 2))
    torch.testing.assert_close(out, build(causal=True)(q, k, v))


def test_the_explicit_form_counts_pairs_and_is_cheaper_while_they_are_few():
    def flops(form, length):
        shape = call_of(length, 4, 3)
        return build(form=form).flops(shape)

    assert flops("explicit", 5) == 2 * 2 * 25 * 7
    assert flops("explicit", 5) < flops("features", 5)
    assert flops("explicit", 50) > flops("features", 50)
