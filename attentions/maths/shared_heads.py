"""Grouped and multi-query attention: several query heads share one head of keys and values.

Ainslie et al., 2023, arXiv:2305.13245, §2; one head for all: Shazeer, 2019, arXiv:1911.02150.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from ..base import Attention, CallShape, Geometry
from ..checks import equal_lengths
from ..inputs import check_heads
from ..signatures import keywords_of, refuse_unknown


def for_every_query_head(x: Tensor, num_heads: int) -> Tensor:
    """(B, H_kv, M, ...) -> (B, H, M, ...): each head serves H / H_kv consecutive query heads."""
    repeats = num_heads // x.shape[1]
    if repeats == 1:
        return x
    return x.unsqueeze(2).expand(-1, -1, repeats, *(-1,) * (x.dim() - 2)).flatten(1, 2)


def with_own_heads(geometry: Geometry) -> Geometry:
    """The same geometry with one number of heads for queries, keys and values: the largest."""
    heads = geometry.num_value_heads or geometry.num_heads
    return replace(geometry, num_heads=heads, num_kv_heads=heads, num_value_heads=0)


class KeepsKeysAndValues(Attention):
    """A core whose state holds keys and values themselves.

    `step` takes fewer heads of them than of queries, so that the state holds the fewer.
    """

    @abstractmethod
    def init_state(
        self,
        batch_size: int,
        *,
        dtype: torch.dtype,
        device: torch.device,
        num_kv_heads: int | None = None,
    ) -> Any:
        """An empty state for so many heads of keys and values; as the geometry has if None."""

    def _check_step(self, q: Tensor, k: Tensor, v: Tensor) -> None:
        """As many heads of keys and values as the state has, which refuses others."""
        shared = k.shape[1] if isinstance(k, Tensor) and k.dim() == 4 else 0
        fewer = shared if shared and self.geometry.num_heads % shared == 0 else None
        dtypes = self.capabilities.dtypes
        check_heads(self.name, self.geometry, dtypes, q, k, v, num_kv_heads=fewer)
        equal_lengths(self.name, q, k, "a step")

    def _empty_state_like(self, q: Tensor, k: Tensor, device: torch.device) -> Any:
        """Empty state of as many heads of keys and values as were given."""
        shared = k.shape[1]
        return self.init_state(q.shape[0], dtype=q.dtype, device=device, num_kv_heads=shared)


class SharedHeads(Attention):
    """Any core, given fewer heads of keys and values than of queries, or more heads of values.

    With more heads of values, queries and keys are copied for them, and gates and states have a
    head for each. What a core computes per query head it still computes per query head; memory and
    work shrink only in the projections, and in a state that holds keys and values themselves, not
    in that of a recurrence or of a kernel. A core whose `forward` does not share heads itself gets
    keys and values copied for every query head.
    """

    def __init__(self, core: Attention, geometry: Geometry) -> None:
        # The claims, and the name in messages, are the core's.
        self.name, self.title, self.source = core.name, core.title, core.source  # type: ignore[misc]
        self.capabilities = core.capabilities  # type: ignore[misc]
        self.family = core.family  # type: ignore[misc]
        super().__init__(geometry)
        self.core = core
        self._takes = keywords_of(type(core).forward)
        self.gates, self.gate_axes = core.gates, core.gate_axes

    def _check_inputs(self, inputs: Sequence[Any], keywords: Mapping[str, Any]) -> None:
        refuse_unknown(self.name, keywords, self._takes)  # `forward` takes any, for whatever core
        super()._check_inputs(inputs, keywords)

    def _check_keywords(self, q: Tensor, k: Tensor, keywords: Mapping[str, Any]) -> None:
        self.core._check_keywords(q, k, keywords)

    def _share(self, q: Tensor, k: Tensor, v: Tensor) -> list[Tensor]:
        return [for_every_query_head(x, self.core.geometry.num_heads) for x in (q, k, v)]

    @property
    def _copies(self) -> bool:
        """Whether a core that takes shared heads of keys and values gets copies all the same."""
        return self.geometry.num_value_heads > 0

    def forward(self, q: Tensor, k: Tensor, v: Tensor, **extra: Any) -> Tensor:
        """(B, H, N, D), (B, H_kv, M, D), (B, H_kv, M, E) -> (B, H, N, E)."""
        if self._copies or not self.core.shares_heads:
            q, k, v = self._share(q, k, v)
        # A call with its hooks, but without the core's check, which asks for a head per query head.
        out: Tensor = nn.Module.__call__(self.core, q, k, v, **extra)
        return out

    def reference(self, q: Tensor, k: Tensor, v: Tensor, **extra: Any) -> Tensor | None:
        """The core's, on heads that are written out."""
        if type(self.core).reference is Attention.reference:  # which takes no gates
            return None
        return self.core.reference(*self._share(q, k, v), **extra)

    def keys_kept(self, q: Tensor, k: Tensor, v: Tensor, **gates: Tensor) -> Tensor | None:
        """The core's, which depends on no copies of keys and values."""
        q, k, v = self._share(q, k, v) if self._copies else (q, k, v)
        return self.core.keys_kept(q, k, v, **gates)

    def auxiliary_loss(self, q: Tensor, k: Tensor, v: Tensor, **gates: Tensor) -> Tensor:
        """The core's, on heads that are written out."""
        return self.core.auxiliary_loss(*self._share(q, k, v), **gates)

    def init_state(self, batch_size: int, *, dtype: torch.dtype, device: torch.device) -> Any:
        """The core's empty state; of the shared heads where it holds keys and values."""
        if isinstance(self.core, KeepsKeysAndValues) and not self._copies:
            shared = self.geometry.num_kv_heads
            return self.core.init_state(batch_size, dtype=dtype, device=device, num_kv_heads=shared)
        return self.core.init_state(batch_size, dtype=dtype, device=device)

    def step(self, q: Tensor, k: Tensor, v: Tensor, state: Any, **extra: Any) -> tuple[Tensor, Any]:
        """The core's step."""
        if self._copies or not isinstance(self.core, KeepsKeysAndValues):
            q, k, v = self._share(q, k, v)
        return self.core.step(q, k, v, state, **extra)

    def reset_parameters(self) -> None:
        """The core's."""
        self.core.reset_parameters()

    def flops(self, shape: CallShape) -> int:
        """The core's."""
        return self.core.flops(self._shape(shape))

    def _shape(self, shape: CallShape) -> CallShape:
        return replace(shape, num_heads=self.core.geometry.num_heads) if self._copies else shape

    def executed_flops(self, shape: CallShape) -> int:
        """The core's."""
        return self.core.executed_flops(self._shape(shape))

    def decode_flops(self, shape: CallShape) -> int:
        """The core's."""
        return self.core.decode_flops(self._shape(shape))
