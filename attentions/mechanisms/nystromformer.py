"""Nystromformer: softmax attention from its rows and columns at a few landmarks."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional

from ..base import Attention, CallShape, Geometry
from ..capabilities import Capabilities
from ..checks import one_of, whole
from ..maths.heads import by_few_heads
from ..precision import in_wide_precision, widen
from ..registry import register_attention

_FEWEST_TOKENS = 2
"""Tokens of a segment. With one token each, landmarks would only be softmax by a detour."""


@register_attention(
    "nystromformer",
    title="Nystromformer",
    source="Xiong et al., 2021, arXiv:2102.03902",
    family="low_rank",
    capabilities=Capabilities(position_free=False),
)
class Nystromformer(Attention):
    """softmax(q k~^T) pinv(softmax(q~ k~^T)) softmax(q~ k^T) v, all scores over sqrt(D).

    The landmarks q~ and k~ are means of segments of consecutive tokens. The pseudo-inverse comes
    by iteration from V = K^T / (largest row sum * largest column sum):

        V <- V / 4 (13 I - K V (15 I - K V (7 I - K V)))

    The largest column sum is each head's own here, as the paper reads; row sums are 1.

    A number of tokens that landmarks do not divide is allowed (the authors' code refuses it): no
    token is made up, but segments have ceil(N / landmarks) tokens, at least 2, the last one has
    what is left, and there may be fewer landmarks than asked for.

    Hazards:
        - The iteration is an approximation: where the scores among landmarks are nearly singular, a
          few steps do not reach the pseudo-inverse, and outputs can leave the range of the values.
        - Landmarks are means of neighbours: a far single token is seen through its segment's mean
          only.

    Differences:
        - The paper starts the iteration from a head's own largest column sum, the authors' code
          from the largest of the whole batch, so that a sample's output depends on the others in
          its batch: ``pinv_init``, the paper's by default.
        - The authors' code refuses a length that landmarks do not divide; here the last segment is
          shorter.

    Args:
        geometry: the shape to build for.
        num_landmarks: the largest number of segments; 64 in the paper's main results.
        pinv_iters: how often V is improved; 6 in the authors' code.
        pinv_init: ``"head"`` or ``"batch"``.
        conv_kernel_size: width of a learned depthwise convolution of v along the tokens, one
            kernel per head, that is added to the output; 33 is usual. Odd, or None for none.
    """

    def __init__(
        self,
        geometry: Geometry,
        num_landmarks: int = 64,
        pinv_iters: int = 6,
        pinv_init: str = "head",
        conv_kernel_size: int | None = None,
    ) -> None:
        super().__init__(geometry)
        self.num_landmarks = whole(self.name, "num_landmarks", num_landmarks, 1)
        self.pinv_iters = whole(self.name, "pinv_iters", pinv_iters, 1)
        self.pinv_init = one_of(self.name, "pinv_init", pinv_init, ("head", "batch"))
        self.conv = None
        if conv_kernel_size is not None:
            if whole(self.name, "conv_kernel_size", conv_kernel_size, 1) % 2 == 0:
                raise ValueError(
                    f"{self.name}: conv_kernel_size is {conv_kernel_size}; None or an odd number "
                    "is needed."
                )
            heads = geometry.num_heads
            self.conv = nn.Conv2d(
                heads,
                heads,
                (conv_kernel_size, 1),
                padding=(conv_kernel_size // 2, 0),
                groups=heads,
                bias=False,
            )

    @in_wide_precision
    def forward(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """(B, H, N, D), (B, H, N, D), (B, H, N, E) -> (B, H, N, E)."""
        if self.pinv_init == "batch":
            out = self._mix(q, k, v)
        else:
            out = by_few_heads(self._mix, q, k, v, num_columns=self.num_landmarks)
        return out if self.conv is None else out + self._convolve(v, self.conv)

    def _mix(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        q = q / math.sqrt(q.shape[-1])
        length = self._segment_len(q.shape[-2])
        landmarks_q, landmarks_k = (_segment_means(x, length) for x in (q, k))
        from_queries = (q @ landmarks_k.transpose(-2, -1)).softmax(dim=-1)  # (B, H, N, L)
        between = (landmarks_q @ landmarks_k.transpose(-2, -1)).softmax(dim=-1)
        gathered = (landmarks_q @ k.transpose(-2, -1)).softmax(dim=-1) @ v  # (B, H, L, E)
        return from_queries @ (self._pseudo_inverse(between) @ gathered)

    def _segment_len(self, seq_len: int) -> int:
        return max(_FEWEST_TOKENS, -(-seq_len // self.num_landmarks))

    def _pseudo_inverse(self, kernel: Tensor) -> Tensor:
        """(B, H, L, L) -> (B, H, L, L)."""
        largest = kernel.sum(dim=-2).amax(dim=-1)  # (B, H)
        if self.pinv_init == "batch":
            largest = largest.amax()
        inverse = kernel.transpose(-2, -1) / largest[..., None, None]
        identity = torch.eye(kernel.shape[-1], dtype=kernel.dtype, device=kernel.device)
        for _ in range(self.pinv_iters):
            product = kernel @ inverse
            inner = 15 * identity - product @ (7 * identity - product)
            inverse = 0.25 * inverse @ (13 * identity - product @ inner)
        return inverse

    @staticmethod
    def _convolve(v: Tensor, conv: nn.Conv2d) -> Tensor:
        weight = widen(conv.weight).to(v.dtype)
        padding = (weight.shape[-2] // 2, 0)
        return functional.conv2d(v, weight, padding=padding, groups=len(weight))

    def reference(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """Segment by segment, softmaxes and taps written out."""
        length = self._segment_len(q.shape[-2])
        landmarks_q, landmarks_k = (
            torch.stack([part.mean(dim=-2) for part in x.split(length, dim=-2)], dim=-2)
            for x in (q, k)
        )
        rows, kernel, columns = (
            _reference_softmax(torch.einsum("bhnd,bhmd->bhnm", a, b) / math.sqrt(q.shape[-1]))
            for a, b in ((q, landmarks_k), (landmarks_q, landmarks_k), (landmarks_q, k))
        )
        largest = kernel.sum(dim=-2, keepdim=True).amax(dim=-1, keepdim=True)
        if self.pinv_init == "batch":
            largest = largest.max()
        inverse = kernel.mT / largest
        for _ in range(self.pinv_iters):  # the same polynomial, multiplied out
            x = kernel @ inverse
            inverse = (13 * inverse - inverse @ x @ (15 * x.matrix_power(0) - 7 * x + x @ x)) / 4
        out = rows @ inverse @ columns @ v
        if self.conv is not None:
            taps = self.conv.weight[:, 0, :, 0].to(v.dtype)  # (H, size)
            reach = taps.shape[-1] // 2
            padded = functional.pad(v, (0, 0, reach, reach))
            for tap in range(taps.shape[-1]):
                out = out + taps[:, tap, None, None] * padded[:, :, tap : tap + v.shape[-2]]
        return out

    def flops(self, shape: CallShape) -> int:
        """Three products of scores, the pseudo-inverse, three of mixing, and the convolution."""
        landmarks = -(-shape.query_len // self._segment_len(shape.query_len))
        heads = shape.batch_size * shape.num_heads
        per_token = 2 * landmarks * (shape.head_dim + shape.value_dim)
        pairs = 2 * heads * landmarks**2
        invert = 4 * self.pinv_iters * landmarks * pairs
        mix = per_token * (shape.num_tokens + shape.num_keys)
        taps = 0 if self.conv is None else self.conv.weight.shape[-2]
        convolve = 2 * taps * shape.num_keys * shape.value_dim
        return mix + pairs * (shape.head_dim + shape.value_dim) + invert + convolve


def _segment_means(x: Tensor, length: int) -> Tensor:
    """(B, H, N, D) -> (B, H, L, D); those left over at the end have a mean of their own."""
    whole_segments, rest = divmod(x.shape[-2], length)
    if rest == 0:
        return torch.unflatten(x, -2, (-1, length)).mean(dim=-2)
    last = x[..., -rest:, :].mean(dim=-2, keepdim=True)
    if whole_segments == 0:
        return last
    return torch.cat((_segment_means(x[..., :-rest, :], length), last), dim=-2)


def _reference_softmax(scores: Tensor) -> Tensor:
    weights = (scores - scores.amax(dim=-1, keepdim=True)).exp()
    return weights / weights.sum(dim=-1, keepdim=True)
