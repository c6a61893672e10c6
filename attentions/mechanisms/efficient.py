"""Efficient attention: queries are normalised over features, keys over tokens."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from .. import kernel
from ..base import Attention, CallShape
from ..capabilities import Capabilities
from ..maths.feature_maps import LOG2_E
from ..registry import register_attention


def _exponents(k: Tensor) -> tuple[Tensor, Tensor]:
    """To the base 2, each relative to the largest of its channel."""
    exponents = k * LOG2_E
    return exponents, exponents.detach()


def _exponents_by_hand(
    k: Tensor,
) -> tuple[tuple[Tensor, Tensor], Callable[[Tensor], Tensor]]:
    return _exponents(k), lambda d_exponents: d_exponents.mul_(LOG2_E)


def _softmax_by_hand(q: Tensor) -> tuple[Tensor, Callable[[Tensor], Tensor]]:
    shares = q.softmax(dim=-1)

    def pull(d_shares: Tensor) -> Tensor:
        mean = (d_shares * shares).sum(dim=-1, keepdim=True)
        return d_shares.sub_(mean).mul_(shares)

    return shares, pull


def _shares(contexts: kernel.Parts, key_sums: kernel.Parts) -> tuple[kernel.Parts, kernel.Parts]:
    """Contexts of softmax(k) over tokens. The largest exponential is 1 unless nobody is seen."""
    ((context,), (key_sum,)) = contexts, key_sums
    return (context / key_sum.clamp(min=0.5),), key_sums


_QUERIES = kernel.FeatureMap(lambda q: q.softmax(dim=-1), by_hand=_softmax_by_hand)
_KEYS = kernel.FeatureMap(_exponents, by_hand=_exponents_by_hand, floor=0.0)


@register_attention(
    "efficient",
    title="Efficient Attention",
    source="Shen et al., 2021, arXiv:1812.01243",
    family="kernel",
    capabilities=Capabilities(
        cross=True,
        masks=frozenset({"padding"}),
        exports=frozenset({"bidirectional"}),
    ),
)
class Efficient(Attention):
    """softmax(q over channels) (softmax(k over tokens)^T v): the softmax form of the paper's two.

    The weights of a query sum to 1 by themselves, so nothing divides and nothing can vanish. There
    is no 1 / sqrt(D) in paper or code. The softmax over tokens sees the whole sequence, so there
    is no causal form. The paper's other normalisation, dividing q and k by sqrt(N), is
    `linear_unnormalised` up to a factor.

    Performer's third-party code gives the same with ``no_projection=True``. A query whose keys are
    all hidden gets zeros.

    Hazards:
        - Keys are normalised over all tokens: one very large entry takes a channel for itself, and
          adding a token changes all weights.

    Differences:
        - The paper has two normalisations; the authors' code and ours have the softmax, the other
          is `linear_unnormalised` up to a factor.
        - There is no 1/sqrt(D) in paper or code, so the softmaxes sharpen as D grows.

    Args:
        geometry: the shape to build for.
    """

    def forward(self, q: Tensor, k: Tensor, v: Tensor, *, key_mask: Tensor | None = None) -> Tensor:
        """(B, H, N, D), (B, H, M, D), (B, H, M, E) -> (B, H, N, E)."""
        return kernel.attend(
            q, k, v, queries=_QUERIES, keys=_KEYS, eps=None, gather=_shares, key_mask=key_mask
        )

    def reference(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """The N x M weights written out, from exponentials over their sums."""
        of_channels = (q - q.amax(dim=-1, keepdim=True)).exp()
        of_tokens = (k - k.amax(dim=-2, keepdim=True)).exp()
        of_channels = of_channels / of_channels.sum(dim=-1, keepdim=True)
        of_tokens = of_tokens / of_tokens.sum(dim=-2, keepdim=True)
        return torch.einsum("bhnd,bhmd->bhnm", of_channels, of_tokens) @ v

    def flops(self, shape: CallShape) -> int:
        """Keys meet values, and queries read; there is no normaliser."""
        return 2 * shape.head_dim * shape.value_dim * (shape.num_keys + shape.num_tokens)
