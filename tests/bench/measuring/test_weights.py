import pytest
import torch
from torch import Tensor

from attentions import Attention, AttentionLayer, Capabilities, Geometry, build_attention
from bench.measuring.weights import NoWeights, weights

HEADS = Geometry(num_heads=2, head_dim=8, seq_len=9)


def inputs(dtype=torch.float64):
    stream = torch.Generator().manual_seed(1)
    q, k = torch.randn(2, 1, 2, 9, 8, generator=stream, dtype=dtype)
    return q, k


def core(name, geometry=HEADS, **settings):
    built = build_attention(name, geometry, **settings)
    assert not isinstance(built, AttentionLayer)
    return built.double().eval()


def test_softmax_has_the_weights_of_its_formula():
    q, k = inputs()
    expected = (q @ k.mT / 8**0.5).softmax(dim=-1)
    assert torch.allclose(weights(core("softmax"), q, k), expected)


@pytest.mark.parametrize(
    "name", ["linear", "flatten", "nala", "performer", "hedgehog", "nystromformer", "uniform"]
)
def test_weights_times_values_are_the_output(name):
    q, k = inputs()
    v = torch.randn(1, 2, 9, 8, dtype=torch.float64)
    mechanism = core(name)
    assert torch.allclose(weights(mechanism, q, k) @ v, mechanism(q, k, v), atol=1e-9)
    assert mechanism.geometry == HEADS


@pytest.mark.parametrize("name", ["linear", "deltanet", "retnet"])
def test_causal_weights_are_zero_above_the_diagonal(name):
    q, k = inputs()
    causal = Geometry(num_heads=2, head_dim=8, seq_len=9, causal=True)
    assert weights(core(name, causal), q, k).triu(1).abs().max() < 1e-12


def test_the_two_halves_of_polaformer_count_as_heads():
    q, k = inputs()
    mechanism = core("polaformer")
    found = weights(mechanism, q, k)
    v = torch.randn(1, 2, 9, 8, dtype=torch.float64)
    assert found.shape == (1, 4, 9, 9)
    like, unlike = found[:, :2], found[:, 2:]
    expected = torch.cat([like @ v[..., :4], unlike @ v[..., 4:]], dim=-1)
    assert torch.allclose(mechanism(q, k, v), expected)


class Squares(Attention):
    """Not linear in v."""

    name, title, source = "squares", "", ""
    capabilities = Capabilities()

    def forward(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        return v.square()

    def flops(self, shape: object) -> int:
        return 0


class HardlySquares(Squares):
    def forward(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        return v + 1e-6 * v.square()


@pytest.mark.parametrize("kind", [Squares, HardlySquares])
def test_a_mechanism_that_is_not_linear_in_v_is_named(kind):
    with pytest.raises(NoWeights, match=r"squares has no weights to look at: .* not linear in v"):
        weights(kind(HEADS), *inputs())
