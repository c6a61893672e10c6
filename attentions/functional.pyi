# Written by `python -m tools.functional_stub`.
# fmt: off
from collections.abc import Mapping
from typing import Any, Literal, overload

from torch import Tensor

from .mix import mix as mix

def agent(q: Tensor, k: Tensor, v: Tensor, *, num_agents: int = 49, bias: bool = True,
    class_token: bool = False, is_causal: Literal[False] = False, enable_gqa: bool = False,
    grid: tuple[int, int] | None = None, seq_len: int | None = None,
    weights: Mapping[str, Tensor] | None = None) -> Tensor: ...

def agent_published(q: Tensor, k: Tensor, v: Tensor, *, num_agents: int = 49, bias: bool = True,
    class_token: bool = False, is_causal: Literal[False] = False, enable_gqa: bool = False,
    grid: tuple[int, int] | None = None, seq_len: int | None = None,
    weights: Mapping[str, Tensor] | None = None) -> Tensor: ...

def block_sparse(q: Tensor, k: Tensor, v: Tensor, *, block_size: int = 64,
    num_window_blocks: int = 3, num_global_blocks: int = 2, num_random_blocks: int = 3,
    seed: int = 0, is_causal: bool = False, enable_gqa: bool = False, seq_len: int | None = None,
    weights: Mapping[str, Tensor] | None = None) -> Tensor: ...

@overload
def comba(q: Tensor, k: Tensor, v: Tensor, *, beta: Tensor | None = None,
    log_decay: Tensor | None = None, removal_key: Tensor | None = None, normalise_keys: bool = True,
    is_causal: Literal[True], scale: float | None = None, key_mask: Tensor | None = None,
    enable_gqa: bool = False, initial_state: Any = None, return_state: Literal[False] = False,
    seq_len: int | None = None, weights: Mapping[str, Tensor] | None = None) -> Tensor: ...
@overload
def comba(q: Tensor, k: Tensor, v: Tensor, *, beta: Tensor | None = None,
    log_decay: Tensor | None = None, removal_key: Tensor | None = None, normalise_keys: bool = True,
    is_causal: Literal[True], scale: float | None = None, key_mask: Tensor | None = None,
    enable_gqa: bool = False, initial_state: Any = None, return_state: Literal[True],
    seq_len: int | None = None,
    weights: Mapping[str, Tensor] | None = None) -> tuple[Tensor, Any]: ...

def comba_fla(q: Tensor, k: Tensor, v: Tensor, *, beta: Tensor | None = None,
    log_decay: Tensor | None = None, removal_key: Tensor | None = None, normalise_keys: bool = True,
    is_causal: Literal[True], scale: float | None = None, enable_gqa: bool = False,
    seq_len: int | None = None, weights: Mapping[str, Tensor] | None = None) -> Tensor: ...

@overload
def cosformer(q: Tensor, k: Tensor, v: Tensor, *, eps: float = 1e-06, horizon: int | None = None,
    is_causal: bool = False, enable_gqa: bool = False, initial_state: Any = None,
    return_state: Literal[False] = False, seq_len: int | None = None,
    weights: Mapping[str, Tensor] | None = None) -> Tensor: ...
@overload
def cosformer(q: Tensor, k: Tensor, v: Tensor, *, eps: float = 1e-06, horizon: int | None = None,
    is_causal: bool = False, enable_gqa: bool = False, initial_state: Any = None,
    return_state: Literal[True], seq_len: int | None = None,
    weights: Mapping[str, Tensor] | None = None) -> tuple[Tensor, Any]: ...

def cosformer_published(q: Tensor, k: Tensor, v: Tensor, *, eps: float = 1e-06,
    is_causal: Literal[False] = False, enable_gqa: bool = False, seq_len: int | None = None,
    weights: Mapping[str, Tensor] | None = None) -> Tensor: ...

@overload
def deltaformer(q: Tensor, k: Tensor, v: Tensor, *, beta: Tensor | None = None,
    is_causal: Literal[True], key_mask: Tensor | None = None, enable_gqa: bool = False,
    initial_state: Any = None, return_state: Literal[False] = False, seq_len: int | None = None,
    weights: Mapping[str, Tensor] | None = None) -> Tensor: ...
@overload
def deltaformer(q: Tensor, k: Tensor, v: Tensor, *, beta: Tensor | None = None,
    is_causal: Literal[True], key_mask: Tensor | None = None, enable_gqa: bool = False,
    initial_state: Any = None, return_state: Literal[True], seq_len: int | None = None,
    weights: Mapping[str, Tensor] | None = None) -> tuple[Tensor, Any]: ...

def deltaformer_fla(q: Tensor, k: Tensor, v: Tensor, *, beta: Tensor | None = None,
    is_causal: Literal[True], enable_gqa: bool = False, seq_len: int | None = None,
    weights: Mapping[str, Tensor] | None = None) -> Tensor: ...

@overload
def deltanet(q: Tensor, k: Tensor, v: Tensor, *, beta: Tensor | None = None,
    normalise_keys: bool = True, normalise_queries: bool = False,
    negative_eigenvalues: bool = False, is_causal: Literal[True], scale: float | None = None,
    key_mask: Tensor | None = None, enable_gqa: bool = False, initial_state: Any = None,
    return_state: Literal[False] = False, seq_len: int | None = None,
    weights: Mapping[str, Tensor] | None = None) -> Tensor: ...
@overload
def deltanet(q: Tensor, k: Tensor, v: Tensor, *, beta: Tensor | None = None,
    normalise_keys: bool = True, normalise_queries: bool = False,
    negative_eigenvalues: bool = False, is_causal: Literal[True], scale: float | None = None,
    key_mask: Tensor | None = None, enable_gqa: bool = False, initial_state: Any = None,
    return_state: Literal[True], seq_len: int | None = None,
    weights: Mapping[str, Tensor] | None = None) -> tuple[Tensor, Any]: ...

def deltanet_fla(q: Tensor, k: Tensor, v: Tensor, *, beta: Tensor | None = None,
    normalise_keys: bool = True, normalise_queries: bool = False, is_causal: Literal[True],
    scale: float | None = None, enable_gqa: bool = False, seq_len: int | None = None,
    weights: Mapping[str, Tensor] | None = None) -> Tensor: ...

@overload
def deltanet_ort(q: Tensor, k: Tensor, v: Tensor, *, beta: Tensor | None = None,
    normalise_keys: bool = True, normalise_queries: bool = False,
    negative_eigenvalues: bool = False, is_causal: Literal[True], scale: float | None = None,
    key_mask: Tensor | None = None, enable_gqa: bool = False, initial_state: Any = None,
    return_state: Literal[False] = False, seq_len: int | None = None,
    weights: Mapping[str, Tensor] | None = None) -> Tensor: ...
@overload
def deltanet_ort(q: Tensor, k: Tensor, v: Tensor, *, beta: Tensor | None = None,
    normalise_keys: bool = True, normalise_queries: bool = False,
    negative_eigenvalues: bool = False, is_causal: Literal[True], scale: float | None = None,
    key_mask: Tensor | None = None, enable_gqa: bool = False, initial_state: Any = None,
    return_state: Literal[True], seq_len: int | None = None,
    weights: Mapping[str, Tensor] | None = None) -> tuple[Tensor, Any]: ...

@overload
def differential(q: Tensor, k: Tensor, v: Tensor, *, lambda_init: float = 0.2, norm: bool = True,
    eps: float = 1e-05, is_causal: bool = False, attn_mask: Tensor | None = None,
    key_mask: Tensor | None = None, enable_gqa: bool = False, initial_state: Any = None,
    return_state: Literal[False] = False, seq_len: int | None = None,
    weights: Mapping[str, Tensor] | None = None) -> Tensor: ...
