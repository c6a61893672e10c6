"""Common ground of mechanisms by operators of the package flash-linear-attention.

One table names the operators and which of their arguments is which gate. Weights, gates and the
slow form are those of ours; an operator takes (B, N, H, ...) tensors, ours (B, H, N, ...).
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from ..base import CallShape
from ..checks import equal_lengths
from ..engines.gates import TakesGates
from ..engines.state import StateCore
from ..precision import widen
from .extras import load

_G, _BETA = {"g": "log_decay"}, {"beta": "beta"}
OPERATORS: Mapping[str, tuple[str, str, Mapping[str, str]]] = {
    "gla_fla": ("gla", "chunk_gla", _G),
    "deltanet_fla": ("delta_rule", "chunk_delta_rule", _BETA),
    "gated_deltanet_fla": ("gated_delta_rule", "chunk_gated_delta_rule", _G | _BETA),
    "kda_fla": ("kda", "chunk_kda", _G | _BETA),
    "fox_fla": ("forgetting_attn", "parallel_forgetting_attn", _G),
    "gated_deltaproduct_fla": ("gated_delta_product", "chunk_gated_delta_product", _G | _BETA),
    "rwkv7_fla": ("rwkv7", "chunk_rwkv7", {"w": "log_decay"}),
    "rwkv6_fla": ("rwkv6", "chunk_rwkv6", {"w": "log_decay"}),
    "comba_fla": ("comba", "chunk_comba", _G | _BETA | {"p": "removal_key"}),
    "gated_deltanet2_fla": ("gdn2", "chunk_gdn2", _G | {"b": "erase", "w": "write"}),
    "gsa_fla": ("gsa", "chunk_gsa", _G | {"s": "slot"}),
    "mesanet_fla": ("mesa_net", "chunk_mesa_net", _G | _BETA),
    "log_linear_fla": (
        "log_linear_attn",
        "chunk_log_linear_attn",
        _G | {"level_scales": "level_scale"},
    ),
    "path_fla": ("path_attn", "parallel_path_attn", _G | _BETA | {"w": "transition_key"}),
    "deltaformer_fla": ("deltaformer", "deltaformer_attn", _BETA),
    "moba_fla": ("moba", "parallel_moba", {}),
}
"""Adapter -> a package in ``fla.ops``, an operator of it, and its arguments that are gates of ours.
A log decay stays float32, other gates get the dtype of the queries, but for `ByFla.wide`."""


class ByFla(TakesGates):
    """A core whose forward call is one call of an operator; the first base of an adapter.

    Attributes:
        wide: gates that stay float32, beside log decays.
    """

    wide: frozenset[str] = frozenset()

    def __init__(self, *settings: Any, **named: Any) -> None:
        super().__init__(*settings, **named)
        package, operator, self._arguments = OPERATORS[self.name]
        self._chunked = load(self.name, f"fla.ops.{package}", operator)

    def forward(self, q: Tensor, k: Tensor, v: Tensor, **gates: Tensor | None) -> Tensor:
        """(B, H, N, D), (B, H, N, D), (B, H, N, E) -> (B, H, N, E)."""
        equal_lengths(self.name, q, k, "the recurrence")
        found: dict[str, Tensor] = {}
        for name, gate in zip(self.gates, self._gates(q, widen(k), None, gates), strict=True):
            full = gate.expand(self.gate_shape(name, len(q), q.shape[2]))
            stays = self.gates[name].is_log_decay or name in self.wide
            found[name] = full if stays else full.to(q.dtype)
        given = self.given(q, k, v, found)
        out = self.called(
            **{
                name: x.transpose(1, 2).contiguous() if _has_tokens(x) else x
                for name, x in given.items()
            }
        )
        mixed: Tensor = out[0] if isinstance(out, tuple) else out
        return mixed.transpose(1, 2)

    def called(self, **given: Any) -> Any:
        """The operator's result for its arguments, with tokens before heads."""
        return self._chunked(**given)

    def given(self, q: Tensor, k: Tensor, v: Tensor, gates: Mapping[str, Tensor]) -> dict[str, Any]:
        """The operator's arguments, with heads before tokens; those of heads alone stay as is."""
        named = {argument: gates.get(gate) for argument, gate in self._arguments.items()}
        return {"q": q, "k": k, "v": v, **named}

    def takes(self, what: str, value: int, fits: Callable[[int], bool], expected: str) -> None:
        """Refuse a size that the operator does not compute.

        Raises:
            ValueError: it is such a size.
        """
        if not fits(value):
            ours = self.name.removesuffix("_fla")
            raise ValueError(
                f"{self.name}: {what} is {value}, and its kernel takes {expected}; "
                f"{ours} takes any."
            )

    def executed_flops(self, shape: CallShape) -> int:
        """FLOPs of the formula: those that a kernel executes are not seen."""
        return self.flops(shape)


def _has_tokens(x: Any) -> bool:
    return isinstance(x, Tensor) and x.dim() > 2


class PackedByFla(ByFla):
    """The same of an operator that takes sequences one behind the other, and where each begins."""

    def called(self, **given: Any) -> Tensor:
        """The operator's result, sequence by sequence again."""
        sizes = given["q"].shape[:2]
        packed = {x: y.flatten(0, 1)[None] if _has_tokens(y) else y for x, y in given.items()}
        total = sizes.numel()
        starts = torch.arange(0, total + 1, sizes[1], dtype=torch.int32, device=given["q"].device)
        out: Tensor = super().called(**packed, cu_seqlens=starts)[0].unflatten(0, sizes)
        return out


class StateByFla(ByFla, StateCore):
    """The same of a `StateCore`: queries and keys are prepared before, the operator scales."""

    def given(self, q: Tensor, k: Tensor, v: Tensor, gates: Mapping[str, Tensor]) -> dict[str, Any]:
        """With the lengths of vectors summed in float32."""
        q, k = (x.to(v.dtype) for x in self.prepare(widen(q), widen(k)))
        return super().given(q, k, v, gates) | {"scale": self.scale}

    def reference(self, q: Tensor, k: Tensor, v: Tensor, **gates: Tensor) -> Any:
        """The slow form of ours, which may begin with a state that an adapter does not offer."""
        ours = copy.copy(self)
        ours.__dict__["capabilities"] = replace(self.capabilities, recurrent=True)
        return super(StateByFla, ours).reference(q, k, v, **gates)
