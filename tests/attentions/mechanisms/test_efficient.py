import pytest
import torch

from attentions import Geometry, build_attention


def geometry(**changes):
    sizes = {"num_heads": 2, "head_dim": 4, "seq_len": 6, "value_dim": 3} | changes
    return Geometry(**sizes)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_tensors_of_one_tile_are_mixed_in_float32(qkv, dtype):
    inputs = [x.to(dtype).requires_grad_() for x in qkv(1, 2, 6, 4, value_dim=3)]
    out = build_attention("efficient", geometry())(*inputs)
    wide = [x.detach().double().requires_grad_() for x in inputs]
    expected = build_attention("efficient", geometry()).reference(*wide)
    rounding = {"rtol": 2 * torch.finfo(dtype).eps, "atol": torch.finfo(dtype).eps}
    torch.testing.assert_close(out.double(), expected, **rounding)
    found = torch.autograd.grad(out.float().sum(), inputs)
    exact = torch.autograd.grad(expected.sum(), wide)
    torch.testing.assert_close([g.double() for g in found], list(exact), **rounding)
    assert out.dtype == dtype


def test_a_layer_adds_its_input_unless_told_otherwise():
    layer, bare = (
        build_attention("efficient_layer", geometry(value_dim=4), residual=flag).double()
        for flag in (True, False)
    )
    bare.load_state_dict(layer.state_dict())
    x = torch.randn(2, 6, 8, dtype=torch.float64)
    torch.testing.assert_close(layer(x), bare(x) + x)
