"""cosFormer's features for the engine: relu(x) times the cosine and sine of a token's angle."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from ._engine_maps import FeatureMap, Parts, Pull, where_above


@dataclass(frozen=True, eq=False)
class PlacedRectified(FeatureMap):
    """[relu(x) cos; relu(x) sin].

    Attributes:
        cos: of each token's angle, (N, 1).
        sin: of the same.
    """

    keeps = True
    is_quiet = False

    cos: Tensor
    sin: Tensor

    def features(self, x: Tensor, tokens: slice, *weights: Tensor) -> Parts:
        """Two parts, each as wide as x."""
        above = x.clamp(min=0.0)
        return above * self.cos[tokens], above.mul_(self.sin[tokens])

    def linearised(self, x: Tensor, tokens: slice, *weights: Tensor) -> tuple[Parts, Pull]:
        """See `linearised_from`."""
        return self.linearised_from(x, self.features(x, tokens), tokens)

    def linearised_from(
        self, x: Tensor, kept: Parts, tokens: slice, *weights: Tensor
    ) -> tuple[Parts, Pull]:
        """Through the entries above zero."""
        cos, sin = self.cos[tokens], self.sin[tokens]

        def pull(grads: Parts) -> tuple[Tensor, ...]:
            return (where_above(x, (grads[0] * cos).addcmul_(grads[1], sin)),)

        return kept, pull
