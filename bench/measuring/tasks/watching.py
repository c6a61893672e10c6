"""A trained model's attention weights and tokens while it answers, with gradients to its logits."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from attentions import MultiHeadAttention
from bench.measuring.tasks.model import Backbone
from bench.measuring.weights import NoWeights, weights

_TOLERANCE = 1e-4


@dataclass
class _Seen:
    weights: list[Tensor] = field(default_factory=list)
    tokens: list[Tensor] = field(default_factory=list)


@contextmanager
def watched(model: Backbone) -> Iterator[_Seen]:
    """Within it, every block mixes by its weights, W v, and what it used is kept.

    Raises:
        NoWeights: a mechanism is a layer of its own, or gives something else than W v.
    """
    seen = _Seen()
    hooks = []
    try:
        for block in model.blocks:
            block_: Any = block
            hooks.append(block_.norm1.register_forward_hook(lambda *c: seen.tokens.append(c[-1])))
            hooks.append(_watch(core_of(block_.mixer), seen))
        yield seen
    finally:
        for hook in hooks:
            hook.remove()


def core_of(mixer: nn.Module) -> Any:
    """The mixing step inside of a block's layer.

    Raises:
        NoWeights: it owns its projections.
    """
    if type(mixer) is not MultiHeadAttention:
        name = getattr(mixer, "name", type(mixer).__name__)
        raise NoWeights(f"{name} has no weights to look at: it owns its projections.")
    return mixer.core


def _watch(core: Any, seen: _Seen) -> Any:
    is_inside = False

    def mix(_: nn.Module, given: tuple[Tensor, ...], gates: dict[str, Tensor], out: Tensor) -> Any:
        nonlocal is_inside
        if is_inside:  # `weights` calls the core itself
            return None
        q, k, v = given
        is_inside = True
        try:
            found = weights(core, q, k, **gates)
            # By the core itself, whose rounding W v need not share.
            again = core(q, k, v, **gates)
        finally:
            is_inside = False
        if torch.is_grad_enabled() and not found.requires_grad:
            found.requires_grad_()  # weights that do not look at tokens still move the logit
        heads = q.shape[1]
        halves = found.split(heads, dim=1)
        mixed = torch.cat(
            [halves[side % len(halves)] @ half for side, half in enumerate(v.tensor_split(2, -1))],
            dim=-1,
        )
        if (again - out).abs().amax() > _TOLERANCE * out.abs().amax().clamp(min=1e-6):
            raise NoWeights(
                f"{core.name} has no weights to look at: W v is not what it gives in this model."
            )
        seen.weights.append(found)
        return mixed

    return core.register_forward_hook(mix, with_kwargs=True)
