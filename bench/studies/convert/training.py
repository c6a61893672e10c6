"""Train a conversion in three phases, and its control, with scores on unseen examples."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from itertools import accumulate

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, kl_div, log_softmax

from bench.measuring.tasks.base import NO_ANSWER, Batch, Split, Task, seeded
from bench.measuring.tasks.train import Diverged, learning_rate, score_on_test_set
from bench.studies.convert.models import Pupil

Phases = tuple[int, int, int]
"""Updates of matching, of distillation and of fine-tuning."""

NUM_LOOKS = 6
"""Number of evenly spaced scores of a curve, not counting the one before the first step."""


def looks(phases: Phases) -> tuple[int, ...]:
    """Steps at which a model is scored: evenly spaced from 0, and after each phase."""
    even = {round(i * sum(phases) / NUM_LOOKS) for i in range(NUM_LOOKS + 1)}
    return tuple(sorted({*even, *accumulate(phases)}))


def converted(
    pupil: Pupil,
    teacher: nn.Module,
    task: Task,
    phases: Phases,
    rate: float,
    rate_share: float,
    seed: int,
    say: Callable[[str], None],
) -> tuple[float, ...]:
    """Train an exchanged model by its teacher and then by labels.

    Returns:
        Its scores on the test set at `looks`.

    Raises:
        Diverged: a loss or a prediction is not finite.
    """
    teacher.eval().requires_grad_(requires_grad=False)
    pupil.model.requires_grad_()  # in a copy of a teacher, parameters may be frozen
    places = [(teacher.get_submodule(n), pupil.model.get_submodule(n)) for n in pupil.exchanged]
    own = [p for _, mixer in places for p in mixer.parameters()]
    everything = list(pupil.model.parameters())

    def outputs(batch: Batch) -> Tensor:
        calls, handles = [], []
        for mixer, _ in places:
            keep = lambda _, args, named, out: calls.append((args, named, first(out)))  # noqa: E731
            handles.append(mixer.register_forward_hook(keep, with_kwargs=True))
        with torch.no_grad():
            teacher(batch.inputs, batch.positions)
        for handle in handles:
            handle.remove()
        errors = [
            (first(mixer(*args, **named)) - wanted).square().mean() / wanted.square().mean()
            for (_, mixer), (args, named, wanted) in zip(places, calls, strict=True)
        ]
        return torch.stack(errors).mean()

    def logits(batch: Batch) -> Tensor:
        with torch.no_grad():
            wanted = log_softmax(teacher(batch.inputs, batch.positions).flatten(0, -2), dim=-1)
        mine = log_softmax(pupil.model(batch.inputs, batch.positions).flatten(0, -2), dim=-1)
        asked = batch.targets.flatten() != NO_ANSWER
        return kl_div(mine[asked], wanted[asked], reduction="batchmean", log_target=True)

    course = Course(pupil.model, task, seed, phases, say)
    with seeded(seed, "conversion"):
        course.train(own, phases[0], outputs, rate)
        course.train(everything, phases[1], logits, rate * rate_share)
        course.train(everything, phases[2], lambda b: labels(pupil.model, b), rate * rate_share)
    return tuple(course.scores)


def from_scratch(
    model: nn.Module,
    task: Task,
    phases: Phases,
    rate: float,
    seed: int,
    say: Callable[[str], None],
) -> tuple[float, ...]:
    """Train a model by labels alone on the same batches, in one phase of as many steps.

    Returns:
        Its scores on the test set at `looks`.

    Raises:
        Diverged: a loss or a prediction is not finite.
    """
    course = Course(model, task, seed, phases, say)
    with seeded(seed, "conversion"):
        course.train(list(model.parameters()), sum(phases), lambda b: labels(model, b), rate)
    return tuple(course.scores)


def labels(model: nn.Module, batch: Batch) -> Tensor:
    """Cross entropy of the answers."""
    logits = model(batch.inputs, batch.positions)
    return cross_entropy(logits.flatten(0, -2), batch.targets.flatten())


def first(output: Tensor | tuple[Tensor, ...]) -> Tensor:
    """A layer's output, which layers of Transformers return in a tuple with weights."""
    return output if isinstance(output, Tensor) else output[0]


class Course:
    """A model in training, over phases, on the batches of a seed; its scores on the test set."""

    def __init__(
        self, model: nn.Module, task: Task, seed: int, phases: Phases, say: Callable[[str], None]
    ) -> None:
        self.scores: list[float] = []
        self._model, self._task, self._seed, self._say = model, task, seed, say
        self._looks, self._step = looks(phases), 0
        self._batches = task.batches(Split.TRAIN, seed)
        self._look()

    def train(
        self,
        parameters: list[nn.Parameter],
        num_steps: int,
        loss_of: Callable[[Batch], Tensor],
        rate: float,
    ) -> None:
        """Train one phase, with its own warm-up and cosine schedule.

        Raises:
            Diverged: a loss is not finite.
        """
        recipe = replace(self._task.recipe, num_steps=max(num_steps, 1), learning_rate=rate)
        optimiser = torch.optim.AdamW(
            parameters, lr=rate, weight_decay=recipe.weight_decay, fused=True
        )
        for step in range(1, num_steps + 1):
            self._model.train()
            for group in optimiser.param_groups:
                group["lr"] = learning_rate(recipe, step)
            loss = loss_of(next(self._batches))
            if not math.isfinite(value := loss.item()):
                raise Diverged(self._step + 1, value)
            optimiser.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(parameters, recipe.max_grad_norm)
            optimiser.step()
            self._step += 1
            if self._step in self._looks:
                self._look()

    def _look(self) -> None:
        self._say(f"step {self._step} of {self._looks[-1]}")
        with seeded(self._step, "look"):
            scored = score_on_test_set(self._model, self._task, self._seed, torch.device("cpu"))
        self.scores.append(scored)
