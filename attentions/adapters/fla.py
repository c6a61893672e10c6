"""Mechanisms by the Triton kernels of the package flash-linear-attention, a row for each operator.

None of them runs on a CPU or in float32; `make test-kernels` runs them in Triton's interpreter. Of
DSA the package has plain PyTorch only, so there is no row.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from ..foreign import Operator
from ..mechanisms import (
    comba,
    deltaformer,
    deltanet,
    fox,
    gated_deltanet,
    gated_deltanet2,
    gated_deltaproduct,
    gla,
    gsa,
    head_decay,
    kda,
    log_linear,
    mesanet,
    moba,
    nsa,
    path,
    rwkv6,
    rwkv7,
)
from .by_fla import ByFla
from .entries import enter


def _one_behind_the_other(ours: Any, of: Mapping[str, Tensor]) -> dict[str, Any]:
    """Keys, values and betas of the steps of a token, one behind the other."""
    first, more = ("k", "v", "beta"), ("more_keys", "more_values", "more_betas")
    steps = ours.gate_axes["r"] + 1
    if steps == 1:
        return {"steps": 1}
    given: dict[str, Any] = {"steps": steps}
    for name, others in zip(first, more, strict=True):
        given[name] = torch.cat((of[name].unsqueeze(3), of[others]), dim=3).flatten(2, 3)
    return given


def _removal(ours: Any, of: Mapping[str, Tensor]) -> dict[str, Any]:
    """Vectors that read what is removed and that remove it, -kappa and a * kappa."""
    kappa = of["removal_key"]
    return {"reads": -kappa, "removes": of["removal_rate"] * kappa}


_QKV = {"q": "q", "k": "k", "v": "v"}
_STATE = {"q": "q", "k": "k", "v": "v", "scale": "scale"}
_RKV = {"r": "q", "k": "k", "v": "v", "scale": "scale", "w": "log_decay"}
_G, _BETA = {"g": "log_decay"}, {"beta": "beta"}
_KEYS = "Keys are brought to unit length before it."
_LENGTHS = """\
Keys are brought to unit length before it, and queries if asked; if both are to be, by it."""
_SEQUENCES = "Sequences are given one behind the other."
_WIDTHS = {"head_dim": "16, 32, 64 or 128", "value_dim": "16, 32, 64 or 128"}
_NO_OTHER_BETA = {"negative_eigenvalues": False}

OPERATORS = (
    Operator("gla_fla", gla.Gla, "gla.chunk_gla", _STATE | _G),
    Operator("simple_gla_fla", head_decay.SimpleGla, "simple_gla.chunk_simple_gla", _STATE | _G),
    Operator(
        "retnet_fla",
        head_decay.RetNet,
        "retention.chunk_retention",
        _STATE,
        fixed={"score_norm": "none"},
        about="It has the same gamma_h built in.",
    ),
    Operator(
        "deltanet_fla",
        deltanet.DeltaNet,
        "delta_rule.chunk_delta_rule",
        _STATE | _BETA,
        fixed=_NO_OTHER_BETA,
        normalises=True,
        about=_LENGTHS,
    ),
    Operator(
        "gated_deltanet_fla",
        gated_deltanet.GatedDeltaNet,
        "gated_delta_rule.chunk_gated_delta_rule",
        _STATE | _G | _BETA,
        fixed=_NO_OTHER_BETA,
        normalises=True,
        about=_LENGTHS,
    ),
    Operator("kda_fla", kda.Kda, "kda.chunk_kda", _STATE | _G | _BETA, about=_KEYS),
    Operator(
        "fox_fla",
        fox.Fox,
        "forgetting_attn.parallel_forgetting_attn",
        _QKV | _G | {"window_size": "window"},
        hazards=("Sums of log decays are float32.",),
    ),
    Operator(
        "gated_deltaproduct_fla",
        gated_deltaproduct.GatedDeltaProduct,
        "gated_delta_product.chunk_gated_delta_product",
        _STATE | _G | _BETA | {"num_householder": "steps"},
        more=_one_behind_the_other,
        about="It takes the R keys of a token one behind the other. " + _KEYS,
    ),
    Operator(
        "rwkv7_fla",
        rwkv7.Rwkv7,
        "rwkv7.chunk_rwkv7",
        _RKV | {"a": "reads", "b": "removes"},
        more=_removal,
    ),
    Operator(
        "rwkv6_fla",
        rwkv6.Rwkv6,
        "rwkv6.chunk_rwkv6",
        _RKV | {"u": "bonus"},
        hazards=("The bonus is half, too.",),
    ),
    Operator(
        "comba_fla",
        comba.Comba,
        "comba.chunk_comba",
        _STATE | _G | _BETA | {"p": "removal_key"},
        about=_KEYS,
    ),
    Operator(
        "gated_deltanet2_fla",
        gated_deltanet2.GatedDeltaNet2,
        "gdn2.chunk_gdn2",
        _STATE | _G | {"b": "erase", "w": "write"},
        takes={"head_dim": "at most 256"},
        about=_KEYS,
    ),
    Operator(
        "gsa_fla",
        gsa.Gsa,
        "gsa.chunk_gsa",
        _STATE | _G | {"s": "slot"},
        hazards=("The scores of slots are half, too.",),
    ),
    Operator(
        "mesanet_fla",
        mesanet.MesaNet,
        "mesa_net.chunk_mesa_net",
        _QKV | _G | _BETA | {"lamb": "ridge", "max_CG_iteration": "steps"},
        wide=frozenset({"beta", "ridge"}),
        fixed={"solver": "cg"},
        takes={"head_dim": "at most 128", "value_dim": "head_dim"},
        about="Queries and keys are brought to unit length before it. Beta and ridge stay float32.",
    ),
    Operator(
        "log_linear_fla",
        log_linear.LogLinear,
        "log_linear_attn.chunk_log_linear_attn",
        _STATE | _G | {"level_scales": "level_scale"},
        takes={"head_dim": "multiples of 64", "value_dim": "powers of two"},
    ),
    Operator(
        "path_fla",
        path.Path,
        "path_attn.parallel_path_attn",
        _QKV | _G | _BETA | {"w": "transition_key"},
        wide=frozenset({"transition_key", "beta"}),
        takes=_WIDTHS,
        about="Transition keys and beta stay float32.",
        hazards=("Sums of log decays are float32.",),
    ),
    Operator(
        "deltaformer_fla",
        deltaformer.Deltaformer,
        "deltaformer.deltaformer_attn",
        _QKV | _BETA,
        takes={"head_dim": "16, 32, 64 or 128", "value_dim": "head_dim"},
        packed=True,
        flash=True,
        about="It finds u with kernels of its own and leaves the softmax over u to flash-attn. "
        + _SEQUENCES,
        hazards=(
            "The weights of a chunk of 512 tokens are half, and u, too.",
            "Each sequence and chunk is a launch of its own, and where they begin is read back "
            "from the device.",
        ),
    ),
    Operator(
        "moba_fla",
        moba.Moba,
        "moba.parallel_moba",
        _QKV | {"max_seqlen": "num_tokens", "chunk_size": "block_size", "topk": "most"},
        takes={"value_dim": "head_dim", "top_k": "2 or more"},
        packed=True,
        flash=True,
        about="It leaves both softmaxes to flash-attn and merges them. " + _SEQUENCES,
        hazards=(
            "Mean keys are half, too, which changes the choice between blocks that match almost "
            "equally well.",
            "How many queries chose each block is read back from the device.",
        ),
        differences=("With ``top_k`` of 1 the operator attends to all earlier tokens.",),
    ),
    Operator(
        "nsa_fla",
        nsa.Nsa,
        "nsa.parallel_nsa",
        _QKV
        | {"g_cmp": "gate_compression", "g_slc": "gate_selection", "g_swa": "gate_window"}
        | {"block_counts": "most", "block_size": "block_size", "window_size": "near"},
        takes={
            "num_heads / num_kv_heads": "powers of two from 16",
            "head_dim": "at most 256",
            "num_blocks": "powers of two",
            "block_size": "powers of two from 2 num_blocks",
        },
        flash=True,
        about="It leaves the window to flash-attn.",
        hazards=(
            "Mean keys are half, too, which changes the choice between blocks that match almost "
            "equally well.",
        ),
    ),
)
"""The operators of version 0.6 that compute a mechanism of ours."""

for _row in OPERATORS:
    globals()[f"{_row.ours.__name__}Fla"] = enter(_row, ByFla, __name__)
