"""Every core as a function: `attentions.functional.nala(q, k, v, is_causal=False)`.

>>> import torch
>>> from attentions import functional
>>> q, k, v = torch.randn(3, 1, 2, 49, 16)
>>> functional.nala(q, k, v, key_power=2.0).shape
torch.Size([1, 2, 49, 16])

A function is named like the mechanism, and is the mechanism: the same engine runs, and the core is
built from the shapes of q, k and v. See `mix` for what functions take.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from .base import Attention
from .geometry import Geometry
from .precision import wide_dtype
from .registry import attention_class, attention_names, build_attention, hyperparameters
from .signatures import keywords_of


def mix(
    mechanism: str,
    q: Tensor,
    k: Tensor,
    v: Tensor,
    *,
    is_causal: bool = False,
    scale: float | Tensor | None = None,
    key_mask: Tensor | None = None,
    enable_gqa: bool = False,
    initial_state: Any = None,
    return_state: bool = False,
    grid: tuple[int, int] | None = None,
    seq_len: int | None = None,
    **given: Any,
) -> Any:
    """(B, H, N, D), (B, H, M, D), (B, H, M, E) -> (B, H, N, E) by a registered core.

    >>> q = torch.randn(1, 2, 5, 8)
    >>> out, state = mix("linear", q, q, q, is_causal=True, return_state=True)
    >>> out, state = mix("linear", q, q, q, is_causal=True, initial_state=state, return_state=True)

    A state that is a cache has room for a fixed number of tokens:

    >>> out, state = mix("softmax", q, q, q, is_causal=True, return_state=True, seq_len=10)
    >>> out = mix("softmax", q, q, q, is_causal=True, initial_state=state, seq_len=10)

    Args:
        mechanism: a registered name.
        q: queries.
        k: keys; fewer heads than of queries with ``enable_gqa``.
        v: values, of as many heads as the keys.
        is_causal: whether query i sees keys 0..i only.
        scale: factor of the scores, for a mechanism whose constructor takes one. None is the
            mechanism's own: head_dim^(-1/2), but 1 for rwkv6 and log_linear, whose papers have no
            factor.
        key_mask: (B, M), False hides a key.
        enable_gqa: whether query heads share heads of keys and values.
        initial_state: what earlier tokens left behind, from a call with ``return_state``.
        return_state: whether to return (output, state).
        grid: rows and columns, for a mechanism that needs them; the most square if None.
        seq_len: number of tokens that a state is to have room for, those of later calls included;
            the same in every call. If None, those of this call, or the room of a given cache.
        given: hyperparameters, with a ``_`` behind a name that is an argument of all functions
            (``k_`` of topk); learned tensors by their names (dots as underscores), where those not
            given are as in a new core; and gates.

    Raises:
        ValueError: what this mechanism does not do, by name; tensors that do not fit together.
    """
    cls = attention_class(mechanism)
    if not issubclass(cls, Attention):
        raise ValueError(
            f"functional.{mechanism}: it owns its projections; build_attention makes it a module."
        )
    can, keywords = cls.capabilities, dict(given)
    if scale is not None:
        keywords["scale"] = scale
    with_state = return_state or initial_state is not None
    refusals = {
        "is_causal=False": not is_causal and not can.bidirectional,
        "is_causal=True": is_causal and not can.causal,
        "key_mask": key_mask is not None and "padding" not in can.masks,
        "a state": with_state and not can.recurrent,
        "a state without is_causal=True": with_state and not is_causal,
        "key_mask beside a state": with_state and key_mask is not None,
        "scale": isinstance(scale, float | int) and "scale" not in hyperparameters(mechanism),
    }
    for what, is_refused in refusals.items():
        if is_refused:
            raise ValueError(f"functional.{mechanism} has no form with {what}.")
    if key_mask is not None:
        keywords["key_mask"] = key_mask
    taken = {_keyword(x): x for x in hyperparameters(mechanism)}
    settings = {taken[x]: keywords.pop(x) for x in taken if x in keywords}
    geometry = _geometry(
        mechanism,
        (q, k, v),
        is_causal=is_causal,
        shared=enable_gqa,
        grid=grid,
        seq_len=seq_len,
        room=_room(initial_state),
    )
    core = build_attention(mechanism, geometry, **settings)
    core = core.to(device=q.device, dtype=wide_dtype(q.dtype))
    weights = _weights(core, keywords)
    takes = keywords_of(cls.step if with_state else cls.forward) or ()
    for name in keywords:
        if name not in takes:
            learned = [_plain_name(name) for name, _ in core.named_parameters()]
            known = [*taken, *learned, *takes[4 if with_state else 3 :]]
            raise ValueError(
                f"functional.{mechanism}: {name} was given; besides the arguments of all functions "
                f"it takes {', '.join(known) or 'none'}."
            )
    if not with_state:
        return torch.func.functional_call(core, weights, (q, k, v), keywords)
    state = initial_state
    if state is None:
        state = core.init_state(len(q), dtype=q.dtype, device=q.device)  # type: ignore[operator]
    stepping = _Step(core)
    weights = {f"core.{name}": weight for name, weight in weights.items()}
    out, state = torch.func.functional_call(stepping, weights, (q, k, v, state), keywords)
    return (out, state) if return_state else out


class _Step(torch.nn.Module):
    """A core whose call is a step: torch exchanges weights for calls only."""

    def __init__(self, core: torch.nn.Module) -> None:
        super().__init__()
        self.core = core

    def forward(self, *inputs: Any, **gates: Any) -> Any:
        """The next tokens."""
        return self.core.step(*inputs, **gates)  # type: ignore[operator]


def _geometry(
    mechanism: str,
    tensors: tuple[Tensor, Tensor, Tensor],
    *,
    is_causal: bool,
    shared: bool,
    grid: tuple[int, int] | None,
    seq_len: int | None,
    room: int,
) -> Geometry:
    q, k, v = tensors
    if not all(isinstance(x, Tensor) and x.dim() == 4 for x in tensors):
        raise ValueError(
            f"functional.{mechanism}: q, k and v are tensors (B, H, N, D), (B, H, M, D) and "
            "(B, H, M, E)."
        )
    if k.shape[1] != q.shape[1] and not shared:
        raise ValueError(
            f"functional.{mechanism}: q has {q.shape[1]} heads and k {k.shape[1]}; with "
            "enable_gqa=True query heads share heads of keys."
        )
    return Geometry(
        num_heads=q.shape[1],
        num_kv_heads=k.shape[1],
        head_dim=q.shape[3],
        value_dim=v.shape[3],
        seq_len=(room or max(q.shape[2], k.shape[2])) if seq_len is None else seq_len,
        causal=is_causal,
        **({} if grid is None else {"grid": grid}),
    )


def _room(state: Any) -> int:
    """Number of tokens that a cache of keys has room for; 0 for another state."""
    keys = getattr(state, "k", None)
    return keys.shape[2] if isinstance(keys, Tensor) and keys.dim() == 4 else 0


_OF_ALL = frozenset(inspect.signature(mix).parameters) - {"scale"}
"""Arguments of all functions, but for the one that stands for the hyperparameter of its name."""


def _keyword(hyperparameter: str) -> str:
    """A hyperparameter as a keyword."""
    return f"{hyperparameter}_" if hyperparameter in _OF_ALL else hyperparameter


def _plain_name(name: str) -> str:
    """A learned tensor as a keyword."""
    return name.removeprefix("core.").replace(".", "_")


def _weights(core: torch.nn.Module, keywords: dict[str, Any]) -> dict[str, Tensor]:
    """Take the learned tensors out of the keywords."""
    found = {}
    for name, _ in core.named_parameters():
        if _plain_name(name) in keywords:
            found[name] = keywords.pop(_plain_name(name))
    return found


@functools.cache
def _function(mechanism: str) -> Callable[..., Any]:
    cls = attention_class(mechanism)
    if not issubclass(cls, Attention):
        raise AttributeError(f"{mechanism} owns its projections; functional has cores only.")

    def function(q: Tensor, k: Tensor, v: Tensor, **keywords: Any) -> Any:
        return mix(mechanism, q, k, v, **keywords)

    function.__name__ = function.__qualname__ = mechanism
    function.__doc__ = f"{cls.__doc__}\n\nSee `attentions.functional.mix` for the arguments."
    own = [
        inspect.Parameter(_keyword(name), inspect.Parameter.KEYWORD_ONLY, default=default)
        for name, default in hyperparameters(mechanism).items()
        if name != "scale"
    ]
    common = list(inspect.signature(mix).parameters.values())[1:]
    signature = inspect.Signature([*common[:-1], *own, common[-1]])
    function.__signature__ = signature  # type: ignore[attr-defined]
    return function


def __getattr__(name: str) -> Any:
    if name.startswith("_") or name not in attention_names():
        raise AttributeError(f"attentions.functional has no function {name!r}.")
    return _function(name)


def __dir__() -> list[str]:
    cores = [name for name in attention_names() if issubclass(attention_class(name), Attention)]
    return sorted(["mix", *cores])