@overload
def differential(q: Tensor, k: Tensor, v: Tensor, *, lambda_init: float = 0.2, norm: bool = True,
    eps: float = 1e-05, is_causal: bool = False, attn_mask: Tensor | None = None,
    key_mask: Tensor | None = None, enable_gqa: bool = False, initial_state: Any = None,
    return_state: Literal[True], seq_len: int | None = None,
    weights: Mapping[str, Tensor] | None = None) -> tuple[Tensor, Any]: ...

@overload
def differential_v2(q: Tensor, k: Tensor, v: Tensor, *, q_minus: Tensor | None = None,
    gate: Tensor | None = None, is_causal: bool = False, attn_mask: Tensor | None = None,
    key_mask: Tensor | None = None, enable_gqa: bool = False, initial_state: Any = None,
    return_state: Literal[False] = False, seq_len: int | None = None,
    weights: Mapping[str, Tensor] | None = None) -> Tensor: ...
@overload
def differential_v2(q: Tensor, k: Tensor, v: Tensor, *, q_minus: Tensor | None = None,
    gate: Tensor | None = None, is_causal: bool = False, attn_mask: Tensor | None = None,
    key_mask: Tensor | None = None, enable_gqa: bool = False, initial_state: Any = None,
    return_state: Literal[True], seq_len: int | None = None,
    weights: Mapping[str, Tensor] | None = None) -> tuple[Tensor, Any]: ...

@overload
def dpfp(q: Tensor, k: Tensor, v: Tensor, *, nu: int = 1, eps: float = 1e-06,
    is_causal: bool = False, key_mask: Tensor | None = None, enable_gqa: bool = False,
    initial_state: Any = None, return_state: Literal[False] = False, seq_len: int | None = None,
    weights: Mapping[str, Tensor] | None = None) -> Tensor: ...
@overload
def dpfp(q: Tensor, k: Tensor, v: Tensor, *, nu: int = 1, eps: float = 1e-06,
    is_causal: bool = False, key_mask: Tensor | None = None, enable_gqa: bool = False,
    initial_state: Any = None, return_state: Literal[True], seq_len: int | None = None,
    weights: Mapping[str, Tensor] | None = None) -> tuple[Tensor, Any]: ...

@overload
def dsa(q: Tensor, k: Tensor, v: Tensor, *, index_q: Tensor | None = None,
    index_k: Tensor | None = None, index_weight: Tensor | None = None, top_k: int = 2048,
    index_heads: int = 8, index_dim: int = 32, is_causal: Literal[True],
    key_mask: Tensor | None = None, enable_gqa: bool = False, initial_state: Any = None,
    return_state: Literal[False] = False, seq_len: int | None = None,
    weights: Mapping[str, Tensor] | None = None) -> Tensor: ...
@overload
def dsa(q: Tensor, k: Tensor, v: Tensor, *, index_q: Tensor | None = None,
    index_k: Tensor | None = None, index_weight: Tensor | None = None, top_k: int = 2048,
    index_heads: int = 8, index_dim: int = 32, is_causal: Literal[True],
    key_mask: Tensor | None = None, enable_gqa: bool = False, initial_state: Any = None,
    return_state: Literal[True], seq_len: int | None = None,
    weights: Mapping[str, Tensor] | None = None) -> tuple[Tensor, Any]: ...

def efficient(q: Tensor, k: Tensor, v: Tensor, *, is_causal: Literal[False] = False,
    key_mask: Tensor | None = None, enable_gqa: bool = False, seq_len: int | None = None,
    weights: Mapping[str, Tensor] | None = None) -> Tensor: ...

def efficient_published(q: Tensor, k: Tensor, v: Tensor, *, is_causal: Literal[False] = False,
    enable_gqa: bool = False, seq_len: int | None = None,
    weights: Mapping[str, Tensor] | None = None) -> Tensor: ...

def flatten(q: Tensor, k: Tensor, v: Tensor, *, focusing_factor: float = 3,
    norm_over: str = 'all_heads', eps: float = 1e-06, is_causal: Literal[False] = False,
    key_mask: Tensor | None = None, enable_gqa: bool = False, seq_len: int | None = None,
    weights: Mapping[str, Tensor] | None = None) -> Tensor: ...

def flatten_published(q: Tensor, k: Tensor, v: Tensor, *, focusing_factor: float = 3,
    eps: float = 1e-06, is_causal: Literal[False] = False, enable_gqa: bool = False,
    seq_len: int | None = None, weights: Mapping[str, Tensor] | None = None) -> Tensor: ...

@overload
def fox(q: Tensor, k: Tensor, v: Tensor, *, log_decay: Tensor | None = None,
    window: int | None = None, is_causal: Literal[True], key_mask: Tensor | None = None,
    enable_gqa: bool = False, initial_state: Any = None, return_state: Literal[False] = False,
    seq_len: int | None = None, weights: Mapping[str, Tensor] | None = None) -> Tensor: ...
@overload
def fox(q: Tensor, k: Tensor, v: Tensor, *, log_decay: Tensor | None = None,
    window: int | None = None, is_causal: Literal[True], key_mask: Tensor | None = None,
    enable_gqa: bool = False, initial_state: Any = None, return_state: Literal[True],
    seq_len: int | None = None,
    weights: Mapping[str, Tensor] | None = None) -> tuple[Tensor, Any]: ...

def fox_fla(q: Tensor, k: Tensor, v: Tensor, *, log_decay: Tensor | None = None,
    window: int | None = None, is_causal: Literal[True], enable_gqa: bool = False,
    seq_len: int | None = None, weights: Mapping[str, Tensor] | None = None) -> Tensor: ...

@overload
def gated_attention(q: Tensor, k: Tensor, v: Tensor, *, gate: Tensor | None = None,
    headwise: bool = False, is_causal: bool = False, attn_mask: Tensor | None = None,
    key_mask: Tensor | None = None, enable_gqa: bool = False, initial_state: Any = None,
    return_state: Literal[False] = False, seq_len: int | None = None,
    weights: Mapping[str, Tensor] | None = None) -> Tensor: ...
@overload
def gated_attention(q: Tensor, k: Tensor, v: Tensor, *, gate: Tensor | None = None,
    headwise: bool = False, is_causal: bool = False, attn_mask: Tensor | None = None,
    key_mask: Tensor | None = None, enable_gqa: bool = False, initial_state: Any = None,
    return_state: Literal[True], seq_len: int | None = None,
    weights: Mapping[str, Tensor] | None = None) -> tuple[Tensor, Any]: ...

@overload
def gated_deltanet(q: Tensor, k: Tensor, v: Tensor, *, beta: Tensor | None = None,
    log_decay: Tensor | None = None, normalise_keys: bool = True, normalise_queries: bool = False,
    negative_eigenvalues: bool = False, is_causal: Literal[True], scale: float | None = None,
    key_mask: Tensor | None = None, enable_gqa: bool = False, initial_state: Any = None,
    return_state: Literal[False] = False, seq_len: int | None = None,
    weights: Mapping[str, Tensor] | None = None) -> Tensor: ...
@overload
def gated_deltanet(q: Tensor, k: Tensor, v: Tensor, *, beta: Tensor | None = None,
    log_decay: Tensor | None = None, normalise_keys: bool = True, normalise_queries: bool = False,
    negative_eigenvalues: bool = False, is_causal: Literal[True], scale: float | None = None,
    key_mask: Tensor | None = None, enable_gqa: bool = False, initial_state: Any = None,
    return_state: Literal[True], seq_len: int | None = None,
    weights: Mapping[str, Tensor] | None = None) -> tuple[Tensor, Any]: ...

