"""Softmax attention of 2025 by the Triton kernels of flash-linear-attention, as in `fla`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from torch import Tensor

from ..base import Geometry
from ..capabilities import Capabilities, Gate
from ..mechanisms.deltaformer import Deltaformer
from ..mechanisms.moba import Moba
from ..mechanisms.path import Path
from ..registry import register_attention
from .by_fla import ByFla, PackedByFla

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
_WITH_FLASH = replace(_CAN, requires=("fla", "flash_attn"))
"""Claims for operators that leave their softmax to flash-attn."""
_WIDTHS = (16, 32, 64, 128)


@register_attention(
    "path_fla",
    title="PaTH attention (flash-linear-attention)",
    source="Yang et al., 2025, arXiv:2505.16381; fla-org/flash-linear-attention",
    family="exact",
    capabilities=replace(
        _CAN,
        gates={
            "transition_key": Gate("bhnd", unit=True),
            "beta": Gate("bhn", low=0, high=2),
            "log_decay": Gate("bhn", high=0),
        },
    ),
)
class PathFla(ByFla, Path):
    """out_i = sum_{j <= i} softmax_j((k_j^T H_{j+1} ... H_i q_i + G_i - G_j) / sqrt(D)) v_j.

    As `path`, by ``fla.ops.path_attn.parallel_path_attn``. Transition keys and beta stay float32.

    Hazards:
        - Half precision only; sums of log decays are float32. Those of `path` otherwise.

    Differences:
        - Takes no masks; those of `path` otherwise.

    Args:
        geometry: the shape to build for; causal, with heads of 16, 32, 64 or 128 channels.
        forget_gate: as for `path`.
    """

    wide = frozenset({"transition_key", "beta"})

    def __init__(self, geometry: Geometry, forget_gate: bool = False) -> None:
        super().__init__(geometry, forget_gate)
        for what in ("head_dim", "value_dim"):
            self.takes(what, getattr(geometry, what), _WIDTHS.__contains__, "16, 32, 64 or 128")


@register_attention(
    "deltaformer_fla",
    title="DeltaFormer (flash-linear-attention)",
    source="Xu et al., 2025, arXiv:2505.19488; fla-org/flash-linear-attention",
    family="exact",
    capabilities=replace(_WITH_FLASH, gates={"beta": Gate("bhn")}, queries_write=True),
)
class DeltaformerFla(PackedByFla, Deltaformer):
    """u_i = v_i - beta_i sum_{j < i} softmax_{j < i}(q_i . k_j / sqrt(D)) u_j, as `deltaformer`.

    By ``fla.ops.deltaformer.deltaformer_attn``, which finds u with kernels of its own and leaves
    the softmax over u to flash-attn. Sequences are given one behind the other.

    Hazards:
        - Half precision only, u and the weights of a chunk of 512 tokens too; those of
          `deltaformer` otherwise.
        - Each sequence and chunk is a launch of its own, and where they begin is read back from the
          device.

    Differences:
        - Takes no masks; those of `deltaformer` otherwise.

    Args:
        geometry: the shape to build for; causal, with heads of 16, 32, 64 or 128 channels and
            values as wide as keys.
    """

    def __init__(self, geometry: Geometry) -> None:
        super().__init__(geometry)
        width = geometry.head_dim
        self.takes("head_dim", width, _WIDTHS.__contains__, "16, 32, 64 or 128")
        self.takes("value_dim", geometry.value_dim, lambda x: x == width, f"head_dim, {width}")


@register_attention(
    "moba_fla",
    title="MoBA (flash-linear-attention)",
    source="Lu et al., 2025, arXiv:2502.13189; fla-org/flash-linear-attention",
    family="sparse",
    capabilities=_WITH_FLASH,
)
class MobaFla(PackedByFla, Moba):
    """softmax(q k^T / sqrt(D)) v over a query's own block and those it matches best, as `moba`.

    By ``fla.ops.moba.parallel_moba``, which leaves both softmaxes to flash-attn and merges them.
    Sequences are given one behind the other.

    Hazards:
        - Half precision only, mean keys too, which changes the choice between blocks that match
          almost equally well; those of `moba` otherwise.
        - How many queries chose each block is read back from the device.

    Differences:
        - With ``top_k`` of 1 the operator attends to all earlier tokens, so 1 is refused.
        - Takes no masks; those of `moba` otherwise.

    Args:
        geometry: the shape to build for; causal, with values as wide as keys.
        block_size: as for `moba`.
        top_k: as for `moba`, 2 or more.
    """

    def __init__(self, geometry: Geometry, block_size: int = 512, top_k: int = 3) -> None:
        super().__init__(geometry, block_size, top_k)
        width = geometry.head_dim
        self.takes("value_dim", geometry.value_dim, lambda x: x == width, f"head_dim, {width}")
        self.takes("top_k", self.most, lambda x: x > 1, "2 or more")

    def given(self, q: Tensor, k: Tensor, v: Tensor, gates: Mapping[str, Tensor]) -> dict[str, Any]:
        """With the blocks and the longest sequence."""
        given = super().given(q, k, v, gates)
        return given | {"max_seqlen": q.shape[2], "chunk_size": self.block_size, "topk": self.most}
