"""Mechanisms of 2024 and later by the Triton kernels of flash-linear-attention, as in `fla`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from ..base import Geometry
from ..capabilities import Capabilities, Gate
from ..mechanisms.fox import Fox
from ..mechanisms.gated_deltaproduct import GatedDeltaProduct
from ..mechanisms.kda import Kda
from ..mechanisms.rwkv7 import Rwkv7
from ..registry import register_attention
from .by_fla import ByFla, StateByFla

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


@register_attention(
    "kda_fla",
    title="KDA (flash-linear-attention)",
    source="Kimi Team, 2025, Kimi Linear, arXiv:2510.26692; fla-org/flash-linear-attention",
    family="recurrent",
    capabilities=replace(_CAN, gates={"beta": _BETA, "log_decay": Gate("bhnd", high=0)}),
)
class KdaFla(StateByFla, Kda):
    """S_t = S' + beta_t k_t (v_t - S'^T k_t)^T with S' = diag(exp(g_t)) S_{t-1}, as `kda`.

    By ``fla.ops.kda.chunk_kda``. Keys are brought to unit length before it.

    Hazards:
        - Half precision only; those of `kda` otherwise.

    Differences:
        - Takes no masks; those of `kda` otherwise.

    Args:
        geometry: the shape to build for; causal.
        normalise_keys: as for `kda`.
        scale: as for `kda`.
        negative_eigenvalues: as for `kda`.
    """

    def __init__(
        self,
        geometry: Geometry,
        normalise_keys: bool = True,
        scale: float | None = None,
        negative_eigenvalues: bool = False,
    ) -> None:
        super().__init__(geometry, normalise_keys, scale, negative_eigenvalues)


@register_attention(
    "fox_fla",
    title="FoX (flash-linear-attention)",
    source="Lin et al., 2025, arXiv:2503.02130; fla-org/flash-linear-attention",
    family="exact",
    capabilities=replace(_CAN, gates={"log_decay": _DECAY}),
)
class FoxFla(ByFla, Fox):
    """out_i = sum_{j <= i} softmax_j(q_i . k_j / sqrt(D) + G_i - G_j) v_j, as `fox`.

    By ``fla.ops.forgetting_attn.parallel_forgetting_attn``.

    Hazards:
        - Half precision only; sums of log decays are float32.

    Differences:
        - Takes no masks; those of `fox` otherwise.

    Args:
        geometry: the shape to build for; causal.
        window: as for `fox`.
    """

    def __init__(self, geometry: Geometry, window: int | None = None) -> None:
        super().__init__(geometry, window)

    def given(self, q: Tensor, k: Tensor, v: Tensor, gates: Mapping[str, Tensor]) -> dict[str, Any]:
        """With the window, which counts the query in both."""
        return super().given(q, k, v, gates) | {"window_size": self.window}


@register_attention(
    "gated_deltaproduct_fla",
    title="Gated DeltaProduct (flash-linear-attention)",
    source="Siems et al., 2025, arXiv:2502.10297; fla-org/flash-linear-attention",
    family="recurrent",
    capabilities=replace(
        _CAN,
        gates={
            "beta": Gate("bhn", low=0, high=2),
            "log_decay": _DECAY,
            "more_keys": Gate("bhnrd", unit=True),
            "more_values": Gate("bhnre"),
            "more_betas": Gate("bhnr", low=0, high=2),
        },
    ),
)
class GatedDeltaProductFla(StateByFla, GatedDeltaProduct):
    """A decay, then R steps S <- S + beta_r k_r (v_r - S^T k_r)^T, as `gated_deltaproduct`.

    By ``fla.ops.gated_delta_product.chunk_gated_delta_product``, which takes the R keys of a token
    one behind the other. They are brought to unit length before it.

    Hazards:
        - Half precision only; those of `gated_deltaproduct` otherwise.

    Differences:
        - Takes no masks; those of `gated_deltaproduct` otherwise.

    Args:
        geometry: the shape to build for; causal.
        num_householder: as for `gated_deltaproduct`.
        forget_gate: as for `gated_deltaproduct`.
        negative_eigenvalues: as for `gated_deltaproduct`.
        normalise_keys: as for `gated_deltaproduct`.
        scale: as for `gated_deltaproduct`.
    """

    def __init__(
        self,
        geometry: Geometry,
        num_householder: int = 2,
        forget_gate: bool = True,
        negative_eigenvalues: bool = True,
        normalise_keys: bool = True,
        scale: float | None = None,
    ) -> None:
        super().__init__(
            geometry, num_householder, forget_gate, negative_eigenvalues, normalise_keys, scale
        )

    def given(self, q: Tensor, k: Tensor, v: Tensor, gates: Mapping[str, Tensor]) -> dict[str, Any]:
        """With the steps of a token one behind the other."""
        steps = self.gate_axes["r"] + 1
        beta = gates["beta"]
        if steps > 1:
            more = (gates[name] for name in ("more_keys", "more_values", "more_betas"))
            pairs = zip((k, v, beta), more, strict=True)
            k, v, beta = (torch.cat((x.unsqueeze(3), y), dim=3).flatten(2, 3) for x, y in pairs)
        given = super().given(q, k, v, gates) | {"beta": beta}
        return given | {"num_householder": steps}


@register_attention(
    "rwkv7_fla",
    title="RWKV-7 (flash-linear-attention)",
    source="Peng et al., 2025, arXiv:2503.14456; fla-org/flash-linear-attention",
    family="recurrent",
    capabilities=replace(
        _CAN,
        gates={
            "log_decay": Gate("bhnd", high=0),
            "removal_key": Gate("bhnd", unit=True),
            "removal_rate": Gate("bhnd", low=0, high=1),
        },
    ),
)
class Rwkv7Fla(StateByFla, Rwkv7):
    """S_t = (diag(exp(w_t)) - (a_t * kappa_t) kappa_t^T) S_{t-1} + k_t v_t^T, as `rwkv7`.

    By ``fla.ops.rwkv7.chunk_rwkv7``.

    Hazards:
        - Half precision only; those of `rwkv7` otherwise.

    Differences:
        - Takes no masks; those of `rwkv7` otherwise.

    Args:
        geometry: the shape to build for; causal.
    """

    def __init__(self, geometry: Geometry) -> None:
        super().__init__(geometry)

    def given(self, q: Tensor, k: Tensor, v: Tensor, gates: Mapping[str, Tensor]) -> dict[str, Any]:
        """With a = -kappa, which reads what is removed, and b = rate * kappa."""
        kappa = gates["removal_key"]
        given = super().given(q, k, v, gates) | {"a": -kappa}
        return given | {"b": gates["removal_rate"] * kappa, "r": given.pop("q")}
