"""DeiT from timm, with a mechanism in the place of its attention."""

from __future__ import annotations

from torch import nn

from ._swap import Swap
from .catalogue import ModelInfo


def build(info: ModelInfo, swap: Swap | None, image_size: int, num_classes: int) -> nn.Module:
    """Build a size of DeiT; without a mechanism it is timm's own."""
    import timm

    model: nn.Module = timm.create_model(
        f"deit_{info.variant}_patch16_224", img_size=image_size, num_classes=num_classes
    )
    if swap is None:
        return model
    from ..integrations.replace import replace_attention

    return replace_attention(model, swap.mechanism, **swap.hyperparameters)
