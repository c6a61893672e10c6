"""elu + 1 for the engine."""

from __future__ import annotations

import torch
from torch import Tensor

from ._engine_functions import exp_
from ._engine_maps import FeatureMap, Parts, Pull


class EluPlusOne(FeatureMap):
    """The larger of x + 1 and e^x, the latter for x below 0 only."""

    keeps = True
    is_quiet = False

    def features(self, x: Tensor, tokens: slice, *weights: Tensor) -> Parts:
        """One part, as wide as x."""
        below = exp_(x.clamp(max=0.0))
        return (torch.maximum(x + 1, below, out=below),)

    def linearised(self, x: Tensor, tokens: slice, *weights: Tensor) -> tuple[Parts, Pull]:
        """The derivative is e^x below 0 and 1 above."""
        below = exp_(x.clamp(max=0.0))
        phi = x + 1

        def pull(grads: Parts) -> tuple[Tensor, ...]:
            return (below.mul_(grads[0]),)

        return (torch.maximum(phi, below, out=phi),), pull

    def linearised_from(
        self, x: Tensor, kept: Parts, tokens: slice, *weights: Tensor
    ) -> tuple[Parts, Pull]:
        """The derivative is the smaller of phi and 1."""
        (phi,) = kept

        def pull(grads: Parts) -> tuple[Tensor, ...]:
            return (phi.clamp(max=1.0).mul_(grads[0]),)

        return kept, pull
