"""In place of `timm.layers.Attention`, the attention of its vision transformers."""

from __future__ import annotations

import sys
from typing import Any

from torch import Tensor, nn

from ..maths.heads import merge_heads
from .swap_masks import from_additive
from .swapped import Swapped, Wish
from .token_layout import TokenLayout


class SwappedTimmAttention(Swapped):
    """Projections, norms, gate and dropout of the old attention, under their old names.

    Args:
        wish: what is built.
        layout: of the tokens.
        place: dotted name in the model.
        old: the attention whose parts are taken over.
    """

    kind = "timm.layers.Attention"

    def __init__(self, wish: Wish, layout: TokenLayout, place: str, old: Any) -> None:
        sizes = {"num_heads": old.num_heads, "head_dim": old.head_dim}
        super().__init__(wish, layout, place, like=old.qkv.weight, **sizes)
        self.num_heads, self.head_dim = old.num_heads, old.head_dim
        self.qkv, self.q_norm, self.k_norm = old.qkv, old.q_norm, old.k_norm
        self.attn_drop = old.attn_drop  # of weights that are no more; kept for a next swap
        self.norm = getattr(old, "norm", nn.Identity())  # older versions of timm have neither
        self.gate = getattr(old, "gate", None)
        self.proj, self.proj_drop = old.proj, old.proj_drop

    @staticmethod
    def is_kind(module: nn.Module) -> bool:
        """An object of timm's class, whose forward no subclass has changed, or of this one."""
        # A model made of timm's parts has imported timm; without it there is nothing to find.
        models = sys.modules.get("timm.models.vision_transformer")
        if models is None:
            return False
        theirs = models.Attention
        return isinstance(module, SwappedTimmAttention) or (
            isinstance(module, theirs) and type(module).forward is theirs.forward
        )

    @staticmethod
    def dropout_of(module: Any) -> float:
        """That of ``attn_drop``."""
        return float(module.attn_drop.p)

    def forward(
        self, x: Tensor, attn_mask: Tensor | None = None, is_causal: bool = False
    ) -> Tensor:
        """(B, N, C) -> (B, N, C'); a mask is bool, True keeps, or is added, 0 or -inf."""
        if attn_mask is not None and attn_mask.is_floating_point():
            attn_mask = from_additive(attn_mask, place=self.place)
        heads = self.qkv(x).unflatten(-1, (3, self.num_heads, self.head_dim))
        q, k, v = heads.permute(2, 0, 3, 1, 4)  # (B, H, N, D) each
        q, k = self.q_norm(q), self.k_norm(k)
        out = self.norm(merge_heads(self.mix(q, k, v, attn_mask, is_causal)))
        if self.gate is not None:
            out = out * self.gate(x).sigmoid()
        return self.proj_drop(self.proj(out))  # type: ignore[no-any-return]
