import pytest
import torch

from attentions import Geometry, build_attention


def geometry(**changes):
    sizes = {"num_heads": 2, "head_dim": 4, "seq_len": 6, "value_dim": 3} | changes
    return Geometry(**sizes)


@pytest.mark.parametrize("hidden", [0, 2])
def test_gradients_by_hand_are_those_of_the_formula_and_can_be_differentiated(qkv, hidden):
    q, k, v = (x.requires_grad_() for x in qkv(2, 2, 6, 4, key_len=5, value_dim=3))
    key_mask = None
    if hidden:
        key_mask = torch.ones(k.shape[0], k.shape[2], dtype=torch.bool)
        key_mask[:, -hidden:] = False
    core = build_attention("inline", geometry())

    def call(q, k, v):
        return core(q, k, v, key_mask=key_mask)

    assert torch.autograd.gradcheck(call, (q, k, v), fast_mode=True)
    assert torch.autograd.gradgradcheck(call, (q, k, v), fast_mode=True)


def layer_of(seq_len=6, grid=(2, 3), **settings):
    torch.manual_seed(0)
    shape = geometry(seq_len=seq_len, value_dim=4, grid=grid)
    return build_attention("inline_layer", shape, **settings).double()


@pytest.mark.parametrize(("beside", "grid"), [(0, (2, 3)), (1, (3, 3))])
def test_a_layer_gives_what_its_slow_form_gives_with_and_without_a_class_token(beside, grid):
    tokens = grid[0] * grid[1] + beside
    layer = layer_of(tokens, (0, 0) if beside else grid, class_token=beside == 1)
    x = torch.randn(2, tokens, 8, dtype=torch.float64)
    torch.testing.assert_close(layer(x), layer.reference(x))


def test_sums_that_float16_cannot_hold_stop_at_its_largest_number():
    core = build_attention("inline", geometry(num_heads=1, head_dim=64, seq_len=2, value_dim=1))
    q = torch.full((1, 1, 2, 64), 200.0, dtype=torch.float16)
    k, v = q.clone(), torch.full((1, 1, 2, 1), 300.0, dtype=torch.float16)
    k[:, :, 1], v[:, :, 1] = -200.0, -300.0
    out = core(q.requires_grad_(), k, v)
    assert out.isfinite().all() and out.abs().max() == 65504
    out.sum().backward()
    assert q.grad.isfinite().all()
