"""Diagnostics of a core with its queries and keys, which are random or a model's own."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from attentions import Attention
from bench.measuring.weights import weights
from bench.studies.diagnostics import measures
from bench.studies.diagnostics.samples import Size, build_core, normal, with_spread_norms
from bench.studies.numerics.measure import error_in

Found = Iterator[tuple[str, str, float | None]]
"""(measure, where, value); the value is None where it is not defined."""

FACTORS = (0.25, 4.0)
"""Factors by which a model's own queries are made shorter and longer."""
NARROW = (torch.bfloat16, torch.float16)


@dataclass(frozen=True, kw_only=True)
class Call:
    """A core in float64 with its inputs.

    Attributes:
        q, k, v: (B, H, N, D), (B, H, M, D), (B, H, M, E).
        gates: further inputs of the core, by name.
    """

    core: Attention
    q: Tensor
    k: Tensor
    v: Tensor
    gates: Mapping[str, Tensor] = field(default_factory=dict)


def of_random(
    build: Any, size: Size, norms: Sequence[float], token_norms: Sequence[float], seed: int
) -> Found:
    """Numbers of unit-normal queries and keys, of norms near sqrt(head_dim), and scaled ones.

    Args:
        build: from a size and a seed to a core.
        size: of the inputs.
        norms: of the sweep at fixed directions.
        token_norms: medians that the norms of tokens spread about; softmax is compared there.
        seed: of inputs and of the core's weights.

    Raises:
        NoWeights: the core is not linear in v, or cannot be built.
    """
    core, softmax = build(size, seed), build_core("softmax", "softmax", {}, size)
    q, k, v = (normal(size, seed, purpose) for purpose in range(3))
    for norm, value in zip(norms, sweep_of_norms(core, q, k, norms), strict=True):
        yield "entropy", f"norm {norm:g}", value
    for norm in token_norms:
        spread = with_spread_norms(q, norm, seed)
        at = f"norms about {norm:g}"
        yield "rank correlation", at, norm_correlation(core, spread, k)
        yield from _beside_softmax(core, softmax, spread, k, at)
    yield from of_weights(Call(core=core, q=q, k=k, v=v))
    yield from gradients(Call(core=core, q=q, k=k, v=v))


@torch.no_grad()
def _beside_softmax(core: Attention, softmax: Attention, q: Tensor, k: Tensor, at: str) -> Found:
    w, target = weights(core, q, k), weights(softmax, q, k)
    target = target.repeat(1, w.shape[1] // target.shape[1], 1, 1)
    yield "error to softmax", at, measures.relative_error(w, target).mean().item()
    yield "KL to softmax", at, measures.divergence(w, target).mean().item()


@torch.no_grad()
def of_weights(call: Call) -> Found:
    """Numbers of a matrix of weights: means over heads, rows and examples.

    Raises:
        NoWeights: the core is not linear in v.
    """
    w = weights(call.core, call.q, call.k, **call.gates)
    causal = call.core.geometry.causal
    negative, sums = measures.share_negative(w), measures.row_sums(w)
    condition = measures.condition_of_sum(w)
    yield "query norm", "", call.q.norm(dim=-1).median().item()
    yield "entropy", "", measures.relative_entropy(w, causal=causal).mean().item()
    # The paper defines PSE for positive sequences only.
    yield "PSE", "", measures.entropy(w).mean().item() if negative == 0 else None
    yield "effective rank", "", measures.effective_rank(w).mean().item()
    yield "share negative", "", negative
    yield "row sum", "", sums.mean().item()
    yield "least row sum", "", sums.amin().item()
    yield "greatest row sum", "", sums.amax().item()
    yield "mean distance", "", measures.mean_distance(w).mean().item()
    yield "sink mass", "", measures.sink_mass(w).mean().item()
    yield "condition", "", condition.median().item()
    yield "greatest condition", "", condition.amax().item()
    if hasattr(call.core, "floor_share"):
        core: Any = call.core
        share = core.floor_share(call.k)
        if share is not None:
            yield "features at floor", "", share


@torch.no_grad()
def of_own_norms(call: Call) -> Found:
    """How entropy follows the norms of a model's own queries: over tokens, and by scaling them."""
    causal = call.core.geometry.causal

    def entropy(factor: float) -> float:
        w = weights(call.core, factor * call.q, call.k, **call.gates)
        return measures.relative_entropy(w, causal=causal).mean().item()

    yield "rank correlation", "", norm_correlation(call.core, call.q, call.k, **call.gates)
    for factor in FACTORS:
        yield "change of entropy", f"q x {factor:g}", entropy(factor) - entropy(1.0)


@torch.no_grad()
def sweep_of_norms(core: Attention, q: Tensor, k: Tensor, norms: Sequence[float]) -> list[float]:
    """Mean of H / ln N at each norm, to which all queries are scaled at fixed directions.

    This isolates the norm: over the tokens of one input, norm and direction vary together.
    """
    directions = q / q.norm(dim=-1, keepdim=True)
    causal = core.geometry.causal
    return [
        measures.relative_entropy(weights(core, norm * directions, k), causal=causal).mean().item()
        for norm in norms
    ]


@torch.no_grad()
def norm_correlation(core: Attention, q: Tensor, k: Tensor, **gates: Tensor) -> float:
    """Spearman's rho of entropy and norm over the tokens of each head, mean over heads.

    A head whose rows all have the same entropy counts as 0. A causal form uses the relative
    entropy, because later tokens see more keys.
    """
    w = weights(core, q, k, **gates)
    causal = core.geometry.causal
    found = measures.relative_entropy(w, causal=True) if causal else measures.entropy(w)
    lengths = q.norm(dim=-1).repeat(1, w.shape[1] // q.shape[1], 1)[..., -found.shape[-1] :]
    return measures.rank_correlation(found, lengths).nan_to_num(0.0).mean().item()


def gradients(call: Call) -> Found:
    """The root mean square of the gradients of q, k and v, for a unit-normal one of the output."""
    tensors = [x.detach().clone().requires_grad_() for x in (call.q, call.k, call.v)]
    out = call.core(*tensors, **call.gates)
    stream = torch.Generator().manual_seed(0)
    cotangent = torch.randn(out.shape, generator=stream, dtype=out.dtype)
    # A core that ignores queries has no gradient for them.
    found = torch.autograd.grad(out, tensors, cotangent, allow_unused=True)
    for name, gradient in zip("qkv", found, strict=True):
        rms = 0.0 if gradient is None else gradient.square().mean().sqrt().item()
        yield "gradient", name, rms


def of_lengths(build: Any, size: Size, lengths: Sequence[int], seed: int) -> Found:
    """Errors of narrow dtypes on unit-normal inputs of more and more tokens.

    Raises:
        NoWeights: the core cannot be built.
    """
    for num_tokens in lengths:
        longer = Size(
            num_heads=1, head_dim=size.head_dim, num_tokens=num_tokens, causal=size.causal
        )
        core = build(longer, seed)
        inputs = tuple(normal(longer, seed, purpose) for purpose in range(3))
        for dtype in NARROW:
            name = str(dtype).removeprefix("torch.")
            if name in core.capabilities.dtypes:
                yield (
                    "rounding error",
                    f"{name}, {num_tokens} tokens",
                    error_in(dtype, core, inputs),
                )
