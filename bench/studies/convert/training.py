"""Train a conversion in three phases, and its control, with scores on unseen examples."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import accumulate

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, kl_div, log_softmax

from bench.measuring.tasks.base import NO_ANSWER, Batch, Split, Task, seeded
from bench.measuring.tasks.train import Diverged, learning_rate, score_on_test_set
from bench.studies.convert.models import Pupil

Steps = tuple[int, int, int]
"""Updates of matching, of distillation and of fine-tuning."""

NUM_LOOKS = 6
"""Number of evenly spaced scores of a curve, not counting the one before the first step."""


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
    teacher.eval().requires_grad_(requires_grad=False)
    pupil.model.requires_grad_()  # in a copy of a teacher, parameters may be frozen
    places = [(teacher.get_submodule(n), pupil.model.get_submodule(n)) for n in pupil.exchanged]

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

    mixers = [p for _, mixer in places for p in mixer.parameters()]
    everything = [*pupil.model.parameters()]
    match, distil, tune = steps
    return [
        Phase(num_steps=match, parameters=mixers, loss_of=outputs),
        Phase(num_steps=distil, parameters=everything, loss_of=logits, rate_share=rate_share),
        replace(by_labels(pupil.model, tune), rate_share=rate_share),
    ]


def by_labels(model: nn.Module, num_steps: int) -> Phase:
    """Train a whole model by the cross entropy of the answers."""

    def loss(batch: Batch) -> Tensor:
        logits = model(batch.inputs, batch.positions)
        return cross_entropy(logits.flatten(0, -2), batch.targets.flatten())

    return Phase(num_steps=num_steps, parameters=[*model.parameters()], loss_of=loss)


def first(output: Tensor | tuple[Tensor, ...]) -> Tensor:
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
