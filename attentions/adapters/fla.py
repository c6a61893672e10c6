"""Recurrent mechanisms by the Triton kernels of the package flash-linear-attention.

Each takes the weights, gates and slow form of ours, and only its products are computed elsewhere.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any, ClassVar

from torch import Tensor

from ..base import CallShape, Geometry
from ..capabilities import Capabilities, Gate
from ..checks import equal_lengths
from ..engines.state import StateCore
from ..maths.delta_rule import unit_length
from ..mechanisms.deltanet import DeltaNet
from ..mechanisms.gated_deltanet import GatedDeltaNet
from ..mechanisms.gla import Gla
from ..mechanisms.head_decay import RetNet, SimpleGla
from ..precision import widen
from ..registry import register_attention
from .extras import load

# `chunk_delta_rule` refuses float32, and none of them runs on a CPU.
_CAN = Capabilities(
    bidirectional=False,
    causal=True,
    position_free=False,
    memory_layout="bnhd",
    dtypes=("bfloat16", "float16"),
    devices=("cuda",),
    backward_devices=("cuda",),
    requires=("fla",),
    compiles=False,
)
_DECAY = Gate("bhn", high=0)
_BETA = Gate("bhn", low=0, high=1)
_GATED = replace(_CAN, gates={"log_decay": _DECAY})
_GATED_BY_CHANNEL = replace(_CAN, gates={"log_decay": Gate("bhnd", high=0)})
_DELTA = replace(_CAN, gates={"beta": _BETA})
_GATED_DELTA = replace(_CAN, gates={"beta": _BETA, "log_decay": _DECAY})


def _mixed(
    kernel: Any, q: Tensor, k: Tensor, v: Tensor, *, scale: float, **gates: Tensor
) -> Tensor:
    """A kernel on (B, N, H, ...) tensors, as if it took heads first."""
    heads_behind = (x.transpose(1, 2) for x in (q, k, v))
    given = {name: gate.transpose(1, 2).contiguous() for name, gate in gates.items()}
    out: Tensor = kernel(*heads_behind, scale=scale, **given)[0]
    return out.transpose(1, 2)


class _ByKernel(StateCore):
    """A core of ours whose `forward` is a kernel, into which no counter sees."""

    ours: ClassVar[type[StateCore]]

    def executed_flops(self, shape: CallShape) -> int:
        """FLOPs of our own chunks, which the kernels' are like."""
        return self.ours(self.geometry, **self._settings).executed_flops(shape)


@register_attention(
    "gla_fla",
    title="GLA (flash-linear-attention)",
    source="Yang et al., 2024, arXiv:2312.06635; fla-org/flash-linear-attention",
    family="recurrent",
    capabilities=_GATED_BY_CHANNEL,
)
class GlaFla(_ByKernel, Gla):
    """S_t = diag(exp(g_t)) S_{t-1} + k_t v_t^T and out_t = S_t^T q_t / sqrt(head_dim), as `gla`.

    By ``fla.ops.gla.chunk_gla``.

    Hazards:
        - Half precision only.

    Differences:
        - Takes no masks; those of `gla` otherwise.

    Args:
        geometry: the shape to build for; causal.
        temperature: as for `gla`.
        scale: as for `gla`.
    """

    ours = Gla

    def __init__(
        self, geometry: Geometry, temperature: float = 16.0, scale: float | None = None
    ) -> None:
        super().__init__(geometry, temperature, scale)
        self._chunked = load(self.name, "fla.ops.gla", "chunk_gla")

    def forward(  # type: ignore[override]
        self, q: Tensor, k: Tensor, v: Tensor, *, log_decay: Tensor | None = None
    ) -> Tensor:
        """(B, H, N, D), (B, H, N, D), (B, H, N, E) -> (B, H, N, E)."""
        equal_lengths(self.name, q, k, "the recurrence")
        decay = self._gates(q, k, None, {"log_decay": log_decay})[0].expand(q.shape)
        return _mixed(self._chunked, q, k, v, scale=self.scale, g=decay)


@register_attention(
    "simple_gla_fla",
    title="Simple GLA (flash-linear-attention)",
    source="Yang et al., 2024, fla-org/flash-linear-attention",
    family="recurrent",
    capabilities=_GATED,
)
class SimpleGlaFla(_ByKernel, SimpleGla):
    """S_t = exp(g_t) S_{t-1} + k_t v_t^T and out_t = S_t^T q_t / sqrt(head_dim), as `simple_gla`.

    By ``fla.ops.simple_gla.chunk_simple_gla``.

    Hazards:
        - Half precision only.

    Differences:
        - Takes no masks; those of `simple_gla` otherwise.

    Args:
        geometry: the shape to build for; causal.
        temperature: as for `simple_gla`.
        scale: as for `simple_gla`.
    """

    ours = SimpleGla

    def __init__(
        self, geometry: Geometry, temperature: float = 16.0, scale: float | None = None
    ) -> None:
        super().__init__(geometry, temperature, scale)
        self._chunked = load(self.name, "fla.ops.simple_gla", "chunk_simple_gla")

    def forward(  # type: ignore[override]
        self, q: Tensor, k: Tensor, v: Tensor, *, log_decay: Tensor | None = None
    ) -> Tensor:
        """(B, H, N, D), (B, H, N, D), (B, H, N, E) -> (B, H, N, E)."""
        equal_lengths(self.name, q, k, "the recurrence")
        decay = self._gates(q, k, None, {"log_decay": log_decay})[0].expand(q.shape[:3])
        return _mixed(self._chunked, q, k, v, scale=self.scale, g=decay)


