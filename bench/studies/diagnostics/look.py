"""Numbers of cores with random queries and keys, of trained models' own, and in softmax's place."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from attentions import Attention, MultiHeadAttention
from bench.core.cell import Cell
from bench.core.cli.errors import ConfigError
from bench.measuring.device import device_named
from bench.measuring.tasks.base import Batch, Split, Task, build_task
from bench.measuring.tasks.match import matched
from bench.measuring.tasks.model import Backbone, build_model
from bench.measuring.tasks.train import fit, score_on_test_set
from bench.measuring.weights import NoWeights, weights
from bench.studies.diagnostics import measures
from bench.studies.diagnostics.samples import Size, build_core, normal, with_spread_norms
from bench.studies.numerics import error_in

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


# --- trained models ------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class Trained:
    """A model, the cell that it was trained by at its own size, and the cell's task."""

    cell: Cell
    task: Task
    model: Backbone


def trained_on(cell: Cell, model: Backbone) -> Trained:
    """A cell's trained model with its task, at the size that a matched cell is trained at."""
    cell, _ = matched(cell)
    return Trained(cell=cell, task=build_task(cell.task.task, cell.task.settings), model=model)


def of_model(
    trained: Trained, seed: int, num_examples: int
) -> dict[int, list[tuple[str, str, float | None]]]:
    """Numbers by layer, from a model's own queries and keys on examples of the test set.

    Raises:
        NoWeights: the mechanism owns its projections, or is not linear in v.
    """
    calls = enumerate(own_calls(trained, seed, num_examples))
    return {n: [*of_weights(call), *of_own_norms(call), *gradients(call)] for n, call in calls}


def first_examples(task: Task, seed: int, num_examples: int) -> Batch:
    """The first examples of a test set, from as many of its batches as they take.

    Raises:
        ConfigError: the test set has fewer.
    """
    parts: list[Batch] = []
    found = 0
    for batch in task.batches(Split.TEST, seed):
        parts.append(batch)
        found += len(batch.targets)
        if found >= num_examples:
            return Batch.join(parts).select(slice(num_examples))
    raise ConfigError(
        f"num_examples is {num_examples:,}, and the test set of {task.name} has {found:,} "
        f"examples. Say num_examples={found}, or give the task more."
    )


@torch.no_grad()
def own_calls(trained: Trained, seed: int, num_examples: int) -> list[Call]:
    """Inputs of each layer's core, in float64.

    Raises:
        NoWeights: the mechanism owns its projections.
    """
    model = trained.model.eval()
    cores = [layer.core for layer in _layers(model)]
    seen: list[tuple[tuple[Tensor, ...], Mapping[str, Tensor]]] = []

    def watch(_: nn.Module, inputs: tuple[Tensor, ...], keywords: dict[str, Tensor]) -> None:
        seen.append((inputs, keywords))

    # Before other hooks: rotary positions rotate q and k in one, and do so again in later calls.
    watches = [
        core.register_forward_pre_hook(watch, with_kwargs=True, prepend=True) for core in cores
    ]
    batch = first_examples(trained.task, seed, num_examples)
    try:
        model(batch.inputs, batch.positions)
    finally:
        for handle in watches:
            handle.remove()
    return [
        Call(
            core=copy.deepcopy(core).double(),
            **{name: x.double() for name, x in zip("qkv", inputs, strict=True)},
            gates={name: gate.double() for name, gate in keywords.items()},
        )
        for core, (inputs, keywords) in zip(cores, seen, strict=True)
    ]


def _layers(model: Backbone) -> list[Any]:
    """The layer of projections around each core.

    Raises:
        NoWeights: the mechanism has its own.
    """
    mixers = [block.mixer for block in model.blocks]
    for mixer in mixers:
        if type(mixer) is not MultiHeadAttention:
            name = getattr(mixer, "name", type(mixer).__name__)
            raise NoWeights(f"{name} has no weights to look at: it owns its projections.")
    return mixers


def swapped_in(softmax: Trained, cell: Cell, num_steps: int) -> Found:
    """Scores of a trained softmax model with a mechanism in the place of its attention.

    Everything but the mechanism's own parameters is kept, also the size of a matched softmax. Then
    all is trained for some steps, at a tenth of the mechanism's learning rate and otherwise by
    the task's recipe. For comparison, softmax in its own place goes through the same. Regret is how
    much the score is worse than that of the softmax model before.

    Raises:
        NoWeights: the mechanism owns its projections.
        Diverged: a prediction is not finite.
    """
    own = {"num_steps": num_steps, "learning_rate": cell.task.settings["learning_rate"] / 10}
    task = build_task(cell.task.task, softmax.cell.task.settings | own)
    seed, device = cell.task.seed, device_named(cell.device)
    model = build_model(task, cell.mechanism, cell.hyperparameters, seed).to(device.place)
    _layers(model)  # raises if it owns its projections and cannot take any over
    take_over(softmax.model, model)
    whole = score_on_test_set(softmax.model, task, seed, device.place)
    sign = 1.0 if task.better == "higher" else -1.0
    for when in ("before", "after"):
        score = score_on_test_set(model, task, seed, device.place)
        yield "score in softmax's place", when, score
        yield "drop-in regret", when, sign * (whole - score)
        if when == "before":
            fit(model, task, seed, device)


@torch.no_grad()
def take_over(source: nn.Module, target: nn.Module) -> None:
    """Copy parameters of equal name and shape."""
    known = dict(source.named_parameters())
    for name, own in target.named_parameters():
        old = known.get(name)
        if old is not None and old.shape == own.shape:
            own.copy_(old)