@overload
def gated_deltanet2(q: Tensor, k: Tensor, v: Tensor, *, log_decay: Tensor | None = None,
    erase: Tensor | None = None, write: Tensor | None = None, normalise_keys: bool = True,
    negative_eigenvalues: bool = False, is_causal: Literal[True], scale: float | None = None,
    key_mask: Tensor | None = None, enable_gqa: bool = False, initial_state: Any = None,
    return_state: Literal[False] = False, seq_len: int | None = None,
    weights: Mapping[str, Tensor] | None = None) -> Tensor: ...
@overload
def gated_deltanet2(q: Tensor, k: Tensor, v: Tensor, *, log_decay: Tensor | None = None,
    erase: Tensor | None = None, write: Tensor | None = None, normalise_keys: bool = True,
    negative_eigenvalues: bool = False, is_causal: Literal[True], scale: float | None = None,
    key_mask: Tensor | None = None, enable_gqa: bool = False, initial_state: Any = None,
    return_state: Literal[True], seq_len: int | None = None,
    weights: Mapping[str, Tensor] | None = None) -> tuple[Tensor, Any]: ...

def gated_deltanet2_fla(q: Tensor, k: Tensor, v: Tensor, *, log_decay: Tensor | None = None,
    erase: Tensor | None = None, write: Tensor | None = None, normalise_keys: bool = True,
    negative_eigenvalues: bool = False, is_causal: Literal[True], scale: float | None = None,
    enable_gqa: bool = False, seq_len: int | None = None,
    weights: Mapping[str, Tensor] | None = None) -> Tensor: ...

def gated_deltanet_fla(q: Tensor, k: Tensor, v: Tensor, *, beta: Tensor | None = None,
    log_decay: Tensor | None = None, normalise_keys: bool = True, normalise_queries: bool = False,
    is_causal: Literal[True], scale: float | None = None, enable_gqa: bool = False,
    seq_len: int | None = None, weights: Mapping[str, Tensor] | None = None) -> Tensor: ...

@overload
def gated_deltanet_ort(q: Tensor, k: Tensor, v: Tensor, *, beta: Tensor | None = None,
    log_decay: Tensor | None = None, normalise_keys: bool = True, normalise_queries: bool = False,
    negative_eigenvalues: bool = False, is_causal: Literal[True], scale: float | None = None,
    key_mask: Tensor | None = None, enable_gqa: bool = False, initial_state: Any = None,
    return_state: Literal[False] = False, seq_len: int | None = None,
    weights: Mapping[str, Tensor] | None = None) -> Tensor: ...
@overload
def gated_deltanet_ort(q: Tensor, k: Tensor, v: Tensor, *, beta: Tensor | None = None,
    log_decay: Tensor | None = None, normalise_keys: bool = True, normalise_queries: bool = False,
    negative_eigenvalues: bool = False, is_causal: Literal[True], scale: float | None = None,
    key_mask: Tensor | None = None, enable_gqa: bool = False, initial_state: Any = None,
    return_state: Literal[True], seq_len: int | None = None,
    weights: Mapping[str, Tensor] | None = None) -> tuple[Tensor, Any]: ...

@overload
def gated_deltaproduct(q: Tensor, k: Tensor, v: Tensor, *, beta: Tensor | None = None,
    log_decay: Tensor | None = None, more_keys: Tensor | None = None,
    more_values: Tensor | None = None, more_betas: Tensor | None = None, num_householder: int = 2,
    forget_gate: bool = True, negative_eigenvalues: bool = True, normalise_keys: bool = True,
    is_causal: Literal[True], scale: float | None = None, key_mask: Tensor | None = None,
    enable_gqa: bool = False, initial_state: Any = None, return_state: Literal[False] = False,
    seq_len: int | None = None, weights: Mapping[str, Tensor] | None = None) -> Tensor: ...
@overload
def gated_deltaproduct(q: Tensor, k: Tensor, v: Tensor, *, beta: Tensor | None = None,
    log_decay: Tensor | None = None, more_keys: Tensor | None = None,
    more_values: Tensor | None = None, more_betas: Tensor | None = None, num_householder: int = 2,
    forget_gate: bool = True, negative_eigenvalues: bool = True, normalise_keys: bool = True,
    is_causal: Literal[True], scale: float | None = None, key_mask: Tensor | None = None,
    enable_gqa: bool = False, initial_state: Any = None, return_state: Literal[True],
    seq_len: int | None = None,
    weights: Mapping[str, Tensor] | None = None) -> tuple[Tensor, Any]: ...

def gated_deltaproduct_fla(q: Tensor, k: Tensor, v: Tensor, *, beta: Tensor | None = None,
    log_decay: Tensor | None = None, more_keys: Tensor | None = None,
    more_values: Tensor | None = None, more_betas: Tensor | None = None, num_householder: int = 2,
    forget_gate: bool = True, negative_eigenvalues: bool = True, normalise_keys: bool = True,
    is_causal: Literal[True], scale: float | None = None, enable_gqa: bool = False,
    seq_len: int | None = None, weights: Mapping[str, Tensor] | None = None) -> Tensor: ...

@overload
def gla(q: Tensor, k: Tensor, v: Tensor, *, log_decay: Tensor | None = None,
    temperature: float = 16.0, is_causal: Literal[True], scale: float | None = None,
    key_mask: Tensor | None = None, enable_gqa: bool = False, initial_state: Any = None,
    return_state: Literal[False] = False, seq_len: int | None = None,
    weights: Mapping[str, Tensor] | None = None) -> Tensor: ...
@overload
def gla(q: Tensor, k: Tensor, v: Tensor, *, log_decay: Tensor | None = None,
    temperature: float = 16.0, is_causal: Literal[True], scale: float | None = None,
    key_mask: Tensor | None = None, enable_gqa: bool = False, initial_state: Any = None,
    return_state: Literal[True], seq_len: int | None = None,
    weights: Mapping[str, Tensor] | None = None) -> tuple[Tensor, Any]: ...

def gla_fla(q: Tensor, k: Tensor, v: Tensor, *, log_decay: Tensor | None = None,
    temperature: float = 16.0, is_causal: Literal[True], scale: float | None = None,
    enable_gqa: bool = False, seq_len: int | None = None,
    weights: Mapping[str, Tensor] | None = None) -> Tensor: ...

@overload
def gla_ort(q: Tensor, k: Tensor, v: Tensor, *, log_decay: Tensor | None = None,
    temperature: float = 16.0, is_causal: Literal[True], scale: float | None = None,
    key_mask: Tensor | None = None, enable_gqa: bool = False, initial_state: Any = None,
    return_state: Literal[False] = False, seq_len: int | None = None,
    weights: Mapping[str, Tensor] | None = None) -> Tensor: ...
@overload
def gla_ort(q: Tensor, k: Tensor, v: Tensor, *, log_decay: Tensor | None = None,
    temperature: float = 16.0, is_causal: Literal[True], scale: float | None = None,
    key_mask: Tensor | None = None, enable_gqa: bool = False, initial_state: Any = None,
    return_state: Literal[True], seq_len: int | None = None,
    weights: Mapping[str, Tensor] | None = None) -> tuple[Tensor, Any]: ...

@overload
def gsa(q: Tensor, k: Tensor, v: Tensor, *, log_decay: Tensor | None = None,
    slot: Tensor | None = None, num_slots: int | None = None, temperature: float = 8.0,
    is_causal: Literal[True], scale: float | None = None, key_mask: Tensor | None = None,
    enable_gqa: bool = False, initial_state: Any = None, return_state: Literal[False] = False,
    seq_len: int | None = None, weights: Mapping[str, Tensor] | None = None) -> Tensor: ...
