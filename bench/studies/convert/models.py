"""Teachers, the models converted from them, and three phases of training.

Teachers are trained here, or come from Transformers and timm.
"""

from __future__ import annotations

import copy
import hashlib
import json
import math
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import accumulate
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, kl_div, log_softmax

import attentions
from bench.core.cell import Cell
from bench.core.cli.errors import ConfigError
from bench.core.cli.stored_files import read_regular
from bench.measuring.tasks.base import NO_ANSWER, Batch, Split, Task, build_task, seeded
from bench.measuring.tasks.images import ImageTask
from bench.measuring.tasks.model import Backbone, build_model
from bench.measuring.tasks.train import Diverged, learning_rate, score_on_test_set
from bench.studies.diagnostics.look import take_over

Steps = tuple[int, int, int]
"""Updates of matching, of distillation and of fine-tuning."""

NUM_LOOKS = 6
"""Number of evenly spaced scores of a curve, not counting the one before the first step."""

MAX_WEIGHTS_BYTES = 2**40
"""Largest file of a teacher, in bytes."""

Pupil = tuple[nn.Module, list[str]]
"""A model to be trained, and the dotted names of its exchanged mixers, as in the teacher."""


def of_cell(cell: Cell, teacher: Backbone | None) -> Pupil:
    """The model of a cell, with the weights of a teacher if one is given."""
    task = build_task(cell.task.task, cell.task.settings)
    model = build_model(task, cell.mechanism, cell.hyperparameters, cell.task.seed)
    if teacher is not None:
        take_over(teacher, model)
    kept = enumerate(task.recipe.is_softmax)
    return model, [f"blocks.{i}.mixer" for i, is_kept in kept if not is_kept]


# --- models of other libraries --------------------------------------------------------------------


class Foreign(nn.Module):
    """A model of another library with the interface of a task's model.

    Args:
        whole: a causal language model of Transformers, or an image classifier of timm.
        is_timm: the latter.
        task: its inputs are token ids, or patches of images.
    """

    def __init__(self, whole: nn.Module, is_timm: bool, task: Task) -> None:
        super().__init__()
        self.whole, self.is_timm, self._task = whole, is_timm, task

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


def load(folder: Path, task: Task, seed: int | None = None) -> Foreign:
    """A trained model of another library, or if a seed is given, one with random weights.

    Raises:
        ConfigError: the folder holds no model, or one that does not take the task's inputs.
    """
    try:
        is_timm = "architecture" in json.loads(read_regular(folder / "config.json"))
        with seeded(seed or 0, "teacher anew"):
            whole = (_timm if is_timm else _transformers)(folder, is_trained=seed is None)
            model = Foreign(whole, is_timm, task)
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
    return model


def _timm(folder: Path, is_trained: bool) -> nn.Module:
    import timm

    model: nn.Module = timm.create_model(f"local-dir:{folder.resolve()}", pretrained=is_trained)
    return model


def _transformers(folder: Path, is_trained: bool) -> nn.Module:
    from transformers import AutoConfig, AutoModelForCausalLM

    if is_trained:
        return AutoModelForCausalLM.from_pretrained(folder, local_files_only=True)
    model: nn.Module = AutoModelForCausalLM.from_config(AutoConfig.from_pretrained(folder))
    return model


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


def digest_of(folder: Path) -> str:
    """Hash of the files of a model.

    Raises:
        ConfigError: the folder holds no model.
    """
    endings = ("*.json", "*.safetensors") if os.path.isdir(folder) else ()
    files = [file for ending in endings for file in sorted(folder.glob(ending))]
    if not files:
        raise ConfigError(
            f"teacher={folder} holds no model. It takes a folder with config.json and "
            "model.safetensors."
        )
    digest = hashlib.sha256()
    for file in files:
        digest.update(read_regular(file, MAX_WEIGHTS_BYTES))
    return digest.hexdigest()[:16]


def exchanged_in(model: Foreign, mechanism: str, settings: dict[str, Any], keep: float) -> Pupil:
    """A copy of a foreign model with a mechanism in all layers except the share that is kept.

    Raises:
        ConfigError: its layers cannot be exchanged for this mechanism.
    """
    new = copy.deepcopy(model)
    exchange = _replaced if new.is_timm else _attached
    try:
        exchanged = exchange(new.whole, mechanism, settings, keep)
    except ValueError as error:
        raise ConfigError(
            f"The teacher's layers cannot be exchanged for {mechanism}. {error}"
        ) from error
    if not exchanged:
        raise ConfigError(f"keep={keep:g} leaves none of the teacher's layers to exchange.")
    return new, [f"whole.{name}" for name in exchanged]


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


# --- training -------------------------------------------------------------------------------------


