"""Nystromformer as its authors' code computes it."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional

from ..base import CallShape
from ..checks import equal_lengths
from ..mechanisms.nystromformer import Nystromformer
from .entry import published

_FEWEST_TOKENS = 2
"""Fewest tokens of a segment. With one token each it is softmax attention over there, by another
way.
"""


def _check_segments(ours: Nystromformer, seq_len: int | None = None) -> None:
    landmarks = ours.num_landmarks
    seq_len = ours.geometry.seq_len if seq_len is None else seq_len
    if seq_len % landmarks or seq_len < _FEWEST_TOKENS * landmarks:
        raise ValueError(
            f"nystromformer_published: {seq_len} tokens and num_landmarks={landmarks} were given; "
            f"a multiple of num_landmarks, {_FEWEST_TOKENS} times as many or more, is needed."
        )


def _executed_flops(ours: Nystromformer, shape: CallShape) -> int:
    """The queries' rows meet the pseudo-inverse before the values do."""
    landmarks, num_queries = ours.num_landmarks, shape.num_tokens
    late = 2 * landmarks**2 * shape.batch_size * shape.num_heads * shape.value_dim
    return ours.flops(shape) + 2 * landmarks**2 * num_queries - late


@published(
    "nystromformer",
    title="Nystromformer, published operators",
    source="mlpen/Nystromformer, attention_nystrom.py, commit 56893131",
    check=_check_segments,
    methods={"executed_flops": _executed_flops},
)
def nystromformer_published(
    ours: Nystromformer, q: Tensor, k: Tensor, v: Tensor, *, num_landmarks: int
) -> Tensor:
    """`nystromformer` by its authors' operators: queries and keys are scaled apart.

        out = softmax(q k~^T) pinv(softmax(q~ k~^T)) softmax(q~ k^T) v,  scores over sqrt(D)
        V  <- V / 4 (13 I - K V (15 I - K V (7 I - K V)))

    Hazards:
        - The number of tokens must be a multiple of the number of landmarks.
        - With ``pinv_init="batch"`` a sample's output depends on the others in its batch.

    Differences:
        - `nystromformer` takes any number of tokens, and heads one by one.

    Args:
        num_landmarks: the number of segments.
        pinv_iters: how often V is improved.
        pinv_init: ``"head"``, which the authors' code has but does not reach, or ``"batch"``.
        conv_kernel_size: width of a depthwise convolution of v along the tokens; None for none.
    """
    equal_lengths("nystromformer_published", q, k, "taking landmarks of both")
    _check_segments(ours, q.shape[-2])
    scale = math.sqrt(math.sqrt(q.shape[-1]))
    q, k = q / scale, k / scale
    landmarks_q, landmarks_k = (
        x.reshape(*x.shape[:2], num_landmarks, -1, x.shape[-1]).mean(dim=-2) for x in (q, k)
    )
    rows = functional.softmax(torch.matmul(q, landmarks_k.transpose(-1, -2)), dim=-1)
    between = torch.matmul(landmarks_q, landmarks_k.transpose(-1, -2))
    between = functional.softmax(between, dim=-1)
    columns = functional.softmax(torch.matmul(landmarks_q, k.transpose(-1, -2)), dim=-1)
    inverse = _pseudo_inverse(ours, between)
    out = torch.matmul(torch.matmul(rows, inverse), torch.matmul(columns, v))
    return out if ours.conv is None else out + ours.conv(v)


def _pseudo_inverse(ours: Nystromformer, kernel: Tensor) -> Tensor:
    identity = torch.eye(kernel.shape[-1], dtype=kernel.dtype, device=kernel.device)
    sums = kernel.sum(dim=-2)
    largest = sums.amax(dim=-1)[:, :, None, None]
    if ours.pinv_init == "batch":
        largest = sums.amax()
    inverse = 1 / largest * kernel.transpose(-1, -2)
    for _ in range(ours.pinv_iters):
        product = torch.matmul(kernel, inverse)
        inner = 15 * identity - torch.matmul(product, 7 * identity - product)
        outer = 13 * identity - torch.matmul(product, inner)
        inverse = torch.matmul(0.25 * inverse, outer)
    return inverse
