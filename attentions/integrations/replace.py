"""Put a mechanism into an existing model, in place of its attention and around its projections."""

from __future__ import annotations

import fnmatch
import warnings
from collections.abc import Callable, Iterable
from typing import Any, TypeVar

from torch import nn

from ..base import Attention
from ..registry import attention_class, attention_names
from .swap_layouts import Layouts
from .swapped import Swapped, Wish, why_gated
from .swapped_timm import SwappedTimmAttention
from .swapped_timm_rope import SwappedTimmRope
from .swapped_torch import SwappedMultiheadAttention
from .token_layout import TokenLayout

M = TypeVar("M", bound=nn.Module)
Where = str | Iterable[str] | Callable[[str], bool]

_KINDS: tuple[type[Swapped], ...] = (
    SwappedTimmAttention,
    SwappedTimmRope,
    SwappedMultiheadAttention,
)
_HINTS = {
    "transformers.": (
        " A model of transformers takes attn_implementation; see attentions.huggingface."
    ),
    "timm.models.swin_transformer": (
        " attentions.build_model builds a Swin with a mechanism in it; see docs/models.md."
    ),
    "timm.models.pvt_v2": (
        " attentions.build_model builds a PVT v2 with a mechanism in it; see docs/models.md."
    ),
}
"""Advice by the package that a model's modules come from."""
_OWN_SCORES = {
    "relative_position_bias_table": "adds a learned table of relative positions to its scores",
    "proj_l": "mixes the scores of its heads with each other",
}
"""Features that no mechanism can take over, by the attribute that shows them: BEiT, Swin; CaiT."""
_NUM_SHOWN = 8
"""Places that a message lists."""


def replace_attention(
    model: M,
    mechanism: str,
    *,
    where: Where | None = None,
    causal: bool = False,
    seq_len: int | None = None,
    grid: tuple[int, int] | None = None,
    ignore_dropout: bool = False,
    **hyperparameters: Any,
) -> M:
    """Exchange the attention inside a model for another mechanism, keeping its trained projections.

    Takes `timm.layers.Attention`, as in timm's vision transformers, its kin with rotary positions,
    and `torch.nn.MultiheadAttention`, also inside torch's own transformer layers. Names of existing
    parameters stay as they are; parameters of the mechanism come under ``core``. Nothing is
    changed unless everything can be. Without ``where``, a warning counts the attentions of other
    kinds, which stay as they are.

    >>> import torch, attentions
    >>> layer = torch.nn.TransformerEncoderLayer(64, nhead=4, dropout=0.0, batch_first=True)
    >>> layer = attentions.replace_attention(layer, "linear")
    >>> layer.self_attn.core.name
    'linear'

    Args:
        model: changed in place.
        mechanism: registered name of a core.
        where: which attentions: a glob over dotted names such as ``"blocks.[0-5].attn"``, several
            globs, or a function from a dotted name to bool; all unless given.
        causal: build the mechanism to hide later keys. Calls must then be causal.
        seq_len: how many tokens there are, or at most. Known for timm's vision transformers;
            otherwise needed by mechanisms whose parameters depend on it.
        grid: (rows, columns) of the tokens, for mechanisms that need it; known as ``seq_len`` is.
        ignore_dropout: go on although the old attention drops weights while training. The new one
            drops none.
        hyperparameters: the mechanism's own.

    Returns:
        The model.

    Raises:
        ValueError: nothing to exchange, or the mechanism cannot do what the model needs; or the
            model is itself an attention, which `replaced_attention` takes.
        TypeError: a hyperparameter that the mechanism does not take.
    """
    if not isinstance(model, nn.Module):
        raise ValueError(f"model is {model!r}; an nn.Module is needed.")
    if _kind_of(model):
        raise ValueError(
            f"model is itself the attention, a {type(model).__name__}, and cannot become another "
            "module in place; put what attentions.replaced_attention(...) returns where it was."
        )
    _exchange(
        model,
        Wish(mechanism=mechanism, causal=causal, settings=hyperparameters),
        TokenLayout(seq_len=seq_len, grid=grid),
        where=where,
        ignore_dropout=ignore_dropout,
    )
    return model


