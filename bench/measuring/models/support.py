"""Check whether a cell's model can be measured: mistakes are errors, the rest are reasons."""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence

from attentions.models import model_info, model_names
from bench.core.cell import ORIGINAL, Cell, ModelWorkload
from bench.core.cli.errors import ConfigError, check_known
from bench.core.cli.texts import LIMITS, said_by, visible
from bench.measuring.models.subject import model_on_meta

_EXTRA = "models"
_REFUSALS = (ValueError, TypeError, ImportError)
_MODES = ("forward", "backward", "forward_backward", "train_step")


def is_own(model: str) -> bool:
    """Whether a model is a user's own, named by the file and the function that build it."""
    return ":" in model


def check_models(models: Sequence[str], image_sizes: Sequence[int]) -> None:
    """Refuse unknown models; a user's own is built once, at the first size, to check it.

    Raises:
        ConfigError: names the model and the fault.
    """
    for model in models:
        if is_own(model):
            _check_own(model, image_sizes[0])
            continue
        own = "A model of your own is named as path/to/factory.py:build."
        check_known(model, model_names(), f"model={model} is not known.", own)


def _check_own(model: str, image_size: int) -> None:
    workload = ModelWorkload(
        model=model, image_size=image_size, batch_size=1, dtype="float32", mode="forward"
    )
    cell = Cell(
        entry=ORIGINAL,
        mechanism=ORIGINAL,
        hyperparameters={},
        device="cpu",
        num_threads=1,
        workload=workload,
    )
    try:
        model_on_meta(cell)
    except ValueError as error:
        raise ConfigError(f"model={model}: {said_by(error)}") from error
    except Exception as error:  # a user's code may raise anything
        raise ConfigError(f"model={model} cannot be built: {_words(error)}") from error


def why_no_model(cell: Cell) -> str | None:
    """Reason why a cell's model cannot be built, whatever the mechanism in it; None if it can."""
    w = cell.model
    if w.mode not in _MODES:
        return f"{w.mode} is no mode of a model: images are seen whole; it has {', '.join(_MODES)}."
    if is_own(w.model):
        return None
    for package in model_info(w.model).requires:
        if importlib.util.find_spec(package) is None:
            return (
                f"{w.model} needs the package {package}, which is not installed: "
                f"pip install 'attnbench[{_EXTRA}]'."
            )
    return None


def why_no_such_model(cell: Cell) -> str | None:
    """Why the model cannot be built or run for a cell's size, mechanism or mode; None if it can."""
    try:
        model = model_on_meta(cell)
    except Exception as error:  # a user's code may raise anything; ours only what it documents
        if not (is_own(cell.model.model) or isinstance(error, _REFUSALS)):
            raise
        return f"The model cannot be built: {_words(error)}"
    if cell.model.has_backward and not any(p.requires_grad for p in model.parameters()):
        return (
            f"{cell.model.mode}: the model has no parameter that learns; mode=forward needs none."
        )
    return None


def _words(error: Exception) -> str:
    """Text of an error, with its type unless the text was written for users."""
    said = visible(said_by(error), LIMITS["reason"])
    return said if isinstance(error, ValueError) else f"{type(error).__name__}: {said}"
