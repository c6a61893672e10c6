"""Every core as a function: `attentions.functional.nala(q, k, v, is_causal=False)`.

>>> import torch
>>> from attentions import functional
>>> q, k, v = torch.randn(3, 1, 2, 49, 16)
>>> functional.nala(q, k, v, key_power=2.0).shape
torch.Size([1, 2, 49, 16])

A function is named like the mechanism, and is the mechanism: the same engine runs, and the core is
built from the shapes of q, k and v: in compiled code once, as a constant. See `mix` for what
functions take.
"""

from __future__ import annotations

import functools
import inspect
import operator
from collections.abc import Callable, Mapping
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
    scale: float | None = None,
    attn_mask: Tensor | None = None,
    key_mask: Tensor | None = None,
    enable_gqa: bool = False,
    initial_state: Any = None,
    return_state: bool = False,
    grid: tuple[int, int] | None = None,
    seq_len: int | None = None,
    weights: Mapping[str, Tensor] | None = None,
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
        attn_mask: broadcasts to (B, H, N, M), False hides a pair; softmax also takes numbers that
            are added to its scores.
        key_mask: (B, M), False hides a key.
        enable_gqa: whether query heads share heads of keys and values.
        initial_state: what earlier tokens left behind, from a call with ``return_state``.
        return_state: whether to return (output, state).
        grid: rows and columns, for a mechanism that needs them; the most square if None.
        seq_len: number of tokens that a state is to have room for, those of later calls included;
            the same in every call. If None, those of this call, or the room of a given cache.
        weights: learned tensors by their names in a core's state dict. Those not given are as in a
            new core; all are needed where a new core draws them at random.
        given: hyperparameters, with a ``_`` behind a name that is an argument of all functions
            (``k_`` of topk); gates; ``dropout_p`` of softmax.

    Raises:
        ValueError: what this mechanism does not do, by name; tensors that do not fit together;
            missing weights.
    """
    if not all(isinstance(x, Tensor) and x.dim() == 4 for x in (q, k, v)):
        raise ValueError(
            f"functional.{mechanism}: q, k and v are tensors (B, H, N, D), (B, H, M, D) and "
            "(B, H, M, E)."
        )
    if k.shape[1] != q.shape[1] and not enable_gqa:
        raise ValueError(
            f"functional.{mechanism}: q has {q.shape[1]} heads and k {k.shape[1]}; with "
            "enable_gqa=True query heads share heads of keys."
        )
    own = _settings_of(mechanism)
    settings = {x.removesuffix("_"): given[x] for x in given if x in own}
    keywords = {x: given[x] for x in given if x not in own}
    for name, x in (("scale", scale), ("mask", attn_mask), ("key_mask", key_mask)):
        if x is not None:
            (settings if name in own else keywords)[name] = x
    if seq_len is None:
        seq_len = _room(initial_state) or max(q.shape[2], k.shape[2])
    with_state = return_state or initial_state is not None
    sizes: dict[str, Any] = {
        "num_heads": q.shape[1],
        "num_kv_heads": k.shape[1],
        "head_dim": q.shape[3],
    }
    sizes |= {"value_dim": v.shape[3], "seq_len": seq_len}
    sizes = {name: operator.index(size) for name, size in sizes.items()}  # not symbols
    sizes |= {"causal": is_causal} | ({} if grid is None else {"grid": grid})
    asked: dict[str, Any] = {"mechanism": mechanism, "settings": settings, "sizes": sizes}
    asked |= {"keywords": tuple(keywords), "weights": tuple(weights or ())}
    asked |= {"with_state": with_state, "device": q.device, "dtype": q.dtype}
    compiling = torch.compiler.is_compiling()
    called = _COMPILED[_built_once(**asked)] if compiling else _built(**asked)
    tensors = {f"core.{name}": x for name, x in (weights or {}).items()}
    inputs = (q, k, v, initial_state) if with_state else (q, k, v)
    out = torch.func.functional_call(called, tensors, inputs, keywords)
    return out[0] if with_state and not return_state else out


class _Call(torch.nn.Module):
    """A core whose call is a step if it is given a state: torch exchanges weights for calls."""

    def __init__(self, core: Attention) -> None:
        super().__init__()
        self.core = core

    def forward(self, q: Tensor, k: Tensor, v: Tensor, *state: Any, **keywords: Any) -> Any:
        """The output; with a state, None for an empty one, also the state after these tokens."""
        if not state:
            return self.core(q, k, v, **keywords)
        last = state[0]
        if last is None:
            last = self.core.init_state(len(q), dtype=q.dtype, device=q.device)
        return self.core.step(q, k, v, last, **keywords)


@torch.compiler.assume_constant_result  # type: ignore[untyped-decorator]
def _settings_of(mechanism: str) -> tuple[str, ...]:
    """Keywords of its hyperparameters, with a ``_`` behind an argument of all functions.

    But ``scale``, which is an argument of all because it is a hyperparameter of many.
    """
    return tuple(f"{x}_" if x in _OF_ALL else x for x in hyperparameters(mechanism))


_COMPILED: dict[str, _Call] = {}
"""Cores of compiled code, by what they are built for."""


@torch.compiler.assume_constant_result  # type: ignore[untyped-decorator]
def _built_once(**arguments: Any) -> str:
    """Build a core while code is compiled, which keeps it: its name in `_COMPILED`."""
    name = repr(arguments)
    if name not in _COMPILED:
        _COMPILED[name] = _built(**arguments)
    return name


def _built(
    mechanism: str,
    settings: dict[str, Any],
    sizes: dict[str, Any],
    keywords: tuple[str, ...],
    weights: tuple[str, ...],
    *,
    with_state: bool,
    device: torch.device,
    dtype: torch.dtype,
) -> _Call:
    """A core that takes keywords and weights of these names.

    Raises:
        ValueError: there is none.
    """
    cls, is_causal = attention_class(mechanism), sizes["causal"]
    if not issubclass(cls, Attention):
        raise ValueError(
            f"functional.{mechanism}: it owns its projections; build_attention makes it a module."
        )
    can, takes = cls.capabilities, keywords_of(cls.step if with_state else cls.forward) or ()
    refusals = {
        "is_causal=False": not is_causal and not can.bidirectional,
        "is_causal=True": is_causal and not can.causal,
        "key_mask": "key_mask" in keywords and "padding" not in can.masks,
        "attn_mask": "mask" in keywords and "dense" not in can.masks,
        "a state": with_state and not can.recurrent,
        "a state without is_causal=True": with_state and not is_causal,
        "attn_mask beside a state": with_state and "mask" in keywords,
        "scale": "scale" in keywords and "scale" not in takes,
    }
    for what, is_refused in refusals.items():
        if is_refused:
            raise ValueError(f"functional.{mechanism} has no form with {what}.")
    with torch.device("cpu"), torch.random.fork_rng(devices=[]):
        before = torch.get_rng_state()
        core = build_attention(mechanism, Geometry(**sizes), **settings)
        is_drawn = not torch.equal(before, torch.get_rng_state())
    assert isinstance(core, Attention)
    learned = tuple(core.state_dict())
    takes = takes[4 if with_state else 3 :]
    takes += ("cu_seqlens",) if can.packs and not with_state else ()
    for name in (*keywords, *weights):
        if name not in (takes if name in keywords else learned):
            known = [*_settings_of(mechanism), *takes]
            raise ValueError(
                f"functional.{mechanism}: {name} was given; besides the arguments of all functions "
                f"it takes {', '.join(known) or 'none'}, and as weights "
                f"{', '.join(learned) or 'none'}."
            )
    missing = [name for name in learned if name not in weights]
    if is_drawn and missing:
        raise ValueError(
            f"functional.{mechanism}: a new core draws its weights at random, so that two calls "
            f"would differ; weights= is needed, with {', '.join(missing)}, as in the state dict of "
            "build_attention's module."
        )
    return _Call(core.to(device=device, dtype=wide_dtype(dtype)))


def _room(state: Any) -> int:
    """Number of tokens that a cache of keys has room for; 0 for another state."""
    keys = getattr(state, "k", None)
    return keys.shape[2] if isinstance(keys, Tensor) and keys.dim() == 4 else 0


_OF_ALL = frozenset(inspect.signature(mix).parameters) - {"scale"}
"""Arguments of all functions, but for the one that stands for the hyperparameter of its name."""


@functools.cache
def _function(mechanism: str) -> Callable[..., Any]:
    cls = attention_class(mechanism)
    if not issubclass(cls, Attention):
        raise AttributeError(f"{mechanism} owns its projections; functional has cores only.")

    def function(q: Tensor, k: Tensor, v: Tensor, **keywords: Any) -> Any:
        return mix(mechanism, q, k, v, **keywords)

    function.__name__ = function.__qualname__ = mechanism
    function.__doc__ = f"{cls.__doc__}\n\nSee `attentions.functional.mix` for the arguments."
    defaults = hyperparameters(mechanism)
    own = [
        inspect.Parameter(keyword, inspect.Parameter.KEYWORD_ONLY, default=defaults[name])
        for keyword, name in zip(_settings_of(mechanism), defaults, strict=True)
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
