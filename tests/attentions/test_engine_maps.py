"""The engine's feature maps, each against finite differences of itself and against float64."""

import pytest
import torch

from attentions._engine_cosformer import PlacedRectified
from attentions._engine_efficient import ChannelShares, TokenExponentials
from attentions._engine_elu import EluPlusOne
from attentions._engine_flatten import Focused
from attentions._engine_nala import NormAwareQueries, SignedPowers
from attentions._engine_nala_cosine import InhibitedKeys, InhibitedQueries
from attentions._engine_performer import (
    PositiveKeys,
    PositiveQueries,
    RandomProjection,
    RectifiedFeatures,
)
from attentions._engine_polaformer import LearnedPowers

D = 8


def powers():
    power = 1 + 4 * torch.rand(3, 1, D, dtype=torch.float64)
    return power, power * 0.3


def angles(length):
    turn = torch.linspace(0.1, 1.5, length, dtype=torch.float64)[:, None]
    return PlacedRectified(turn.cos(), turn.sin())


W = torch.randn(20, D, dtype=torch.float64)
PEAK = torch.full((3, 1, 1), 1.5, dtype=torch.float64)


def maps():
    """Made where they are used: some know the base of the engine's powers."""
    return {
        "elu": (EluPlusOne(), ()),
        "norm-aware": (NormAwareQueries(3.0, 0.5), ()),
        "norm-aware, least power 1": (NormAwareQueries(2.0, 0.5), ()),
        "cubes": (SignedPowers(3.0), ()),
        "signed powers": (SignedPowers(2.5), ()),
        "inhibited queries": (InhibitedQueries(3.0, 0.5, 20.0), ()),
        "inhibited keys": (InhibitedKeys(3.0, 2.0), ()),
        "focused": (Focused(3, 3, 1e-6), (torch.rand(3, 1, D, dtype=torch.float64) + 0.5,)),
        "focused, by head": (
            Focused(2.5, 1, 1e-6),
            (torch.rand(3, 1, D, dtype=torch.float64) + 0.5,),
        ),
        "positive queries": (PositiveQueries.of(W, torch.float64, 1e-4), ()),
        "positive keys": (PositiveKeys.of(W, torch.float64, 1e-4), (PEAK,)),
        "rectified": (RectifiedFeatures(RandomProjection.of(W, torch.float64), 1e-3), ()),
        "learned powers": (LearnedPowers(), powers()),
        "channel shares": (ChannelShares(), ()),
        "token exponentials": (TokenExponentials(), (PEAK.expand(3, 1, D),)),
        "placed": (angles(9), ()),
    }


@pytest.mark.parametrize("name", maps())
def test_a_maps_derivative_is_that_of_finite_differences(name, functions):
    feature_map, weights = maps()[name]
    num_learned = len(weights) if name not in ("positive keys", "token exponentials") else 0
    x = torch.randn(3, 9, D, dtype=torch.float64)
    tokens = slice(0, 9)
    before = x.clone()
    parts, pull = feature_map.linearised(x, tokens, *weights)
    for got, want in zip(parts, feature_map.features(x, tokens, *weights), strict=True):
        torch.testing.assert_close(got, want)
    cotangents = [torch.randn_like(part) for part in parts]
    found = pull(tuple(c.clone() for c in cotangents))  # which it may write over
    assert torch.equal(x, before)

    def total(*leaves):
        made = feature_map.features(leaves[0], tokens, *leaves[1:], *weights[len(leaves) - 1 :])
        return sum((c * part).sum() for c, part in zip(cotangents, made, strict=True))

    leaves = (x, *weights[:num_learned])
    for index, leaf in enumerate(leaves):
        direction = torch.randn_like(leaf)
        step = 1e-6

        def along(size, index=index, direction=direction):
            moved = [y + size * direction if i == index else y for i, y in enumerate(leaves)]
            return total(*moved)

        numeric = (along(step) - along(-step)) / (2 * step)
        # A maximum passes no gradient, but moves: what it scales is linear in its exponential.
        if name == "positive queries":
            continue
        torch.testing.assert_close((found[index] * direction).sum(), numeric, rtol=1e-5, atol=1e-6)


def test_focused_features_stay_right_where_powers_leave_the_range_of_float32():
    for size in (1e-12, 1e-5, 1.0, 1e6, 1e12):
        x = (size * torch.randn(2, 9, D)).requires_grad_(False)
        narrow, wide = (
            Focused(3, 2, 1e-6).features(y, slice(0, 9), torch.ones(2, 1, D, dtype=y.dtype))[0]
            for y in (x, x.double())
        )
        assert narrow.isfinite().all()
        torch.testing.assert_close(narrow.double(), wide, rtol=1e-4, atol=1e-5 * float(wide.max()))
