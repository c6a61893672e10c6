"""Train a task's model around a mechanism and score it on unseen examples."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from itertools import islice
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from torch import nn
from torch.nn.functional import cross_entropy

from bench.core.cell import Cell
from bench.core.observed import CONTROLS
from bench.core.record import TRAINING_VERSION, Quality
from bench.measuring.device import Device, device_named
from bench.measuring.measure.kept import kept_share
from bench.measuring.tasks.answers import (
    NotFinite,
    Scored,
    digest_of,
    packed_bits,
    packed_losses,
    score_on,
    write_examples,
)
from bench.measuring.tasks.base import Batch, Recipe, Split, Task, build_task, seeded
from bench.measuring.tasks.batch import each_checked
from bench.measuring.tasks.checkpoint import (
    Checkpoint,
    model_state,
    restore_model,
)
from bench.measuring.tasks.ending import Curve
from bench.measuring.tasks.faults import first_not_finite, has_collapsed, leaks_future
from bench.measuring.tasks.longer import longer_models, state_bytes
from bench.measuring.tasks.match import flops_per_example, matched
from bench.measuring.tasks.model import Backbone, auxiliary_loss, build_model, projected_gates
from bench.measuring.tasks.token_filter import filtered_scores

Progress = Callable[[str, int, int, float, float | None], None]
"""Called with phase (``train`` or ``test``), steps done, the most there can be, and the latest loss
and validation score."""

NUM_REPORTS = 50
"""Points of the loss curve of a whole run that are reported and kept."""

NUM_ANSWERS, MIN_BATCHES, MAX_BATCHES = 1024, 4, 16
"""Validation goes on until it has so many answers, within these numbers of batches."""

NUM_TRAINED = 1024
"""The first examples of the training set, or of its stream, that a trained model is scored on."""

LEARNED = 0.9
"""The share of right answers whose first look is the record's ``steps_to_90``."""


class Diverged(Exception):
    """Training left the finite numbers; an outcome of the cell, not a mistake of the user."""

    def __init__(self, step: int, loss: float, where: str = "") -> None:
        seen = f", and first {where}" if where else ""
        words = f"training left the finite numbers at step {step}; the loss is {loss}{seen}"
        super().__init__(words)
        self.step = step
        self.loss = loss


def _say_nothing(phase: str, step: int, steps: int, loss: float, score: float | None) -> None:
    """Ignore the progress of a run that nobody watches."""


def _no_clock() -> float:
    return 0.0


def train(
    cell: Cell,
    progress: Progress | None = None,
    library: ModuleType | None = None,
    checkpoint: Checkpoint | None = None,
    now_s: Callable[[], float] | None = None,
    examples: Path | None = None,
) -> Quality:
    """Train `cell`'s mechanism on its task and score it.

    The seed covers initial weights, data and order, and nothing else is drawn upon: on the CPU
    with one thread the same cell gives the same losses and accuracy, bit for bit.

    It ends at its ceiling, at its plateau or at the recipe's maximum of steps, see `Curve.ended`;
    only the model that it ends with meets the test set. With a checkpoint it goes on from there,
    if there is one, and leaves one behind each look at validation examples. With a clock, the run
    is timed, with what was spent until the checkpoint, and the token filters that the cell names
    are scored and timed on the trained model. With a folder for examples, the first ones of the
    test set are written there.

    Raises:
        Diverged: a loss or a prediction is not finite.
        CheckpointRefused: the checkpoint is of another cell, or cannot be read.
        ValueError, TypeError: settings that the task or the mechanism refuses; no batches.
    """
    clock = now_s or _no_clock
    began_s = clock()
    workload, device = cell.task, device_named(cell.device)
    if workload.dtype != "float32":
        raise ValueError(f"dtype is {workload.dtype!r}; tasks train in float32.")
    cell, size = matched(cell, library)
    task = build_task(workload.task, cell.task.settings)
    report = progress or _say_nothing
    with seeded(workload.seed, "training", device):
        settings = cell.hyperparameters
        model = build_model(task, cell.mechanism, settings, workload.seed, library).to(device.place)
        is_control = cell.mechanism in CONTROLS
        run = fit(
            model,
            task,
            workload.seed,
            device,
            report,
            checkpoint,
            may_be_stuck=is_control,
            spent_s=lambda: clock() - began_s,
        )
        curve, num_steps = run.curve, run.curve.steps[-1]
        report("test", num_steps, curve.num_steps, run.losses[-1], curve.scores[-1])
        test = task.batches(Split.TEST, workload.seed)
        unseen = tuple(each_checked(test, task.name, task.num_classes))
        _refuse_none(unseen, task, "test")
        tested = _score(model, task, unseen, device.place, num_steps)
        with seeded(num_steps, "training examples", device):
            learned = _score(model, task, _trained(task, workload.seed), device.place, num_steps)
        test_set = digest_of(unseen)
        if examples is not None:
            write_examples(examples, test_set, task, unseen)
        collapsed = has_collapsed(model, unseen[0].map(lambda tensor: tensor.to(device.place)))
        is_leaky = leaks_future(model, task)
        first = unseen[0].map(lambda tensor: tensor.to(device.place))
        kept = kept_share(model, lambda: model(first.inputs, first.positions))
        longer = _longer(model, cell, library, num_steps)
        filtered: tuple[Any, ...] = ()
        if workload.token_filters and now_s is not None:
            wanted = workload.token_filters, workload.token_keep
            filtered = filtered_scores(model, task, *wanted, now_s)
    return Quality(
        accuracy=tested.score,
        chance=task.chance(),
        guess=task.guess,
        num_examples=tested.num_answers,
        num_parameters=sum(p.numel() for p in model.parameters()),
        losses=run.losses,
        train_s=run.earlier_s + clock() - began_s if now_s else None,
        unit=task.unit,
        gates=projected_gates(model),
        collapsed=collapsed,
        causal=task.causal,
        leaks_future=is_leaky,
        ended=curve.ended() or "",
        num_steps=num_steps,
        steps_to_90=None if task.unit else curve.steps_to(LEARNED),
        validation_steps=curve.steps,
        validation=curve.scores,
        validation_error=curve.error,
        train_accuracy=learned.score,
        score_error=tested.error,
        answers=packed_bits(tested.right),
        answers_per_cluster=tested.per_cluster,
        window_losses=packed_losses(tested.losses),
        rungs=task.answers_by_rung(unseen),
        rung_of=task.rung_of,
        test_set=test_set,
        plateaus=task.plateaus(),
        longer=longer,
        filtered=filtered,
        state_bytes=state_bytes(task, cell, library),
        kept_share=kept,
        flops=flops_per_example(task, model.mixers),
        matched=size,
    )


