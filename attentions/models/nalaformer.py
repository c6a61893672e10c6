"""NaLaFormer: a pyramid of NaLa and softmax blocks, after the authors' released architecture."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from ..base import Attention, Geometry
from ..engines.grid_layer import GridLayer
from ..maths.vision.grid import image_of, tokens_of
from ..mechanisms.grid_layers import NalaVanilla
from ._parts import DropPath, check_image, drop_path_rates, start_narrow
from ._swap import Swap
from .catalogue import ModelInfo

_HEAD_WIDTH = 1024
_NORM_EPS = 1e-6
_OFF, _ON = 1e-6, 1.0
"""How strongly a branch counts at the start: next to nothing, or fully."""


@dataclass(frozen=True, kw_only=True)
class Sizes:
    """One size of NaLaFormer, stage by stage.

    Attributes:
        widths: channels C.
        depths: blocks.
        heads: heads H.
        mlp_ratio: hidden channels of the feed-forward network over C.
        drop_path: rate of stochastic depth at the last block.
        layer_scale: what each branch is multiplied by at the start.
    """

    widths: tuple[int, int, int, int]
    depths: tuple[int, int, int, int]
    heads: tuple[int, int, int, int]
    mlp_ratio: float
    drop_path: float
    layer_scale: tuple[float, float, float, float] = (_ON, _ON, _ON, _ON)


# ZacharyMeng/NaLaFormer, NaLaformer/NALA.py at 1f1c10ae.
SIZES = {
    "xt": Sizes(
        widths=(32, 64, 128, 384),
        depths=(2, 2, 2, 2),
        heads=(1, 2, 4, 12),
        mlp_ratio=3.5,
        drop_path=0.1,
    ),
    "t": Sizes(
        widths=(64, 128, 256, 512),
        depths=(2, 2, 6, 2),
        heads=(1, 2, 4, 8),
        mlp_ratio=4,
        drop_path=0.1,
    ),
    "s": Sizes(
        widths=(64, 128, 320, 512),
        depths=(3, 5, 9, 3),
        heads=(1, 2, 5, 8),
        mlp_ratio=3.5,
        drop_path=0.15,
    ),
    "b": Sizes(
        widths=(96, 192, 384, 512),
        depths=(4, 6, 12, 6),
        heads=(1, 2, 6, 8),
        mlp_ratio=4,
        drop_path=0.4,
        layer_scale=(_ON, _ON, _OFF, _OFF),
    ),
    "l": Sizes(
        widths=(96, 192, 448, 640),
        depths=(4, 7, 19, 8),
        heads=(1, 2, 7, 10),
        mlp_ratio=3.5,
        drop_path=0.55,
        layer_scale=(_OFF, _OFF, _OFF, _OFF),
    ),
}


def _position(channels: int) -> nn.Conv2d:
    """The conditional position encoding of a block: a 3x3 depthwise convolution."""
    return nn.Conv2d(channels, channels, 3, padding=1, groups=channels)


class FeedForward(nn.Module):
    """Two Linears around GELU, and between them a 3x3 depthwise convolution that is added."""

    def __init__(self, channels: int, hidden: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(channels, hidden)
        self.dwconv = nn.Conv2d(hidden, hidden, 3, padding=1, groups=hidden)
        self.fc2 = nn.Linear(hidden, channels)

    def forward(self, x: Tensor, grid: tuple[int, int]) -> Tensor:
        """(B, N, C) -> (B, N, C)."""
        hidden = image_of(functional.gelu(self.fc1(x)), grid)
        return self.fc2(tokens_of(hidden + self.dwconv(hidden)))  # type: ignore[no-any-return]


class Block(nn.Module):
    """Position, mixer, position, feed-forward, each added to its input.

    Args:
        mixer: (B, N, C) -> (B, N, C).
        channels: C.
        hidden: channels within the feed-forward network.
        drop_path: rate of stochastic depth.
        layer_scale: what both branches are multiplied by at the start.
    """

    def __init__(
        self,
        mixer: nn.Module,
        channels: int,
        hidden: int,
        *,
        drop_path: float,
        layer_scale: float,
    ) -> None:
        super().__init__()
        self.cpe1, self.cpe2 = _position(channels), _position(channels)
        self.norm1 = nn.LayerNorm(channels, eps=_NORM_EPS)
        self.norm2 = nn.LayerNorm(channels, eps=_NORM_EPS)
        self.mixer = mixer
        self.ffn = FeedForward(channels, hidden)
        self.scale1 = nn.Parameter(torch.full((channels,), layer_scale))
        self.scale2 = nn.Parameter(torch.full((channels,), layer_scale))
        self.drop_path = DropPath(drop_path)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, rows, columns) -> (B, C, rows, columns)."""
        grid = (x.shape[2], x.shape[3])
        x = x + self.cpe1(x)
        mixed = self.scale1 * self.mixer(self.norm1(tokens_of(x)))
        x = x + image_of(self.drop_path(mixed), grid)
        x = x + self.cpe2(x)
        fed = self.scale2 * self.ffn(self.norm2(tokens_of(x)), grid)
        return x + image_of(self.drop_path(fed), grid)


