"""Train a task's model around a mechanism and score it on unseen examples."""

from __future__ import annotations

import math
from collections.abc import Callable
from itertools import islice
from types import ModuleType

import torch
from torch import nn
from torch.nn.functional import cross_entropy

from bench.cell import Cell
from bench.record import Quality
from bench.tasks.base import Recipe, Split, Task, build_task, seeded
from bench.tasks.collapse import has_collapsed
from bench.tasks.model import build_model, projected_gates

Progress = Callable[[str, int, int, float], None]
"""Called with phase (``train`` or ``test``), steps done, steps in all, and the latest loss."""

NUM_REPORTS = 50
"""Points of the loss curve that are reported and kept."""


class Diverged(Exception):
    """Training left the finite numbers; the cell's misfortune, not a mistake of the user."""

    def __init__(self, step: int, loss: float) -> None:
        super().__init__(f"training left the finite numbers at step {step}; the loss is {loss}")
        self.step = step
        self.loss = loss


def train(
    cell: Cell, progress: Progress | None = None, library: ModuleType | None = None
) -> Quality:
    """Train `cell`'s mechanism on its task and score it.

    The seed covers initial weights, data and order, and nothing else is drawn upon: on the CPU
    with one thread the same cell gives the same losses and accuracy, bit for bit.

    Raises:
        Diverged: a loss or a prediction is not finite.
        ValueError, TypeError: settings that the task or the mechanism refuses.
    """
    workload, device = cell.task, torch.device(cell.device)
    if workload.dtype != "float32":
        raise ValueError(f"dtype is {workload.dtype!r}; tasks train in float32.")
    task = build_task(workload.task, workload.settings)
    report = progress or (lambda phase, step, num_steps, loss: None)
    with seeded(workload.seed, "training", device):
        settings = cell.hyperparameters
        model = build_model(task, cell.mechanism, settings, workload.seed, library).to(device)
        losses = _fit(model, task, workload.seed, device, report)
        report("test", task.recipe.num_steps, task.recipe.num_steps, losses[-1])
        accuracy, num_answers = _test(model, task, workload.seed, device)
        unseen = next(task.batches(Split.TEST, workload.seed)).map(lambda x: x.to(device))
        collapsed = has_collapsed(model, unseen)
    return Quality(
        accuracy=accuracy,
        chance=task.chance(),
        guess=task.guess,
        num_examples=num_answers,
        num_parameters=sum(p.numel() for p in model.parameters()),
        losses=losses,
        unit=task.unit,
        gates=projected_gates(model),
        collapsed=collapsed,
    )


def _fit(
    model: nn.Module, task: Task, seed: int, device: torch.device, report: Progress
) -> tuple[float, ...]:
    recipe = task.recipe
    parameters = [p for p in model.parameters() if p.requires_grad]
    optimiser = torch.optim.AdamW(
        parameters, lr=recipe.learning_rate, weight_decay=recipe.weight_decay, fused=True
    )
    every = math.ceil(recipe.num_steps / NUM_REPORTS)
    losses = []
    model.train()
    for step, batch in enumerate(islice(task.batches(Split.TRAIN, seed), recipe.num_steps), 1):
        batch = batch.map(lambda tensor: tensor.to(device))
        for group in optimiser.param_groups:
            group["lr"] = learning_rate(recipe, step)
        logits = model(batch.inputs, batch.positions)
        loss = cross_entropy(logits.flatten(0, -2), batch.targets.flatten())
        value = loss.item()
        if not math.isfinite(value):
            raise Diverged(step, value)
        optimiser.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(parameters, recipe.max_grad_norm)
        optimiser.step()
        if step % every == 0 or step == recipe.num_steps:
            losses.append(value)
            report("train", step, recipe.num_steps, value)
    return tuple(losses)


def learning_rate(recipe: Recipe, step: int) -> float:
    """At step 1 … num_steps: a linear rise to the peak, then a half cosine that ends near 0."""
    warmup = recipe.warmup_share * recipe.num_steps
    if step <= warmup:
        return recipe.learning_rate * step / warmup
    progress = (step - 1 - warmup) / max(recipe.num_steps - warmup, 1)
    return recipe.learning_rate * 0.5 * (1 + math.cos(math.pi * max(progress, 0.0)))


@torch.no_grad()
def _test(model: nn.Module, task: Task, seed: int, device: torch.device) -> tuple[float, int]:
    """The mean score over all answers, and their number."""
    model.eval()
    total, num_answers = 0.0, 0
    for batch in task.batches(Split.TEST, seed):
        batch = batch.map(lambda tensor: tensor.to(device))
        logits = model(batch.inputs, batch.positions)
        if not logits.isfinite().all():
            raise Diverged(task.recipe.num_steps, math.nan)
        total += task.score(logits, batch) * batch.num_answers
        num_answers += batch.num_answers
    return total / num_answers, num_answers