def looks(steps: Steps) -> tuple[int, ...]:
    """Steps at which a model is scored: evenly spaced from 0, and after each phase."""
    even = {round(i * sum(steps) / NUM_LOOKS) for i in range(NUM_LOOKS + 1)}
    return tuple(sorted({*even, *accumulate(steps)}))


@dataclass(frozen=True, kw_only=True)
class Phase:
    """Updates of some parameters by a loss, at a share of the learning rate."""

    num_steps: int
    parameters: Sequence[nn.Parameter]
    loss_of: Callable[[Batch], Tensor]
    rate_share: float = 1.0


def from_teacher(pupil: Pupil, teacher: nn.Module, steps: Steps, rate_share: float) -> list[Phase]:
    """Match the outputs of exchanged mixers, then the teacher's logits, then the labels."""
    model, exchanged = pupil
    teacher.eval().requires_grad_(requires_grad=False)
    model.requires_grad_()  # in a copy of a teacher, parameters may be frozen
    places = [(teacher.get_submodule(n), model.get_submodule(n)) for n in exchanged]

    def outputs(batch: Batch) -> Tensor:
        calls, handles = [], []
        for mixer, _ in places:
            keep = lambda _, args, named, out: calls.append((args, named, _first(out)))  # noqa: E731
            handles.append(mixer.register_forward_hook(keep, with_kwargs=True))
        with torch.no_grad():
            teacher(batch.inputs, batch.positions)
        for handle in handles:
            handle.remove()
        errors = [
            (_first(mixer(*args, **named)) - wanted).square().mean() / wanted.square().mean()
            for (_, mixer), (args, named, wanted) in zip(places, calls, strict=True)
        ]
        return torch.stack(errors).mean()

    def logits(batch: Batch) -> Tensor:
        with torch.no_grad():
            wanted = log_softmax(teacher(batch.inputs, batch.positions).flatten(0, -2), dim=-1)
        mine = log_softmax(model(batch.inputs, batch.positions).flatten(0, -2), dim=-1)
        asked = batch.targets.flatten() != NO_ANSWER
        return kl_div(mine[asked], wanted[asked], reduction="batchmean", log_target=True)

    mixers = [p for _, mixer in places for p in mixer.parameters()]
    everything = [*model.parameters()]
    match, distil, tune = steps
    return [
        Phase(num_steps=match, parameters=mixers, loss_of=outputs),
        Phase(num_steps=distil, parameters=everything, loss_of=logits, rate_share=rate_share),
        replace(by_labels(model, tune), rate_share=rate_share),
    ]


def by_labels(model: nn.Module, num_steps: int) -> Phase:
    """Train a whole model by the cross entropy of the answers."""

    def loss(batch: Batch) -> Tensor:
        logits = model(batch.inputs, batch.positions)
        return cross_entropy(logits.flatten(0, -2), batch.targets.flatten())

    return Phase(num_steps=num_steps, parameters=[*model.parameters()], loss_of=loss)


def _first(output: Tensor | tuple[Tensor, ...]) -> Tensor:
    """A layer's output, which layers of Transformers return in a tuple with weights."""
    return output if isinstance(output, Tensor) else output[0]


def trained(
    model: nn.Module,
    task: Task,
    seed: int,
    phases: Sequence[Phase],
    rate: float,
    at: Sequence[int],
    say: Callable[[str], None],
) -> tuple[float, ...]:
    """Train a model on the batches of a seed; each phase has its own warm-up and cosine schedule.

    Returns:
        Its scores on the test set at some steps, of which the first is 0.

    Raises:
        Diverged: a loss or a prediction is not finite.
    """

    def score() -> float:
        say(f"step {step} of {at[-1]}")
        with seeded(step, "look"):
            return score_on_test_set(model, task, seed, torch.device("cpu"))

    step, batches = 0, task.batches(Split.TRAIN, seed)
    scores = [score()]
    with seeded(seed, "conversion"):
        for phase in phases:
            peak, num_steps = rate * phase.rate_share, max(phase.num_steps, 1)
            recipe = replace(task.recipe, num_steps=num_steps, learning_rate=peak)
            optimiser = torch.optim.AdamW(
                phase.parameters, lr=peak, weight_decay=recipe.weight_decay, fused=True
            )
            for own_step in range(1, phase.num_steps + 1):
                model.train()
                for group in optimiser.param_groups:
                    group["lr"] = learning_rate(recipe, own_step)
                loss = phase.loss_of(next(batches))
                if not math.isfinite(value := loss.item()):
                    raise Diverged(step + 1, value)
                optimiser.zero_grad()
                loss.backward()
                nn.utils.clip_grad_norm_(phase.parameters, recipe.max_grad_norm)
                optimiser.step()
                step += 1
                if step in at:
                    scores.append(score())
    return tuple(scores)
