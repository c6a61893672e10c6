"""From the masks of a model's call to those that a core takes, or a refusal: never another result.

A mask here is bool and True keeps the pair, as everywhere in this package.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from ..base import Attention
from ..maths.pairs.masks import causal_pairs


def mix(
    core: Attention,
    q: Tensor,
    k: Tensor,
    v: Tensor,
    *,
    keep: Tensor | None,
    is_causal: bool,
    place: str,
    call: Callable[..., Tensor] | None = None,
) -> Tensor:
    """Call a core as a model asks for it.

    Args:
        core: built with ``Geometry(causal=True)`` or without.
        q: (B, H, N, D).
        k: (B, H_kv, M, D).
        v: (B, H_kv, M, E).
        keep: what the call lets be seen, bool, broadcastable to (B, H, N, M); None for all.
        is_causal: whether the call also hides later keys.
        place: where in the model this is, for messages.
        call: what is called with the core, q, k, v and its masks, hiding nothing else; the core
            itself unless given.

    Returns:
        (B, H, N, E).

    Raises:
        ValueError: the core cannot do what the call asks for.
    """
    if q.shape[-2] != k.shape[-2] and not core.capabilities.cross:
        raise ValueError(
            f"{core.name} at {place}: {q.shape[-2]} queries and {k.shape[-2]} keys were given; "
            f"{core.name} needs as many keys as queries, so leave cross attention as it is, by "
            "where=."
        )
    if keep is not None:
        keep = keep[(None,) * (4 - keep.dim())]  # (B or 1, H or 1, N or 1, M or 1)
    if call is not None:
        return call(core, q, k, v, **_masks(core, q, k, keep, place))
    if core.geometry.causal:
        keep = _beyond_causal(core, q, k, keep, is_causal=is_causal, place=place)
    elif is_causal and q.shape[-2] > 1:
        keep = _with_causal(core, q, k, keep, place=place)
    return core(q, k, v, **_masks(core, q, k, keep, place))


def from_additive(mask: Tensor, *, place: str) -> Tensor:
    """A mask that is added to scores, 0 or -inf, as bool; True keeps.

    Raises:
        ValueError: it holds other numbers, or is learned: it is a bias, and no core takes one.
    """
    if mask.requires_grad:  # also where it starts at zero: it would get no gradient
        raise ValueError(
            f"{place}: what is added to the scores is learned, as positions are; only masks that "
            "hide or keep are taken."
        )
    hidden = mask <= torch.finfo(mask.dtype).min
    if not (hidden | (mask == 0)).all():
        raise ValueError(
            f"{place}: the mask adds numbers other than 0 and -inf to the scores; only masks that "
            "hide or keep are taken."
        )
    return ~hidden


def _with_causal(
    core: Attention, q: Tensor, k: Tensor, keep: Tensor | None, *, place: str
) -> Tensor:
    """A causal call of a core that was not built causal: a mask over pairs, if it takes one."""
    if "dense" not in core.capabilities.masks:
        mend = (
            "build it so, with causal=True." if core.capabilities.causal else "it has no such form."
        )
        raise ValueError(f"{core.name} at {place}: the call is causal; {mend}")
    if q.shape[-2] != k.shape[-2]:
        raise ValueError(
            f"{core.name} at {place}: a causal call with {q.shape[-2]} queries and {k.shape[-2]} "
            "keys does not say which key is the first query's own; give it as a mask."
        )
    pairs = causal_pairs(q.shape[-2], q.device)[None, None]
    return pairs if keep is None else pairs & keep


def _beyond_causal(
    core: Attention, q: Tensor, k: Tensor, keep: Tensor | None, *, is_causal: bool, place: str
) -> Tensor | None:
    """Part of a mask beyond the causal one; the call must hide it."""
    if q.shape[-2] == k.shape[-2] == 1:
        return keep
    if keep is not None and keep.shape[-2:] == (q.shape[-2], k.shape[-2]):
        pairs = causal_pairs(q.shape[-2], q.device)
        keys = keep[..., -1:, :]  # the last query sees all that is not hidden for all
        if torch.equal(keep & pairs, keys & pairs) and (
            is_causal or torch.equal(keep & pairs, keep)
        ):
            return None if bool(keys.all()) else keys
        is_causal = is_causal or not bool((keep & ~pairs).any())
    if not is_causal:
        raise ValueError(
            f"{core.name} at {place}: it hides later keys, and this call does not; give a causal "
            "mask, or do without causal=True."
        )
    return keep


def _masks(
    core: Attention, q: Tensor, k: Tensor, keep: Tensor | None, place: str
) -> dict[str, Tensor]:
    if keep is None:
        return {}
    takes = core.capabilities.masks
    if (
        "padding" in takes
        and (keys := _as_key_mask(keep, thorough="dense" not in takes)) is not None
    ):
        return {"key_mask": keys.expand(q.shape[0], k.shape[-2])}
    if "dense" in takes:
        return {"mask": keep}
    what = "a mask over pairs" if "padding" in takes else "a mask"
    can = "only one that hides keys from all queries" if "padding" in takes else "none"
    raise ValueError(f"{core.name} at {place}: the call gives {what}; {core.name} takes {can}.")


def _as_key_mask(keep: Tensor, *, thorough: bool) -> Tensor | None:
    """(B or 1, M) if all queries of all heads see the same keys, else None.

    Looking into the mask costs its size and a wait for the device, so only where it must be.
    """
    if keep.shape[1] == keep.shape[2] == 1:
        return keep[:, 0, 0]
    if thorough and bool((keep == keep[:, :1, :1]).all()):
        return keep[:, 0, 0]
    return None