@overload
def gsa(q: Tensor, k: Tensor, v: Tensor, *, log_decay: Tensor | None = None,
    slot: Tensor | None = None, num_slots: int | None = None, temperature: float = 8.0,
    is_causal: Literal[True], scale: float | None = None, key_mask: Tensor | None = None,
    enable_gqa: bool = False, initial_state: Any = None, return_state: Literal[True],
    seq_len: int | None = None,
    weights: Mapping[str, Tensor] | None = None) -> tuple[Tensor, Any]: ...

def gsa_fla(q: Tensor, k: Tensor, v: Tensor, *, log_decay: Tensor | None = None,
    slot: Tensor | None = None, num_slots: int | None = None, temperature: float = 8.0,
    is_causal: Literal[True], scale: float | None = None, enable_gqa: bool = False,
    seq_len: int | None = None, weights: Mapping[str, Tensor] | None = None) -> Tensor: ...

@overload
def hedgehog(q: Tensor, k: Tensor, v: Tensor, *, normaliser: str = 'separate', bias: bool = True,
    tie_heads: bool = False, tie_qk: bool = False, eps: float = 1e-12, is_causal: bool = False,
    key_mask: Tensor | None = None, enable_gqa: bool = False, initial_state: Any = None,
    return_state: Literal[False] = False, seq_len: int | None = None,
    weights: Mapping[str, Tensor] | None = None) -> Tensor: ...
@overload
def hedgehog(q: Tensor, k: Tensor, v: Tensor, *, normaliser: str = 'separate', bias: bool = True,
    tie_heads: bool = False, tie_qk: bool = False, eps: float = 1e-12, is_causal: bool = False,
    key_mask: Tensor | None = None, enable_gqa: bool = False, initial_state: Any = None,
    return_state: Literal[True], seq_len: int | None = None,
    weights: Mapping[str, Tensor] | None = None) -> tuple[Tensor, Any]: ...

def inline(q: Tensor, k: Tensor, v: Tensor, *, is_causal: Literal[False] = False,
    key_mask: Tensor | None = None, enable_gqa: bool = False, seq_len: int | None = None,
    weights: Mapping[str, Tensor] | None = None) -> Tensor: ...

def inline_published(q: Tensor, k: Tensor, v: Tensor, *, is_causal: Literal[False] = False,
    enable_gqa: bool = False, seq_len: int | None = None,
    weights: Mapping[str, Tensor] | None = None) -> Tensor: ...

@overload
def kda(q: Tensor, k: Tensor, v: Tensor, *, beta: Tensor | None = None,
    log_decay: Tensor | None = None, normalise_keys: bool = True,
    negative_eigenvalues: bool = False, is_causal: Literal[True], scale: float | None = None,
    key_mask: Tensor | None = None, enable_gqa: bool = False, initial_state: Any = None,
    return_state: Literal[False] = False, seq_len: int | None = None,
    weights: Mapping[str, Tensor] | None = None) -> Tensor: ...
@overload
def kda(q: Tensor, k: Tensor, v: Tensor, *, beta: Tensor | None = None,
    log_decay: Tensor | None = None, normalise_keys: bool = True,
    negative_eigenvalues: bool = False, is_causal: Literal[True], scale: float | None = None,
    key_mask: Tensor | None = None, enable_gqa: bool = False, initial_state: Any = None,
    return_state: Literal[True], seq_len: int | None = None,
    weights: Mapping[str, Tensor] | None = None) -> tuple[Tensor, Any]: ...

def kda_fla(q: Tensor, k: Tensor, v: Tensor, *, beta: Tensor | None = None,
    log_decay: Tensor | None = None, normalise_keys: bool = True,
    negative_eigenvalues: bool = False, is_causal: Literal[True], scale: float | None = None,
    enable_gqa: bool = False, seq_len: int | None = None,
    weights: Mapping[str, Tensor] | None = None) -> Tensor: ...

@overload
def kda_ort(q: Tensor, k: Tensor, v: Tensor, *, beta: Tensor | None = None,
    log_decay: Tensor | None = None, normalise_keys: bool = True,
    negative_eigenvalues: bool = False, is_causal: Literal[True], scale: float | None = None,
    key_mask: Tensor | None = None, enable_gqa: bool = False, initial_state: Any = None,
    return_state: Literal[False] = False, seq_len: int | None = None,
    weights: Mapping[str, Tensor] | None = None) -> Tensor: ...
@overload
def kda_ort(q: Tensor, k: Tensor, v: Tensor, *, beta: Tensor | None = None,
    log_decay: Tensor | None = None, normalise_keys: bool = True,
    negative_eigenvalues: bool = False, is_causal: Literal[True], scale: float | None = None,
    key_mask: Tensor | None = None, enable_gqa: bool = False, initial_state: Any = None,
    return_state: Literal[True], seq_len: int | None = None,
    weights: Mapping[str, Tensor] | None = None) -> tuple[Tensor, Any]: ...

@overload
def lightning(q: Tensor, k: Tensor, v: Tensor, *, slopes: str = 'alibi', slope_scale: float = 1.0,
    is_causal: Literal[True], key_mask: Tensor | None = None, enable_gqa: bool = False,
    initial_state: Any = None, return_state: Literal[False] = False, seq_len: int | None = None,
    weights: Mapping[str, Tensor] | None = None) -> Tensor: ...
@overload
def lightning(q: Tensor, k: Tensor, v: Tensor, *, slopes: str = 'alibi', slope_scale: float = 1.0,
    is_causal: Literal[True], key_mask: Tensor | None = None, enable_gqa: bool = False,
    initial_state: Any = None, return_state: Literal[True], seq_len: int | None = None,
    weights: Mapping[str, Tensor] | None = None) -> tuple[Tensor, Any]: ...

@overload
def linear(q: Tensor, k: Tensor, v: Tensor, *, eps: float = 1e-06, is_causal: bool = False,
    key_mask: Tensor | None = None, enable_gqa: bool = False, initial_state: Any = None,
    return_state: Literal[False] = False, seq_len: int | None = None,
    weights: Mapping[str, Tensor] | None = None) -> Tensor: ...
@overload
def linear(q: Tensor, k: Tensor, v: Tensor, *, eps: float = 1e-06, is_causal: bool = False,
    key_mask: Tensor | None = None, enable_gqa: bool = False, initial_state: Any = None,
    return_state: Literal[True], seq_len: int | None = None,
    weights: Mapping[str, Tensor] | None = None) -> tuple[Tensor, Any]: ...

def linear_published(q: Tensor, k: Tensor, v: Tensor, *, eps: float = 1e-06,
    is_causal: Literal[False] = False, enable_gqa: bool = False, seq_len: int | None = None,
    weights: Mapping[str, Tensor] | None = None) -> Tensor: ...

@overload
def linear_unnormalised(q: Tensor, k: Tensor, v: Tensor, *, is_causal: bool = False,
    key_mask: Tensor | None = None, enable_gqa: bool = False, initial_state: Any = None,
    return_state: Literal[False] = False, seq_len: int | None = None,
    weights: Mapping[str, Tensor] | None = None) -> Tensor: ...
@overload
def linear_unnormalised(q: Tensor, k: Tensor, v: Tensor, *, is_causal: bool = False,
    key_mask: Tensor | None = None, enable_gqa: bool = False, initial_state: Any = None,
    return_state: Literal[True], seq_len: int | None = None,
    weights: Mapping[str, Tensor] | None = None) -> tuple[Tensor, Any]: ...

def linformer(q: Tensor, k: Tensor, v: Tensor, *, projected_len: int = 256, share_kv: bool = False,
    is_causal: Literal[False] = False, enable_gqa: bool = False, seq_len: int | None = None,
    weights: Mapping[str, Tensor] | None = None) -> Tensor: ...

def linformer_published(q: Tensor, k: Tensor, v: Tensor, *, projected_len: int = 256,
    share_kv: bool = False, is_causal: Literal[False] = False, enable_gqa: bool = False,
    seq_len: int | None = None, weights: Mapping[str, Tensor] | None = None) -> Tensor: ...