def replaced_attention(
    attention: nn.Module,
    mechanism: str,
    *,
    causal: bool = False,
    seq_len: int | None = None,
    grid: tuple[int, int] | None = None,
    ignore_dropout: bool = False,
    **hyperparameters: Any,
) -> nn.Module:
    """Another mechanism around the projections of one attention, to stand where that one stood.

    >>> import torch, attentions
    >>> new = attentions.replaced_attention(torch.nn.MultiheadAttention(64, 4), "linear")
    >>> new.core.name
    'linear'

    Args:
        attention: a module of a kind that `replace_attention` takes; its parameters and hooks go
            over to the new one.
        mechanism: registered name of a core.
        causal: as for `replace_attention`.
        seq_len: as for `replace_attention`.
        grid: as for `replace_attention`.
        ignore_dropout: as for `replace_attention`.
        hyperparameters: the mechanism's own.

    Returns:
        A new module.

    Raises:
        ValueError: it is not an attention of these kinds, or the mechanism cannot do what it needs.
        TypeError: a hyperparameter that the mechanism does not take.
    """
    if not isinstance(attention, nn.Module):
        raise ValueError(f"attention is {attention!r}; an nn.Module is needed.")
    if not _kind_of(attention):
        raise ValueError(_nothing_found({"": attention}, "one"))
    return _exchange(
        attention,
        Wish(mechanism=mechanism, causal=causal, settings=hyperparameters),
        TokenLayout(seq_len=seq_len, grid=grid),
        where=None,
        ignore_dropout=ignore_dropout,
    )


def _exchange(
    model: nn.Module, wish: Wish, layout: TokenLayout, *, where: Where | None, ignore_dropout: bool
) -> nn.Module:
    """The model, or what stands for it if it is itself an attention."""
    mechanism = wish.mechanism
    _check_is_core(mechanism)
    found = _attentions_at(model, where)
    left = _left_alone(model, found) if where is None else {}
    for name, module in found.items():
        _check_dropout(wish, name, module, ignore=ignore_dropout)
    layouts = Layouts(model, layout)
    # Shared modules stay shared.
    built: dict[int, Swapped] = {}
    for name, module in found.items():
        if id(module) not in built:
            built[id(module)] = _swapped(wish, layouts.at(name), name, module)
    new: nn.Module = model
    for name, module in found.items():
        new = _put(new, name, built[id(module)])
    layouts.watch()
    _call_every_layer(new)
    if left:
        warnings.warn(
            f"{mechanism}: {len(found)} attentions replaced, {len(left)} left alone: "
            f"{_listed(left)}.",
            stacklevel=3,
        )
    return new


def _check_is_core(mechanism: str) -> None:
    found = attention_class(mechanism)
    if why := why_gated(mechanism):
        raise ValueError(f"{mechanism} {why}.")
    if issubclass(found, Attention):
        return
    core = mechanism.removesuffix("_layer")
    is_core = core in attention_names() and issubclass(attention_class(core), Attention)
    hint = f"; its core is {core!r}" if is_core and core != mechanism else ""
    raise ValueError(
        f"{mechanism} owns its projections, so it cannot keep those of the model{hint}."
    )


def _kind_of(module: nn.Module) -> type[Swapped] | None:
    return next((kind for kind in _KINDS if kind.is_kind(module)), None)


