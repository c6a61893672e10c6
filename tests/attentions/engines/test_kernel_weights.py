"""A core with learned weights and places: its features, its state, and what has no causal form."""

import pytest
import torch

from attentions import Capabilities, Geometry, KernelCore
from tests.attentions.calls import in_steps
from tests.attentions.engines.drawn import D, E, H, gradients, tensors

pytestmark = pytest.mark.usefixtures("small_tiles")


class Placed(KernelCore):
    """With a weight, places, two parts, and one part given as a plain tensor."""

    name = "placed"
    capabilities = Capabilities(causal=True, cross=True, recurrent=True)
    eps = 1e-3

    def __init__(self, geometry):
        super().__init__(geometry)
        self.feature_dim = 2 * geometry.head_dim
        self.scale = torch.nn.Parameter(torch.rand(geometry.num_heads, 1, geometry.head_dim))

    def weights(self, dtype):
        return (self.scale.to(dtype),)

    def places(self, start, stop, dtype, device):
        return (torch.arange(start + 1, stop + 1, dtype=dtype, device=device)[:, None] / stop,)

    def phi_q(self, q, scale, place):
        above = (q * scale).relu()
        return above * place, above.square()

    def flops(self, shape):
        return 0


def placed(causal=False, length=100):
    geometry = Geometry(num_heads=H, head_dim=D, seq_len=length, value_dim=E, causal=causal)
    return Placed(geometry).double()


@pytest.mark.parametrize("is_causal", [False, True])
def test_weights_and_places_reach_features_and_gradients_reach_weights(is_causal, plainly):
    core, inputs = placed(is_causal), tensors(100, 100, 100)
    outs = core(*inputs), plainly(core, *inputs)
    cotangent = torch.randn_like(outs[0])
    for got, want in zip(*(gradients(o, core, inputs, cotangent) for o in outs), strict=True):
        torch.testing.assert_close(got, want)


def test_a_state_knows_the_places_of_the_tokens_after_it():
    class Fixed(Placed):
        def places(self, start, stop, dtype, device):
            return (torch.arange(start + 1, stop + 1, dtype=dtype, device=device)[:, None],)

    core, inputs = Fixed(placed(True).geometry).double(), tensors(100, 100, 100)
    out, state = in_steps(core, inputs, (1, 70, 29))
    torch.testing.assert_close(out, core(*inputs))
    assert state.position == 100


def refused(core):
    """Tiles would leave what it learns without a gradient; without gradients nothing is left."""
    with torch.no_grad():
        core.double()(*tensors(3, 3, 3))
    with pytest.raises(TypeError, match="learned tensors that its method weights does not return"):
        core(*tensors(100, 100, 100))


def test_a_learned_tensor_beside_those_of_weights_is_refused():
    class Forgetful(Placed):
        def phi_q(self, q, scale, place):
            return super().phi_q(q, self.scale, place)

    refused(Forgetful(placed().geometry))

    class Silent(Placed):
        def weights(self, dtype):
            return ()

        def phi_q(self, q, place):
            return super().phi_q(q, self.scale, place)

    refused(Silent(placed().geometry))


def test_transforms_of_what_weights_return_follow_it():
    """Also in the first call of a core, whose features are looked at then."""
    core, inputs = placed(), [x.detach() for x in tensors(100, 100, 100)]
    several = torch.stack((core.scale.detach(), 2 * core.scale.detach()))

    def total(scale):
        return torch.func.functional_call(core, {"scale": scale}, tuple(inputs)).square().sum()

    found = torch.func.vmap(torch.func.grad(total))(several)
    for got, scale in zip(found, several, strict=True):
        leaf = scale.clone().requires_grad_()
        torch.testing.assert_close(got, torch.autograd.grad(total(leaf), leaf)[0])


@pytest.mark.parametrize("is_causal", [False, True])
def test_where_nothing_divides_nothing_does_by_tiles_by_the_formula_and_in_steps(
    is_causal, plainly
):
    core = placed(is_causal)
    core.divides = False
    inputs = tensors(100, 100, 100)
    phi_q, phi_k = core.query_features(inputs[0]), core.key_features(inputs[1])
    weights = phi_q @ phi_k.mT
    expected = (weights.tril() if is_causal else weights) @ inputs[2]
    torch.testing.assert_close(core(*inputs), expected)
    torch.testing.assert_close(plainly(core, *inputs), expected)
    mask = torch.ones(2, 100, dtype=torch.bool)
    torch.testing.assert_close(core.forward(*inputs, key_mask=mask), expected)


@pytest.mark.parametrize("is_causal", [False, True])
def test_what_divides_is_the_sum_of_weights_and_eps_but_no_less_than_the_least(is_causal, plainly):
    core, inputs = placed(is_causal), tensors(100, 100, 100)
    weights = core.query_features(inputs[0]) @ core.key_features(inputs[1]).mT
    weights = weights.tril() if is_causal else weights
    core.eps = 3.0
    totals = weights.sum(-1, keepdim=True) + core.eps
    core.least = float(totals.median())
    expected = weights @ inputs[2] / totals.clamp(min=core.least)
    torch.testing.assert_close(core(*inputs), expected)
    torch.testing.assert_close(plainly(core, *inputs), expected)


def test_nothing_stands_in_for_a_sum_of_weights_that_is_zero(plainly):
    class Bare(Placed):
        eps = 0.0

    core, (q, k, v) = Bare(placed(True).geometry).double(), tensors(100, 100, 100)
    q = torch.cat((-q[:, :, :9].abs(), q[:, :, 9:]), dim=2)  # features of the first are all zero
    state = core.init_state(2, dtype=torch.double, device=torch.device("cpu"))
    with torch.no_grad():
        for out in (core(q, k, v), plainly(core, q, k, v), core.step(q, k, v, state)[0]):
            assert out[:, :, :9].isnan().all()
