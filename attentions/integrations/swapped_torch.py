"""In place of `torch.nn.MultiheadAttention`, also inside torch's transformer layers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from ..maths.heads import merge_heads, split_heads
from .swap_masks import from_additive
from .swapped import Swapped, Wish
from .token_layout import TokenLayout

_PARAMETERS = (
    "in_proj_weight",
    "q_proj_weight",
    "k_proj_weight",
    "v_proj_weight",
    "in_proj_bias",
)


class SwappedMultiheadAttention(Swapped):
    """The projections of the old attention, under their old names, and its call.

    There are no weights to return: the second output is always None. A query whose keys are all
    hidden gets what its mechanism says, mostly zeros, where torch gives NaN.

    Args:
        wish: what is built.
        layout: of the tokens.
        place: dotted name in the model.
        old: the attention whose parts are taken over.
    """

    kind = "torch.nn.MultiheadAttention"

    in_proj_weight: Tensor | None
    q_proj_weight: Tensor
    k_proj_weight: Tensor
    v_proj_weight: Tensor
    in_proj_bias: Tensor | None

    _qkv_same_embed_dim = False
    """Torch's transformer layers then call this module; otherwise, in eval mode, they would pass
    its weights to a fused softmax layer."""

    def __init__(self, wish: Wish, layout: TokenLayout, place: str, old: Any) -> None:
        if old.bias_k is not None or old.add_zero_attn:
            raise ValueError(
                f"{wish.mechanism} at {place}: the attention has add_bias_kv or add_zero_attn, a "
                "key of its own beside the tokens'; leave it as it is, by where=."
            )
        _check_parameters(old, wish, place)
        sizes = {"num_heads": old.num_heads, "head_dim": old.head_dim}
        super().__init__(wish, layout, place, like=old.out_proj.weight, **sizes)
        self.embed_dim, self.num_heads, self.head_dim = old.embed_dim, old.num_heads, old.head_dim
        self.kdim, self.vdim, self.batch_first = old.kdim, old.vdim, old.batch_first
        self.dropout, self.bias_k, self.bias_v = old.dropout, old.bias_k, old.bias_v
        self.add_zero_attn = old.add_zero_attn
        for name in _PARAMETERS:
            self.register_parameter(name, getattr(old, name))
        self.out_proj = old.out_proj

    @staticmethod
    def is_kind(module: nn.Module) -> bool:
        """An object of torch's class, whose forward no subclass has changed, or of this one."""
        return isinstance(module, SwappedMultiheadAttention) or (
            isinstance(module, nn.MultiheadAttention)
            and type(module).forward is nn.MultiheadAttention.forward
        )

    @staticmethod
    def dropout_of(module: Any) -> float:
        """Its ``dropout``."""
        return float(module.dropout)

    def forward(
        self,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        key_padding_mask: Tensor | None = None,
        need_weights: bool = True,
        attn_mask: Tensor | None = None,
        average_attn_weights: bool = True,
        is_causal: bool = False,
    ) -> tuple[Tensor, None]:
        """As `torch.nn.MultiheadAttention.forward`, but the second output is None.

        Raises:
            ValueError: a mask or a shape that the mechanism does not take, or a nested tensor.
        """
        if query.is_nested:
            raise ValueError(
                f"{self.place}: a nested tensor was given; set use_nested_tensor = False on the "
                "nn.TransformerEncoder around it."
            )
        if is_causal and attn_mask is None:
            raise ValueError(
                f"{self.place}: is_causal=True says what attn_mask is; give that, too."
            )
        self._check_masks(query, key, key_padding_mask, attn_mask)
        keep = self._keep(query, key_padding_mask, None if is_causal else attn_mask)
        is_batched = query.dim() == 3
        inputs = [query, key, value]
        if not is_batched:
            inputs = [x.unsqueeze(0) for x in inputs]
        elif not self.batch_first:
            inputs = [x.transpose(0, 1) for x in inputs]
        q, k, v = self._project(inputs)
        out = self.out_proj(merge_heads(self.mix(q, k, v, keep, is_causal)))
        if not is_batched:
            return out.squeeze(0), None
        return (out if self.batch_first else out.transpose(0, 1)), None

    def _project(self, inputs: list[Tensor]) -> tuple[Tensor, Tensor, Tensor]:
        """(B, N, C), (B, M, kdim), (B, M, vdim) -> heads of (B, H, N or M, D)."""
        weights: Sequence[Tensor] = (self.q_proj_weight, self.k_proj_weight, self.v_proj_weight)
        if self.in_proj_weight is not None:
            weights = self.in_proj_weight.chunk(3)
        biases = (None,) * 3 if self.in_proj_bias is None else self.in_proj_bias.chunk(3)
        q, k, v = (
            split_heads(functional.linear(x, weight, bias), self.num_heads)
            for x, weight, bias in zip(inputs, weights, biases, strict=True)
        )
        return q, k, v

    def _check_masks(
        self, query: Tensor, key: Tensor, key_padding_mask: Any, attn_mask: Any
    ) -> None:
        """Refuse masks of other sizes or kinds than torch's module takes.

        It broadcasts none of them, and in whole numbers 1 may mean to hide or to keep.
        """
        batch = (query.shape[0] if self.batch_first else query.shape[1],) * (query.dim() == 3)
        tokens = 0 if not batch or not self.batch_first else 1
        query_len, key_len = query.shape[tokens], key.shape[tokens]
        pairs = (query_len, key_len)
        allowed = {
            "key_padding_mask": [(*batch, key_len)],
            "attn_mask": [pairs, (self.num_heads * (batch or (1,))[0], *pairs)],
        }
        for name, mask in (("key_padding_mask", key_padding_mask), ("attn_mask", attn_mask)):
            if mask is None:
                continue
            given = tuple(mask.shape) if isinstance(mask, Tensor) else type(mask).__name__
            if given not in allowed[name]:
                sizes = " or ".join(map(str, allowed[name]))
                raise ValueError(
                    f"{self.place}: {name} is of {'shape' if isinstance(mask, Tensor) else 'type'} "
                    f"{given}; a tensor of shape {sizes} is needed."
                )
            if not (mask.dtype == torch.bool or mask.is_floating_point()):
                raise ValueError(
                    f"{self.place}: {name} is of {mask.dtype}; torch.bool, where True hides, or "
                    "numbers that are added to the scores are needed."
                )

    def _keep(
        self, query: Tensor, key_padding_mask: Tensor | None, attn_mask: Tensor | None
    ) -> Tensor | None:
        """Both masks in one, True keeps, broadcastable to (B, H, N, M). Torch's True hides."""
        keep = None
        if key_padding_mask is not None:
            keys = key_padding_mask if key_padding_mask.dim() == 2 else key_padding_mask[None]
            keep = self._as_keep(keys)[:, None, None, :]
        if attn_mask is None:
            return keep
        pairs = self._as_keep(attn_mask)
        if pairs.dim() == 3:  # (B * H, N, M)
            pairs = pairs.unflatten(0, (-1, self.num_heads))
        return pairs if keep is None else pairs & keep

    def _as_keep(self, mask: Tensor) -> Tensor:
        if mask.is_floating_point():
            return from_additive(mask, place=self.place)
        return ~mask


def _check_parameters(old: Any, wish: Wish, place: str) -> None:
    """Refuse projections that are computed from other parameters, as weight norm does."""
    for name in _PARAMETERS:
        value = getattr(old, name)
        if value is not None and not isinstance(value, nn.Parameter):
            raise ValueError(
                f"{wish.mechanism} at {place}: {name} is computed from other parameters; replace "
                "the attention before it is parametrized, or leave it as it is, by where=."
            )
