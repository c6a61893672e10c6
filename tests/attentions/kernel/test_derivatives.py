"""Derivatives by hand: which there are, and that they are those of their feature maps."""

import pytest
import torch

from attentions import Geometry, build_attention
from attentions.kernel.derivatives import DERIVATIVES, as_parts, derivative_of

BY_HAND = {
    "linear": {"phi_q"},
    "nala": {"phi_q", "phi_k"},
    "nala_cosine": {"phi_q", "phi_k"},
    "flatten": {"phi_q"},
    "polaformer": {"phi_q"},
}
"""Mechanism -> the maps of its own; one that slipped to autograd would cost a fifth of the time."""
SETTINGS = {
    "flatten": [{}, {"norm_over": "head", "focusing_factor": 4.5}],
    "nala": [{}, {"lam": 1.0, "tau": 1.0, "key_power": 1.0}],
}
CASES = [
    (name, settings, phi)
    for name, maps in BY_HAND.items()
    for settings in SETTINGS.get(name, [{}])
    for phi in sorted(maps)
]


def build(name, **settings):
    core = build_attention(name, Geometry(num_heads=2, head_dim=8, seq_len=5), **settings).double()
    with torch.no_grad():
        for parameter in core.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))
    return core


def test_these_maps_have_a_derivative_by_hand():
    found = set()
    for name, maps in BY_HAND.items():
        for phi in maps:
            function = getattr(type(build(name)), phi)
            found.add(f"{function.__module__}.{function.__qualname__}")
            assert derivative_of(getattr(build(name), phi)) is not None, (name, phi)
    assert found == set(DERIVATIVES)


@pytest.mark.parametrize(("name", "settings", "phi"), CASES)
@pytest.mark.parametrize("size", [1e-3, 1.0, 30.0])
def test_it_is_the_derivative_of_its_feature_map(name, settings, phi, size):
    core = build(name, **settings)
    feature_map = getattr(core, phi)
    x = (size * torch.randn(2, 2, 5, 8, dtype=torch.float64)).requires_grad_()
    weights = core.weights(x.dtype)
    parts = as_parts(feature_map(x, *weights))
    found, pull = derivative_of(feature_map)(x.detach(), *(w.detach() for w in weights))
    cotangents = [torch.randn_like(part) for part in parts]
    expected = torch.autograd.grad(parts, (x, *weights), cotangents)
    torch.testing.assert_close(found, parts)
    scales = [float(gradient.abs().max()) for gradient in expected]
    for got, want, scale in zip(
        pull(*(c.clone() for c in cotangents)), expected, scales, strict=True
    ):
        torch.testing.assert_close(got, want, rtol=1e-7, atol=1e-9 * scale)


@pytest.mark.parametrize("name", BY_HAND)
def test_a_map_that_overrides_one_is_differentiated_by_autograd(name):
    kind = type(build(name))

    class Other(kind):
        def phi_q(self, q, *weights):
            return tuple(2 * part for part in as_parts(super().phi_q(q, *weights)))

    core = Other(Geometry(num_heads=2, head_dim=8, seq_len=5)).double()
    assert derivative_of(core.phi_q) is None
    q, k, v = torch.randn(3, 2, 2, 5, 8, dtype=torch.float64).requires_grad_()
    torch.autograd.gradcheck(core, (q, k, v), fast_mode=True)