def local_only(q: Tensor, k: Tensor, v: Tensor, *, dims: int = 2, kernel_size: int = 5,
    is_causal: Literal[False] = False, enable_gqa: bool = False,
    grid: tuple[int, int] | None = None, seq_len: int | None = None,
    weights: Mapping[str, Tensor] | None = None) -> Tensor: ...

@overload
def log_linear(q: Tensor, k: Tensor, v: Tensor, *, log_decay: Tensor | None = None,
    level_scale: Tensor | None = None, num_levels: int | None = None, is_causal: Literal[True],
    scale: float | None = None, key_mask: Tensor | None = None, enable_gqa: bool = False,
    initial_state: Any = None, return_state: Literal[False] = False, seq_len: int | None = None,
    weights: Mapping[str, Tensor] | None = None) -> Tensor: ...
@overload
def log_linear(q: Tensor, k: Tensor, v: Tensor, *, log_decay: Tensor | None = None,
    level_scale: Tensor | None = None, num_levels: int | None = None, is_causal: Literal[True],
    scale: float | None = None, key_mask: Tensor | None = None, enable_gqa: bool = False,
    initial_state: Any = None, return_state: Literal[True], seq_len: int | None = None,
    weights: Mapping[str, Tensor] | None = None) -> tuple[Tensor, Any]: ...

def log_linear_fla(q: Tensor, k: Tensor, v: Tensor, *, log_decay: Tensor | None = None,
    level_scale: Tensor | None = None, num_levels: int | None = None, is_causal: Literal[True],
    scale: float | None = None, enable_gqa: bool = False, seq_len: int | None = None,
    weights: Mapping[str, Tensor] | None = None) -> Tensor: ...

@overload
def mamba2_ssd(q: Tensor, k: Tensor, v: Tensor, *, log_decay: Tensor | None = None,
    is_causal: Literal[True], key_mask: Tensor | None = None, enable_gqa: bool = False,
    initial_state: Any = None, return_state: Literal[False] = False, seq_len: int | None = None,
    weights: Mapping[str, Tensor] | None = None) -> Tensor: ...
@overload
def mamba2_ssd(q: Tensor, k: Tensor, v: Tensor, *, log_decay: Tensor | None = None,
    is_causal: Literal[True], key_mask: Tensor | None = None, enable_gqa: bool = False,
    initial_state: Any = None, return_state: Literal[True], seq_len: int | None = None,
    weights: Mapping[str, Tensor] | None = None) -> tuple[Tensor, Any]: ...

@overload
def mamba3(q: Tensor, k: Tensor, v: Tensor, *, log_decay: Tensor | None = None,
    step: Tensor | None = None, trapezoid: Tensor | None = None, angle: Tensor | None = None,
    num_angles: int | None = None, is_causal: Literal[True], key_mask: Tensor | None = None,
    enable_gqa: bool = False, initial_state: Any = None, return_state: Literal[False] = False,
    seq_len: int | None = None, weights: Mapping[str, Tensor] | None = None) -> Tensor: ...
@overload
def mamba3(q: Tensor, k: Tensor, v: Tensor, *, log_decay: Tensor | None = None,
    step: Tensor | None = None, trapezoid: Tensor | None = None, angle: Tensor | None = None,
    num_angles: int | None = None, is_causal: Literal[True], key_mask: Tensor | None = None,
    enable_gqa: bool = False, initial_state: Any = None, return_state: Literal[True],
    seq_len: int | None = None,
    weights: Mapping[str, Tensor] | None = None) -> tuple[Tensor, Any]: ...

@overload
def mesanet(q: Tensor, k: Tensor, v: Tensor, *, beta: Tensor | None = None,
    log_decay: Tensor | None = None, solver: str = 'exact', iterations: int = 30,
    normalise_keys: bool = True, normalise_queries: bool = True, is_causal: Literal[True],
    key_mask: Tensor | None = None, enable_gqa: bool = False, initial_state: Any = None,
    return_state: Literal[False] = False, seq_len: int | None = None,
    weights: Mapping[str, Tensor] | None = None) -> Tensor: ...
@overload
def mesanet(q: Tensor, k: Tensor, v: Tensor, *, beta: Tensor | None = None,
    log_decay: Tensor | None = None, solver: str = 'exact', iterations: int = 30,
    normalise_keys: bool = True, normalise_queries: bool = True, is_causal: Literal[True],
    key_mask: Tensor | None = None, enable_gqa: bool = False, initial_state: Any = None,
    return_state: Literal[True], seq_len: int | None = None,
    weights: Mapping[str, Tensor] | None = None) -> tuple[Tensor, Any]: ...

def mesanet_fla(q: Tensor, k: Tensor, v: Tensor, *, beta: Tensor | None = None,
    log_decay: Tensor | None = None, iterations: int = 30, normalise_keys: bool = True,
    normalise_queries: bool = True, is_causal: Literal[True], enable_gqa: bool = False,
    seq_len: int | None = None, weights: Mapping[str, Tensor] | None = None) -> Tensor: ...

@overload
def moba(q: Tensor, k: Tensor, v: Tensor, *, block_size: int = 512, top_k: int = 3,
    is_causal: Literal[True], enable_gqa: bool = False, initial_state: Any = None,
    return_state: Literal[False] = False, seq_len: int | None = None,
    weights: Mapping[str, Tensor] | None = None) -> Tensor: ...
@overload
def moba(q: Tensor, k: Tensor, v: Tensor, *, block_size: int = 512, top_k: int = 3,
    is_causal: Literal[True], enable_gqa: bool = False, initial_state: Any = None,
    return_state: Literal[True], seq_len: int | None = None,
    weights: Mapping[str, Tensor] | None = None) -> tuple[Tensor, Any]: ...

def moba_fla(q: Tensor, k: Tensor, v: Tensor, *, block_size: int = 512, top_k: int = 3,
    is_causal: Literal[True], enable_gqa: bool = False, seq_len: int | None = None,
    weights: Mapping[str, Tensor] | None = None) -> Tensor: ...

def nala(q: Tensor, k: Tensor, v: Tensor, *, rope: bool = False, lam: float = 3.0, tau: float = 0.5,
    key_power: float = 3.0, eps: float = 1e-06, is_causal: Literal[False] = False,
    key_mask: Tensor | None = None, enable_gqa: bool = False, seq_len: int | None = None,
    weights: Mapping[str, Tensor] | None = None) -> Tensor: ...

def nala_cosine(q: Tensor, k: Tensor, v: Tensor, *, alpha: float = 20.0, lam: float = 3.0,
    tau: float = 0.5, key_power: float = 3.0, eps: float = 1e-06, is_causal: Literal[False] = False,
    key_mask: Tensor | None = None, enable_gqa: bool = False, seq_len: int | None = None,
    weights: Mapping[str, Tensor] | None = None) -> Tensor: ...

def nala_cosine_published(q: Tensor, k: Tensor, v: Tensor, *, alpha: float = 20.0, lam: float = 3.0,
    tau: float = 0.5, key_power: float = 3.0, eps: float = 1e-06, is_causal: Literal[False] = False,
    enable_gqa: bool = False, seq_len: int | None = None,
    weights: Mapping[str, Tensor] | None = None) -> Tensor: ...

def nala_published(q: Tensor, k: Tensor, v: Tensor, *, rope: bool = False, lam: float = 3.0,
    tau: float = 0.5, eps: float = 1e-06, is_causal: Literal[False] = False,
    enable_gqa: bool = False, seq_len: int | None = None,
    weights: Mapping[str, Tensor] | None = None) -> Tensor: ...

