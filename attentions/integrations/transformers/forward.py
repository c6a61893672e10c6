"""The function that a Transformers model calls as its attention, around any core."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn

from ...base import Attention
from ...maths.pairs.masks import causal_pairs
from ...maths.shared_heads import KeepsKeysAndValues, SharedHeads
from ...registry import attention_class
from ..swap_masks import from_additive, mix
from .cache import RecurrentLayer, layer_of
from .cores import core_for, sees_all

_HARMLESS = frozenset(
    {
        "cache",
        "cache_position",
        "num_items_in_batch",
        "output_hidden_states",
        "output_router_logits",
        "past_key_values",
        "position_ids",
        "return_dict",
        "sliding_window",  # the mask says so, too
        "use_cache",
    }
)
"""Arguments of a call that do not change what attention computes, or that a mask repeats."""


class AttentionFunction:
    """One mechanism, called as `transformers.AttentionInterface` calls.

    Args:
        mechanism: registered name of a core.
    """

    def __init__(self, mechanism: str) -> None:
        self.mechanism = mechanism
        self.can = attention_class(mechanism).capabilities

    def __repr__(self) -> str:
        return f"AttentionFunction({self.mechanism!r})"

    def __call__(
        self,
        module: nn.Module,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        attention_mask: Tensor | None,
        dropout: float = 0.0,
        scaling: float | None = None,
        is_causal: bool | None = None,
        **others: Any,
    ) -> tuple[Tensor, None]:
        """Mix.

        Args:
            module: the attention of the model.
            query: (B, H, N, D).
            key: (B, H_kv, M, D), those in the cache included.
            value: (B, H_kv, M, E).
            attention_mask: bool, True keeps, or added, 0 or lowest; see `short_mask`.
            dropout: share of weights to drop; only 0 is taken.
            scaling: of the scores; queries are scaled so that 1/sqrt(D) becomes it.
            is_causal: whether later keys are hidden, if the mask does not say; the module's own
                ``is_causal`` if None.
            others: what models pass besides.

        Returns:
            (B, N, H, E), and None for the weights.

        Raises:
            ValueError: the mechanism cannot do what the call asks for.
        """
        place = f"{type(module).__name__} {getattr(module, 'layer_idx', '')}".strip()
        self._refuse(place, dropout, others)
        query = _scaled(query, scaling)
        if is_causal is None:
            is_causal = bool(getattr(module, "is_causal", True))
        keep = attention_mask
        if keep is not None and keep.is_floating_point():
            keep = from_additive(keep, place=place)
        self._check_direction(place, causal=is_causal)
        core = core_for(module, self.mechanism, query, key, value, causal=is_causal)
        layer = layer_of(key)
        if layer is not None:
            out = _step(core, query, key, value, keep, layer, place)
        elif is_causal and key.shape[-2] != query.shape[-2]:
            out = _look_back(core, query, key, value, keep, place)
        else:
            out = _mix_all(core, query, key, value, keep, place, is_causal=is_causal)
        return out.transpose(1, 2).contiguous(), None

    def _refuse(self, place: str, dropout: float, others: dict[str, Any]) -> None:
        if dropout:
            raise ValueError(
                f"{self.mechanism} at {place}: the model drops {dropout:g} of its weights while "
                "training, and the mechanism drops none; set the dropout of attention to 0 in the "
                "model's configuration."
            )
        asked = [
            n for n, x in others.items() if n not in _HARMLESS and x is not None and x is not False
        ]
        if asked:
            raise ValueError(
                f"{self.mechanism} at {place}: the model asks its attention for "
                f"{', '.join(asked)}, which mechanisms of attnbench do not offer."
            )

    def _check_direction(self, place: str, *, causal: bool) -> None:
        if self.can.causal if causal else self.can.bidirectional:
            return
        words = ("hides later tokens", "causal") if causal else ("sees all tokens", "bidirectional")
        raise ValueError(
            f"{self.mechanism} at {place}: this attention {words[0]}, and the mechanism has no "
            f"{words[1]} form; `attnbench list` shows those that have one."
        )


def _scaled(query: Tensor, scaling: float | None) -> Tensor:
    if scaling is None:
        return query
    factor = scaling * math.sqrt(query.shape[-1])
    return query if math.isclose(factor, 1.0, rel_tol=1e-6) else query * factor


def _mix_all(
    core: Attention,
    q: Tensor,
    k: Tensor,
    v: Tensor,
    keep: Tensor | None,
    place: str,
    *,
    is_causal: bool,
) -> Tensor:
    """All tokens at once. A mask over pairs tells all there is, whatever the module says."""
    if keep is None or keep.shape[-2] == 1:
        return mix(core, q, k, v, keep=keep, is_causal=is_causal, place=place)
    can = core.capabilities
    call = sees_all if can.bidirectional and "dense" in can.masks else None
    return mix(core, q, k, v, keep=keep, is_causal=False, place=place, call=call)


def _step(
    core: Attention,
    q: Tensor,
    k: Tensor,
    v: Tensor,
    keep: Tensor | None,
    layer: RecurrentLayer,
    place: str,
) -> Tensor:
    """The next tokens, with the state of the tokens before them."""
    inner = core.core if isinstance(core, SharedHeads) else core
    if not core.capabilities.recurrent or not core.geometry.causal:
        raise ValueError(
            f"{core.name} at {place}: it has no recurrent form; use another cache, or "
            "use_cache=False."
        )
    if isinstance(inner, KeepsKeysAndValues) and _goes_on_from_keys(core):
        raise ValueError(
            f"{core.name} at {place}: its state would be keys and values; leave them to the "
            "model's own cache."
        )
    if keep is not None and not _hides_later_only(keep, q.shape[-2]):
        raise ValueError(
            f"{core.name} at {place}: some tokens are hidden by padding or a window, and its step "
            "takes no mask; decode texts of one length together, or use_cache=False."
        )
    state = layer.state
    if state is None:
        state = core.init_state(q.shape[0], dtype=q.dtype, device=q.device)
    out, state = core.step(q, k, v, state)
    layer.advance(state)
    return out


def _hides_later_only(keep: Tensor, num_queries: int) -> bool:
    """Whether a mask for the last N of M tokens lets each see itself and all before it."""
    pairs = causal_pairs(keep.shape[-1], keep.device)[-num_queries:]  # (N, M)
    if keep.shape[-2] == 1:  # padding alone: the core hides later tokens
        return bool((keep | ~pairs).all())
    return torch.equal(keep, pairs.expand_as(keep))


def _goes_on_from_keys(core: Attention) -> bool:
    """Whether the last of many tokens can be mixed with the keys and values of all."""
    can = core.capabilities
    return can.cross and can.bidirectional and can.position_free


def _look_back(
    core: Attention, q: Tensor, k: Tensor, v: Tensor, keep: Tensor | None, place: str
) -> Tensor:
    """The last N of M tokens, whose keys and values a cache has kept."""
    mend = "pass a RecurrentCache of attentions.huggingface, or use_cache=False."
    if not core.capabilities.recurrent:
        mend = "use_cache=False."
    if not _goes_on_from_keys(core):
        raise ValueError(
            f"{core.name} at {place}: it cannot go on from cached keys and values; {mend}"
        )
    num_queries, num_keys = q.shape[-2], k.shape[-2]
    if num_queries > 1 and "dense" not in core.capabilities.masks:
        raise ValueError(
            f"{core.name} at {place}: {num_queries} tokens follow {num_keys - num_queries} cached "
            f"ones, which takes a mask over pairs, and {core.name} has none; {mend}"
        )
    if num_queries > 1 and (keep is None or keep.shape[-2] == 1):
        pairs = causal_pairs(num_keys, q.device)[None, None, num_keys - num_queries :]
        keep = pairs if keep is None else pairs & keep
    return mix(core, q, k, v, keep=keep, is_causal=False, place=place, call=sees_all)
