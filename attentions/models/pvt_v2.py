"""PVT v2 from timm, with a mechanism in the place of its attention over a shrunken grid.

A mechanism sees all tokens of its stages, as in FLatten's code: the shrinking convolution goes.
"""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from ..base import Attention
from ..layer import MultiHeadAttention
from ._parts import start_narrow
from ._swap import Swap
from .catalogue import ModelInfo

_FIRST_PATCH = 4


class TokensOfGrid(nn.Module):
    """A mixer of tokens, called as timm's PVT v2 calls its attention.

    Args:
        mixer: (B, N, C) -> (B, N, C), built for a grid.
        grid: (rows, columns).
    """

    def __init__(self, mixer: nn.Module, grid: tuple[int, int]) -> None:
        super().__init__()
        self.mixer, self.grid = mixer, grid

    def forward(self, x: Tensor, feat_size: tuple[int, int]) -> Tensor:
        """(B, N, C), (rows, columns) -> (B, N, C).

        Raises:
            ValueError: the image has another size than the model was built for.
        """
        if tuple(feat_size) != self.grid:
            raise ValueError(
                f"The tokens lie on a {feat_size[0]}x{feat_size[1]} grid; the model was built for "
                f"{self.grid[0]}x{self.grid[1]}. Build it with the image_size of its images."
            )
        return self.mixer(x)  # type: ignore[no-any-return]


def put(swap: Swap, model: nn.Module, image_size: int) -> nn.Module:
    """Exchange the attention of timm's PVT v2, in place; returns it.

    Args:
        swap: the mechanism and its stages.
        model: a `PyramidVisionTransformerV2`.
        image_size: S, pixels along a side.
    """
    for index, stage in enumerate(model.stages):  # type: ignore[arg-type]
        if index + 1 in swap.stages:
            side = image_size // (_FIRST_PATCH * 2**index)
            for block in stage.blocks:
                block.attn = _mixer(swap, index + 1, block.attn, (side, side))
    return model


def _mixer(swap: Swap, stage: int, replaced: Any, grid: tuple[int, int]) -> TokensOfGrid:
    built = swap.build(stage=stage, num_heads=replaced.num_heads, embed_dim=replaced.dim, grid=grid)
    mixer = MultiHeadAttention(built) if isinstance(built, Attention) else built
    start_narrow(mixer, nn.Linear)
    return TokensOfGrid(mixer, grid)


def build(info: ModelInfo, swap: Swap | None, image_size: int, num_classes: int) -> nn.Module:
    """Build a size of PVT v2; without a mechanism it is timm's own."""
    import timm

    model: nn.Module = timm.create_model(f"pvt_v2_{info.variant}", num_classes=num_classes)
    return model if swap is None else put(swap, model, image_size)
