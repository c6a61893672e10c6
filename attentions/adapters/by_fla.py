"""Common ground of mechanisms by operators of the package flash-linear-attention.

One table names the operators and which of their arguments is which gate. Weights, gates and the
slow form are those of ours; an operator takes (B, N, H, ...) tensors, ours (B, H, N, ...).
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

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
}
"""Adapter -> a package in ``fla.ops``, an operator of it, and its arguments that are gates of ours.
A log decay stays float32, other gates get the dtype of the queries."""


class ByFla(TakesGates):
    """A core whose forward call is one call of an operator; the first base of an adapter."""

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
            found[name] = full if self.gates[name].is_log_decay else full.to(q.dtype)
        given = self.given(q, k, v, found)
        out = self._chunked(
            **{
                name: x.transpose(1, 2).contiguous() if isinstance(x, Tensor) else x
                for name, x in given.items()
            }
        )
        mixed: Tensor = out[0] if isinstance(out, tuple) else out
        return mixed.transpose(1, 2)

    def given(self, q: Tensor, k: Tensor, v: Tensor, gates: Mapping[str, Tensor]) -> dict[str, Any]:
        """The operator's arguments, with heads before tokens."""
        named = {argument: gates.get(gate) for argument, gate in self._arguments.items()}
        return {"q": q, "k": k, "v": v, **named}

    def executed_flops(self, shape: CallShape) -> int:
        """FLOPs of the formula: those that a kernel executes are not seen."""
        return self.flops(shape)


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
