"""Subject of a model's cell: a built classifier, its images, and one call of its mode."""

from __future__ import annotations

import importlib
from dataclasses import replace
from types import ModuleType
from typing import Any

import torch
from torch import Tensor, nn

from bench.core.cell import ORIGINAL, Cell, ModelWorkload
from bench.measuring.device import device_named
from bench.measuring.drawn_gates import DrawnGates
from bench.measuring.measure.flops import count
from bench.measuring.subject import Subject

_WEIGHT_SEED = 0
_INPUT_SEED = 1000
_COTANGENT_SEED = 2000

_ON_META: dict[str, nn.Module] = {}


def is_own(model: str) -> bool:
    """Whether a model is a user's own, named by the file and the function that build it."""
    return ":" in model


def build_model(cell: Cell) -> nn.Module:
    """The model of a cell with its mechanism, in float32, on the default device.

    Weights are untrained and seeded; a user's own factory decides about its own.

    Raises:
        ValueError, TypeError: no such model, or not of this size or with this mechanism.
        ImportError: an optional package is missing.
    """
    models: Any = importlib.import_module("attentions.models")
    w = cell.model
    mechanism = None if cell.mechanism == ORIGINAL else cell.mechanism
    torch.manual_seed(_WEIGHT_SEED)
    settings = {"image_size": w.image_size} | cell.hyperparameters
    module: nn.Module = models.build_model(w.model, mechanism, **settings)
    return module


def model_on_meta(cell: Cell) -> nn.Module:
    """The cell's model on meta; a user's own is first built on the CPU, as it may load values.

    It is built once for all cells that differ in batch size, dtype or mode only.

    Raises:
        ValueError, TypeError, ImportError: as `build_model`.
        Exception: whatever a user's own factory raises.
    """
    w = cell.model
    shape = ModelWorkload(
        model=w.model, image_size=w.image_size, batch_size=1, dtype="float32", mode="forward"
    )
    key = replace(cell, device="meta", num_threads=1, workload=shape).key
    if key not in _ON_META:
        with torch.device("cpu" if is_own(w.model) else "meta"):
            _ON_META[key] = build_model(cell).to("meta")
    return _ON_META[key]


def forward_flops(module: nn.Module, w: ModelWorkload) -> int | None:
    """FLOPs of one forward call of a model on meta, by torch's counter, two per multiply-add.

    None if the call fails on meta tensors, for example because its code reads values.
    """
    shape = (1, 3, w.image_size, w.image_size)  # every image takes as many
    images = torch.empty(shape, dtype=getattr(torch, w.dtype), device="meta")

    def call() -> None:
        with torch.no_grad():
            module(images)

    module.to(images.dtype).eval()
    try:
        return w.batch_size * count(call).counted_flops
    except Exception:  # a user's code may raise anything; the trial shows whether it runs
        return None


class ModelSubject(Subject):
    """A whole model that can be called.

    Its input sets are ``(images, empty tensor)``: the shape of a model's output is known once it
    was called, so the cotangent is drawn then. Images take no gradient, as in training.
    """

    def __init__(self, cell: Cell) -> None:
        self._cotangents: dict[int, Tensor] = {}
        super().__init__(cell)

    def _build(self, library: ModuleType | None) -> nn.Module:
        w = self.cell.model
        build = model_on_meta if self.cell.device == "meta" else build_model
        module = build(self.cell).to(device_named(self.cell.device).place, getattr(torch, w.dtype))
        return module.train(w.has_backward)

    def draw(self, index: int) -> tuple[Tensor, ...]:
        """Draw the images of an index, (B, 3, size, size), with an empty cotangent."""
        w = self.cell.model
        shape = (w.batch_size, 3, w.image_size, w.image_size)
        return self._draw(shape, _INPUT_SEED + index), torch.empty(0)

    def _keywords(self) -> dict[str, Tensor]:
        return {}

    def _gates(self) -> DrawnGates:
        return DrawnGates({}, self.module)

    def _draw(self, shape: tuple[int, ...], seed: int) -> Tensor:
        """Unit-normal values, drawn in float32 and then rounded: the same on every machine."""
        if self.cell.device == "meta":
            return torch.empty(shape, dtype=getattr(torch, self.cell.model.dtype), device="meta")
        values = torch.randn(shape, generator=torch.Generator().manual_seed(seed))
        return values.to(
            device_named(self.cell.device).place, getattr(torch, self.cell.model.dtype)
        )

    def forward(self, tensors: tuple[Tensor, ...], runner: Any = None) -> Tensor:
        """Scores of the classes for one set of images."""
        scores: Tensor = (self.module if runner is None else runner)(tensors[0])
        return scores

    def wanted(self, tensors: tuple[Tensor, ...]) -> list[Tensor]:
        """The parameters."""
        return list(self.parameters)

    def varying(self, tensors: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        """The images, and their cotangent once it is drawn."""
        known = self._cotangents.get(id(tensors))
        return tensors[:1] if known is None else (tensors[0], known)

    def cotangent(self, out: Tensor, tensors: tuple[Tensor, ...]) -> Tensor:
        """Cotangent of an input set, drawn at its first call in the shape of the output."""
        known = self._cotangents.get(id(tensors))
        if known is None:
            known = self._draw(tuple(out.shape), _COTANGENT_SEED)
            self._cotangents[id(tensors)] = known
        return known

    def state_bytes(self) -> int | None:
        """None: a classifier keeps no state."""
        return None


def subject_of(cell: Cell, library: ModuleType | None = None) -> Subject:
    """Subject of a timed cell: a mechanism, of another source tree if given, or a whole model."""
    return ModelSubject(cell) if cell.is_model else Subject(cell, library=library)
