"""PVT: a pyramid of plain blocks whose softmax attention looks at a shrunken grid.

Written after FLatten's code, which timm lacks: it takes the mean of all tokens in the place of the
class token, and has no norm before the head. `flatten_pvt_*` and `pola_pvt_*` are this model with
their layers, which see all tokens: linear attention can afford to.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from ..base import Attention
from ..layer import MultiHeadAttention
from ..maths.heads import merge_heads, split_heads
from ..maths.vision.grid import image_of, tokens_of
from ..maths.vision.reduced_grid import ReducedGrid
from ._parts import DropPath, check_image, drop_path_rates, start_narrow
from ._swap import Swap
from .catalogue import ModelInfo

_NORM_EPS = 1e-6
_POSITION_SPREAD = 0.02
_PATCHES = (4, 2, 2, 2)
_REDUCTIONS = (8, 4, 2, 1)


@dataclass(frozen=True, kw_only=True)
class Sizes:
    """One size of PVT, stage by stage.

    Attributes:
        depths: blocks.
        widths: channels C.
        heads: heads H.
        mlp_ratios: hidden channels of the feed-forward network over C.
        drop_path: rate of stochastic depth at the last block.
    """

    depths: tuple[int, int, int, int]
    widths: tuple[int, int, int, int] = (64, 128, 320, 512)
    heads: tuple[int, int, int, int] = (1, 2, 5, 8)
    mlp_ratios: tuple[int, int, int, int] = (8, 8, 4, 4)
    drop_path: float = 0.1


# LeapLabTHU/FLatten-Transformer, models/flatten_pvt.py at a7f0a4bc.
SIZES = {"tiny": Sizes(depths=(2, 2, 2, 2)), "small": Sizes(depths=(3, 4, 6, 3))}


@dataclass(frozen=True, kw_only=True)
class Place:
    """Where a block stands: its stage from 1, and the sizes there."""

    stage: int
    channels: int
    num_heads: int
    grid: tuple[int, int]


class ReducedSoftmax(nn.Module):
    """Softmax attention of all tokens over those of a shrunken grid: (B, N, C) -> (B, N, C).

    Args:
        place: where it stands.
        ratio: by how much both sides of the grid are shrunk for keys and values.
    """

    def __init__(self, place: Place, ratio: int) -> None:
        super().__init__()
        channels = place.channels
        self.num_heads = place.num_heads
        self.reduced = ReducedGrid("pvt", channels, place.grid, ratio)
        self.q = nn.Linear(channels, channels)
        self.kv = nn.Linear(channels, 2 * channels)
        self.proj = nn.Linear(channels, channels)

    def forward(self, x: Tensor) -> Tensor:
        """(B, N, C) -> (B, N, C)."""
        parts = (self.q(x), *self.kv(self.reduced(x)).chunk(2, dim=-1))
        q, k, v = (split_heads(part, self.num_heads) for part in parts)
        mixed = functional.scaled_dot_product_attention(q, k, v)
        return self.proj(merge_heads(mixed))  # type: ignore[no-any-return]


class Block(nn.Module):
    """Mixer and feed-forward network, each added to its input: (B, N, C) -> (B, N, C)."""

    def __init__(self, mixer: nn.Module, channels: int, hidden: int, drop_path: float) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(channels, eps=_NORM_EPS)
        self.mixer = mixer
        self.norm2 = nn.LayerNorm(channels, eps=_NORM_EPS)
        self.ffn = nn.Sequential(
            nn.Linear(channels, hidden), nn.GELU(), nn.Linear(hidden, channels)
        )
        self.drop_path = DropPath(drop_path)

    def forward(self, x: Tensor) -> Tensor:
        """(B, N, C) -> (B, N, C)."""
        x = x + self.drop_path(self.mixer(self.norm1(x)))
        return x + self.drop_path(self.ffn(self.norm2(x)))  # type: ignore[no-any-return]


class Stage(nn.Module):
    """Patches of the image before it, a learned position for each, and blocks."""

    def __init__(self, inward: int, patch: int, place: Place, blocks: list[Block]) -> None:
        super().__init__()
        self.grid = place.grid
        self.embed = nn.Conv2d(inward, place.channels, patch, stride=patch)
        self.norm = nn.LayerNorm(place.channels)
        position = torch.empty(place.grid[0] * place.grid[1], place.channels)
        self.position = nn.Parameter(nn.init.trunc_normal_(position, std=_POSITION_SPREAD))
        self.blocks = nn.Sequential(*blocks)

    def forward(self, image: Tensor) -> Tensor:
        """(B, inward, patch * rows, patch * columns) -> (B, C, rows, columns)."""
        tokens = self.norm(tokens_of(self.embed(image))) + self.position
        return image_of(self.blocks(tokens), self.grid)


class PyramidTransformer(nn.Module):
    """Four stages, the mean of all tokens, and a Linear.

    Args:
        sizes: of each stage.
        swap: a mechanism and the stages that have it; the others have softmax on a shrunken grid.
        image_size: S, pixels along a side.
        num_classes: outputs.
    """

    def __init__(self, sizes: Sizes, swap: Swap | None, image_size: int, num_classes: int) -> None:
        super().__init__()
        self.image_size = image_size
        self.stages = nn.Sequential()
        rates, inward, side = drop_path_rates(sizes.drop_path, sizes.depths), 3, image_size
        for index, (channels, patch) in enumerate(zip(sizes.widths, _PATCHES, strict=True)):
            side //= patch
            num_heads, hidden = sizes.heads[index], sizes.mlp_ratios[index] * channels
            place = Place(
                stage=index + 1, channels=channels, num_heads=num_heads, grid=(side, side)
            )
            blocks = [Block(_mixer(swap, place), channels, hidden, rate) for rate in rates[index]]
            self.stages.append(Stage(inward, patch, place, blocks))
            inward = channels
        self.head = nn.Linear(inward, num_classes)
        start_narrow(self, nn.Linear)

    def forward(self, x: Tensor) -> Tensor:
        """(B, 3, S, S) -> (B, num_classes)."""
        check_image(x, self.image_size)
        return self.head(self.stages(x).mean(dim=(2, 3)))  # type: ignore[no-any-return]


def _mixer(swap: Swap | None, place: Place) -> nn.Module:
    if swap is None or place.stage not in swap.stages:
        return ReducedSoftmax(place, _REDUCTIONS[place.stage - 1])
    built = swap.build(
        stage=place.stage,
        num_heads=place.num_heads,
        embed_dim=place.channels,
        grid=place.grid,
    )
    return MultiHeadAttention(built) if isinstance(built, Attention) else built


def build(info: ModelInfo, swap: Swap | None, image_size: int, num_classes: int) -> nn.Module:
    """Build a size of PVT; a mechanism sees all tokens of its stages."""
    return PyramidTransformer(SIZES[info.variant], swap, image_size, num_classes)
