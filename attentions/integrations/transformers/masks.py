"""Masks of a model of Transformers, in the shortest form that says what each token sees.

Transformers writes masks out as (B, 1, N, M), which would cost more than a linear mechanism. Here
a plain causal or bidirectional mask becomes the padding alone, (B, 1, 1, M), or nothing. Whether
later tokens are hidden is then what the attention module says of itself (``is_causal``), as it is
for Transformers' own fused kernels. Other masks, such as windows or packed documents, are written
out.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from transformers.masking_utils import (
    bidirectional_mask_function,
    causal_mask_function,
    sdpa_mask,
)

from .models import refuse_unheard

_PLAIN = (causal_mask_function, bidirectional_mask_function)


def short_mask(
    batch_size: int,
    q_length: int,
    kv_length: int,
    q_offset: int = 0,
    kv_offset: int = 0,
    mask_function: Callable[..., Any] = causal_mask_function,
    attention_mask: Tensor | None = None,
    **settings: Any,
) -> Tensor | None:
    """A mask as `transformers.AttentionMaskInterface` wants it made.

    Args:
        batch_size: B.
        q_length: N, the queries of this call.
        kv_length: M, the keys, those in the cache included.
        q_offset: position of the first query.
        kv_offset: position of the first key.
        mask_function: whether a query may see a key, by their positions.
        attention_mask: padding, (B, kv_offset + M) bool, True keeps.
        settings: passed on where the mask is written out.

    Returns:
        (B, 1, 1, M) or (B, 1, N, M) bool, True keeps; None if nothing is hidden but later keys.

    Raises:
        ValueError: there are more keys than tokens, as in a static cache, or the model computes
            its attention by itself.
    """
    refuse_unheard(settings.get("config"))
    if int(q_offset) + q_length < kv_offset + kv_length and mask_function is causal_mask_function:
        raise ValueError(
            f"attnbench: {kv_length} keys were given for {int(q_offset) + q_length} tokens, as a "
            "static cache does; use a dynamic cache, or use_cache=False."
        )
    if mask_function not in _PLAIN:
        settings.update(allow_is_causal_skip=False, allow_is_bidirectional_skip=False)
        return sdpa_mask(
            batch_size=batch_size,
            q_length=q_length,
            kv_length=kv_length,
            q_offset=q_offset,
            kv_offset=kv_offset,
            mask_function=mask_function,
            attention_mask=attention_mask,
            **settings,
        )
    if attention_mask is None:
        return None
    keys = attention_mask[:, kv_offset : kv_offset + kv_length].to(torch.bool)
    if keys.shape[1] != kv_length:
        raise ValueError(
            f"attnbench: attention_mask is {tuple(attention_mask.shape)}; a value for each of "
            f"{kv_offset + kv_length} tokens is needed."
        )
    return None if bool(keys.all()) else keys[:, None, None, :]
