"""Efficient attention: queries are normalised over features, keys over tokens."""

from __future__ import annotations

import torch
from torch import Tensor

from ..capabilities import Capabilities
from ..engines.kernel import KernelCore, Parts
from ..registry import register_attention


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
class Efficient(KernelCore):
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

    divides = False
    floor = 0.0

    def phi_q(self, q: Tensor) -> Tensor:
        """Shares over channels."""
        return q.softmax(dim=-1)

    def phi_k(self, k: Tensor) -> tuple[Tensor, Tensor]:
        """Exponents, each relative to the largest of its channel."""
        return k, k.detach()

    def combine(self, contexts: Parts, key_sums: Parts) -> tuple[Parts, Parts]:
        """Shares over tokens. The largest exponential is 1 unless nobody is seen."""
        ((context,), (key_sum,)) = contexts, key_sums
        return (context / key_sum.clamp(min=0.5),), key_sums

    def reference(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """The N x M weights written out, from exponentials over their sums."""
        of_channels = (q - q.amax(dim=-1, keepdim=True)).exp()
        of_tokens = (k - k.amax(dim=-2, keepdim=True)).exp()
        of_channels = of_channels / of_channels.sum(dim=-1, keepdim=True)
        of_tokens = of_tokens / of_tokens.sum(dim=-2, keepdim=True)
        return torch.einsum("bhnd,bhmd->bhnm", of_channels, of_tokens) @ v
