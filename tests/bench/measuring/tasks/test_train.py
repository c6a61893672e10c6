"""Training: repeatable, honest about divergence, and able to tell mechanisms apart."""

import math
from dataclasses import replace

import pytest
import torch

from bench.measuring.tasks.base import Recipe, Split, build_task
from bench.measuring.tasks.train import Diverged, learning_rate, train

QUICK = {"num_steps": 12, "batch_size": 8, "embed_dim": 16, "num_heads": 2}
RECALL = QUICK | {"num_test_examples": 64}
SEEDS = range(3)


def test_the_same_cell_gives_the_same_numbers_bit_for_bit(cell):
    one = train(cell("softmax", "digits", **QUICK))
    torch.manual_seed(77)
    torch.rand(13)
    few = RECALL | {"num_steps": 2}
    train(cell("linear", "recall", seed=5, **few))  # whatever ran before in this process
    assert train(cell("softmax", "digits", **QUICK)) == one


def test_training_leaves_the_global_stream_as_it_was(cell):
    torch.manual_seed(5)
    expected = torch.rand(2)
    torch.manual_seed(5)
    train(cell("softmax", "recall", **RECALL))
    assert torch.equal(torch.rand(2), expected)


def test_answers_are_learned_in_training_mode_and_scored_in_evaluation_mode(cell, mechanism):
    modes = set()

    def forward(core, q, k, v):
        modes.add((core.training, torch.is_grad_enabled()))
        return v

    train(cell(mechanism("watching", forward), "recall", **RECALL))
    assert modes == {(True, True), (False, False)}


def test_the_result_says_what_was_scored_and_against_which_guess(cell):
    quality = train(cell("none", "recall", num_test_examples=1000, **QUICK))
    task = build_task("recall", {})
    assert 0 <= quality.accuracy <= 1
    assert (quality.chance, quality.guess) == (task.chance(), task.guess)
    assert quality.num_examples == 4000
    digits = train(cell("none", "digits", **QUICK))
    assert digits.num_examples == 540
    assert digits.num_parameters > 0


def test_accuracy_counts_every_answer_once(cell, monkeypatch):
    # The last of the test batches is smaller than the others and must not weigh more.
    task_class = type(build_task("recall", {}))
    sizes = []

    def score(self, logits, batch):
        sizes.append(len(batch.targets))
        return 1.0 if len(batch.targets) == 4 else 0.0

    monkeypatch.setattr(task_class, "score", score)
    quality = train(cell("none", "recall", num_test_examples=100, **QUICK))
    last = sizes.index(4)  # training examples, which are scored after the test set, come in eights
    assert sizes[last - 12 : last + 1] == [8] * 12 + [4]
    assert quality.accuracy == pytest.approx(4 / 100)


def test_a_run_ends_where_it_has_settled_and_says_so(cell, monkeypatch):
    quality = train(cell("none", "recall", **RECALL | {"num_steps": 200}))
    assert (quality.ended, quality.steps_to_90) == ("plateau", None)
    assert quality.num_steps == quality.validation_steps[-1] < 200
    assert quality.plateaus == {"one of the shown values": 0.25}
    assert quality.has_settled
    monkeypatch.setattr("bench.measuring.tasks.answers.error_of_score", lambda *_: 0.01)
    cut_off = train(cell("none", "recall", **RECALL | {"num_steps": 1}))
    assert (cut_off.ended, cut_off.num_steps, cut_off.has_settled) == ("maximum", 1, False)
    assert (cut_off.score_error, cut_off.validation_error) == (0.01, pytest.approx(0.0196))


def test_a_run_that_is_stuck_goes_on_where_a_control_has_settled(cell, mechanism, monkeypatch):
    monkeypatch.setattr("bench.measuring.tasks.train.NUM_ANSWERS", 256)  # 64 rise above chance
    settings = RECALL | {"num_steps": 120}
    stuck = train(cell(mechanism("copies", lambda core, q, k, v: v), "recall", **settings))
    assert (stuck.ended, stuck.num_steps) == ("maximum", 120)
    assert stuck.stuck_at == "chance" and not stuck.has_settled
    control = train(cell("none", "recall", **settings))
    assert control.ended == "plateau" and control.num_steps < 120
    assert control.validation == stuck.validation[: len(control.validation)]


def test_scoring_on_the_way_does_not_change_what_is_learned(cell, mechanism, monkeypatch):
    name = mechanism("noisy", lambda core, q, k, v: v + torch.randn_like(v))
    often = train(cell(name, "recall", **RECALL, patience=1))
    monkeypatch.setattr("bench.measuring.tasks.ending.NUM_LOOKS", 1)
    once = train(cell(name, "recall", **RECALL, patience=1))
    assert len(often.validation) == 12 and len(once.validation) == 1
    assert often.losses == once.losses and often.accuracy == once.accuracy


