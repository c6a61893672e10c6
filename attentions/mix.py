"""Any registered core as a function of q, k and v; `functional` has one function for each."""

from __future__ import annotations

import inspect
import operator
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from .base import Attention
from .geometry import Geometry
from .inputs import HEADS_FIRST, heads_first
from .precision import wide_dtype
from .registry import attention_class, build_attention, hyperparameters
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
    dropout_p: float = 0.0,
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
        dropout_p: share of the weights of softmax that are dropped.
        key_mask: (B, M), False hides a key.
        enable_gqa: whether query heads share heads of keys and values.
        initial_state: what earlier tokens left behind, from a call with ``return_state``.
        return_state: whether to return (output, state).
        grid: rows and columns, for a mechanism that needs them; the most square if None.
        seq_len: number of tokens that a state is to have room for, those of later calls included;
            the same in every call. If None, those of this call, or the room of a given cache, and
            tokens that are fewer than heads are taken for the layout (B, N, H, D).
        weights: learned tensors by their names in a core's state dict. Those not given are as in a
            new core; all are needed where a new core draws them at random.
        given: hyperparameters, with a ``_`` behind a name that is an argument of all functions
            (``k_`` of topk); gates.

    Raises:
        ValueError: what this mechanism does not do, by name; tensors that do not fit together;
            missing weights.
    """
    if not all(isinstance(x, Tensor) and x.dim() == 4 for x in (q, k, v)):
        raise ValueError(
            f"functional.{mechanism}: q, k and v are tensors (B, H, N, D), (B, H, M, D) and "
            "(B, H, M, E)."
        )
    heads, tokens = q.shape[1:3]
    if k.shape[1] != heads and not enable_gqa:
        raise ValueError(
            f"functional.{mechanism}: q has {heads} heads and k {k.shape[1]}; with enable_gqa=True "
            f"query heads share heads of keys.{heads_first(k, q.shape[2])}"
        )
    # Heads and tokens that were exchanged on purpose lie so in memory; one token is decoded.
    is_as_made = q.stride(1) > q.stride(2)
    if 1 < tokens < heads and is_as_made and seq_len is None and initial_state is None:
        raise ValueError(
            f"functional.{mechanism}: q has {heads} heads and {tokens} tokens; {HEADS_FIRST} If "
            f"these are tokens indeed, seq_len={tokens} says so."
        )
    own = own_keywords(mechanism)
    settings = {x.removesuffix("_"): given[x] for x in given if x in own}
    keywords = {x: given[x] for x in given if x not in own}
    shared = {"scale": scale, "mask": attn_mask, "key_mask": key_mask}
    for name, x in (shared | {"dropout_p": dropout_p or None}).items():
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
def own_keywords(mechanism: str) -> tuple[str, ...]:
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
            f"functional.{mechanism}: it owns its projections; build_layer makes it a module."
        )
    can, takes = cls.capabilities, keywords_of(cls.step if with_state else cls.forward) or ()
    pairs = "key_mask hides keys" if "padding" in can.masks else "functional.softmax takes one"
    refusals = {
        "is_causal is False, and it is causal only; is_causal=True is needed": not is_causal
        and not can.bidirectional,
        "is_causal is True, and it has no causal form; is_causal=False is needed": is_causal
        and not can.causal,
        "key_mask was given, and it hides no keys; tokens to hide are to be left out of k and v": (
            "key_mask" in keywords and "padding" not in can.masks
        ),
        f"attn_mask was given, and it hides no single pairs; {pairs}": "mask" in keywords
        and "dense" not in can.masks,
        "a state was asked for, and it has no recurrent form": with_state and not can.recurrent,
        "a state was asked for, and is_causal is False; is_causal=True is needed": with_state
        and not is_causal,
        "attn_mask was given beside a state, and steps take key_mask only": (
            with_state and "mask" in keywords
        ),
        "scale was given, and it takes none; q can be multiplied by a factor before the call": (
            "scale" in keywords and "scale" not in takes
        ),
        "dropout_p was given, and it drops no weights; torch's dropout can drop outputs": (
            "dropout_p" in keywords and "dropout_p" not in takes
        ),
    }
    for why, is_refused in refusals.items():
        if is_refused:
            raise ValueError(f"functional.{mechanism}: {why}.")
    with torch.device("cpu"), torch.random.fork_rng(devices=[]):
        before = torch.get_rng_state()
        core = build_attention(mechanism, Geometry(**sizes), **settings)
        is_drawn = not torch.equal(before, torch.get_rng_state())
    learned = tuple(core.state_dict())
    takes = takes[4 if with_state else 3 :]
    takes += ("cu_seqlens",) if can.packs and not with_state else ()
    for name in (*keywords, *weights):
        if name not in (takes if name in keywords else learned):
            known = [*own_keywords(mechanism), *takes]
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
