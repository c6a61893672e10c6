"""Expected memory and duration of a cell, before it is measured.

The peak memory of a call is found on meta tensors, which have sizes and hold no values.
"""

from __future__ import annotations

import numbers
import weakref
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from attentions import CallShape, Geometry, build_attention, hyperparameters
from bench.core.cell import ORIGINAL, Cell, KernelWorkload, TaskWorkload
from bench.core.record import REFERENCE
from bench.measuring.building import build_module, is_foreign, shape_of
from bench.measuring.device import device_named
from bench.measuring.device.base import allowed_sdpa
from bench.measuring.measure.stopping import Stopping
from bench.measuring.models.subject import forward_flops, is_own, model_on_meta, subject_of
from bench.measuring.subject import Subject

_FLOPS_PER_S, _CARD_FLOPS_PER_S = 2e10, 2e12
"""FLOPs per second of one modest core, and of a card, at float32, for guessing durations only."""

_TRIAL_S = 0.6
_CALLS, _MODEL_CALLS = 5, 20
"""Number of calls that a trial costs; a model's also runs slow forms in float64."""
_TASK_S = 20.0
_COMPILE_S = 10.0

_SHORT, _LONG = 3072, 6144
"""Lengths of dry runs from which longer ones are extrapolated: above all windows in use, and long
enough that a call has several tiles and takes its heads one by one, as longer calls do."""
_QUADRATIC_SHARE = 0.15
"""Share of the larger peak that must grow with N^2 for the cell to count as quadratic."""

_FEW_ROWS, _MANY_ROWS = 4, 8
"""Batch sizes of dry runs from which larger ones are extrapolated: all rows need the same."""

_IMAGE_SIZES = (128, 224)
"""Image sizes, in pixels, that all kinds of models take, and that are small enough for a plan."""

_LONG_GRIDS, _NEARLY = (4096, 16384), 1.05
"""Numbers of tokens between which FLOPs per token may grow by this factor to count as linear."""

PLUGIN_TIMEOUT_S = 5.0
"""Timeout in seconds for constructors and dry runs of plugins, in a process of their own."""


def needed_bytes(cell: Cell) -> int | None:
    """Memory of a timed cell's weights, inputs and call; None if meta tensors do not show it."""
    peak = peak_bytes_of(cell)
    if peak is None:
        return None
    subject = _subject(_on_meta(cell))
    tensors = [*subject.sets[0], *subject.module.parameters(), *subject.module.buffers()]
    return sum(tensor.nbytes for tensor in tensors) + peak


def why_too_large(cell: Cell, needed: int | None) -> str | None:
    """A sentence with the estimate, if a cell needs more memory than is free; else None."""
    free = device_named(cell.device).free_bytes()
    if needed is None or needed <= free:
        return None
    return (
        f"needs about {needed / 2**30:,.1f} GiB by a dry run, and {free / 2**30:,.1f} GiB are "
        f"free on {cell.device}."
    )


def peak_bytes_of(cell: Cell) -> int | None:
    """Peak allocation of a timed cell's call, in bytes: output, gradients, temporaries, state.

    Found by a dry run on meta tensors, at its own length up to 3,072 tokens, beyond that
    extrapolated from two shorter ones. None if the call fails on meta tensors, or compiles itself.
    """
    if cell.hyperparameters.get("compiled"):
        return None
    on_meta = _on_meta(cell)
    try:
        if cell.is_model:
            return _peak(on_meta)
        longest = max(cell.kernel.seq_len, cell.kernel.num_keys)
        if longest <= _SHORT:
            return _peak(on_meta)
        short, long = (_peak(_at(on_meta, length)) for length in (_SHORT, _LONG))
        return extrapolated(short, long, longest)
    except Exception:  # foreign code may raise anything; the trial shows whether it runs
        return None


def extrapolated(short: int, long: int, seq_len: int) -> int:
    """The peak at a length, extrapolated from 3,072 and 6,144 tokens as b N + c N^2 or a + b N.

    >>> extrapolated(100, 200, 12288), extrapolated(100, 400, 12288), extrapolated(100, 150, 12288)
    (400, 1600, 250)
    """
    times = seq_len / _SHORT
    quadratic = (long - 2 * short) / 2  # at the shorter length
    if quadratic * (_LONG / _SHORT) ** 2 > _QUADRATIC_SHARE * long:
        return round((short - quadratic) * times + quadratic * times**2)
    return round(long + (long - short) * (times - _LONG / _SHORT))