def test_the_test_set_has_no_say_in_when_a_run_ends_nor_in_how_it_is_judged_till_then(
    cell, monkeypatch
):
    few = QUICK | {"num_steps": 4, "num_test_examples": 64}
    few |= {"vocab_size": 10, "seq_len": 20, "num_pairs": 2}  # one in five is right by luck
    monkeypatch.setattr("bench.measuring.tasks.train.NUM_ANSWERS", 16)
    honest = train(cell("none", "recall", **few))
    task_class = type(build_task("recall", {}))
    batches = task_class.batches

    def mislabelled(self, split, seed):
        for batch in batches(self, split, seed):
            wrong = replace(batch, targets=batch.targets * 0)  # the filler, which is no answer
            yield wrong if split is Split.TEST else batch

    monkeypatch.setattr(task_class, "batches", mislabelled)
    fooled = train(cell("none", "recall", **few))
    assert fooled.accuracy == 0 < honest.accuracy
    of_the_test_set = ("accuracy", "score_error", "answers", "test_set")
    kept = {name: getattr(honest, name) for name in of_the_test_set}
    assert replace(fooled, **kept) == honest


@pytest.mark.parametrize("most", [0.01, 1e9])
def test_no_step_is_taken_along_a_longer_gradient_than_the_recipe_allows(cell, monkeypatch, most):
    lengths = []
    step = torch.optim.AdamW.step

    def watched(optimiser):
        gradients = [p.grad for group in optimiser.param_groups for p in group["params"]]
        lengths.append(torch.nn.utils.get_total_norm(gradients).item())
        return step(optimiser)

    monkeypatch.setattr(torch.optim.AdamW, "step", watched)
    few = QUICK | {"num_steps": 2, "num_test_examples": 16}
    train(cell("none", "recall", max_grad_norm=most, **few))
    assert len(lengths) == 2
    if most < 1:
        assert lengths == pytest.approx([most] * 2, rel=1e-3)
    else:
        assert min(lengths) > 0.1  # those within the bound are left as they are


def test_a_loss_that_is_not_a_number_ends_the_run(cell, mechanism):
    name = mechanism("nan", lambda core, q, k, v: v * math.nan)
    with pytest.raises(Diverged, match="step 1; the loss is nan") as caught:
        train(cell(name, "recall", **RECALL))
    assert caught.value.step == 1
    assert math.isnan(caught.value.loss)


@pytest.mark.parametrize(("num_steps", "step"), [(60, 2), (1, 1)], ids=["the next", "the last"])
def test_a_gradient_that_is_not_a_number_ends_the_run_at_the_next_step_if_there_is_one(
    cell, mechanism, num_steps, step
):
    # sqrt(0) is 0, and its gradient times the 0 of the factor is not a number.
    name = mechanism("nan_gradient", lambda core, q, k, v: v + (v - v).sqrt())
    with pytest.raises(Diverged) as caught:
        train(cell(name, "recall", **RECALL | {"num_steps": num_steps}))
    assert caught.value.step == step


def test_the_learning_rate_rises_to_its_peak_and_falls_to_nearly_nothing():
    recipe = Recipe(num_steps=100, learning_rate=0.5, warmup_share=0.1)
    rates = [learning_rate(recipe, step) for step in range(1, 101)]
    assert rates[0] == pytest.approx(0.05)
    assert rates[9] == rates[10] == max(rates) == 0.5
    assert rates[10:] == sorted(rates[10:], reverse=True)
    assert rates[55] == pytest.approx(0.25, rel=0.01)
    assert 0 < rates[-1] < 0.001


def test_a_small_model_learns_what_its_task_asks(cell):
    # Two pairs and few tokens, so that recall is learned within seconds.
    small = {"vocab_size": 10, "seq_len": 16, "num_pairs": 2, "num_test_examples": 200}
    recall = {"num_steps": 250, "embed_dim": 32, "num_heads": 2, "learning_rate": 0.01}
    assert train(cell("softmax", "recall", **small, **recall)).accuracy > 0.9
    assert train(cell("none", "recall", **small, **recall)).accuracy < 0.3  # chance is 0.2
    digits = train(cell("softmax", "digits", num_steps=120, embed_dim=32, num_heads=2))
    assert digits.accuracy > digits.chance + 0.3


@pytest.mark.slow
@pytest.mark.parametrize("seed", SEEDS)
def test_recall_tells_softmax_from_no_attention_at_any_seed(cell, seed):
    softmax = train(cell("softmax", "recall", seed=seed))
    none = train(cell("none", "recall", seed=seed))
    assert softmax.accuracy >= 0.95
    assert abs(none.accuracy - none.chance) <= 0.05


@pytest.mark.parametrize(
    ("task", "said"),
    [
        ("task_with_pairs_for_batches", "gives a tuple for its batches; each is a Batch"),
        ("task_with_nothing_for_batches", "gives a NoneType for its batches"),
        ("task_with_one_batch", "runs out of training batches before step 12"),
        ("task_with_fractions", r"has targets of dtype torch\.float32; whole numbers are needed"),
        ("task_with_more_targets", r"has targets of shape .* and positions of shape .*; both are"),
        ("task_with_fewer_inputs", r"has targets of \d+ examples and inputs of \d+; they are of"),
        ("task_with_few_classes", r"has targets from \d+ to \d+; its num_classes is 64, so"),
    ],
)
def test_batches_that_are_none_are_refused_in_words(cell, task, said):
    __import__("tests.misbehaving")
    with pytest.raises(ValueError, match=f"the task {task} {said}"):
        train(cell("softmax", task, **QUICK))
