"""Check a model: each mechanism in it against its slow form, and the whole against float64.

A mechanism is checked in its place, with the inputs that reach it there: behind a branch that is
scaled by a millionth at the start, its faults would not show in the scores.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from dataclasses import asdict
from typing import Any

import torch
from torch import Tensor, nn

from attentions.base import Mechanism
from bench.core.cell import ORIGINAL, Cell, ModelWorkload
from bench.measuring.measure.latency import garbage_collector_off
from bench.measuring.models.subject import ModelSubject
from bench.measuring.oracle import checking, oracle
from bench.measuring.oracle.checking import Checked
from bench.measuring.oracle.expected import check_index
from bench.measuring.oracle.oracle import (
    Errors,
    Incorrect,
    distance,
    refuse_beyond,
    refuse_nothing,
    slow_form,
)
from bench.measuring.subject import Subject

MODEL_FACTOR = 10.0
"""Tolerance of a whole model over that of one mechanism: it has some fifty layers."""

MAX_PAIRS = 2**22
"""Largest number of pairs of tokens, over heads, for which a slow form is run."""


@garbage_collector_off()  # as in the rounds: no call may tell the two apart
def check(subject: Subject) -> Checked:
    """Check the subject of a timed cell, a mechanism or a whole model.

    Raises:
        Incorrect: see `bench.measuring.oracle.checking.check` and `check_model`.
    """
    return check_model(subject) if isinstance(subject, ModelSubject) else checking.check(subject)


@garbage_collector_off()
def after_rounds(cell: Cell, subject: Subject) -> None:
    """Check the subject that was timed once more, with values that no call has seen.

    A model's oracle takes one image and runs again; a mechanism's ran in its trial.

    Raises:
        Incorrect: as in `check`.
    """
    if not isinstance(subject, ModelSubject):
        return checking.after_rounds(cell, subject)
    try:
        check_model(subject)
    except Incorrect as error:
        raise Incorrect(f"after the rounds, for values that no call had seen, {error}") from error


def check_model(subject: ModelSubject) -> Checked:
    """Compare a model's scores for one image, in eval mode, with those in float64.

    The first image set is overwritten; the model's mode is restored.

    Raises:
        Incorrect: the scores are no tensor with a row per image, hold NaN or infinity, or are
            constant; or an error of the scores, of a mechanism's output or of the gradient of all
            parameters is beyond its tolerance.
    """
    w = subject.cell.model
    subject.refill(subject.sets[0], check_index(subject.cell))
    is_training = subject.module.training
    subject.module.eval()
    try:
        errors, by = _compare(subject, w)
    finally:
        subject.module.train(is_training)
    return Checked(
        **asdict(errors),
        oracle="" if subject.cell.mechanism == ORIGINAL else by,
        checked_len=None,
        checked_share=1 / w.batch_size,
    )


def _compare(subject: ModelSubject, w: ModelWorkload) -> tuple[Errors, str]:
    """Errors of the scores for the first image, and the oracle; gradients are only checked."""
    tolerance, module = oracle.TOLERANCES[w.dtype], subject.module
    images = subject.sets[0][0][:1]
    wide = copy.deepcopy(module).cpu().double()
    slow_forms = _take_slow_forms(wide)
    _check_places(module, images, w)
    cotangent = ours = None
    with torch.set_grad_enabled(w.has_backward):
        out = module(images)
        _refuse_no_scores(out, images)
        if w.has_backward:
            cotangent = torch.randn(out.shape, generator=torch.Generator().manual_seed(0)).to(out)
            ours = _gradient(module, out, cotangent)
        expected = wide(images.cpu().double())  # after the model's run, which could find it
    errors = distance(out.detach(), expected.detach())
    refuse_beyond(errors, tolerance, MODEL_FACTOR, "output")
    if ours is not None and cotangent is not None:
        ideal = _gradient(wide, expected, cotangent.cpu().double())
        if not bool(ours.isfinite().all()):
            raise Incorrect("gradient of the parameters holds values that are NaN or infinite")
        factor = MODEL_FACTOR * oracle.GRADIENT_FACTOR
        refuse_beyond(distance(ours, ideal), tolerance, factor, "gradient of the parameters")
    # The oracle is the model itself, in float64, if no place had another slow form.
    has_slow = any(form.by not in ("", oracle.ITSELF) for form in slow_forms)
    return errors, oracle.REFERENCE if has_slow else oracle.ITSELF


def _take_slow_forms(model: nn.Module) -> list[_SlowForm]:
    """Replace each mechanism's forward in a model by its slow form, where that is small enough."""
    forms = [_SlowForm(place) for place in model.modules() if isinstance(place, Mechanism)]
    for form in forms:
        form.take_over()
    return forms