def _on_meta(cell: Cell) -> Cell:
    """The cell on meta, with settings that do not affect its memory at their defaults."""
    workload = replace(cell.timed, cache="warm", compile="eager")
    return replace(cell, device="meta", num_threads=1, workload=workload)


def _at(cell: Cell, longest: int) -> Cell:
    """The cell with `longest` queries or keys, whichever are more, and the others in proportion."""
    w = cell.kernel
    most = max(w.seq_len, w.num_keys)
    lengths = [max(1, round(n * longest / most)) for n in (w.seq_len, w.num_keys)]
    key_len = None if w.key_len is None else lengths[1]
    return replace(cell, workload=replace(w, seq_len=lengths[0], key_len=key_len))


def _subject(on_meta: Cell) -> Subject:
    with torch.device("meta"):
        return subject_of(on_meta)


_PEAKS: dict[str, int] = {}


def _peak(on_meta: Cell) -> int:
    batch_size = on_meta.timed.batch_size
    if batch_size > _MANY_ROWS:
        few, many = (_peak(_with(on_meta, batch_size=n)) for n in (_FEW_ROWS, _MANY_ROWS))
        return many + (many - few) * (batch_size - _MANY_ROWS) // (_MANY_ROWS - _FEW_ROWS)
    if on_meta.key not in _PEAKS:
        _PEAKS[on_meta.key] = peak_bytes(_subject(on_meta).call)
    return _PEAKS[on_meta.key]


def _with(cell: Cell, **size: Any) -> Cell:
    return replace(cell, workload=replace(cell.timed, **size))


def expected_s(cell: Cell, stopping: Stopping) -> float:
    """Expected seconds of a cell: a guess for budgets, the order of work and the progress bar."""
    if isinstance(cell.workload, TaskWorkload):
        return _TASK_S * float(cell.workload.settings.get("num_steps", 600)) / 600
    flops_per_s = _CARD_FLOPS_PER_S
    if device_named(cell.device).shares_cores:
        flops_per_s = _FLOPS_PER_S * cell.num_threads
    call_s = _forward_flops(cell) * cell.timed.flops_factor / flops_per_s
    rounds_s = max(stopping.min_rounds * call_s, stopping.budget_s)
    compile_s = _COMPILE_S if cell.timed.compile == "inductor" else 0.0
    num_tried = _MODEL_CALLS if cell.is_model else _CALLS
    return _TRIAL_S + num_tried * call_s + rounds_s + 2 * compile_s


_FLOPS: dict[str, int] = {}


def _forward_flops(cell: Cell) -> int:
    """FLOPs by the formula; for a plugin, whose code does not run here, those of softmax."""
    if is_foreign(cell):
        mechanism = ORIGINAL if cell.is_model else REFERENCE
        cell = replace(cell, mechanism=mechanism, hyperparameters={})
    on_meta = _on_meta(cell)
    if on_meta.key not in _FLOPS:
        if cell.is_model:
            _FLOPS[on_meta.key] = _model_flops(cell)
        else:
            with torch.device("meta"):
                module = build_module(cell, device="meta")
            _FLOPS[on_meta.key] = flops_of(module, cell.kernel)[1]
    return _FLOPS[on_meta.key]


def _model_flops(cell: Cell) -> int:
    """FLOPs by a dry run; for large images extrapolated from smaller ones.

    The extrapolation takes those of softmax for a mechanism, without their quadratic part if the
    mechanism's formula is linear.
    """
    size, (small, large) = cell.model.image_size, _IMAGE_SIZES
    if size <= large or is_own(cell.model.model):
        return forward_flops(model_on_meta(cell), cell.model) or 0
    like = cell
    if cell.mechanism != ORIGINAL:
        like = replace(cell, mechanism=REFERENCE, hyperparameters=hyperparameters(REFERENCE))
    at_small, at_large = (_forward_flops(_with(like, image_size=s)) for s in (small, large))
    ratio, times = ((s / small) ** 2 for s in (large, size))
    quadratic = max(0.0, (at_large - ratio * at_small) / (ratio**2 - ratio))  # of tokens
    return round((at_small - quadratic) * times + (not _is_linear(cell)) * quadratic * times**2)