def none(q: Tensor, k: Tensor, v: Tensor, *, is_causal: bool = False, enable_gqa: bool = False,
    seq_len: int | None = None, weights: Mapping[str, Tensor] | None = None) -> Tensor: ...

@overload
def nsa(q: Tensor, k: Tensor, v: Tensor, *, gate_compression: Tensor | None = None,
    gate_selection: Tensor | None = None, gate_window: Tensor | None = None, block_size: int = 64,
    num_blocks: int = 16, window: int = 512, is_causal: Literal[True], enable_gqa: bool = False,
    initial_state: Any = None, return_state: Literal[False] = False, seq_len: int | None = None,
    weights: Mapping[str, Tensor] | None = None) -> Tensor: ...
@overload
def nsa(q: Tensor, k: Tensor, v: Tensor, *, gate_compression: Tensor | None = None,
    gate_selection: Tensor | None = None, gate_window: Tensor | None = None, block_size: int = 64,
    num_blocks: int = 16, window: int = 512, is_causal: Literal[True], enable_gqa: bool = False,
    initial_state: Any = None, return_state: Literal[True], seq_len: int | None = None,
    weights: Mapping[str, Tensor] | None = None) -> tuple[Tensor, Any]: ...

def nsa_fla(q: Tensor, k: Tensor, v: Tensor, *, gate_compression: Tensor | None = None,
    gate_selection: Tensor | None = None, gate_window: Tensor | None = None, block_size: int = 64,
    num_blocks: int = 16, window: int = 512, is_causal: Literal[True], enable_gqa: bool = False,
    seq_len: int | None = None, weights: Mapping[str, Tensor] | None = None) -> Tensor: ...

def nystromformer(q: Tensor, k: Tensor, v: Tensor, *, num_landmarks: int = 64, pinv_iters: int = 6,
    pinv_init: str = 'head', conv_kernel_size: int | None = None, is_causal: Literal[False] = False,
    enable_gqa: bool = False, seq_len: int | None = None,
    weights: Mapping[str, Tensor] | None = None) -> Tensor: ...

def nystromformer_published(q: Tensor, k: Tensor, v: Tensor, *, num_landmarks: int = 64,
    pinv_iters: int = 6, pinv_init: str = 'head', conv_kernel_size: int | None = None,
    is_causal: Literal[False] = False, enable_gqa: bool = False, seq_len: int | None = None,
    weights: Mapping[str, Tensor] | None = None) -> Tensor: ...

@overload
def path(q: Tensor, k: Tensor, v: Tensor, *, transition_key: Tensor | None = None,
    beta: Tensor | None = None, log_decay: Tensor | None = None, forget_gate: bool = False,
    is_causal: Literal[True], key_mask: Tensor | None = None, enable_gqa: bool = False,
    initial_state: Any = None, return_state: Literal[False] = False, seq_len: int | None = None,
    weights: Mapping[str, Tensor] | None = None) -> Tensor: ...
@overload
def path(q: Tensor, k: Tensor, v: Tensor, *, transition_key: Tensor | None = None,
    beta: Tensor | None = None, log_decay: Tensor | None = None, forget_gate: bool = False,
    is_causal: Literal[True], key_mask: Tensor | None = None, enable_gqa: bool = False,
    initial_state: Any = None, return_state: Literal[True], seq_len: int | None = None,
    weights: Mapping[str, Tensor] | None = None) -> tuple[Tensor, Any]: ...

def path_fla(q: Tensor, k: Tensor, v: Tensor, *, transition_key: Tensor | None = None,
    beta: Tensor | None = None, log_decay: Tensor | None = None, forget_gate: bool = False,
    is_causal: Literal[True], enable_gqa: bool = False, seq_len: int | None = None,
    weights: Mapping[str, Tensor] | None = None) -> Tensor: ...

@overload
def performer(q: Tensor, k: Tensor, v: Tensor, *, num_features: int | None = 128,
    kernel: str = 'softmax', eps: float = 1e-06, relu_eps: float = 0.001, ortho_scaling: int = 0,
    redraw_interval: int = 1000, projection_seed: int = 0, is_causal: bool = False,
    key_mask: Tensor | None = None, enable_gqa: bool = False, initial_state: Any = None,
    return_state: Literal[False] = False, seq_len: int | None = None,
    weights: Mapping[str, Tensor] | None = None) -> Tensor: ...
@overload
def performer(q: Tensor, k: Tensor, v: Tensor, *, num_features: int | None = 128,
    kernel: str = 'softmax', eps: float = 1e-06, relu_eps: float = 0.001, ortho_scaling: int = 0,
    redraw_interval: int = 1000, projection_seed: int = 0, is_causal: bool = False,
    key_mask: Tensor | None = None, enable_gqa: bool = False, initial_state: Any = None,
    return_state: Literal[True], seq_len: int | None = None,
    weights: Mapping[str, Tensor] | None = None) -> tuple[Tensor, Any]: ...

def performer_peer(q: Tensor, k: Tensor, v: Tensor, *, num_features: int | None = None,
    kernel: str = 'softmax', ortho_scaling: int = 0, projection_seed: int = 0,
    is_causal: bool = False, enable_gqa: bool = False, seq_len: int | None = None,
    weights: Mapping[str, Tensor] | None = None) -> Tensor: ...

def performer_published(q: Tensor, k: Tensor, v: Tensor, *, num_features: int | None = None,
    kernel: str = 'softmax', eps: float = 0.0001, relu_eps: float = 0.001, ortho_scaling: int = 0,
    projection_seed: int = 0, is_causal: Literal[False] = False, enable_gqa: bool = False,
    seq_len: int | None = None, weights: Mapping[str, Tensor] | None = None) -> Tensor: ...

def polaformer(q: Tensor, k: Tensor, v: Tensor, *, alpha: float = 4, eps: float = 1e-06,
    is_causal: Literal[False] = False, key_mask: Tensor | None = None, enable_gqa: bool = False,
    seq_len: int | None = None, weights: Mapping[str, Tensor] | None = None) -> Tensor: ...

def polaformer_published(q: Tensor, k: Tensor, v: Tensor, *, alpha: float = 4, eps: float = 1e-06,
    is_causal: Literal[False] = False, enable_gqa: bool = False, seq_len: int | None = None,
    weights: Mapping[str, Tensor] | None = None) -> Tensor: ...

def rala(q: Tensor, k: Tensor, v: Tensor, *, rope: bool = True, eps: float = 1e-06,
    is_causal: Literal[False] = False, enable_gqa: bool = False,
    grid: tuple[int, int] | None = None, seq_len: int | None = None,
    weights: Mapping[str, Tensor] | None = None) -> Tensor: ...

def reformer(q: Tensor, k: Tensor, v: Tensor, *, num_rounds: int = 4, chunk_size: int = 64,
    num_buckets: int | None = None, across_buckets: bool = False, count_duplicates: bool = False,
    seed: int = 0, is_causal: bool = False, enable_gqa: bool = False, seq_len: int | None = None,
    weights: Mapping[str, Tensor] | None = None) -> Tensor: ...

@overload
def relu_linear(q: Tensor, k: Tensor, v: Tensor, *, eps: float = 1e-15, is_causal: bool = False,
    key_mask: Tensor | None = None, enable_gqa: bool = False, initial_state: Any = None,
    return_state: Literal[False] = False, seq_len: int | None = None,
    weights: Mapping[str, Tensor] | None = None) -> Tensor: ...
@overload
def relu_linear(q: Tensor, k: Tensor, v: Tensor, *, eps: float = 1e-15, is_causal: bool = False,
    key_mask: Tensor | None = None, enable_gqa: bool = False, initial_state: Any = None,
    return_state: Literal[True], seq_len: int | None = None,
    weights: Mapping[str, Tensor] | None = None) -> tuple[Tensor, Any]: ...