class _SlowForm:
    """Replaces a mechanism's `forward`, and restores it while the slow form runs.

    Attributes:
        by: the oracle of the last call, as `slow_form` names it; empty without one.
    """

    def __init__(self, place: Any) -> None:
        self._place = place
        self._fast: Callable[..., Tensor] = place.forward
        self.by = ""

    def take_over(self) -> None:
        """Be called in the place of the mechanism's `forward`."""
        self._place.forward = self

    def __call__(self, *tensors: Tensor, **settings: Any) -> Tensor:
        if settings or _num_pairs(self._place, tensors) > MAX_PAIRS:
            return self._fast(*tensors, **settings)
        self._place.forward = self._fast
        try:
            self.by, out = slow_form(self._place, list(tensors))
            return out
        finally:
            self.take_over()


def _check_places(module: nn.Module, images: Tensor, w: ModelWorkload) -> None:
    """Run the model once, and compare each mechanism's output in it with its slow form's."""
    hooks = [
        place.register_forward_hook(_Place(name, w), with_kwargs=True)
        for name, place in module.named_modules()
        if isinstance(place, Mechanism)
    ]
    with torch.no_grad():
        module(images)
    for hook in hooks:
        hook.remove()


class _Place:
    """Checks one mechanism whenever it is called."""

    def __init__(self, name: str, w: ModelWorkload) -> None:
        self._name = name
        self._tolerance = oracle.TOLERANCES[w.dtype]

    def __call__(self, module: Any, tensors: Any, settings: dict[str, Any], out: Any) -> None:
        if settings or _num_pairs(module, tensors) > MAX_PAIRS:
            return
        slow = copy.deepcopy(module).cpu().double()
        for part in slow.modules():
            part._forward_hooks.clear()  # this one, and those of mechanisms within it
        _, expected = slow_form(slow, [tensor.cpu().double() for tensor in tensors])
        if expected.any():
            errors = distance(out, expected)
            refuse_beyond(errors, self._tolerance, 1.0, f"{module.name} at {self._name}")


def _num_pairs(place: Mechanism, tensors: Sequence[Tensor]) -> int:
    """Number of pairs in a call with q, k and v, or in a layer's with x, for one image."""
    first, last = tensors[0], tensors[min(1, len(tensors) - 1)]
    return place.geometry.num_heads * first.shape[-2] * last.shape[-2]


def _refuse_no_scores(out: Any, images: Tensor) -> None:
    if not isinstance(out, Tensor):
        kind = type(out).__name__
        raise Incorrect(f"the model returns a {kind}; a tensor of scores is needed")
    oracle.refuse_subclasses(out)
    like = torch.empty((len(images), *out.shape[1:]), dtype=images.dtype, device="meta")
    refuse_nothing(out.detach(), like)


def _gradient(module: nn.Module, out: Tensor, cotangent: Tensor) -> Tensor:
    """Gradient of all parameters as one vector, zero for unused ones."""
    learned = [p for p in module.parameters() if p.requires_grad]
    found = torch.autograd.grad(out, learned, cotangent, allow_unused=True)
    parts = [torch.zeros_like(p) if g is None else g for p, g in zip(learned, found, strict=True)]
    return torch.cat([part.flatten() for part in parts])
