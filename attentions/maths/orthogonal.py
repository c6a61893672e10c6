"""Random orthogonal directions, drawn from a seed of their own."""

from __future__ import annotations

import math
import zlib

import torch
from torch import Tensor


def orthogonal_gaussian(
    num_features: int, dim: int, *, unit_scale: bool, seed: int, draw: int
) -> Tensor:
    """(F, D) in float64: blocks of D orthogonal rows, each row as long as a Gaussian vector is.

    Choromanski et al., Sec. 2.4. Any two draws with the same arguments are equal, whatever else
    was drawn between them, and torch's global generator is left alone.

    Args:
        num_features: F.
        dim: D.
        unit_scale: every row has length sqrt(D) instead of a random one.
        seed: of the whole series.
        draw: number within the series; torch's generator keeps 32 bits of a seed, so both are
            hashed into them.
    """
    generator = torch.Generator("cpu").manual_seed(zlib.crc32(f"{seed}/{draw}".encode()))

    def gaussian(rows: int) -> Tensor:
        return torch.randn(rows, dim, generator=generator, dtype=torch.float64, device="cpu")

    num_blocks = -(-num_features // dim)
    blocks = [_random_rotation(gaussian(dim)) for _ in range(num_blocks)]
    directions = torch.cat(blocks)[:num_features]
    if unit_scale:
        return directions * math.sqrt(dim)
    length: Tensor = torch.linalg.vector_norm(gaussian(num_features), dim=-1, keepdim=True)
    return directions * length


def _random_rotation(gaussian: Tensor) -> Tensor:
    """An orthogonal (D, D), every one as likely as any other, from a Gaussian (D, D).

    The signs of a QR decomposition follow a convention: without the correction some entries
    would never be positive, and the estimate of the softmax kernel a third too large.
    """
    q, r = torch.linalg.qr(gaussian)
    rotation: Tensor = (q * r.diagonal().sign()).T
    return rotation
