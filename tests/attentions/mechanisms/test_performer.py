import pytest
import torch
from torch.utils.checkpoint import checkpoint

from attentions import Geometry, build_attention
from tests.attentions.calls import in_steps


def build(causal=False, seq_len=9, head_dim=4, **settings):
    geometry = Geometry(num_heads=2, head_dim=head_dim, seq_len=seq_len, causal=causal)
    return build_attention("performer", geometry, **settings)


@pytest.mark.parametrize("causal", [False, True])
def test_googles_relu_kernel_projects_nothing(causal, qkv):
    q, k, v = qkv(1, 2, 140, 4)
    core = build(causal, 140, kernel="relu_unprojected", num_features=None).double()
    weights = (q.relu() + 1e-3) @ (k.relu() + 1e-3).mT
    weights = weights.tril() if causal else weights
    expected = weights @ v / weights.sum(dim=-1, keepdim=True)
    torch.testing.assert_close(core(q, k, v), expected)
    torch.testing.assert_close(core.reference(q, k, v), expected)
    assert core.num_features == 4 and core.projection.numel() == 0
    core.redraw()
    torch.testing.assert_close(core(q, k, v), expected)
    if causal:
        torch.testing.assert_close(in_steps(core, (q, k, v), (1, 130, 9))[0], expected)


@pytest.mark.parametrize("kernel", ["softmax", "relu"])
@pytest.mark.parametrize("scale", [1.0, 4.0])
def test_the_causal_form_at_i_is_the_bidirectional_form_on_the_prefix_up_to_i(kernel, scale, qkv):
    q, k, v = qkv(1, 2, 140, 4)
    k = k * scale * torch.linspace(0.2, 3, 140, dtype=torch.float64)[:, None]
    settings = {"kernel": kernel, "num_features": 8}
    causal, free = build(True, 140, **settings).double(), build(False, 140, **settings).double()
    out = causal(q, k, v)
    for i in (0, 1, 63, 64, 127, 128, 139):
        prefix = free(q[:, :, i : i + 1], k[:, :, : i + 1], v[:, :, : i + 1])
        torch.testing.assert_close(out[:, :, i : i + 1], prefix)


@pytest.mark.parametrize("kernel", ["softmax", "relu"])
def test_a_later_key_ten_thousand_times_larger_changes_no_earlier_bit(kernel, qkv):
    q, k, v = (x.float() for x in qkv(1, 2, 300, 8))
    core = build(True, 300, head_dim=8, kernel=kernel)
    out = core(q, k, v)
    for late in (1, 100, 127, 128, 299):
        larger = k.clone()
        larger[:, :, late] *= 1e4
        again = core(q, larger, v)
        assert again.isfinite().all()
        assert torch.equal(again[:, :, :late], out[:, :, :late])


@pytest.mark.parametrize("kernel", ["softmax", "relu"])
@pytest.mark.parametrize("scale", [10.0, 100.0])
def test_keys_of_very_different_sizes_stay_accurate_in_float32(kernel, scale, qkv):
    q, k, v = qkv(1, 2, 300, 8)
    k = k * (1 + scale * torch.rand(300, 1, dtype=torch.float64))
    core = build(True, 300, head_dim=8, kernel=kernel)
    narrow = core(q.float(), k.float(), v.float()).double()
    wide = core.double()(q.float().double(), k.float().double(), v.float().double())
    assert (narrow - wide).abs().max() < 1e-3 * wide.abs().max()


def test_more_features_come_nearer_to_softmax_attention(qkv):
    q, k, v = (0.5 * x for x in qkv(4, 2, 64, 8))
    exact = torch.nn.functional.scaled_dot_product_attention(q, k, v)
    settings = {"seq_len": 64, "head_dim": 8, "eps": 1e-8}
    errors = [
        (build(num_features=n, **settings).double()(q, k, v) - exact).norm() / exact.norm()
        for n in (16, 256, 4096)
    ]
    assert errors[0] > 2 * errors[1] > 4 * errors[2]


def test_a_hidden_key_sets_no_maximum():
    core = build()
    q, k, v = torch.randn(3, 1, 2, 9, 4).unbind()
    key_mask = torch.ones(1, 9, dtype=torch.bool)
    key_mask[0, 3] = False
    out = core(q, k, v, key_mask=key_mask)
    k[:, :, 3] = 1e4
    assert torch.equal(core(q, k, v, key_mask=key_mask), out)


def test_there_are_128_features_or_d_ln_d_of_them():
    assert build(head_dim=64).num_features == 128
    assert build(head_dim=64, num_features=None).num_features == 266


def test_a_key_far_longer_than_all_others_sends_their_features_to_the_floor(qkv):
    k = qkv(1, 2, 64, 16)[1] / 2  # of norm 2
    ours, coarse = build(head_dim=16), build(head_dim=16, eps=1e-4)
    assert ours.floor_share(k) == coarse.floor_share(k) == 0
    k[:, :, 7] *= 10
    assert 0.3 < ours.floor_share(k) < 0.8 and coarse.floor_share(k) > 0.95
    k[:, :, 7] *= 3
    assert ours.floor_share(k) > 0.95


def test_redrawing_follows_the_seeds_series():
    one, other = build(projection_seed=5), build(projection_seed=5)
    first = one.projection
    one.redraw()
    second = one.projection
    one.redraw()
    other.redraw()
    assert torch.equal(other.projection, second)
    assert not torch.equal(first, second)
    assert not torch.equal(second, one.projection)
    assert one.num_redraws == 2


def test_no_call_draws_so_checkpointed_activations_have_their_own_gradient(qkv):
    q, k, v = (x.requires_grad_() for x in qkv(1, 2, 9, 4))
    core = build(redraw_interval=1).double().train()
    expected = torch.autograd.grad(core(q, k, v).sum(), (q, k, v))
    out = checkpoint(core, q, k, v, use_reentrant=False)
    torch.testing.assert_close(torch.autograd.grad(out.sum(), (q, k, v)), expected)
    assert core.num_redraws == 0


def test_a_redraw_between_forward_and_backward_does_no_harm(qkv):
    q, k, v = (x.requires_grad_() for x in qkv(1, 2, 9, 4))
    core = build().double()
    expected = torch.autograd.grad(core(q, k, v).sum(), q)[0]
    out = core(q, k, v)
    core.redraw()
    assert torch.equal(torch.autograd.grad(out.sum(), q)[0], expected)
