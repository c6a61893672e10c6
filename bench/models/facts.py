"""What a model's call needs, seen on meta tensors, which have shapes and hold no values."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from attentions.models import model_names
from bench.cell import Cell, ModelWorkload
from bench.measure.flops import count
from bench.measure.meta import peak_bytes
from bench.models.subject import build_model

_MOMENTS = 2
"""Tensors of a parameter's size that AdamW keeps."""

_BUILT: dict[str, nn.Module] = {}
_FACTS: dict[str, Facts] = {}


@dataclass(frozen=True, kw_only=True)
class Facts:
    """What one call of a model's cell takes.

    Attributes:
        flops: of the mode, two per multiply-add; None if the model cannot be called on meta
            tensors.
        needed_bytes: weights, their gradients and moments, and what else is alive at the peak of a
            call, as far as meta tensors show it.
    """

    flops: int | None
    needed_bytes: int


def facts_of(cell: Cell) -> Facts:
    """Look at a cell without measuring it.

    Raises:
        ValueError, TypeError: as `build_model`.
        ImportError: an optional package is missing.
        Exception: whatever a user's own factory raises.
    """
    if cell.key not in _FACTS:
        w = cell.model
        module = model_on_meta(cell)
        flops = forward_flops(module, w)
        _FACTS[cell.key] = Facts(
            flops=None if flops is None else w.flops_factor * flops,
            needed_bytes=_weight_bytes(module, w) + _activation_bytes(module, w),
        )
    return _FACTS[cell.key]


def model_on_meta(cell: Cell) -> nn.Module:
    """The cell's model without values; a user's own is first built with them, as it may load them.

    Raises:
        As `facts_of`.
    """
    shape = ModelWorkload(
        model=cell.model.model,
        image_size=cell.model.image_size,
        batch_size=1,
        dtype="float32",
        mode="forward",
    )
    key = replace(cell, device="meta", num_threads=1, workload=shape).key
    if key not in _BUILT:
        is_own = cell.model.model not in model_names()
        with torch.device("cpu" if is_own else "meta"):
            _BUILT[key] = build_model(cell).to("meta")
    return _BUILT[key]


def forward_flops(module: nn.Module, w: ModelWorkload) -> int | None:
    """FLOPs of one forward call of a model on meta, by torch's counter.

    None if meta tensors do not get through it, as where its code looks at values.
    """
    images = _images(w)

    def call() -> None:
        with torch.no_grad():
            module(images)

    module.to(images.dtype).eval()
    return _through(lambda: count(call).counted_flops)


def _weight_bytes(module: nn.Module, w: ModelWorkload) -> int:
    size = getattr(torch, w.dtype).itemsize
    copies = 1 + _MOMENTS * (w.mode == "train_step")  # gradients are among what a call makes
    num_buffered = sum(buffer.numel() for buffer in module.buffers())
    num_learned = sum(parameter.numel() for parameter in module.parameters())
    return int(size * (num_buffered + copies * num_learned))


def _activation_bytes(module: nn.Module, w: ModelWorkload) -> int:
    """Bytes of the images and of what a call makes, at its peak; the former if that is unknown."""
    images = _images(w)

    def call() -> None:
        out: Tensor = module(images)
        if w.has_backward:
            learned = [p for p in module.parameters() if p.requires_grad]
            torch.autograd.grad(out, learned, torch.empty_like(out), allow_unused=True)

    module.to(images.dtype).train(w.has_backward)
    with torch.set_grad_enabled(w.has_backward):
        found = _through(lambda: peak_bytes(call))
    own = images.numel() * images.element_size()
    return own + (found or 0)


def _images(w: ModelWorkload) -> Tensor:
    shape = (w.batch_size, 3, w.image_size, w.image_size)
    return torch.empty(shape, dtype=getattr(torch, w.dtype), device="meta")


def _through(look: Callable[[], int]) -> int | None:
    try:
        return look()
    except Exception:  # a user's code may do anything; the worker will tell whether it runs
        return None
