"""Which core stands for an attention module of a Transformers model."""

from __future__ import annotations

import contextlib
import contextvars
import functools
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor, nn

from ...base import Attention
from ..swapped import Wish
from ..token_layout import TokenLayout

ATTACHED = "attnbench_core"
"""Name of the submodule under which a core with its own parameters lies in its attention."""
_KEPT = "_attnbench_cores"
"""Where cores without parameters are kept, outside the module tree, so that nothing is saved."""


@dataclass(frozen=True, kw_only=True)
class Attaching:
    """A core of one kind is being put into every attention that is called.

    Attributes:
        wish: what is built, but for ``causal``, which the call says.
        layout: of the tokens.
        modules: those that have got one.
    """

    wish: Wish
    layout: TokenLayout
    modules: list[nn.Module] = field(default_factory=list)


_RECIPE, _TWIN = "_attnbench_recipe", "_attnbench_twin"
"""Where a core keeps what it was built from, and what `sees_all` makes of it."""

_attaching: contextvars.ContextVar[Attaching | None] = contextvars.ContextVar(
    "attaching", default=None
)


@contextlib.contextmanager
def attaching(to_do: Attaching) -> Iterator[None]:
    """While this lasts, a called attention gets a core of its own; see `core_for`."""
    token = _attaching.set(to_do)
    try:
        yield
    finally:
        _attaching.reset(token)


def core_for(
    module: nn.Module, mechanism: str, q: Tensor, k: Tensor, v: Tensor, *, causal: bool
) -> Attention:
    """The module's core: the one attached to it, or one without parameters, built when first used.

    Args:
        module: the attention of the model.
        mechanism: registered name.
        q: (B, H, N, D), of which the sizes are read.
        k: (B, H_kv, M, D).
        v: (B, H_kv, M, E).
        causal: whether later keys are hidden.

    Raises:
        ValueError: the mechanism has parameters and none is attached, or it cannot do this.
    """
    sizes = {
        "num_heads": q.shape[1],
        "head_dim": q.shape[-1],
        "num_kv_heads": k.shape[1],
        "value_dim": v.shape[-1],
    }
    to_do = _attaching.get()
    if to_do is not None:
        return _attach(module, to_do, q, sizes, causal=causal)
    attached = getattr(module, ATTACHED, None)
    if attached is not None and attached.name == mechanism:
        if attached.geometry.causal != causal:
            asked, built = ("causal" if c else "not causal" for c in (causal, not causal))
            raise ValueError(f"{mechanism}: this call is {asked}; the core attached is {built}.")
        return attached  # type: ignore[no-any-return]
    kept: dict[Any, Attention] = module.__dict__.setdefault(_KEPT, {})
    key = (mechanism, causal, q.device, q.dtype, *sizes.values())
    if key not in kept:
        kept[key] = _without_parameters(Wish(mechanism=mechanism, causal=causal), module, q, sizes)
    core = kept[key]
    if core.training != module.training:  # outside the module tree, no train() or eval() reaches it
        core.train(module.training)
    return core


def sees_all(core: Attention, q: Tensor, k: Tensor, v: Tensor, **masks: Tensor) -> Tensor:
    """Call a causal core as one that hides nothing, with the parameters that it has.

    For queries that come after all keys but their own, or whose masks say what they see.
    """
    twin = core.__dict__.get(_TWIN)
    if twin is None:
        recipe: _Recipe = core.__dict__[_RECIPE]
        twin = replace(recipe, wish=replace(recipe.wish, causal=False)).build().eval()
        core.__dict__[_TWIN] = twin  # not a submodule: its own tensors are never used
    tensors = {**dict(core.named_parameters()), **dict(core.named_buffers())}
    return torch.func.functional_call(twin, tensors, (q, k, v), masks)  # type: ignore[no-any-return]


@dataclass(frozen=True, kw_only=True)
class _Recipe:
    """All that a core is built from."""

    wish: Wish
    layout: TokenLayout
    sizes: Mapping[str, int]
    device: torch.device
    dtype: torch.dtype

    def build(self) -> Attention:
        wish = self.wish.for_layout(self.layout)
        core = wish.build(self.layout, **self.sizes)
        core.__dict__[_RECIPE] = self
        core.__dict__["extra_repr"] = functools.partial(str, wish)  # as printed with the model
        return core.to(device=self.device, dtype=self.dtype)


def _attach(
    module: nn.Module, to_do: Attaching, q: Tensor, sizes: Mapping[str, int], *, causal: bool
) -> Attention:
    present = getattr(module, ATTACHED, None)
    if isinstance(present, Attention):  # called twice in one pass
        return present
    is_given = to_do.layout.seq_len is not None or to_do.layout.grid is not None
    recipe = _Recipe(
        wish=replace(to_do.wish, causal=causal),
        layout=to_do.layout if is_given else _layout_of(module, to_do.layout),
        sizes=sizes,
        device=q.device,
        dtype=q.dtype,
    )
    core = recipe.build()
    module.add_module(ATTACHED, core)
    to_do.modules.append(module)
    return core


def _without_parameters(
    wish: Wish, module: nn.Module, q: Tensor, sizes: Mapping[str, int]
) -> Attention:
    layout = _layout_of(module, TokenLayout())
    core = _Recipe(wish=wish, layout=layout, sizes=sizes, device=q.device, dtype=q.dtype).build()
    if next(core.parameters(), None) is not None:
        raise ValueError(
            f"{wish.mechanism} has parameters of its own; put them into the model before it is "
            f"used: attentions.huggingface.attach(model, {wish.mechanism!r})."
        )
    return core


def _layout_of(module: nn.Module, given: TokenLayout) -> TokenLayout:
    """The model's greatest number of positions, where its configuration names it."""
    longest = getattr(getattr(module, "config", None), "max_position_embeddings", None)
    if not isinstance(longest, int) or longest < 1:
        return given
    return replace(given, seq_len=longest)
