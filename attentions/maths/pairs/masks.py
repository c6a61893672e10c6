"""Masks over keys and pairs. True keeps, False hides."""

from __future__ import annotations

import torch
from torch import Tensor


def check_key_mask(mechanism: str, key_mask: Tensor | None, k: Tensor) -> None:
    """Raise a ValueError unless the mask is None, or bool of shape (B, M)."""
    if key_mask is None:
        return
    expected = (k.shape[0], k.shape[-2])
    if not isinstance(key_mask, Tensor):
        raise ValueError(
            f"{mechanism}: key_mask is of type {type(key_mask).__name__}; a bool tensor of shape "
            f"{expected}, True for each key to keep, is needed."
        )
    if key_mask.dtype != torch.bool or tuple(key_mask.shape) != expected:
        raise ValueError(
            f"{mechanism}: key_mask is {key_mask.dtype} of shape {tuple(key_mask.shape)}; a bool "
            f"tensor of shape {expected}, True for each key to keep, is needed."
        )


def hide_keys(mechanism: str, phi_k: Tensor, key_mask: Tensor | None) -> Tensor:
    """Features of (B, H, M, F) with those of hidden keys set to zero, so their weights are zero."""
    if key_mask is None:
        return phi_k
    check_key_mask(mechanism, key_mask, phi_k)
    return phi_k.masked_fill(~key_mask[:, None, :, None], 0.0)


def hide_tokens(x: Tensor, key_mask: Tensor | None) -> Tensor:
    """(B, N, C) with zeros for hidden tokens."""
    return x if key_mask is None else x.masked_fill(~key_mask.unsqueeze(-1), 0.0)


def count_keys(k: Tensor, key_mask: Tensor | None) -> int | Tensor:
    """How many keys are kept, at least 1: a number, or (B, 1, 1, 1) under a mask."""
    if key_mask is None:
        return k.shape[-2]
    return key_mask.sum(-1).clamp(min=1).to(k.dtype)[:, None, None, None]


def causal_pairs(length: int, device: torch.device) -> Tensor:
    """(N, N), True where the key is not later than the query."""
    return torch.ones(length, length, dtype=torch.bool, device=device).tril()


def allowed_pairs(
    mechanism: str,
    q: Tensor,
    k: Tensor,
    *,
    causal: bool,
    key_mask: Tensor | None,
    mask: Tensor | None,
) -> Tensor | None:
    """All masks in one that broadcasts to (B, H, N, M); None if nothing is hidden."""
    allowed = causal_pairs(q.shape[-2], q.device) if causal else None
    if key_mask is not None:
        check_key_mask(mechanism, key_mask, k)
        keys = key_mask[:, None, None, :]
        allowed = keys if allowed is None else allowed & keys
    if mask is not None:
        check_dense_mask(mechanism, mask, q, k)
        mask = torch.atleast_2d(mask)  # rows are queries
        allowed = mask if allowed is None else allowed & mask
    return allowed


def near_pairs(key_mask: Tensor, window: int) -> Tensor:
    """(B, 1, N, N), True for keys within a window that counts kept tokens, the query's among them.

    A hidden token stands where the last kept one before it stands.

    >>> near_pairs(torch.tensor([[True, False, True]]), 2)[0, 0, 2].tolist()
    [True, True, True]
    """
    places = key_mask.cumsum(dim=-1)
    near: Tensor = (places[:, None, :, None] - places[:, None, None, :]).abs() < window
    return near


def check_dense_mask(mechanism: str, mask: Tensor | None, q: Tensor, k: Tensor) -> None:
    """Raise a ValueError unless the mask is None, or bool and broadcasts to (B, H, N, M)."""
    if mask is None:
        return
    full = (*q.shape[:3], k.shape[-2])
    if not isinstance(mask, Tensor):
        raise ValueError(
            f"{mechanism}: mask is of type {type(mask).__name__}; a bool tensor that broadcasts "
            f"to {full}, True for each pair to keep, is needed."
        )
    fits = mask.dim() <= 4 and all(
        have in (1, want) for have, want in zip(reversed(mask.shape), reversed(full), strict=False)
    )
    if mask.dtype != torch.bool or not fits:
        raise ValueError(
            f"{mechanism}: mask is {mask.dtype} of shape {tuple(mask.shape)}; a bool tensor that "
            f"broadcasts to {full}, True for each pair to keep, is needed."
        )