def _attentions_at(model: nn.Module, where: Where | None) -> dict[str, nn.Module]:
    modules = dict(model.named_modules(remove_duplicate=False))
    known = {name: module for name, module in modules.items() if _kind_of(module)}
    globs = [where] if isinstance(where, str) else where
    if globs is None:
        found, looked_for = known, "any"
    elif callable(globs):
        found = {name: module for name, module in known.items() if globs(name)}
        looked_for = "those that where= says"
    else:
        globs = list(globs) if isinstance(globs, Iterable) else [globs]
        if not all(isinstance(glob, str) for glob in globs):
            raise ValueError(
                f"where is {where!r}; a glob over dotted names, several, or a function is needed."
            )
        hits = {glob: [name for name in known if fnmatch.fnmatchcase(name, glob)] for glob in globs}
        without = [glob for glob, names in hits.items() if not names]
        wanted = {name for names in hits.values() for name in names}
        found = {} if without else {n: module for n, module in known.items() if n in wanted}
        looked_for = f"where={(without or globs)!r}"
    if not found:
        raise ValueError(_nothing_found(modules, looked_for))
    return found


def _nothing_found(modules: dict[str, nn.Module], looked_for: str) -> str:
    kinds = " or ".join(kind.kind for kind in _KINDS)
    alike = {name: module for name, module in modules.items() if _is_alike(module)}
    homes = [type(m).__module__ for m in modules.values()]
    hint = next(
        (said for home, said in _HINTS.items() if any(h.startswith(home) for h in homes)), ""
    )
    return (
        f"Nothing to replace: looked for {looked_for} of {kinds}, in its own form. Modules with "
        f"attention in the name of their class: {_listed(alike)}.{_why_own(alike)}{hint}"
    )


def _is_alike(module: nn.Module) -> bool:
    name = type(module).__name__.lower()
    return "attention" in name or "attn" in name


def _left_alone(model: nn.Module, found: dict[str, nn.Module]) -> dict[str, nn.Module]:
    """Attentions that are not replaced, nor a part of one that is, nor around one."""
    replaced = {id(part) for module in found.values() for part in module.modules()}
    return {
        name: module
        for name, module in model.named_modules()
        if _is_alike(module) and not any(id(part) in replaced for part in module.modules())
    }


def _listed(modules: dict[str, nn.Module]) -> str:
    shown = [f"{name or '(the model)'}: {type(m).__name__}" for name, m in modules.items()]
    more = f" and {len(shown) - _NUM_SHOWN} more" if len(shown) > _NUM_SHOWN else ""
    return (", ".join(shown[:_NUM_SHOWN]) or "none") + more


def _why_own(modules: dict[str, nn.Module]) -> str:
    """A sentence for the first whose scores no mechanism has."""
    for module in modules.values():
        for attribute, does in _OWN_SCORES.items():
            if getattr(module, attribute, None) is not None:
                return f" {type(module).__name__} {does}, which no mechanism does."
    return ""


def _check_dropout(wish: Wish, name: str, module: nn.Module, *, ignore: bool) -> None:
    kind = _kind_of(module)
    assert kind is not None
    dropout = kind.dropout_of(module)
    if dropout and not ignore:
        raise ValueError(
            f"{wish.mechanism} at {name or '(the model)'}: the attention drops {dropout:g} of its "
            "weights while training, and the mechanism drops none; set its dropout to 0, or pass "
            "ignore_dropout=True."
        )


def _swapped(wish: Wish, layout: TokenLayout, name: str, old: nn.Module) -> Swapped:
    kind: Any = _kind_of(old)
    try:
        new: Swapped = kind(wish, layout, name or "(the model)", old)
    except ValueError as error:
        raise ValueError(
            f"{name or 'The model'} cannot become {wish.mechanism}. {error}"
        ) from error
    new.follow(old)
    return new


def _put(model: nn.Module, name: str, new: nn.Module) -> nn.Module:
    if not name:
        return new
    parent, _, child = name.rpartition(".")
    setattr(model.get_submodule(parent), child, new)
    return model


def _call_every_layer(model: nn.Module) -> None:
    """Keep torch's encoders from packing padded batches, which only their own attention reads."""
    for module in model.modules():
        if isinstance(module, nn.TransformerEncoder) and any(
            isinstance(inner, Swapped) for inner in module.modules()
        ):
            module.use_nested_tensor = False
