"""Each phase of a conversion: trained parameters, rate and target."""

from itertools import islice

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from bench.measuring.tasks.base import NO_ANSWER, Split, build_task
from bench.measuring.tasks.model import build_model
from bench.studies.convert import models
from bench.studies.convert.models import Phase, by_labels, from_teacher, trained

SMALL = {"causal": True, "seq_len": 24, "vocab_size": 10, "num_pairs": 2, "batch_size": 4}
TASK = build_task("recall", SMALL | {"num_layers": 2, "embed_dim": 16, "num_heads": 2})


def model(mechanism):
    return build_model(TASK, mechanism, {}, 0).eval()


def batch_of():
    (batch,) = islice(TASK.batches(Split.TRAIN, 0), 1)
    return batch


def test_layers_learn_then_all_by_the_teacher_and_by_labels_at_a_share_of_the_rate():
    teacher, pupil = model("softmax"), model("linear")
    phases = from_teacher((pupil, ["blocks.1.mixer"]), teacher, (1, 2, 3), 0.3)
    assert not any(p.requires_grad for p in teacher.parameters())
    everything = set(pupil.parameters())
    own = set(pupil.get_submodule("blocks.1.mixer").parameters())
    told = [(set(p.parameters), p.num_steps, p.rate_share) for p in phases]
    assert told == [(own, 1, 1.0), (everything, 2, 0.3), (everything, 3, 0.3)]
    control = by_labels(pupil, 6)
    assert (set(control.parameters), control.num_steps, control.rate_share) == (everything, 6, 1.0)


def test_a_phase_begins_at_its_share_of_the_rate_and_ends_near_0():
    (weight,) = held = [nn.Parameter(torch.zeros(()))]
    phases = [
        Phase(num_steps=2, parameters=held, loss_of=lambda _: weight * 1.0, rate_share=share)
        for share in (1.0, 0.5)
    ]
    moved, slopes = list[float](), list[float]()
    weight.register_post_accumulate_grad_hook(lambda one: slopes.append(one.grad.item()))
    one = build_task("recall", SMALL | {"warmup_share": 1.0, "weight_decay": 0.0})

    def look(*_):
        moved.append(weight.item())
        return 0.0

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(models, "score_on_test_set", look)
        trained(nn.Module(), one, 0, phases, 0.1, range(5), print)
    # Adam's steps under a constant gradient are the rate itself: a rise to the peak in each phase.
    assert np.diff(moved) == pytest.approx([-0.05, -0.1, -0.025, -0.05], rel=1e-3)
    assert slopes == [1.0] * 4, "no step takes the gradient of the one before"


def test_the_losses_are_errors_of_outputs_the_divergence_from_the_teacher_and_cross_entropy():
    teacher, pupil, batch = model("softmax"), model("linear"), batch_of()
    batch.targets[0, 0] = NO_ANSWER
    phases = from_teacher((pupil, ["blocks.0.mixer"]), teacher, (1, 1, 1), 0.3)
    matched, distilled, told = (phase.loss_of(batch) for phase in phases)

    inputs: list[Tensor] = []
    mixer = teacher.get_submodule("blocks.0.mixer")
    handle = mixer.register_forward_hook(lambda _, given, out: inputs.extend([given[0], out]))
    theirs = teacher(batch.inputs, batch.positions).flatten(0, -2).double()
    handle.remove()
    x, wanted = inputs
    ours = pupil.get_submodule("blocks.0.mixer")(x)
    torch.testing.assert_close(matched, ((ours - wanted) ** 2).sum() / (wanted**2).sum())

    mine = pupil(batch.inputs, batch.positions).flatten(0, -2).double()
    asked = batch.targets.flatten() != NO_ANSWER
    p, q = theirs.softmax(-1)[asked], mine.softmax(-1)[asked]
    divergence = (p * (p / q).log()).sum(dim=-1).mean()
    assert distilled.item() == pytest.approx(divergence.item(), rel=1e-3)
    right = q[torch.arange(len(q)), batch.targets.flatten()[asked]]
    assert told.item() == pytest.approx(-right.log().mean().item(), rel=1e-4)
