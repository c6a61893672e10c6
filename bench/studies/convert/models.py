"""Teachers and the models converted from them: trained here, or from Transformers and timm."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor, nn

import attentions
from bench.core.cell import Cell
from bench.core.cli.errors import ConfigError
from bench.core.cli.stored_files import read_regular
from bench.measuring.tasks.base import Task, build_task, seeded
from bench.measuring.tasks.images import ImageTask
from bench.measuring.tasks.model import Backbone, build_model
from bench.studies.diagnostics.trained import take_over


@dataclass(frozen=True, kw_only=True)
class Pupil:
    """A model to be trained, and the dotted names of its exchanged mixers, as in the teacher."""

    model: nn.Module
    exchanged: tuple[str, ...]


def of_cell(cell: Cell, teacher: Backbone | None) -> Pupil:
    """The model of a cell, with the weights of a teacher if one is given."""
    task = build_task(cell.task.task, cell.task.settings)
    model = build_model(task, cell.mechanism, cell.hyperparameters, cell.task.seed)
    if teacher is not None:
        take_over(teacher, model)
    kept = enumerate(task.recipe.is_softmax)
    exchanged = tuple(f"blocks.{i}.mixer" for i, is_kept in kept if not is_kept)
    return Pupil(model=model, exchanged=exchanged)


# --- models of other libraries --------------------------------------------------------------------

Exchange = Callable[[Any, str, dict[str, Any], float], list[str]]


class Foreign(nn.Module):
    """A model of another library with the interface of a task's model.

    Args:
        whole: the model.
        task: its inputs are token ids, of a causal language model, or patches of images.
        exchange: puts a mechanism into all of its layers but a share, and returns their names.
    """

    def __init__(self, whole: nn.Module, task: Task, exchange: Exchange) -> None:
        super().__init__()
        self.whole, self.exchange, self._task = whole, exchange, task

    def forward(self, inputs: Tensor, positions: Tensor | None = None) -> Tensor:
        """Logits of a batch of the task: (B, A, classes) at positions, else (B, classes)."""
        task, classes = self._task, self._task.num_classes
        if isinstance(task, ImageTask):
            side, size = task.image_size // task.patch_size, task.patch_size
            cut = inputs.view(-1, side, side, size, size, task.num_channels).transpose(2, 3)
            pixels = cut.reshape(-1, task.image_size, task.image_size, task.num_channels)
            found: Tensor = self.whole(pixels.permute(0, 3, 1, 2))
            return found[:, :classes]
        logits: Tensor = self.whole(input_ids=inputs, use_cache=False).logits[..., :classes]
        if positions is None:
            return logits[:, -1]
        return logits.gather(1, positions.unsqueeze(-1).expand(-1, -1, logits.shape[-1]))


def load(folder: Path, task: Task) -> tuple[Foreign, Callable[[int], Foreign]]:
    """A trained model, and a function that builds it with random weights from a seed.

    Raises:
        ConfigError: the folder holds no model, or one that does not take the task's inputs.
    """
    try:
        is_timm = "architecture" in json.loads(read_regular(folder / "config.json"))
        teacher, fresh = (_timm if is_timm else _transformers)(folder)
        exchange = _replaced if is_timm else _attached
        model = Foreign(teacher, task, exchange)
        example = next(iter(task.validation())).select(slice(1))
        with torch.no_grad():
            num_outputs = model.eval()(example.inputs, example.positions).shape[-1]
        if num_outputs < task.num_classes:
            raise ValueError(f"it has {num_outputs} outputs, fewer than {task.num_classes} classes")
    except Exception as error:  # a foreign library may raise anything
        raise ConfigError(
            f"teacher={folder} cannot be used: {error}. It takes a folder with config.json and "
            "weights, of a causal language model of Transformers or an image classifier of timm, "
            f"that takes the inputs of {task.name}."
        ) from error

    def drawn(seed: int) -> Foreign:
        with seeded(seed, "teacher anew"):
            return Foreign(fresh(), task, exchange)

    return model, drawn


def num_layers_of(folder: Path) -> int | None:
    """Layers of a trained model as its config.json says, by Transformers' or timm's names.

    None if it does not say, or cannot be read, which `load` tells.
    """
    try:
        said = json.loads(read_regular(folder / "config.json"))
    except (ConfigError, ValueError):
        return None
    said = said if isinstance(said, dict) else {}
    built = said.get("model_args")
    places = [(said, "num_hidden_layers"), (said, "n_layer"), (built, "depth")]
    known = [place.get(name) for place, name in places if isinstance(place, dict)]
    return next((n for n in known if isinstance(n, int) and n > 0), None)


def _timm(folder: Path) -> tuple[nn.Module, Callable[[], nn.Module]]:
    import timm

    name = f"local-dir:{folder.resolve()}"
    model: nn.Module = timm.create_model(name, pretrained=True)
    return model, lambda: timm.create_model(name, pretrained=False)


def _transformers(folder: Path) -> tuple[nn.Module, Callable[[], nn.Module]]:
    from transformers import AutoConfig, AutoModelForCausalLM

    def fresh() -> nn.Module:
        model: nn.Module = AutoModelForCausalLM.from_config(AutoConfig.from_pretrained(folder))
        return model

    return AutoModelForCausalLM.from_pretrained(folder, local_files_only=True), fresh


def exchanged_in(model: Foreign, mechanism: str, settings: dict[str, Any], keep: float) -> Pupil:
    """A copy of a foreign model with a mechanism in all layers except the share that is kept.

    Raises:
        ConfigError: its layers cannot be exchanged for this mechanism.
    """
    new = copy.deepcopy(model)
    try:
        exchanged = new.exchange(new.whole, mechanism, settings, keep)
    except ValueError as error:
        raise ConfigError(
            f"The teacher's layers cannot be exchanged for {mechanism}. {error}"
        ) from error
    if not exchanged:
        raise ConfigError(f"keep={keep:g} leaves none of the teacher's layers to exchange.")
    return Pupil(model=new, exchanged=tuple(f"whole.{name}" for name in exchanged))


def _replaced(model: nn.Module, mechanism: str, settings: dict[str, Any], keep: float) -> list[str]:
    """Exchange the attentions of a timm model; names are found in a copy, where all are."""
    names, replace = list[str](), cast(Any, attentions.replace_attention)

    def every(name: str) -> bool:
        names.append(name)
        return True

    replace(copy.deepcopy(model), mechanism, where=every, **settings)
    if exchanged := _but_kept(names, keep):
        replace(model, mechanism, where=exchanged, **settings)
    return exchanged


def _attached(model: Any, mechanism: str, settings: dict[str, Any], keep: float) -> list[str]:
    """Attach a mechanism to a model of Transformers, and give the kept layers softmax back."""
    from attentions import huggingface

    before = {name for name, _ in model.named_modules()}
    huggingface.attach(model, mechanism, **settings)
    new = (name.rpartition(".") for name, _ in model.named_modules() if name not in before)
    cores = {layer: core for layer, _, core in new if layer in before}
    exchanged = _but_kept([*cores], keep)
    for name in cores.keys() - set(exchanged):
        layer = model.get_submodule(name)
        delattr(layer, cores[name])
        layer.config = copy.copy(layer.config)
        layer.config._attn_implementation = f"{huggingface.PREFIX}softmax"
    return exchanged


def _but_kept(names: list[str], keep: float) -> list[str]:
    """Names of the layers to exchange; those that are kept are spaced as in a hybrid."""
    count = round(keep * len(names))
    kept = {(place + 1) * len(names) // count - 1 for place in range(count)}
    return [name for i, name in enumerate(names) if i not in kept]
