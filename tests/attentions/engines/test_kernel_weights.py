"""A core with learned weights and places: its features, its state, and what has no causal form."""

from functools import partial

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


@pytest.mark.parametrize("method", ["places", "combine"])
def test_learned_places_and_sums_are_refused(method):
    class Learned(Placed):
        def __init__(self, geometry):
            super().__init__(geometry)
            self.gain = torch.nn.Parameter(torch.ones(()))

        def places(self, *args):
            (place,) = super().places(*args)
            return (place * self.gain if method == "places" else place,)

        def combine(self, contexts, key_sums):
            gain = self.gain if method == "combine" else 1
            return tuple(x * gain for x in contexts), key_sums

    core = Learned(placed().geometry)
    refused(core)
    core.gain.requires_grad_(False)
    core(*tensors(100, 100, 100))
    core.scale.requires_grad_(False)
    core.gain.requires_grad_()  # as many learn as before
    refused(core)


@pytest.mark.parametrize("sizes", [(), (D,), (1, 1, D), (2 * H, 1, D)])
def test_weights_are_of_heads(sizes):
    """Tiles take some of the heads: other axes would be cut in their place, at some lengths."""

    class Other(Placed):
        def weights(self, dtype):
            return (torch.ones(sizes, dtype=dtype),)

    core, inputs = Other(placed(causal=True).geometry), tensors(3, 3, 3)
    state = core.init_state(2, dtype=torch.double, device=torch.device("cpu"))
    for call in (lambda: core(*inputs), lambda: core.step(*inputs, state)):
        with pytest.raises(
            TypeError, match=r"weights returns .* shape \(.*\); \(2, ...\) is needed"
        ):
            call()


def test_what_is_learned_beside_the_engine_needs_no_weights():
    class Gained(Placed):
        def __init__(self, geometry):
            super().__init__(geometry)
            self.gain = torch.nn.Parameter(torch.rand(()))
            self.scale.requires_grad_(False)

        def forward(self, q, k, v):
            return self.gain * super().forward(q, k, v)

    core, inputs = Gained(placed().geometry).double(), tensors(100, 100, 100)
    out = core(*inputs)
    (found,) = torch.autograd.grad(out.sum(), core.gain)
    torch.testing.assert_close(found, out.sum() / core.gain)


def test_a_learned_module_in_a_feature_map_is_refused():
    class Mapped(Placed):
        def __init__(self, geometry):
            super().__init__(geometry)
            del self.scale
            self.map = torch.nn.Linear(geometry.head_dim, geometry.head_dim)

        def weights(self, dtype):
            return ()

        def phi_q(self, q, place):
            return super().phi_q(q, self.map(q).exp(), place)

    core = Mapped(placed().geometry)
    refused(core)
    weights = {name: x.detach() for name, x in core.named_parameters()}
    call = partial(torch.func.functional_call, core, args=tuple(tensors(100, 100, 100)))
    call(weights)  # which does not learn
    several = {name: torch.stack((x, x)) for name, x in weights.items()}
    for transformed in (
        lambda: torch.func.jvp(call, (weights,), (weights,)),
        lambda: torch.func.vmap(call)(several),
    ):
        with pytest.raises(TypeError, match="tensors that its method weights does not return"):
            transformed()


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


@pytest.mark.parametrize("attribute", ["eps_on_mean", "joint_heads", "floor"])
def test_what_has_no_causal_form_is_refused(attribute):
    core = placed(causal=True)
    setattr(core, attribute, 1.0)
    with pytest.raises(TypeError, match=f"{attribute} has no causal form"):
        core(*tensors(100, 100, 100))


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


class Affine(KernelCore):
    """1 + phi(q) . phi(k): parts of different widths, one of which is constant."""

    name = "affine"
    capabilities = Capabilities(causal=True)
    has_more = True

    def phi_q(self, q):
        ones = torch.ones_like(q[..., :1])
        return (ones, q.exp()) if self.has_more else ones

    def flops(self, shape):
        return 0


@pytest.mark.parametrize("has_more", [False, True])
@pytest.mark.parametrize("is_causal", [False, True])
def test_parts_may_be_of_different_widths_and_constant(is_causal, has_more, plainly):
    core, inputs = Affine(placed(is_causal).geometry), tensors(100, 100, 100)
    core.has_more, core.feature_dim = has_more, 1 + D * has_more
    cotangent = torch.randn(2, H, 100, E)
    outs = core(*inputs), plainly(core, *inputs)
    ours, theirs = (gradients(out, core, inputs, cotangent.double()) for out in outs)
    zeros = [torch.zeros_like(x) for x in inputs]
    theirs = [zero if x is None else x for x, zero in zip(theirs, zeros, strict=True)]
    for got, want in zip(ours, theirs, strict=True):
        torch.testing.assert_close(got, want)


def test_features_that_are_not_feature_dim_are_refused():
    class Doubled(Placed):
        def phi_q(self, q, scale, place):
            return torch.cat(super().phi_q(q, scale, place) * 2, dim=-1)

    said = f"phi_k returns {4 * D} features, and feature_dim is {2 * D}; set it in the constructor"
    for is_causal in (False, True):
        core, inputs = Doubled(placed(is_causal).geometry).double(), tensors(100, 100, 100)
        with pytest.raises(TypeError, match=said):
            core(*inputs)
    state = core.init_state(2, dtype=torch.double, device=torch.device("cpu"))
    with torch.no_grad(), pytest.raises(TypeError, match=said):
        core.step(*inputs, state)


def test_nothing_stands_in_for_a_sum_of_weights_that_is_zero(plainly):
    class Bare(Placed):
        eps = 0.0

    core, (q, k, v) = Bare(placed(True).geometry).double(), tensors(100, 100, 100)
    q = torch.cat((-q[:, :, :9].abs(), q[:, :, 9:]), dim=2)  # features of the first are all zero
    state = core.init_state(2, dtype=torch.double, device=torch.device("cpu"))
    with torch.no_grad():
        for out in (core(q, k, v), plainly(core, q, k, v), core.step(q, k, v, state)[0]):
            assert out[:, :, :9].isnan().all()
