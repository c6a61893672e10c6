"""The engine for a mechanism whose feature maps are formulas: autograd finds their derivatives.

What autograd keeps of a formula is found anew in the backward pass, and that costs about what it
saves where features lie in a cache anyway. So short sequences are left to the plain form.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor

from ._engine import applies
from ._engine_causal import causal_flops
from ._engine_maps import FeatureMap, Parts
from .base import CallShape
from .maths.kernel_attention import chunked_kernel_flops, kernel_flops

_PAYS_ABOVE = 2**20
"""Features of all tokens and heads: 4 MiB, which is more than a near cache holds."""


@dataclass(frozen=True, eq=False)
class ByFormula(FeatureMap):
    """A formula as the plain form has it.

    Attributes:
        formula: (heads, n, D) and the weights -> (heads, n, F), a fresh tensor. Without
            exponentials but of differences to the largest.
    """

    is_quiet = False

    formula: Callable[..., Tensor]

    def features(self, x: Tensor, tokens: slice, *weights: Tensor) -> Parts:
        """One part."""
        return (self.formula(x, *weights),)


def long_by_tiles(
    num_features: int, key_mask: Tensor | None, q: Tensor, k: Tensor, v: Tensor, *weights: Tensor
) -> bool:
    """Whether the engine runs."""
    if key_mask is not None or not applies(q, k, v, *weights):
        return False
    batch_size, num_heads, length, _ = q.shape
    return _pays(batch_size * num_heads * max(length, k.shape[2]), num_features)


def _pays(num_tokens: int, num_features: int) -> bool:
    return num_tokens * num_features > _PAYS_ABOVE


def _of_call(shape: CallShape, num_features: int) -> bool:
    return _pays(max(shape.num_tokens, shape.num_keys), num_features)


def formula_flops(
    shape: CallShape,
    num_features: int,
    plain: Callable[[CallShape, int], int] = chunked_kernel_flops,
) -> int:
    """What the forward pass executes beside the formulas.

    Args:
        shape: of the call.
        num_features: F.
        plain: what the plain causal form executes, which writes out the pairs within its chunks,
            as the engine's does.
    """
    if not shape.causal:
        return kernel_flops(shape, num_features)
    return (causal_flops if _of_call(shape, num_features) else plain)(shape, num_features)
