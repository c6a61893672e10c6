"""Performer's random features for the engine.

F^(-1/2) is left out: it divides numerator and denominator alike. Exponentials are taken to the base
b of `_engine_functions`, with log_b(e) in the projection.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from ._engine_functions import log_base, power_
from ._engine_maps import FeatureMap, Parts, PeakedMap, Pull, where_above
from ._engine_products import in_whole_blocks, read, spread


@dataclass(frozen=True, eq=False)
class RandomProjection:
    """c W x of all heads with c = D^(-1/4), and what leads back from it.

    Attributes:
        rows: c W, perhaps times a unit, and perhaps some rows of it twice, (F or more, D).
        num_features: F.
    """

    rows: Tensor
    num_features: int

    @classmethod
    def of(cls, projection: Tensor, dtype: torch.dtype, unit: float = 1.0) -> RandomProjection:
        """From W, (F, D), for inputs of this dtype."""
        scale = unit * projection.shape[-1] ** -0.25
        rows = (projection.detach().double() * scale).to(dtype)
        return cls(in_whole_blocks(rows), len(rows))

    def __call__(self, x: Tensor) -> Tensor:
        """(heads, n, D) -> (heads, n, F or more): those beyond F are for `without_copies`."""
        return read([x.reshape(1, -1, x.shape[-1])], [self.rows[None]]).view(*x.shape[:2], -1)

    def without_copies(self, x: Tensor) -> Tensor:
        """(..., F or more) -> (..., F)."""
        return x[..., : self.num_features]

    def back(self, grad: Tensor) -> Tensor:
        """(heads, n, F) -> (heads, n, D)."""
        rows = grad.reshape(1, -1, grad.shape[-1])
        return spread(rows, self.rows[None, : self.num_features]).view(*grad.shape[:2], -1)


@dataclass(frozen=True)
class _Exponentials:
    """b^(W' x - ||x||^2 c^2 log_b(e) / 2 - peak), with W' = log_b(e) c W."""

    project: RandomProjection

    @classmethod
    def of(cls, projection: Tensor, dtype: torch.dtype) -> _Exponentials:
        return cls(RandomProjection.of(projection, dtype, unit=log_base(math.e)))

    def below(self, peak: Tensor, x: Tensor, logits: Tensor) -> Tensor:
        """From ``logits``, W' x, which are written over; the peak is in their units.

        Returns:
            (heads, n, F).
        """
        scale = log_base(math.e) / (2 * math.sqrt(x.shape[-1]))
        norm = torch.linalg.vector_norm(x, dim=-1, keepdim=True)
        features = power_(logits.sub_(torch.addcmul(peak, norm, norm, value=scale)))
        return self.project.without_copies(features)

    def pull(self, x: Tensor, base: Tensor, grad: Tensor) -> Tensor:
        """The gradient of x for that of base, which is written over; none through the peak."""
        d_logits = grad.mul_(base)
        along = d_logits.sum(dim=-1, keepdim=True).mul_(x.shape[-1] ** -0.5)
        return self.project.back(d_logits).div_(log_base(math.e)).sub_(x * along)


@dataclass(frozen=True)
class PositiveQueries(FeatureMap):
    """exp(c W q - c^2 ||q||^2 / 2 - max) + floor, the maximum over the features of a query."""

    exponentials: _Exponentials
    floor: float
    keeps = True
    is_quiet = False
    copies_alive = 4

    @classmethod
    def of(cls, projection: Tensor, dtype: torch.dtype, eps: float) -> PositiveQueries:
        """For queries of this dtype."""
        return cls(_Exponentials.of(projection, dtype), eps)

    def features(self, x: Tensor, tokens: slice, *weights: Tensor) -> Parts:
        """One part of F features."""
        logits = self.exponentials.project(x)
        return (self.exponentials.below(logits.amax(dim=-1, keepdim=True), x, logits),)

    def linearised(self, x: Tensor, tokens: slice, *weights: Tensor) -> tuple[Parts, Pull]:
        """See `linearised_from`."""
        return self.linearised_from(x, self.features(x, tokens), tokens)

    def linearised_from(
        self, x: Tensor, kept: Parts, tokens: slice, *weights: Tensor
    ) -> tuple[Parts, Pull]:
        """The derivative of an exponential is itself."""
        return kept, lambda grads: (self.exponentials.pull(x, kept[0], grads[0]),)


@dataclass(frozen=True)
class PositiveKeys(PeakedMap):
    """exp(c W k - c^2 ||k||^2 / 2 - max) + floor, the maximum over features and keys of a head."""

    exponentials: _Exponentials
    floor: float
    keeps = True
    is_quiet = False

    @classmethod
    def of(cls, projection: Tensor, dtype: torch.dtype, eps: float) -> PositiveKeys:
        """For keys of this dtype."""
        return cls(_Exponentials.of(projection, dtype), eps)

    def rising(
        self, x: Tensor, tokens: slice, peak: Tensor, *weights: Tensor
    ) -> tuple[Tensor, Tensor]:
        """The peak is (heads, 1, 1)."""
        logits = self.exponentials.project(x)
        own = logits.amax(dim=(1, 2), keepdim=True).div_(log_base(math.e))
        risen = torch.maximum(peak, own)
        return self._base(x, logits, risen), risen

    def features(self, x: Tensor, tokens: slice, *weights: Tensor) -> Parts:
        """One part of F features, below the final peak."""
        return (self._base(x, self.exponentials.project(x), weights[-1]),)

    def linearised(self, x: Tensor, tokens: slice, *weights: Tensor) -> tuple[Parts, Pull]:
        """See `linearised_from`."""
        return self.linearised_from(x, self.features(x, tokens, *weights), tokens)

    def linearised_from(
        self, x: Tensor, kept: Parts, tokens: slice, *weights: Tensor
    ) -> tuple[Parts, Pull]:
        """As for the queries."""
        return kept, lambda grads: (self.exponentials.pull(x, kept[0], grads[0]),)

    def _base(self, x: Tensor, logits: Tensor, peak: Tensor) -> Tensor:
        return self.exponentials.below(peak * log_base(math.e), x, logits)


@dataclass(frozen=True)
class RectifiedFeatures(FeatureMap):
    """relu(c W x) + eps."""

    project: RandomProjection
    eps: float
    is_quiet = False
    copies_alive = 4

    def features(self, x: Tensor, tokens: slice, *weights: Tensor) -> Parts:
        """One part of F features."""
        return (self.project.without_copies(self.project(x).relu_().add_(self.eps)),)

    def linearised(self, x: Tensor, tokens: slice, *weights: Tensor) -> tuple[Parts, Pull]:
        """Through the features above zero."""
        above = self.project.without_copies(self.project(x)).relu_()

        def pull(grads: Parts) -> tuple[Tensor, ...]:
            return (self.project.back(where_above(above, grads[0])),)

        return (above + self.eps,), pull