def _is_linear(cell: Cell) -> bool:
    """Whether a mechanism's FLOPs are linear in the number of tokens, by its formula."""
    if cell.mechanism == ORIGINAL:
        return False
    sizes: dict[str, Any] = {"num_heads": 2, "head_dim": 32}
    of_length = []
    for length in _LONG_GRIDS:
        with torch.device("meta"):
            core = build_attention(
                cell.mechanism, Geometry(seq_len=length, **sizes), **cell.hyperparameters
            )
        shape = CallShape(batch_size=1, query_len=length, key_len=length, value_dim=32, **sizes)
        of_length.append(claimed_flops(core, "flops", shape) / length)
    return of_length[1] <= _NEARLY * of_length[0]


_MOST_FLOPS = 10**30
"""Largest count: no machine computes as many, and readers of JSON still take it."""


def flops_of(module: Any, workload: KernelWorkload) -> tuple[int, int]:
    """Needed and executed FLOPs of a forward call, or of one decoded token, by the formulas.

    Padding needs none, but implementations execute it.
    """
    whole = shape_of(workload)
    if workload.mode == "decode":
        return (claimed_flops(module, "decode_flops", whole),) * 2
    parts = (
        replace(whole, batch_size=count, query_len=queries, key_len=keys)
        for (queries, keys), count in workload.row_lens.items()
    )
    needed = sum(claimed_flops(module, "flops", part) for part in parts)
    return needed, claimed_flops(module, "executed_flops", whole)


def claimed_flops(module: Any, formula: str, shape: CallShape) -> int:
    """FLOPs by one formula: `flops`, `executed_flops` or `decode_flops`.

    Raises:
        ValueError: the formula does not give a count.
    """
    said: Any = getattr(module, formula)(shape)
    is_number = isinstance(said, numbers.Real)
    if not (is_number and 0 <= said <= _MOST_FLOPS and said == int(said)):
        raise ValueError(f"{formula}() gives {said!r}; FLOPs are a whole number, 0 or more.")
    return int(said)


class _Alive(TorchDispatchMode):
    """Sums the bytes of living storages that operators have made, and their peak."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.now = 0
        self.peak = 0
        self._known: set[int] = set()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        # Storages of arguments existed before the call, or are known already.
        given = {_identity(t) for t in tree_leaves((args, kwargs)) if isinstance(t, Tensor)}
        out = func(*args, **(kwargs or {}))
        for tensor in tree_leaves(out):
            if isinstance(tensor, Tensor) and _identity(tensor) not in given | self._known:
                self._meet(tensor)
        return out

    def _meet(self, tensor: Tensor) -> None:
        storage = tensor.untyped_storage()
        key, size = _identity(tensor), storage.nbytes()
        self._known.add(key)
        self.now += size
        self.peak = max(self.peak, self.now)
        weakref.finalize(storage, self._part, key, size)

    def _part(self, key: int, size: int) -> None:
        self._known.discard(key)
        self.now -= size


class _FusedAttention(TorchFunctionMode):
    """Keeps torch's fused attention one operator; on meta, torch decomposes it into all pairs.

    Only for widths that the CPU's kernel takes: for others, torch computes all pairs on the CPU
    as well.
    """

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is functional.scaled_dot_product_attention:
            return _attend(*args, **(kwargs or {}))
        return func(*args, **(kwargs or {}))


def _attend(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    attn_mask: Tensor | None = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    **rest: Any,
) -> Tensor:
    is_learned = attn_mask is not None and attn_mask.requires_grad
    fits = q.dim() == 4 and q.shape[-1] == k.shape[-1] == v.shape[-1] and not is_learned
    is_on = allowed_sdpa()[0]  # flash, the switch of the CPU's kernel as well
    if not (fits and is_on and q.is_meta and dropout_p == 0.0):
        return functional.scaled_dot_product_attention(
            q, k, v, attn_mask, dropout_p, is_causal, **rest
        )
    if attn_mask is not None and attn_mask.dtype is torch.bool:
        attn_mask = attn_mask.to(q.dtype)
    kernel = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu
    scale = rest.get("scale")
    out: Tensor = kernel(q, k, v, 0.0, is_causal, attn_mask=attn_mask, scale=scale)[0]
    return out


def _identity(tensor: Tensor) -> int:
    storage: Any = tensor.untyped_storage()
    return int(storage._cdata)


def peak_bytes(call: Callable[[], object]) -> int:
    """Largest number of bytes of tensors that operators of a call have made and that are alive.

    Scratch memory within a fused operator is not counted.

    Raises:
        Exception: whatever a call raises that does not support meta tensors.
    """
    alive = _Alive()
    with _FusedAttention(), alive:
        call()
    return alive.peak
