"""In place of timm's attentions with rotary positions: EVA, DINOv3, ViTs named ``rope``."""

from __future__ import annotations

import sys
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from ..maths.heads import merge_heads, split_heads
from .swap_masks import from_additive
from .swapped import Swapped, Wish
from .token_layout import TokenLayout

_THEIRS = (("timm.layers.attention", "AttentionRope"), ("timm.models.eva", "EvaAttention"))


class SwappedTimmRope(Swapped):
    """Projections, rotation, norms, gate and dropout of the old attention, under their old names.

    Queries and keys are turned as before, and then mixed by the mechanism, for every mechanism
    alike.

    Args:
        wish: what is built.
        layout: of the tokens.
        place: dotted name in the model.
        old: the attention whose parts are taken over.
    """

    kind = "timm's AttentionRope or EvaAttention"

    q_bias: Tensor | None
    k_bias: Tensor | None
    v_bias: Tensor | None

    def __init__(self, wish: Wish, layout: TokenLayout, place: str, old: Any) -> None:
        # Older versions of timm have no norms of heads, share none, and do not name their width.
        num_heads, head_dim = old.num_heads, old.proj.in_features // old.num_heads
        num_kv_heads = getattr(old, "num_kv_heads", num_heads)
        sizes = {"num_heads": num_heads, "head_dim": head_dim, "num_kv_heads": num_kv_heads}
        super().__init__(wish, layout, place, like=old.proj.weight, **sizes)
        self.num_heads, self.num_kv_heads = num_heads, num_kv_heads
        self.num_prefix_tokens = old.num_prefix_tokens
        self.rotate_half = getattr(old, "rotate_half", False)
        self.qkv = old.qkv  # None if there are three
        self.q_proj, self.k_proj, self.v_proj = old.q_proj, old.k_proj, old.v_proj
        self.q_norm = getattr(old, "q_norm", nn.Identity())
        self.k_norm = getattr(old, "k_norm", nn.Identity())
        self.attn_drop = old.attn_drop  # of weights that are no more; kept for a next swap
        self.proj, self.proj_drop = old.proj, old.proj_drop
        self.norm = getattr(old, "norm", nn.Identity())
        self.gate = getattr(old, "gate", None)
        self.register_parameter("q_bias", getattr(old, "q_bias", None))
        self.register_buffer("k_bias", getattr(old, "k_bias", None), persistent=False)
        self.register_parameter("v_bias", getattr(old, "v_bias", None))

    @staticmethod
    def is_kind(module: nn.Module) -> bool:
        """An object of timm's classes, whose forward no subclass has changed, or of this one."""
        homes = ((sys.modules.get(home), name) for home, name in _THEIRS)
        theirs = [getattr(home, name) for home, name in homes if hasattr(home, name)]
        return isinstance(module, SwappedTimmRope) or any(
            isinstance(module, kind) and type(module).forward is kind.forward for kind in theirs
        )

    @staticmethod
    def dropout_of(module: Any) -> float:
        """That of ``attn_drop``."""
        return float(module.attn_drop.p)

    def forward(
        self,
        x: Tensor,
        rope: Tensor | None = None,
        attn_mask: Tensor | None = None,
        is_causal: bool = False,
    ) -> Tensor:
        """(B, N, C) -> (B, N, C'); a mask is bool, True keeps, or is added, 0 or -inf.

        ``rope`` holds sines and cosines of the tokens after the first ``num_prefix_tokens``.
        """
        if attn_mask is not None and attn_mask.is_floating_point():
            attn_mask = from_additive(attn_mask, place=self.place)
        q, k, v = self._project(x)
        q, k = self.q_norm(q), self.k_norm(k)
        if rope is not None:
            q, k = self._turn(q, rope).type_as(v), self._turn(k, rope).type_as(v)
        out = self.norm(merge_heads(self.mix(q, k, v, attn_mask, is_causal)))
        if self.gate is not None:
            out = out * self.gate(x).sigmoid()
        return self.proj_drop(self.proj(out))  # type: ignore[no-any-return]

    def _project(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """(B, N, C) -> heads of (B, H or H_kv, N, D)."""
        if self.qkv is None:
            return (
                split_heads(self.q_proj(x), self.num_heads),
                split_heads(self.k_proj(x), self.num_kv_heads),
                split_heads(self.v_proj(x), self.num_kv_heads),
            )
        qkv = self.qkv(x) if self.q_bias is None else self._with_biases(x)
        q, k, v = (split_heads(part, self.num_heads) for part in qkv.chunk(3, dim=-1))
        return q, k, v

    def _with_biases(self, x: Tensor) -> Tensor:
        """EVA learns no bias of the keys: it would change no softmax."""
        assert self.q_bias is not None and self.k_bias is not None and self.v_bias is not None
        biases = torch.cat((self.q_bias, self.k_bias, self.v_bias))
        return functional.linear(x, self.qkv.weight, biases)

    def _turn(self, x: Tensor, rope: Tensor) -> Tensor:
        from timm.layers.pos_embed_sincos import apply_rot_embed_cat

        # Older versions of timm know one way to pair channels only.
        pairing = {"half": True} if self.rotate_half else {}
        first = self.num_prefix_tokens
        turned = apply_rot_embed_cat(x[:, :, first:], rope, **pairing)
        return torch.cat((x[:, :, :first], turned), dim=2)
