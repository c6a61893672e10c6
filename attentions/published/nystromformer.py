"""Nystromformer as its authors' code computes it."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional

from ..base import CallShape, Geometry
from ..capabilities import Capabilities
from ..checks import equal_lengths
from ..mechanisms.nystromformer import Nystromformer
from ..registry import register_attention
from .entry import PublishedCore

_FEWEST_TOKENS = 2
"""Fewest tokens of a segment. With one token each it is softmax attention over there, by another
way.
"""


@register_attention(
    "nystromformer_published",
    title="Nystromformer, published operators",
    source="mlpen/Nystromformer, attention_nystrom.py, commit 56893131",
    family="published",
    capabilities=Capabilities(position_free=False, dtypes=("float32", "float64")),
)
class NystromformerPublished(PublishedCore):
    """`nystromformer` by its authors' operators: queries and keys are scaled apart.

        out = softmax(q k~^T) pinv(softmax(q~ k~^T)) softmax(q~ k^T) v,  scores over sqrt(D)
        V  <- V / 4 (13 I - K V (15 I - K V (7 I - K V)))

    Hazards:
        - The number of tokens must be a multiple of the number of landmarks.
        - With ``pinv_init="batch"`` a sample's output depends on the others in its batch.

    Differences:
        - `nystromformer` takes any number of tokens, and heads one by one.

    Args:
        geometry: the shape to build for; seq_len must be a multiple of num_landmarks.
        num_landmarks: the number of segments.
        pinv_iters: how often V is improved.
        pinv_init: ``"head"``, which the authors' code has but does not reach, or ``"batch"``.
        conv_kernel_size: width of a depthwise convolution of v along the tokens; None for none.
    """

    ours: Nystromformer

    def __init__(
        self,
        geometry: Geometry,
        num_landmarks: int = 64,
        pinv_iters: int = 6,
        pinv_init: str = "head",
        conv_kernel_size: int | None = None,
    ) -> None:
        super().__init__(geometry)
        self.ours = Nystromformer(
            geometry,
            num_landmarks=num_landmarks,
            pinv_iters=pinv_iters,
            pinv_init=pinv_init,
            conv_kernel_size=conv_kernel_size,
        )
        self.num_landmarks, self.pinv_iters, self.pinv_init = num_landmarks, pinv_iters, pinv_init
        self._check_segments(geometry.seq_len)

    def forward(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """(B, H, N, D), (B, H, N, D), (B, H, N, E) -> (B, H, N, E)."""
        equal_lengths(self.name, q, k, "taking landmarks of both")
        self._check_segments(q.shape[-2])
        scale = math.sqrt(math.sqrt(q.shape[-1]))
        q, k = q / scale, k / scale
        landmarks_q, landmarks_k = (
            x.reshape(*x.shape[:2], self.num_landmarks, -1, x.shape[-1]).mean(dim=-2)
            for x in (q, k)
        )
        rows = functional.softmax(torch.matmul(q, landmarks_k.transpose(-1, -2)), dim=-1)
        between = torch.matmul(landmarks_q, landmarks_k.transpose(-1, -2))
        between = functional.softmax(between, dim=-1)
        columns = functional.softmax(torch.matmul(landmarks_q, k.transpose(-1, -2)), dim=-1)
        inverse = self._pseudo_inverse(between)
        out = torch.matmul(torch.matmul(rows, inverse), torch.matmul(columns, v))
        return out if self.ours.conv is None else out + self.ours.conv(v)

    def _check_segments(self, seq_len: int) -> None:
        landmarks = self.num_landmarks
        if seq_len % landmarks or seq_len < _FEWEST_TOKENS * landmarks:
            raise ValueError(
                f"{self.name}: {seq_len} tokens and num_landmarks={landmarks} were given; a "
                f"multiple of num_landmarks, {_FEWEST_TOKENS} times as many or more, is needed."
            )

    def _pseudo_inverse(self, kernel: Tensor) -> Tensor:
        identity = torch.eye(kernel.shape[-1], dtype=kernel.dtype, device=kernel.device)
        sums = kernel.sum(dim=-2)
        largest = sums.amax(dim=-1)[:, :, None, None]
        if self.pinv_init == "batch":
            largest = sums.amax()
        inverse = 1 / largest * kernel.transpose(-1, -2)
        for _ in range(self.pinv_iters):
            product = torch.matmul(kernel, inverse)
            inner = 15 * identity - torch.matmul(product, 7 * identity - product)
            outer = 13 * identity - torch.matmul(product, inner)
            inverse = torch.matmul(0.25 * inverse, outer)
        return inverse

    def executed_flops(self, shape: CallShape) -> int:
        """The queries' rows meet the pseudo-inverse before the values do."""
        landmarks, num_queries = self.num_landmarks, shape.num_tokens
        late = 2 * landmarks**2 * shape.batch_size * shape.num_heads * shape.value_dim
        return self.flops(shape) + 2 * landmarks**2 * num_queries - late
