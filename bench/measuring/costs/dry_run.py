"""Peak memory of a call, found on meta tensors, which have sizes and hold no values."""

from __future__ import annotations

import weakref
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from bench.measuring.device.base import allowed_sdpa


class _Alive(TorchDispatchMode):
    """Sums the bytes of living storages that operators have made, and their peak."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.now = 0
        self.peak = 0
        self._known: set[int] = set()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        # Storages of arguments existed before the call, or are known already.
        given = {_identity(t) for t in tree_leaves((args, kwargs)) if isinstance(t, Tensor)}
        out = func(*args, **(kwargs or {}))
        for tensor in tree_leaves(out):
            if isinstance(tensor, Tensor) and _identity(tensor) not in given | self._known:
                self._meet(tensor)
        return out

    def _meet(self, tensor: Tensor) -> None:
        storage = tensor.untyped_storage()
        key, size = _identity(tensor), storage.nbytes()
        self._known.add(key)
        self.now += size
        self.peak = max(self.peak, self.now)
        weakref.finalize(storage, self._part, key, size)

    def _part(self, key: int, size: int) -> None:
        self._known.discard(key)
        self.now -= size


class _FusedAttention(TorchFunctionMode):
    """Keeps torch's fused attention one operator; on meta, torch decomposes it into all pairs.

    Only for widths that the CPU's kernel takes: for others, torch computes all pairs on the CPU
    as well.
    """

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is functional.scaled_dot_product_attention:
            return _attend(*args, **(kwargs or {}))
        return func(*args, **(kwargs or {}))


def _attend(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    attn_mask: Tensor | None = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    **rest: Any,
) -> Tensor:
    is_learned = attn_mask is not None and attn_mask.requires_grad
    fits = q.dim() == 4 and q.shape[-1] == k.shape[-1] == v.shape[-1] and not is_learned
    is_on = allowed_sdpa()[0]  # flash, the switch of the CPU's kernel as well
    if not (fits and is_on and q.is_meta and dropout_p == 0.0):
        return functional.scaled_dot_product_attention(
            q, k, v, attn_mask, dropout_p, is_causal, **rest
        )
    if attn_mask is not None and attn_mask.dtype is torch.bool:
        attn_mask = attn_mask.to(q.dtype)
    kernel = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu
    scale = rest.get("scale")
    out: Tensor = kernel(q, k, v, 0.0, is_causal, attn_mask=attn_mask, scale=scale)[0]
    return out


def _identity(tensor: Tensor) -> int:
    storage: Any = tensor.untyped_storage()
    return int(storage._cdata)


def peak_bytes(call: Callable[[], object]) -> int:
    """Largest number of bytes of tensors that operators of a call have made and that are alive.

    Scratch memory within a fused operator is not counted.

    Raises:
        Exception: whatever a call raises that does not support meta tensors.
    """
    alive = _Alive()
    with _FusedAttention(), alive:
        call()
    return alive.peak