@overload
def retnet(q: Tensor, k: Tensor, v: Tensor, *, score_norm: str = 'none', is_causal: Literal[True],
    scale: float | None = None, key_mask: Tensor | None = None, enable_gqa: bool = False,
    initial_state: Any = None, return_state: Literal[False] = False, seq_len: int | None = None,
    weights: Mapping[str, Tensor] | None = None) -> Tensor: ...
@overload
def retnet(q: Tensor, k: Tensor, v: Tensor, *, score_norm: str = 'none', is_causal: Literal[True],
    scale: float | None = None, key_mask: Tensor | None = None, enable_gqa: bool = False,
    initial_state: Any = None, return_state: Literal[True], seq_len: int | None = None,
    weights: Mapping[str, Tensor] | None = None) -> tuple[Tensor, Any]: ...

def retnet_fla(q: Tensor, k: Tensor, v: Tensor, *, is_causal: Literal[True],
    scale: float | None = None, enable_gqa: bool = False, seq_len: int | None = None,
    weights: Mapping[str, Tensor] | None = None) -> Tensor: ...

@overload
def rfa(q: Tensor, k: Tensor, v: Tensor, *, num_features: int | None = None, normalise: bool = True,
    projection: str = 'gaussian', tau: float = 1.0, eps: float = 0.1, projection_seed: int = 0,
    is_causal: bool = False, key_mask: Tensor | None = None, enable_gqa: bool = False,
    initial_state: Any = None, return_state: Literal[False] = False, seq_len: int | None = None,
    weights: Mapping[str, Tensor] | None = None) -> Tensor: ...
@overload
def rfa(q: Tensor, k: Tensor, v: Tensor, *, num_features: int | None = None, normalise: bool = True,
    projection: str = 'gaussian', tau: float = 1.0, eps: float = 0.1, projection_seed: int = 0,
    is_causal: bool = False, key_mask: Tensor | None = None, enable_gqa: bool = False,
    initial_state: Any = None, return_state: Literal[True], seq_len: int | None = None,
    weights: Mapping[str, Tensor] | None = None) -> tuple[Tensor, Any]: ...

@overload
def rfa_gated(q: Tensor, k: Tensor, v: Tensor, *, num_features: int | None = None,
    normalise: bool = True, projection: str = 'gaussian', tau: float = 1.0, eps: float = 0.1,
    projection_seed: int = 0, is_causal: Literal[True], key_mask: Tensor | None = None,
    enable_gqa: bool = False, initial_state: Any = None, return_state: Literal[False] = False,
    seq_len: int | None = None, weights: Mapping[str, Tensor] | None = None) -> Tensor: ...
@overload
def rfa_gated(q: Tensor, k: Tensor, v: Tensor, *, num_features: int | None = None,
    normalise: bool = True, projection: str = 'gaussian', tau: float = 1.0, eps: float = 0.1,
    projection_seed: int = 0, is_causal: Literal[True], key_mask: Tensor | None = None,
    enable_gqa: bool = False, initial_state: Any = None, return_state: Literal[True],
    seq_len: int | None = None,
    weights: Mapping[str, Tensor] | None = None) -> tuple[Tensor, Any]: ...

@overload
def rwkv6(q: Tensor, k: Tensor, v: Tensor, *, log_decay: Tensor | None = None,
    is_causal: Literal[True], scale: float | None = None, key_mask: Tensor | None = None,
    enable_gqa: bool = False, initial_state: Any = None, return_state: Literal[False] = False,
    seq_len: int | None = None, weights: Mapping[str, Tensor] | None = None) -> Tensor: ...
@overload
def rwkv6(q: Tensor, k: Tensor, v: Tensor, *, log_decay: Tensor | None = None,
    is_causal: Literal[True], scale: float | None = None, key_mask: Tensor | None = None,
    enable_gqa: bool = False, initial_state: Any = None, return_state: Literal[True],
    seq_len: int | None = None,
    weights: Mapping[str, Tensor] | None = None) -> tuple[Tensor, Any]: ...

def rwkv6_fla(q: Tensor, k: Tensor, v: Tensor, *, log_decay: Tensor | None = None,
    is_causal: Literal[True], scale: float | None = None, enable_gqa: bool = False,
    seq_len: int | None = None, weights: Mapping[str, Tensor] | None = None) -> Tensor: ...

@overload
def rwkv7(q: Tensor, k: Tensor, v: Tensor, *, log_decay: Tensor | None = None,
    removal_key: Tensor | None = None, removal_rate: Tensor | None = None, is_causal: Literal[True],
    key_mask: Tensor | None = None, enable_gqa: bool = False, initial_state: Any = None,
    return_state: Literal[False] = False, seq_len: int | None = None,
    weights: Mapping[str, Tensor] | None = None) -> Tensor: ...
@overload
def rwkv7(q: Tensor, k: Tensor, v: Tensor, *, log_decay: Tensor | None = None,
    removal_key: Tensor | None = None, removal_rate: Tensor | None = None, is_causal: Literal[True],
    key_mask: Tensor | None = None, enable_gqa: bool = False, initial_state: Any = None,
    return_state: Literal[True], seq_len: int | None = None,
    weights: Mapping[str, Tensor] | None = None) -> tuple[Tensor, Any]: ...

def rwkv7_fla(q: Tensor, k: Tensor, v: Tensor, *, log_decay: Tensor | None = None,
    removal_key: Tensor | None = None, removal_rate: Tensor | None = None, is_causal: Literal[True],
    enable_gqa: bool = False, seq_len: int | None = None,
    weights: Mapping[str, Tensor] | None = None) -> Tensor: ...

@overload
def sigmoid(q: Tensor, k: Tensor, v: Tensor, *, bias: float | None = None, chunk_size: int = 256,
    is_causal: bool = False, attn_mask: Tensor | None = None, key_mask: Tensor | None = None,
    enable_gqa: bool = False, initial_state: Any = None, return_state: Literal[False] = False,
    seq_len: int | None = None, weights: Mapping[str, Tensor] | None = None) -> Tensor: ...
@overload
def sigmoid(q: Tensor, k: Tensor, v: Tensor, *, bias: float | None = None, chunk_size: int = 256,
    is_causal: bool = False, attn_mask: Tensor | None = None, key_mask: Tensor | None = None,
    enable_gqa: bool = False, initial_state: Any = None, return_state: Literal[True],
    seq_len: int | None = None,
    weights: Mapping[str, Tensor] | None = None) -> tuple[Tensor, Any]: ...

@overload
def simple_gla(q: Tensor, k: Tensor, v: Tensor, *, log_decay: Tensor | None = None,
    temperature: float = 16.0, is_causal: Literal[True], scale: float | None = None,
    key_mask: Tensor | None = None, enable_gqa: bool = False, initial_state: Any = None,
    return_state: Literal[False] = False, seq_len: int | None = None,
    weights: Mapping[str, Tensor] | None = None) -> Tensor: ...
@overload
def simple_gla(q: Tensor, k: Tensor, v: Tensor, *, log_decay: Tensor | None = None,
    temperature: float = 16.0, is_causal: Literal[True], scale: float | None = None,
    key_mask: Tensor | None = None, enable_gqa: bool = False, initial_state: Any = None,
    return_state: Literal[True], seq_len: int | None = None,
    weights: Mapping[str, Tensor] | None = None) -> tuple[Tensor, Any]: ...

def simple_gla_fla(q: Tensor, k: Tensor, v: Tensor, *, log_decay: Tensor | None = None,
    temperature: float = 16.0, is_causal: Literal[True], scale: float | None = None,
    enable_gqa: bool = False, seq_len: int | None = None,
    weights: Mapping[str, Tensor] | None = None) -> Tensor: ...

