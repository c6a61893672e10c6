"""What each phase of a conversion trains, at what rate, and towards what."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from bench.measuring.tasks.base import NO_ANSWER, Batch, Split, build_task
from bench.measuring.tasks.model import build_model
from bench.studies.convert import training
from bench.studies.convert.models import Pupil
from bench.studies.convert.training import converted, from_scratch

SMALL = {"causal": True, "seq_len": 24, "vocab_size": 10, "num_pairs": 2, "batch_size": 4}
TASK = build_task("recall", SMALL | {"num_layers": 2, "embed_dim": 16, "num_heads": 2})


@dataclass
class Course:
    """Keeps what it is told to train, and trains nothing."""

    phases: list[tuple[set[nn.Parameter], int, float]] = field(default_factory=list)
    losses: list[Callable[[Batch], Tensor]] = field(default_factory=list)
    scores: tuple[float, ...] = (0.25, 0.5)

    def __call__(self, *_: Any) -> Course:
        return self

    def train(
        self,
        parameters: list[nn.Parameter],
        num_steps: int,
        loss_of: Callable[[Batch], Tensor],
        rate_share: float = 1.0,
    ) -> None:
        self.phases.append((set(parameters), num_steps, rate_share))
        self.losses.append(loss_of)


@pytest.fixture
def course(monkeypatch: pytest.MonkeyPatch) -> Course:
    found = Course()
    monkeypatch.setattr(training, "Course", found)
    return found


def model(mechanism: str) -> nn.Module:
    return build_model(TASK, mechanism, {}, 0).eval()


def batch_of() -> Batch:
    (batch,) = islice(TASK.batches(Split.TRAIN, 0), 1)
    return batch


def test_layers_learn_then_all_by_the_teacher_and_by_labels_at_a_share_of_the_rate(
    course: Course,
) -> None:
    teacher, pupil = model("softmax"), Pupil(model=model("linear"), exchanged=("blocks.1.mixer",))
    said = converted(pupil, teacher, TASK, (1, 2, 3), 0.3, 0, print)
    assert said == (0.25, 0.5) and not any(p.requires_grad for p in teacher.parameters())
    everything = set(pupil.model.parameters())
    own = set(pupil.model.get_submodule("blocks.1.mixer").parameters())
    assert course.phases == [(own, 1, 1.0), (everything, 2, 0.3), (everything, 3, 0.3)]
    course.phases.clear()
    assert from_scratch(pupil.model, TASK, (1, 2, 3), 0, print) == (0.25, 0.5)
    assert course.phases == [(everything, 6, 1.0)]


def test_the_losses_are_errors_of_outputs_the_divergence_from_the_teacher_and_cross_entropy(
    course: Course,
) -> None:
    teacher, pupil, batch = (
        model("softmax"),
        Pupil(model=model("linear"), exchanged=("blocks.0.mixer",)),
        batch_of(),
    )
    converted(pupil, teacher, TASK, (1, 1, 1), 0.3, 0, print)
    matched, distilled, told = (loss(batch) for loss in course.losses)

    inputs: list[Tensor] = []
    mixer = teacher.get_submodule("blocks.0.mixer")
    handle = mixer.register_forward_hook(lambda _, given, out: inputs.extend([given[0], out]))
    theirs = teacher(batch.inputs, batch.positions).flatten(0, -2).double()
    handle.remove()
    x, wanted = inputs
    ours = pupil.model.get_submodule("blocks.0.mixer")(x)
    torch.testing.assert_close(matched, ((ours - wanted) ** 2).sum() / (wanted**2).sum())

    mine = pupil.model(batch.inputs, batch.positions).flatten(0, -2).double()
    asked = batch.targets.flatten() != NO_ANSWER
    p, q = theirs.softmax(-1)[asked], mine.softmax(-1)[asked]
    divergence = (p * (p / q).log()).sum(dim=-1).mean()
    assert distilled.item() == pytest.approx(divergence.item(), rel=1e-3)
    right = q[torch.arange(len(q)), batch.targets.flatten()[asked]]
    assert told.item() == pytest.approx(-right.log().mean().item(), rel=1e-4)
