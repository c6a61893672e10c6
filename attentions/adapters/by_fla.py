"""The one class behind all operators of the package flash-linear-attention.

Weights, gates and the slow form are those of ours; an operator takes (B, N, H, ...) tensors, ours
(B, H, N, ...).
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, ClassVar

import torch
from torch import Tensor

from ..base import CallShape, Geometry
from ..checks import equal_lengths
from ..engines.gates import TakesGates
from ..engines.state import StateCore
from ..foreign import Operator
from ..precision import widen
from .extras import load

FITS: Mapping[str, Callable[[int, Mapping[str, int]], bool]] = {
    "2 or more": lambda x, _: x >= 2,
    "at most 128": lambda x, _: x <= 128,
    "at most 256": lambda x, _: x <= 256,
    "16, 32, 64 or 128": lambda x, _: x in (16, 32, 64, 128),
    "multiples of 64": lambda x, _: x % 64 == 0,
    "powers of two": lambda x, _: x & (x - 1) == 0,
    "powers of two from 16": lambda x, _: x >= 16 and x & (x - 1) == 0,
    "powers of two from 2 num_blocks": lambda x, of: x >= 2 * of["num_blocks"] and x & (x - 1) == 0,
    "head_dim": lambda x, of: x == of["head_dim"],
}
"""The words of `Operator.takes`: whether a value is among them, beside other sizes and settings."""


class ByFla(TakesGates):
    """A core of ours whose forward call is one call of an operator; its first base.

    Attributes:
        operator: what it calls, and how.
        settings: hyperparameters of ours with their defaults, those that are fixed left out.
        shares_heads: False, since most operators need a head of keys for each head of queries;
            `nsa_fla`, which groups heads by its formula, is given the fewer.
    """

    operator: ClassVar[Operator]
    settings: ClassVar[Mapping[str, Any]]
    shares_heads: bool = False

    def __init__(self, geometry: Geometry, **given: Any) -> None:
        super().__init__(geometry, **self.operator.fixed, **given)
        package, _, name = self.operator.place.rpartition(".")
        self._kernel = load(self.name, f"fla.ops.{package}", name)
        if self._kernel is not None:
            self._check(given)

    def _check(self, given: Mapping[str, Any]) -> None:
        """Refuse sizes that the operator does not compute."""
        sizes = {**vars(self.geometry), **self.settings, **given}
        sizes["num_heads / num_kv_heads"] = sizes["num_heads"] // sizes["num_kv_heads"]
        for what, words in self.operator.takes.items():
            if not FITS[words](sizes[what], sizes):
                expected = f"{words}, {sizes[words]}" if words in sizes else words
                raise ValueError(
                    f"{self.name}: {what} is {sizes[what]}, and its kernel takes {expected}; "
                    f"{self.operator.ours.name} takes any."
                )

    def forward(self, q: Tensor, k: Tensor, v: Tensor, **gates: Tensor | None) -> Tensor:
        """(B, H, N, D), (B, H_kv, N, D), (B, H_kv, N, E) -> (B, H, N, E)."""
        equal_lengths(self.name, q, k, "the operator")
        given = {
            name: x.transpose(1, 2).contiguous() if isinstance(x, Tensor) and x.dim() > 2 else x
            for name, x in self._arguments(q, k, v, gates).items()
        }
        out = self._packed(given) if self.operator.packed else self._kernel(**given)
        mixed: Tensor = out[0] if isinstance(out, tuple) else out
        return mixed.transpose(1, 2)

    def _arguments(
        self, q: Tensor, k: Tensor, v: Tensor, gates: Mapping[str, Tensor | None]
    ) -> dict[str, Any]:
        """Arguments of the operator, with heads before tokens; those of heads alone stay as is."""
        row, found = self.operator, self._gates(q, widen(k), None, gates) if self.gates else []
        tensors: dict[str, Any] = {"q": q, "k": k, "v": v, "num_tokens": q.shape[2]}
        for name, gate in zip(self.gates, found, strict=False):
            full = gate.expand(self.gate_shape(name, len(q), q.shape[2]))
            tensors[name] = full if self.gates[name].is_log_decay else self._cast(name, full, q)
        tensors |= row.more(self, tensors) if row.more else {}
        core: Any = self
        both = row.normalises and core.normalise_queries and core.normalise_keys
        some = isinstance(self, StateCore) and (core.normalise_queries or core.normalise_keys)
        if some and not both:
            prepared = core.prepare(widen(tensors["q"]), widen(tensors["k"]))
            tensors["q"], tensors["k"] = (x.to(q.dtype) for x in prepared)
        given: dict[str, Any] = {"use_qk_l2norm_in_kernel": True} if both else {}
        for argument, name in row.arguments.items():
            if name in tensors or name in self.capabilities.gates:
                given[argument] = tensors.get(name)
            else:
                own = getattr(self, name)
                given[argument] = self._cast(name, own, q) if isinstance(own, Tensor) else own
        return given

    def _cast(self, name: str, x: Tensor, q: Tensor) -> Tensor:
        return widen(x) if name in self.operator.wide else x.to(q.dtype)

    def _packed(self, given: dict[str, Any]) -> Tensor:
        """The result for sequences one behind the other, sequence by sequence again."""
        q = given["q"]
        packed = {
            name: x.flatten(0, 1)[None] if isinstance(x, Tensor) and x.dim() > 2 else x
            for name, x in given.items()
        }
        total = q.shape[:2].numel()
        starts = torch.arange(0, total + 1, q.shape[1], dtype=torch.int32, device=q.device)
        out: Tensor = self._kernel(**packed, cu_seqlens=starts)[0].unflatten(0, q.shape[:2])
        return out

    def reference(self, q: Tensor, k: Tensor, v: Tensor, **gates: Tensor) -> Tensor | None:
        """The slow form of ours, which may begin with a state that an operator does not offer."""
        ours = copy.copy(self)
        ours.__dict__["capabilities"] = replace(self.capabilities, recurrent=True)
        slow: Any = super(ByFla, ours).reference
        out: Tensor | None = slow(q, k, v, **gates)
        return out

    def executed_flops(self, shape: CallShape) -> int:
        """FLOPs of the formula: those that a kernel executes are not seen."""
        return self.flops(shape)
