"""Every core as a function: `attentions.functional.nala(q, k, v, is_causal=False)`.

>>> import torch
>>> from attentions import functional
>>> q, k, v = torch.randn(3, 1, 2, 49, 16)
>>> functional.nala(q, k, v, key_power=2.0).shape
torch.Size([1, 2, 49, 16])

A function is named like the mechanism, and is the mechanism: the same engine runs, and the core is
built from the shapes of q, k and v: in compiled code once, as a constant. Its signature names the
mechanism's gates and hyperparameters and, of the arguments in `mix`, those that the mechanism has.
Type checkers read the signatures in functional.pyi.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from inspect import Parameter
from typing import Any

from torch import Tensor

from .base import Attention
from .mix import mix, own_keywords
from .registry import attention_class, attention_names
from .signatures import keywords_of

__all__ = ["mix"]


@functools.cache
def _function(mechanism: str) -> Callable[..., Any]:
    cls = attention_class(mechanism)
    if not issubclass(cls, Attention):
        raise AttributeError(f"{mechanism} owns its projections; functional has cores only.")

    def function(q: Tensor, k: Tensor, v: Tensor, **keywords: Any) -> Any:
        return mix(mechanism, q, k, v, **keywords)

    function.__name__ = function.__qualname__ = mechanism
    function.__doc__ = f"{cls.__doc__}\n\nSee `attentions.functional.mix` for the arguments."
    function.__signature__ = _signature(cls)  # type: ignore[attr-defined]
    return function


def _signature(cls: type[Attention]) -> inspect.Signature:
    """q, k and v, gates, hyperparameters, and the arguments of `mix` that the mechanism has."""
    can, takes = cls.capabilities, keywords_of(cls.forward) or ()
    common = dict(list(inspect.signature(mix).parameters.items())[1:-1])
    settings = list(inspect.signature(cls.__init__).parameters.values())[2:]  # self, geometry
    absent = {
        "scale": "scale" not in {*takes, *own_keywords(cls.name)},
        "dropout_p": "dropout_p" not in takes,
        "attn_mask": "dense" not in can.masks,
        "key_mask": "padding" not in can.masks,
        "initial_state": not can.recurrent,
        "return_state": not can.recurrent,
        "grid": not can.needs_grid,
    }
    only = None if can.causal and can.bidirectional else can.causal
    if only is not None:  # a form that must be asked for by name, unless it is torch's default
        default = Parameter.empty if only else False
        common["is_causal"] = common["is_causal"].replace(
            annotation=f"Literal[{only}]", default=default
        )
    gates = [
        Parameter(name, Parameter.KEYWORD_ONLY, default=None, annotation="Tensor | None")
        for name in can.gates
    ]
    own = [
        given.replace(name=keyword, kind=Parameter.KEYWORD_ONLY)
        for keyword, given in zip(own_keywords(cls.name), settings, strict=True)
        if keyword != "scale"
    ]
    kept = [x for name, x in common.items() if not absent.get(name)]
    return inspect.Signature([*kept[:3], *gates, *own, *kept[3:]])


def __getattr__(name: str) -> Any:
    if name.startswith("_") or name not in attention_names():
        raise AttributeError(f"attentions.functional has no function {name!r}.")
    return _function(name)


def __dir__() -> list[str]:
    cores = [name for name in attention_names() if issubclass(attention_class(name), Attention)]
    return sorted(["mix", *cores])