def fitted(cell: Cell, progress: Progress | None, checkpoint: Checkpoint) -> Backbone:
    """The model that `train` would score, in eval mode; kept beside its checkpoint once trained.

    Raises:
        As of `train`.
    """
    cell, _ = matched(cell)
    workload, device = cell.task, device_named(cell.device)
    task = build_task(workload.task, workload.settings)
    done = replace(checkpoint, path=checkpoint.path.with_suffix(".trained.pt"))
    report = progress or _say_nothing
    with seeded(workload.seed, "training", device):
        hyperparameters = cell.hyperparameters
        model = build_model(task, cell.mechanism, hyperparameters, workload.seed).to(device.place)
        saved = done.load(device.place)
        if saved is not None:
            restore_model(model, saved)
        else:
            fit(model, task, workload.seed, device, report, checkpoint)
            done.save(model_state(model))
            checkpoint.path.unlink(missing_ok=True)
    return model.eval()


def score_on_test_set(model: nn.Module, task: Task, seed: int, device: torch.device) -> float:
    """A model's score on the test set.

    Raises:
        Diverged: a prediction is not finite.
    """
    return _score(model, task, task.batches(Split.TEST, seed), device, 0).score


def score_on_validation(model: nn.Module, task: Task, device: torch.device) -> float:
    """A model's score on the validation examples that a rate is chosen by.

    Raises:
        Diverged: a prediction is not finite.
    """
    return _score(model, task, _validation_batches(task), device, 0).score


def _longer(
    model: nn.Module, cell: Cell, library: ModuleType | None, step: int
) -> dict[str, float]:
    """Scores on longer test examples by their length; none where the model cannot read them."""
    scores = {}
    for task, grown in longer_models(model, cell, library):
        batches = task.batches(Split.TEST, cell.task.seed)
        with suppress(Diverged):
            scored = _score(grown, task, batches, device_named(cell.device).place, step)
            scores[str(task.seq_len)] = scored.score
    return scores


@dataclass(frozen=True)
class _Run:
    """State of a run besides its model."""

    curve: Curve
    losses: tuple[float, ...]
    earlier_s: float
    """Seconds that it took until the checkpoint that it went on from."""