@overload
def simple_gla_ort(q: Tensor, k: Tensor, v: Tensor, *, log_decay: Tensor | None = None,
    temperature: float = 16.0, is_causal: Literal[True], scale: float | None = None,
    key_mask: Tensor | None = None, enable_gqa: bool = False, initial_state: Any = None,
    return_state: Literal[False] = False, seq_len: int | None = None,
    weights: Mapping[str, Tensor] | None = None) -> Tensor: ...
@overload
def simple_gla_ort(q: Tensor, k: Tensor, v: Tensor, *, log_decay: Tensor | None = None,
    temperature: float = 16.0, is_causal: Literal[True], scale: float | None = None,
    key_mask: Tensor | None = None, enable_gqa: bool = False, initial_state: Any = None,
    return_state: Literal[True], seq_len: int | None = None,
    weights: Mapping[str, Tensor] | None = None) -> tuple[Tensor, Any]: ...

@overload
def sliding_window(q: Tensor, k: Tensor, v: Tensor, *, window: int = 256, is_causal: bool = False,
    enable_gqa: bool = False, initial_state: Any = None, return_state: Literal[False] = False,
    seq_len: int | None = None, weights: Mapping[str, Tensor] | None = None) -> Tensor: ...
@overload
def sliding_window(q: Tensor, k: Tensor, v: Tensor, *, window: int = 256, is_causal: bool = False,
    enable_gqa: bool = False, initial_state: Any = None, return_state: Literal[True],
    seq_len: int | None = None,
    weights: Mapping[str, Tensor] | None = None) -> tuple[Tensor, Any]: ...

@overload
def softmax(q: Tensor, k: Tensor, v: Tensor, *, backend: str = 'auto', is_causal: bool = False,
    scale: float | None = None, attn_mask: Tensor | None = None, dropout_p: float = 0.0,
    key_mask: Tensor | None = None, enable_gqa: bool = False, initial_state: Any = None,
    return_state: Literal[False] = False, seq_len: int | None = None,
    weights: Mapping[str, Tensor] | None = None) -> Tensor: ...
@overload
def softmax(q: Tensor, k: Tensor, v: Tensor, *, backend: str = 'auto', is_causal: bool = False,
    scale: float | None = None, attn_mask: Tensor | None = None, dropout_p: float = 0.0,
    key_mask: Tensor | None = None, enable_gqa: bool = False, initial_state: Any = None,
    return_state: Literal[True], seq_len: int | None = None,
    weights: Mapping[str, Tensor] | None = None) -> tuple[Tensor, Any]: ...

@overload
def softmax_chunked(q: Tensor, k: Tensor, v: Tensor, *, chunk_size: int = 256,
    is_causal: bool = False, attn_mask: Tensor | None = None, key_mask: Tensor | None = None,
    enable_gqa: bool = False, initial_state: Any = None, return_state: Literal[False] = False,
    seq_len: int | None = None, weights: Mapping[str, Tensor] | None = None) -> Tensor: ...
@overload
def softmax_chunked(q: Tensor, k: Tensor, v: Tensor, *, chunk_size: int = 256,
    is_causal: bool = False, attn_mask: Tensor | None = None, key_mask: Tensor | None = None,
    enable_gqa: bool = False, initial_state: Any = None, return_state: Literal[True],
    seq_len: int | None = None,
    weights: Mapping[str, Tensor] | None = None) -> tuple[Tensor, Any]: ...

@overload
def softmax_explicit(q: Tensor, k: Tensor, v: Tensor, *, is_causal: bool = False,
    attn_mask: Tensor | None = None, key_mask: Tensor | None = None, enable_gqa: bool = False,
    initial_state: Any = None, return_state: Literal[False] = False, seq_len: int | None = None,
    weights: Mapping[str, Tensor] | None = None) -> Tensor: ...
@overload
def softmax_explicit(q: Tensor, k: Tensor, v: Tensor, *, is_causal: bool = False,
    attn_mask: Tensor | None = None, key_mask: Tensor | None = None, enable_gqa: bool = False,
    initial_state: Any = None, return_state: Literal[True], seq_len: int | None = None,
    weights: Mapping[str, Tensor] | None = None) -> tuple[Tensor, Any]: ...

def softmax_flash_attn(q: Tensor, k: Tensor, v: Tensor, *, is_causal: bool = False,
    enable_gqa: bool = False, seq_len: int | None = None,
    weights: Mapping[str, Tensor] | None = None) -> Tensor: ...

def softmax_flex(q: Tensor, k: Tensor, v: Tensor, *, compiled: bool = False,
    is_causal: bool = False, attn_mask: Tensor | None = None, key_mask: Tensor | None = None,
    enable_gqa: bool = False, seq_len: int | None = None,
    weights: Mapping[str, Tensor] | None = None) -> Tensor: ...

@overload
def softmax_sinks(q: Tensor, k: Tensor, v: Tensor, *, window: int | None = None,
    is_causal: Literal[True], key_mask: Tensor | None = None, enable_gqa: bool = False,
    initial_state: Any = None, return_state: Literal[False] = False, seq_len: int | None = None,
    weights: Mapping[str, Tensor] | None = None) -> Tensor: ...
@overload
def softmax_sinks(q: Tensor, k: Tensor, v: Tensor, *, window: int | None = None,
    is_causal: Literal[True], key_mask: Tensor | None = None, enable_gqa: bool = False,
    initial_state: Any = None, return_state: Literal[True], seq_len: int | None = None,
    weights: Mapping[str, Tensor] | None = None) -> tuple[Tensor, Any]: ...

def softmax_xformers(q: Tensor, k: Tensor, v: Tensor, *, is_causal: bool = False,
    enable_gqa: bool = False, seq_len: int | None = None,
    weights: Mapping[str, Tensor] | None = None) -> Tensor: ...

@overload
def taylor(q: Tensor, k: Tensor, v: Tensor, *, form: str = 'features', eps: float = 1e-06,
    is_causal: bool = False, key_mask: Tensor | None = None, enable_gqa: bool = False,
    initial_state: Any = None, return_state: Literal[False] = False, seq_len: int | None = None,
    weights: Mapping[str, Tensor] | None = None) -> Tensor: ...
@overload
def taylor(q: Tensor, k: Tensor, v: Tensor, *, form: str = 'features', eps: float = 1e-06,
    is_causal: bool = False, key_mask: Tensor | None = None, enable_gqa: bool = False,
    initial_state: Any = None, return_state: Literal[True], seq_len: int | None = None,
    weights: Mapping[str, Tensor] | None = None) -> tuple[Tensor, Any]: ...

@overload
def topk(q: Tensor, k: Tensor, v: Tensor, *, k_: int = 8, chunk_size: int = 64,
    is_causal: bool = False, attn_mask: Tensor | None = None, key_mask: Tensor | None = None,
    enable_gqa: bool = False, initial_state: Any = None, return_state: Literal[False] = False,
    seq_len: int | None = None, weights: Mapping[str, Tensor] | None = None) -> Tensor: ...
@overload
def topk(q: Tensor, k: Tensor, v: Tensor, *, k_: int = 8, chunk_size: int = 64,
    is_causal: bool = False, attn_mask: Tensor | None = None, key_mask: Tensor | None = None,
    enable_gqa: bool = False, initial_state: Any = None, return_state: Literal[True],
    seq_len: int | None = None,
    weights: Mapping[str, Tensor] | None = None) -> tuple[Tensor, Any]: ...

def uniform(q: Tensor, k: Tensor, v: Tensor, *, is_causal: bool = False,
    key_mask: Tensor | None = None, enable_gqa: bool = False, seq_len: int | None = None,
    weights: Mapping[str, Tensor] | None = None) -> Tensor: ...
