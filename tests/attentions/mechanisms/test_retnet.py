from functools import partial

import torch

from tests.attentions.calls import built, in_steps

build = partial(built, "retnet", True, seq_len=9, value_dim=3)


def test_decays_are_exact_for_any_number_of_heads():
    log_decay = build(num_heads=60).head_log_decay(torch.device("cpu"))
    assert log_decay.dtype == torch.float64
    torch.testing.assert_close(
        log_decay.exp(), 1 - 2.0 ** -torch.arange(5, 65, dtype=torch.float64)
    )


def test_the_papers_normalisers_divide_scores_as_it_says(qkv):
    """Section 2.2: D by the root of its row sum, then a row of scores by max(|its sum|, 1)."""
    q, k, v = qkv(2, 2, 200, 4, value_dim=3)
    core = build(seq_len=200, score_norm="paper")
    place = torch.arange(200, dtype=torch.float64)
    expected = torch.empty_like(v)
    for h in range(2):
        decay = ((1 - 2.0 ** (-5 - h)) ** (place[:, None] - place)).tril()
        decay = decay / decay.sum(-1, keepdim=True).sqrt()
        scores = q[:, h] @ k[:, h].transpose(-2, -1) / 2 * decay
        largest = scores.sum(-1, keepdim=True).abs().clamp(min=1)
        expected[:, h] = scores / largest @ v[:, h]
    torch.testing.assert_close(core(q, k, v), expected)
    torch.testing.assert_close(core.reference(q, k, v), expected)


def test_normalised_steps_equal_the_whole_and_hidden_tokens_are_as_good_as_removed(qkv):
    q, k, v = qkv(1, 2, 150, 4, value_dim=3)
    core = build(seq_len=150, score_norm="paper")
    torch.testing.assert_close(in_steps(core, (q, k, v), [1, 80, 69])[0], core(q, k, v))

    key_mask = torch.rand(1, 150) < 0.6
    kept = key_mask[0].nonzero()[:, 0]
    hidden = core(q, k, v, key_mask=key_mask)
    fewer = core(*(x[:, :, kept] for x in (q, k, v)))
    torch.testing.assert_close(hidden[:, :, kept], fewer)


def test_normalised_rows_are_finite_where_nothing_is_seen():
    core = build(score_norm="paper")
    q, k, v = (torch.randn(1, 2, 9, n).requires_grad_() for n in (4, 4, 3))
    out = core(q, k, v, key_mask=torch.zeros(1, 9, dtype=torch.bool))
    assert out.eq(0).all()
    gradients = torch.autograd.grad(out.sum(), (q, k, v))
    assert all(g.isfinite().all() for g in gradients)
