import pytest
import torch

from attentions import Geometry, build_attention


def build(backend="auto", causal=False, value_dim=8):
    geometry = Geometry(num_heads=2, head_dim=8, seq_len=16, value_dim=value_dim, causal=causal)
    return build_attention("softmax", geometry, backend=backend)


@pytest.mark.parametrize("backend", ["auto", "math", "flash"])
@pytest.mark.parametrize("causal", [False, True])
def test_backends_of_a_processor_agree(backend, causal, qkv):
    q, k, v = qkv(2, 2, 16, 8)
    core = build(backend, causal)
    torch.testing.assert_close(core(q, k, v), core.reference(q, k, v))
    key_mask = torch.rand(2, 16) < 0.7
    key_mask[1] = False
    masked = core(q, k, v, key_mask=key_mask)
    torch.testing.assert_close(masked, build("auto", causal)(q, k, v, key_mask=key_mask))


@pytest.mark.parametrize("backend", ["efficient", "cudnn"])
def test_a_kernel_that_a_processor_does_not_have_is_told(backend):
    q = torch.zeros(1, 2, 16, 8)
    with pytest.raises(
        ValueError, match=f"backend is '{backend}', .* no kernel for float32 on cpu"
    ):
        build(backend)(q, q, q)


def test_a_kernel_that_cannot_take_the_shape_says_which():
    q, v = torch.zeros(1, 2, 16, 8), torch.zeros(1, 2, 16, 6)
    with pytest.raises(ValueError, match=r"'flash', .* head_dim 8 and value_dim 6"):
        build("flash", value_dim=6)(q, q, v)