def fit(
    model: nn.Module,
    task: Task,
    seed: int,
    device: Device,
    report: Progress = _say_nothing,
    checkpoint: Checkpoint | None = None,
    *,
    may_be_stuck: bool = False,
    spent_s: Callable[[], float] = _no_clock,
) -> _Run:
    """Train a model by its task's recipe, in place.

    With `may_be_stuck`, a plateau at chance or at a partial solution ends the run as any other
    does: for controls, which cannot leave it. Checkpoints keep the sum of `spent_s`, the seconds
    since the run began or was resumed.

    Raises:
        Diverged, CheckpointRefused: as `train`.
    """
    recipe = task.recipe
    parameters = [p for p in model.parameters() if p.requires_grad]
    optimiser = torch.optim.AdamW(
        parameters, lr=recipe.learning_rate, weight_decay=recipe.weight_decay, fused=True
    )
    every = math.ceil(recipe.num_steps / NUM_REPORTS)
    losses: list[float] = []
    has_levels = not (may_be_stuck or task.unit or task.rungs)
    levels = {"chance": task.chance()} | task.plateaus() if has_levels else {}
    curve = Curve(
        recipe.num_steps,
        task.better,
        ceiling=task.ceiling,
        patience=recipe.patience,
        fallen_at=recipe.fallen_at if TRAINING_VERSION > 1 else 0,
        levels=levels,
    )
    held_out = _validation_batches(task)
    drawn = each_checked(task.batches(Split.TRAIN, seed), task.name, task.num_classes)
    batches: Iterator[Batch] = islice(drawn, recipe.num_steps)
    saved = checkpoint.load(device.place) if checkpoint else None
    earlier_s = 0.0
    if saved is not None:
        earlier_s = saved.get("spent_s", 0.0)
        curve = curve.through(saved["steps"], saved["scores"], saved["error"])
        losses = saved["losses"]
        batches = islice(batches, curve.steps[-1], None)  # drawn again: their streams are their own
        restore_model(model, saved["model"])
        optimiser.load_state_dict(saved["optimiser"])
        device.restore_streams(saved["streams"])
    model.train()
    for step, batch in enumerate(batches, 1 + (curve.steps[-1] if curve.steps else 0)):
        batch = batch.map(lambda tensor: tensor.to(device.place))
        for group in optimiser.param_groups:
            group["lr"] = learning_rate(recipe, step)
        modules: Iterator[Any] = model.modules()
        for core in modules:  # of random features, which none draws by itself
            steps = getattr(core, "redraw_interval", 0)
            if steps and step > 1 and (step - 1) % steps == 0:
                core.redraw()
        logits = model(batch.inputs, batch.positions)
        loss = cross_entropy(logits.flatten(0, -2), batch.targets.flatten())
        value = loss.item()
        if not math.isfinite(value):
            where = first_not_finite(model, partial(model, batch.inputs, batch.positions))
            raise Diverged(step, value, where)
        extra = auxiliary_loss(model)  # not of the task: curves do not show it
        optimiser.zero_grad()
        (loss if extra is None else loss + extra).backward()
        nn.utils.clip_grad_norm_(parameters, recipe.max_grad_norm)
        optimiser.step()
        if curve.is_due(step):
            with seeded(step, "validation", device):  # a mechanism that draws must not draw less
                scored = _score(model, task, held_out, device.place, step)
            curve = curve.after(step, scored.score, scored.half_width)
            model.train()
        if step % every == 0 or curve.ended():
            losses.append(value)
            latest = curve.scores[-1] if curve.scores else None
            report("train", step, recipe.num_steps, value, latest)
        if curve.ended():
            break
        if checkpoint is not None and curve.is_due(step):
            checkpoint.save(
                {
                    "steps": list(curve.steps),
                    "scores": list(curve.scores),
                    "error": curve.error,
                    "losses": losses,
                    "spent_s": earlier_s + spent_s(),
                    "model": model_state(model),
                    "optimiser": optimiser.state_dict(),
                    "streams": device.stream_state(),
                }
            )
    _refuse_none(curve.steps, task, "train")
    if not curve.ended():
        raise ValueError(
            f"the task {task.name} runs out of training batches before step {recipe.num_steps}; "
            "they are to go on without end"
        )
    return _Run(curve, tuple(losses), earlier_s)


def _refuse_none(found: Sequence[Any], task: Task, purpose: str) -> None:
    if not found:
        raise ValueError(f"the task {task.name} has no batches to {purpose} on")
    if isinstance(found[0], Batch) and not any(batch.num_answers for batch in found):
        raise ValueError(f"the task {task.name} asks nothing in its batches to {purpose} on")


def _validation_batches(task: Task) -> tuple[Batch, ...]:
    """Enough of them that a score says something, and few enough that scoring is cheap."""
    batches, num_answers = [], 0
    for batch in islice(each_checked(task.validation(), task.name, task.num_classes), MAX_BATCHES):
        batches.append(batch)
        num_answers += batch.num_answers
        if num_answers >= NUM_ANSWERS and len(batches) >= max(MIN_BATCHES, len(task.rungs)):
            break
    _refuse_none(batches, task, "validate")
    return tuple(batches)


def learning_rate(recipe: Recipe, step: int) -> float:
    """At step 1 … num_steps: a linear rise to the peak, then a half cosine that ends near 0."""
    warmup = recipe.warmup_share * recipe.num_steps
    if step <= warmup:
        return recipe.learning_rate * step / warmup
    progress = (step - 1 - warmup) / max(recipe.num_steps - warmup, 1)
    return recipe.learning_rate * 0.5 * (1 + math.cos(math.pi * max(progress, 0.0)))


def _trained(task: Task, seed: int) -> Iterator[Batch]:
    """The first `NUM_TRAINED` examples that a run with this seed is trained on, to be scored."""
    num_left = NUM_TRAINED
    for batch in task.batches(Split.TRAIN, seed):
        yield task.as_scored(batch.select(slice(num_left)))
        num_left -= len(batch.targets)
        if num_left <= 0:
            return


def _score(
    model: nn.Module, task: Task, batches: Iterable[Batch], device: torch.device, step: int
) -> Scored:
    try:
        return score_on(model, task, batches, device)
    except NotFinite as error:
        raise Diverged(step, math.nan, str(error)) from error