def _stem(channels: int) -> nn.Sequential:
    """Four 3x3 convolutions, the first and the last with stride 2: (B, 3, S, S) -> S / 4."""
    half = channels // 2
    parts: list[nn.Module] = []
    for inward, outward, stride in ((3, half, 2), (half, half, 1), (half, half, 1)):
        convolution = nn.Conv2d(inward, outward, 3, stride=stride, padding=1)
        parts += [convolution, nn.BatchNorm2d(outward), nn.GELU()]
    last = nn.Conv2d(half, channels, 3, stride=2, padding=1)
    return nn.Sequential(*parts, last, nn.BatchNorm2d(channels))


def _merge(channels: int, widened: int) -> nn.Sequential:
    """Between two stages: half the sides, more channels."""
    convolution = nn.Conv2d(channels, widened, 3, stride=2, padding=1)
    return nn.Sequential(convolution, nn.BatchNorm2d(widened))


class NalaFormer(nn.Module):
    """Stem, four stages of blocks with merging in between, and a head over the mean of tokens.

    Args:
        sizes: of each stage.
        swap: the mechanism, and the stages that have it; the others have `nala_vanilla`, softmax
            attention in a layer of the same shape.
        image_size: S, pixels along a side.
        num_classes: outputs.
    """

    def __init__(self, sizes: Sizes, swap: Swap, image_size: int, num_classes: int) -> None:
        super().__init__()
        self.image_size = image_size
        self.stem = _stem(sizes.widths[0])
        self.stages, self.merges = nn.ModuleList(), nn.ModuleList()
        rates = drop_path_rates(sizes.drop_path, sizes.depths)
        for index, channels in enumerate(sizes.widths):
            side = image_size // 2 ** (index + 2)
            blocks = [
                Block(
                    _mixer(swap, index + 1, sizes.heads[index], channels, (side, side)),
                    channels,
                    int(sizes.mlp_ratio * channels),
                    drop_path=rate,
                    layer_scale=sizes.layer_scale[index],
                )
                for rate in rates[index]
            ]
            self.stages.append(nn.Sequential(*blocks))
            if index > 0:
                self.merges.append(_merge(sizes.widths[index - 1], channels))
        self.proj = nn.Linear(sizes.widths[-1], _HEAD_WIDTH)
        self.norm = nn.BatchNorm2d(_HEAD_WIDTH)
        self.head = nn.Linear(_HEAD_WIDTH, num_classes)
        start_narrow(self, nn.Conv2d)  # Linears start as torch has it

    def forward(self, x: Tensor) -> Tensor:
        """(B, 3, S, S) -> (B, num_classes)."""
        check_image(x, self.image_size)
        x = self.stages[0](self.stem(x))
        for merge, stage in zip(self.merges, self.stages[1:], strict=True):
            x = stage(merge(x))
        features = image_of(self.proj(tokens_of(x)), (x.shape[2], x.shape[3]))
        pooled = functional.silu(self.norm(features)).mean(dim=(2, 3))
        return self.head(pooled)  # type: ignore[no-any-return]


def _mixer(
    swap: Swap, stage: int, num_heads: int, channels: int, grid: tuple[int, int]
) -> nn.Module:
    if stage not in swap.stages:
        geometry = Geometry(
            num_heads=num_heads,
            head_dim=channels // num_heads,
            seq_len=grid[0] * grid[1],
            grid=grid,
        )
        return NalaVanilla(geometry)
    built = swap.build(stage=stage, num_heads=num_heads, embed_dim=channels, grid=grid)
    return GridLayer(built) if isinstance(built, Attention) else built


def build(info: ModelInfo, swap: Swap | None, image_size: int, num_classes: int) -> nn.Module:
    """Build a size of NaLaFormer with a mechanism in the place of NaLa."""
    assert swap is not None, "NaLaFormer names its mechanism"
    return NalaFormer(SIZES[info.variant], swap, image_size, num_classes)