@register_attention(
    "retnet_fla",
    title="RetNet (flash-linear-attention)",
    source="Sun et al., 2023, arXiv:2307.08621; fla-org/flash-linear-attention",
    family="recurrent",
    capabilities=_CAN,
)
class RetNetFla(_ByKernel, RetNet):
    """(q k^T * D) v / sqrt(head_dim), with D_ij = gamma_h^(i - j) for j <= i, as `retnet`.

    By ``fla.ops.retention.chunk_retention``, which has the same gamma_h built in.

    Hazards:
        - Half precision only.

    Differences:
        - Takes no masks and has no score norm; those of `retnet` otherwise.

    Args:
        geometry: the shape to build for; causal.
        scale: as for `retnet`.
    """

    ours = RetNet

    def __init__(self, geometry: Geometry, scale: float | None = None) -> None:
        super().__init__(geometry, scale=scale)
        self._chunked = load(self.name, "fla.ops.retention", "chunk_retention")

    def forward(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:  # type: ignore[override]
        """(B, H, N, D), (B, H, N, D), (B, H, N, E) -> (B, H, N, E)."""
        equal_lengths(self.name, q, k, "the recurrence")
        return _mixed(self._chunked, q, k, v, scale=self.scale)


@register_attention(
    "deltanet_fla",
    title="DeltaNet (flash-linear-attention)",
    source="Yang et al., 2024, arXiv:2406.06484; fla-org/flash-linear-attention",
    family="recurrent",
    capabilities=_DELTA,
)
class DeltaNetFla(_ByKernel, DeltaNet):
    """S_t = S_{t-1} + beta_t k_t (v_t - S_{t-1}^T k_t)^T, out_t = S_t^T q_t / sqrt(head_dim).

    As `deltanet`, by ``fla.ops.delta_rule.chunk_delta_rule``. Keys, and queries if asked, are
    brought to unit length before it.

    Hazards:
        - Half precision only; those of `deltanet` otherwise.

    Differences:
        - Takes no masks; those of `deltanet` otherwise.

    Args:
        geometry: the shape to build for; causal.
        normalise_keys: as for `deltanet`.
        normalise_queries: as for `deltanet`.
        scale: as for `deltanet`.
    """

    ours = DeltaNet

    def __init__(
        self,
        geometry: Geometry,
        normalise_keys: bool = True,
        normalise_queries: bool = False,
        scale: float | None = None,
    ) -> None:
        super().__init__(geometry, normalise_keys, normalise_queries, scale=scale)
        self._chunked = load(self.name, "fla.ops.delta_rule", "chunk_delta_rule")

    def forward(  # type: ignore[override]
        self, q: Tensor, k: Tensor, v: Tensor, *, beta: Tensor | None = None
    ) -> Tensor:
        """(B, H, N, D), (B, H, N, D), (B, H, N, E) -> (B, H, N, E)."""
        equal_lengths(self.name, q, k, "the recurrence")
        (written,) = self._gates(q, k, None, {"beta": beta})
        written = written.expand(q.shape[:3]).to(q.dtype)
        q, k = _of_unit_length(self, q, k)
        return _mixed(self._chunked, q, k, v, scale=self.scale, beta=written)


@register_attention(
    "gated_deltanet_fla",
    title="Gated DeltaNet (flash-linear-attention)",
    source="Yang et al., 2025, arXiv:2412.06464; fla-org/flash-linear-attention",
    family="recurrent",
    capabilities=_GATED_DELTA,
)
class GatedDeltaNetFla(_ByKernel, GatedDeltaNet):
    """S_t = S' + beta_t k_t (v_t - S'^T k_t)^T with S' = exp(g_t) S_{t-1}, as `gated_deltanet`.

    By ``fla.ops.gated_delta_rule.chunk_gated_delta_rule``. Keys, and queries if asked, are brought
    to unit length before it.

    Hazards:
        - Half precision only; those of `gated_deltanet` otherwise.

    Differences:
        - Takes no masks; those of `gated_deltanet` otherwise.

    Args:
        geometry: the shape to build for; causal.
        normalise_keys: as for `gated_deltanet`.
        normalise_queries: as for `gated_deltanet`.
        scale: as for `gated_deltanet`.
    """

    ours = GatedDeltaNet

    def __init__(
        self,
        geometry: Geometry,
        normalise_keys: bool = True,
        normalise_queries: bool = False,
        scale: float | None = None,
    ) -> None:
        super().__init__(geometry, normalise_keys, normalise_queries, scale=scale)
        self._chunked = load(self.name, "fla.ops.gated_delta_rule", "chunk_gated_delta_rule")

    def forward(  # type: ignore[override]
        self,
        q: Tensor,
        k: Tensor,
        v: Tensor,
        *,
        beta: Tensor | None = None,
        log_decay: Tensor | None = None,
    ) -> Tensor:
        """(B, H, N, D), (B, H, N, D), (B, H, N, E) -> (B, H, N, E)."""
        equal_lengths(self.name, q, k, "the recurrence")
        found = self._gates(q, k, None, {"beta": beta, "log_decay": log_decay})
        written, forgotten = (gate.expand(q.shape[:3]) for gate in found)
        q, k = _of_unit_length(self, q, k)
        gates = {"g": forgotten, "beta": written.to(q.dtype)}
        return _mixed(self._chunked, q, k, v, scale=self.scale, **gates)


def _of_unit_length(core: DeltaNet | GatedDeltaNet, q: Tensor, k: Tensor) -> tuple[Tensor, Tensor]:
    """Those of the two that are asked for, their lengths summed in float32."""
    wanted = (core.normalise_queries, core.normalise_keys)
    q, k = (
        unit_length(widen(x)).to(x.dtype) if is_wanted else x
        for x, is_wanted in zip((q, k), wanted, strict=True)
    )
    return q, k
