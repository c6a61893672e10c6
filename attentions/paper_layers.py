"""Layers of papers: what stands around a gated core there, as settings of `MultiHeadAttention`.

What the settings cannot say is left out: the token shift of RWKV-6 and RWKV-7, Comba's correction
of the query, PaTH's convolution of its transition keys, GSA's activation behind its core, and key
widths other than the geometry's. MesaNet's paper does not convolve the values.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

_TOKENS: Mapping[str, Any] = {"gates": "tokens"}
_NORMED = {**_TOKENS, "bias": False, "head_norm": "rms"}
_CONVOLVED = {**_NORMED, "conv_size": 4}
_DELTA = {**_CONVOLVED, "qk_norm": "unit"}
_GROUPED = {**_TOKENS, "bias": False, "head_norm": "layer"}

_PAPERS: dict[str, Mapping[str, Any]] = {
    "comba": {**_DELTA, "output_gate": "silu"},
    "deltaformer": _TOKENS,
    "deltanet": _DELTA,
    "differential_v2": _TOKENS,
    "dsa": _TOKENS,
    "fox": _TOKENS,
    "gated_attention": _TOKENS,
    "gated_deltanet": {**_DELTA, "output_gate": "silu"},
    "gated_deltanet2": {**_DELTA, "output_gate": "low_rank"},
    "gated_deltaproduct": {**_DELTA, "output_gate": "silu"},
    "gla": {**_NORMED, "output_gate": "silu"},
    "gsa": {**_NORMED, "conv_size": 0},
    "kda": {**_DELTA, "output_gate": "low_rank"},
    "log_linear": {**_CONVOLVED, "output_gate": "silu"},
    "mamba2_ssd": {
        **{**_CONVOLVED, "head_norm": "gated_rms", "output_gate": "silu"},
        **{"conv_bias": True, "skip": True},
    },
    "mamba3": {**_TOKENS, "bias": False, "qk_norm": "rms", "output_gate": "silu"},
    "mesanet": _CONVOLVED,
    "nsa": _TOKENS,
    "path": _TOKENS,
    "rwkv6": {**_GROUPED, "output_gate": "silu"},
    "rwkv7": {**_GROUPED, "output_gate": "low_rank"},
    "simple_gla": {**_CONVOLVED, "output_gate": "silu"},
}
PAPER_LAYERS = _PAPERS | {
    f"{name}_{other}": layer for name, layer in _PAPERS.items() for other in ("fla", "ort")
}
"""Mechanism -> settings of `MultiHeadAttention`; another package's operator has its mechanism's."""
