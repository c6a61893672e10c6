"""Swin from timm, with a mechanism in the place of attention in windows.

A mechanism stands in the same windows; in the presets of FLatten, PolaFormer and NaLaFormer it sees
the whole grid of its stage. The table of relative positions goes. In shifted windows a mechanism
that takes dense masks gets Swin's; others see across the seam, as in FLatten's and PolaFormer's
codes, which take the mask and leave it aside.
"""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from ..base import Attention
from ..layer import MultiHeadAttention
from ..maths.heads import merge_heads
from ._parts import start_narrow
from ._swap import Swap
from .catalogue import ModelInfo

_TIMM = {"tiny": "swin_tiny_patch4_window7_224"}


class WindowMixer(nn.Module):
    """A mixer of tokens, called as timm's Swin calls its attention.

    Args:
        mixer: (B, N, C) -> (B, N, C), built for a window.
    """

    def __init__(self, mixer: nn.Module) -> None:
        super().__init__()
        self.mixer = mixer

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        """(B W, N, C) of B images with W windows each, (W, N, N) or None -> (B W, N, C).

        ``mask`` is 0 where a pair may be seen, and below 0 elsewhere.
        """
        if mask is None or not isinstance(self.mixer, MultiHeadAttention):
            return self.mixer(x)  # type: ignore[no-any-return]
        core = self.mixer.core
        if "dense" not in core.capabilities.masks:
            return self.mixer(x)
        allowed = (mask == 0).repeat(x.shape[0] // mask.shape[0], 1, 1)
        (q, k, v), _ = self.mixer._project(x)
        return self.mixer.proj(merge_heads(core(q, k, v, mask=allowed[:, None])))  # type: ignore[no-any-return]


def put(swap: Swap, model: nn.Module) -> nn.Module:
    """Exchange the attention of timm's Swin, in place; returns it.

    Args:
        swap: the mechanism, its stages, and whether it sees their whole grid.
        model: a `SwinTransformer`.
    """
    for index, stage in enumerate(model.layers):  # type: ignore[arg-type]
        if index + 1 in swap.stages:
            for block in stage.blocks:
                if swap.whole_grid:
                    _widen_window(block)
                block.attn = _mixer(swap, index + 1, block)
    return model


def _widen_window(block: Any) -> None:
    """One window of the size of the grid, which is not shifted."""
    block.window_size = tuple(block.input_resolution)
    block.window_area = block.window_size[0] * block.window_size[1]
    block.shift_size = (0, 0)
    block.attn_mask = None


def _mixer(swap: Swap, stage: int, block: Any) -> WindowMixer:
    built = swap.build(
        stage=stage,
        num_heads=block.attn.num_heads,
        embed_dim=block.attn.dim,
        grid=tuple(block.window_size),
    )
    mixer = MultiHeadAttention(built) if isinstance(built, Attention) else built
    start_narrow(mixer, nn.Linear)
    return WindowMixer(mixer)


def build(info: ModelInfo, swap: Swap | None, image_size: int, num_classes: int) -> nn.Module:
    """Build a size of Swin; without a mechanism it is timm's own."""
    import timm

    model: nn.Module = timm.create_model(
        _TIMM[info.variant], img_size=image_size, num_classes=num_classes
    )
    return model if swap is None else put(swap, model)
