"""Further recurrences by the Triton kernels of flash-linear-attention, as in `fla_recent`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from torch import Tensor

from ..base import Geometry
from ..capabilities import Capabilities, Gate
from ..mechanisms.comba import Comba
from ..mechanisms.gated_deltanet2 import GatedDeltaNet2
from ..mechanisms.gsa import Gsa
from ..mechanisms.log_linear import LogLinear
from ..mechanisms.mesanet import MesaNet
from ..mechanisms.rwkv6 import Rwkv6
from ..precision import widen
from ..registry import register_attention
from .by_fla import StateByFla

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
_SHARE = Gate("bhn", low=0, high=1)


@register_attention(
    "rwkv6_fla",
    title="RWKV-6 (flash-linear-attention)",
    source="Peng et al., 2024, arXiv:2404.05892; fla-org/flash-linear-attention",
    family="recurrent",
    capabilities=replace(_CAN, gates={"log_decay": Gate("bhnd", high=0)}),
)
class Rwkv6Fla(StateByFla, Rwkv6):
    """out_t = S_{t-1}^T r_t + (r_t . (u * k_t)) v_t, and then decay and write, as `rwkv6`.

    By ``fla.ops.rwkv6.chunk_rwkv6``.

    Hazards:
        - Half precision only, the bonus too; those of `rwkv6` otherwise.

    Differences:
        - Takes no masks; those of `rwkv6` otherwise.

    Args:
        geometry: the shape to build for; causal.
        scale: as for `rwkv6`.
    """

    def __init__(self, geometry: Geometry, scale: float | None = 1.0) -> None:
        super().__init__(geometry, scale)

    def given(self, q: Tensor, k: Tensor, v: Tensor, gates: Mapping[str, Tensor]) -> dict[str, Any]:
        """With the bonus, (H, D)."""
        given = super().given(q, k, v, gates)
        return given | {"r": given.pop("q"), "u": self.bonus.to(v.dtype)}


@register_attention(
    "comba_fla",
    title="Comba (flash-linear-attention)",
    source="Hu et al., 2025, arXiv:2506.02475; fla-org/flash-linear-attention",
    family="recurrent",
    capabilities=replace(
        _CAN,
        gates={"beta": _SHARE, "log_decay": _DECAY, "removal_key": Gate("bhnd", unit=True)},
    ),
)
class CombaFla(StateByFla, Comba):
    """S_t = exp(g_t) S_{t-1} + beta_t k_t (v_t - S_{t-1}^T p_t)^T, as `comba`.

    By ``fla.ops.comba.chunk_comba``. Keys are brought to unit length before it.

    Hazards:
        - Half precision only; those of `comba` otherwise.

    Differences:
        - Takes no masks; those of `comba` otherwise.

    Args:
        geometry: the shape to build for; causal.
        normalise_keys: as for `comba`.
        scale: as for `comba`.
    """

    def __init__(
        self, geometry: Geometry, normalise_keys: bool = True, scale: float | None = None
    ) -> None:
        super().__init__(geometry, normalise_keys, scale)


@register_attention(
    "gated_deltanet2_fla",
    title="Gated DeltaNet-2 (flash-linear-attention)",
    source="2026, arXiv:2605.22791; fla-org/flash-linear-attention",
    family="recurrent",
    capabilities=replace(
        _CAN,
        gates={
            "log_decay": Gate("bhnd", high=0),
            "erase": Gate("bhnd", low=0, high=1),
            "write": Gate("bhne", low=0, high=1),
        },
    ),
)
class GatedDeltaNet2Fla(StateByFla, GatedDeltaNet2):
    """S_t = S' + k_t (w_t * v_t - S'^T (b_t * k_t))^T with S' = diag(exp(g_t)) S_{t-1}.

    As `gated_deltanet2`, by ``fla.ops.gdn2.chunk_gdn2``. Keys are brought to unit length before it.

    Hazards:
        - Half precision only; those of `gated_deltanet2` otherwise.

    Differences:
        - Takes no masks; those of `gated_deltanet2` otherwise.

    Args:
        geometry: the shape to build for; causal, with heads of at most 256 channels.
        normalise_keys: as for `gated_deltanet2`.
        scale: as for `gated_deltanet2`.
        negative_eigenvalues: as for `gated_deltanet2`.
    """

    def __init__(
        self,
        geometry: Geometry,
        normalise_keys: bool = True,
        scale: float | None = None,
        negative_eigenvalues: bool = False,
    ) -> None:
        super().__init__(geometry, normalise_keys, scale, negative_eigenvalues)
        self.takes("head_dim", geometry.head_dim, lambda x: x <= 256, "at most 256")


@register_attention(
    "gsa_fla",
    title="GSA (flash-linear-attention)",
    source="Zhang et al., 2024, arXiv:2409.07146; fla-org/flash-linear-attention",
    family="recurrent",
    capabilities=replace(
        _CAN, gates={"log_decay": Gate("bhnm", high=0), "slot": Gate("bhnm", low=0, high=1)}
    ),
)
class GsaFla(StateByFla, Gsa):
    """out_t = V_t^T softmax(K_t q_t / sqrt(head_dim)) over M slots that fade, as `gsa`.

    By ``fla.ops.gsa.chunk_gsa``.

    Hazards:
        - Half precision only, the scores of slots too; those of `gsa` otherwise.

    Differences:
        - Takes no masks; those of `gsa` otherwise.

    Args:
        geometry: the shape to build for; causal.
        num_slots: as for `gsa`.
        temperature: as for `gsa`.
        scale: as for `gsa`.
    """

    def __init__(
        self,
        geometry: Geometry,
        num_slots: int | None = None,
        temperature: float = 8.0,
        scale: float | None = None,
    ) -> None:
        super().__init__(geometry, num_slots, temperature, scale)


@register_attention(
    "mesanet_fla",
    title="MesaNet (flash-linear-attention)",
    source="von Oswald et al., 2025, arXiv:2506.05233; fla-org/flash-linear-attention",
    family="recurrent",
    capabilities=replace(_CAN, gates={"beta": _SHARE, "log_decay": _DECAY}),
)
class MesaNetFla(StateByFla, MesaNet):
    """out_t = M_t^T (H_t + diag(ridge))^{-1} q_t by conjugate gradients, as `mesanet`.

    By ``fla.ops.mesa_net.chunk_mesa_net``; as `mesanet` with ``solver="cg"``. Queries and keys are
    brought to unit length before it. Beta and ridge stay float32.

    Hazards:
        - Half precision only; those of `mesanet` otherwise.

    Differences:
        - Takes no masks, and no exact solve; those of `mesanet` otherwise.

    Args:
        geometry: the shape to build for; causal, with values as wide as keys, at most 128.
        iterations: as for `mesanet`.
        normalise_keys: as for `mesanet`.
        normalise_queries: as for `mesanet`.
    """

    wide = frozenset({"beta"})

    def __init__(
        self,
        geometry: Geometry,
        iterations: int = 30,
        normalise_keys: bool = True,
        normalise_queries: bool = True,
    ) -> None:
        super().__init__(geometry, "cg", iterations, normalise_keys, normalise_queries)
        width = geometry.head_dim
        self.takes("head_dim", width, lambda x: x <= 128, "at most 128")
        self.takes("value_dim", geometry.value_dim, lambda x: x == width, f"head_dim, {width}")

    def given(self, q: Tensor, k: Tensor, v: Tensor, gates: Mapping[str, Tensor]) -> dict[str, Any]:
        """With the ridge, (H, D), and no scale."""
        given = super().given(q, k, v, gates)
        del given["scale"]
        return given | {"lamb": widen(self.ridge), "max_CG_iteration": self.steps}


@register_attention(
    "log_linear_fla",
    title="Log-linear attention (flash-linear-attention)",
    source="Guo et al., 2025, arXiv:2506.04761; fla-org/flash-linear-attention",
    family="recurrent",
    capabilities=replace(
        _CAN, gates={"log_decay": _DECAY, "level_scale": Gate("bhnl", low=0, query=True)}
    ),
)
class LogLinearFla(StateByFla, LogLinear):
    """out_i = sum_l scale_i[l] S_l^T q_i over the blocks of a Fenwick tree, as `log_linear`.

    By ``fla.ops.log_linear_attn.chunk_log_linear_attn``.

    Hazards:
        - Half precision only; those of `log_linear` otherwise.

    Differences:
        - Takes no masks; those of `log_linear` otherwise.

    Args:
        geometry: the shape to build for; causal, with head_dim a multiple of 64 and value_dim a
            power of two.
        num_levels: as for `log_linear`.
        scale: as for `log_linear`.
    """

    def __init__(
        self, geometry: Geometry, num_levels: int | None = None, scale: float | None = 1.0
    ) -> None:
        super().__init__(geometry, num_levels, scale)
        self.takes("head_dim", geometry.head_dim, lambda x: x % 64 == 0, "multiples of 64")
        self.takes("value_dim", geometry.value_dim, lambda x: x & (x - 1) == 0, "powers of two")
