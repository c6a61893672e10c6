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


def test_a_mechanism_that_draws_noise_repeats_too(cell, mechanism):
    name = mechanism("noisy", lambda core, q, k, v: v + torch.randn_like(v))
    one = train(cell(name, "recall", **RECALL))
    torch.rand(13)
    assert train(cell(name, "recall", **RECALL)) == one


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


def test_a_trained_model_is_scored_on_the_first_examples_it_was_trained_on_and_no_more(
    cell, monkeypatch
):
    monkeypatch.setattr("bench.measuring.tasks.train.NUM_TRAINED", 12)
    task_class, seen = type(build_task("recall", {})), []
    score = task_class.score

    def watched(self, logits, batch):
        seen.append(batch.inputs.tolist())
        return score(self, logits, batch)

    monkeypatch.setattr(task_class, "score", watched)
    few = QUICK | {"num_steps": 2, "num_test_examples": 16}
    train(cell("none", "recall", seed=3, **few))
    stream = build_task("recall", {"batch_size": 8}).batches(Split.TRAIN, 3)
    first, second = (next(stream).inputs.tolist() for _ in range(2))
    at = seen.index(first)
    assert seen[at + 1] == second[:4]


def test_what_the_maps_of_gates_learn_by_is_added_to_the_loss_and_is_on_no_curve(cell, monkeypatch):
    step, missing = torch.optim.AdamW.step, []

    def watched(optimiser):
        group = optimiser.param_groups[0]["params"]
        missing.append(sum(p.grad is None for p in group))
        return step(optimiser)

    monkeypatch.setattr(torch.optim.AdamW, "step", watched)
    few = QUICK | {"num_steps": 1, "num_test_examples": 16, "causal": True}
    both = train(cell("dsa", "recall", **few))
    assert missing == [0]
    monkeypatch.setattr("bench.measuring.tasks.train.auxiliary_loss", lambda model: None)
    assert train(cell("dsa", "recall", **few)).losses == both.losses
    assert missing[1] > 0


def test_progress_is_reported_to_the_end_and_the_losses_are_kept(cell):
    reports = []
    settings = RECALL | {"num_steps": 130, "patience": 1}
    quality = train(cell("none", "recall", **settings), lambda *report: reports.append(report))
    assert [report[0] for report in reports] == ["train"] * (len(reports) - 1) + ["test"]
    steps = [report[1] for report in reports[:-1]]
    assert steps == [*range(3, 130, 3), 130]
    assert {report[2] for report in reports} == {130}
    assert quality.losses == tuple(report[3] for report in reports[:-1])
    assert reports[0][4] is None and reports[-1][4] == quality.validation[-1]


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


def test_from_the_next_training_version_on_no_plateau_ends_a_run_at_a_high_rate(cell, monkeypatch):
    settings = RECALL | {"num_steps": 120}
    early = train(cell("none", "recall", **settings))
    monkeypatch.setattr("bench.measuring.tasks.train.TRAINING_VERSION", 2)
    late = train(cell("none", "recall", **settings))
    recipe = build_task("recall", settings).recipe
    at_end = [learning_rate(recipe, r.num_steps) / recipe.learning_rate for r in (early, late)]
    assert early.ended == late.ended == "plateau" and at_end[0] > 0.5 and at_end[1] <= 0.1
    assert late.validation[: len(early.validation)] == early.validation


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


def test_the_optimiser_has_the_rate_of_each_step_and_the_decay_of_the_recipe(cell, monkeypatch):
    seen, step = [], torch.optim.AdamW.step

    def watched(optimiser):
        seen.append([(group["lr"], group["weight_decay"]) for group in optimiser.param_groups])
        return step(optimiser)

    monkeypatch.setattr(torch.optim.AdamW, "step", watched)
    few = QUICK | {"num_steps": 4, "num_test_examples": 16}
    train(cell("none", "recall", weight_decay=0.3, learning_rate=0.02, patience=1.0, **few))
    recipe = Recipe(num_steps=4, learning_rate=0.02)
    assert seen == [[(learning_rate(recipe, number), 0.3)] for number in range(1, 5)]


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


def test_tasks_train_in_float32_only(cell):
    with pytest.raises(ValueError, match="dtype is 'bfloat16'"):
        train(cell("softmax", "recall", dtype="bfloat16", **QUICK))


def test_the_learning_rate_rises_to_its_peak_and_falls_to_nearly_nothing():
    recipe = Recipe(num_steps=100, learning_rate=0.5, warmup_share=0.1)
    rates = [learning_rate(recipe, step) for step in range(1, 101)]
    assert rates[0] == pytest.approx(0.05)
    assert rates[9] == rates[10] == max(rates) == 0.5
    assert rates[10:] == sorted(rates[10:], reverse=True)
    assert rates[55] == pytest.approx(0.25, rel=0.01)
    assert 0 < rates[-1] < 0.001


@pytest.mark.parametrize("share", [0, 0.01, 0.5, 1])
@pytest.mark.parametrize("num_steps", [1, 2, 7])
def test_every_step_has_a_learning_rate_however_few_there_are(num_steps, share):
    recipe = Recipe(num_steps=num_steps, learning_rate=0.5, warmup_share=share)
    rates = [learning_rate(recipe, step) for step in range(1, num_steps + 1)]
    assert all(0 < rate <= 0.5 for rate in rates)


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


@pytest.mark.slow
@pytest.mark.parametrize("seed", SEEDS)
def test_digits_are_read_with_softmax_at_any_seed(cell, seed):
    assert train(cell("softmax", "digits", seed=seed)).accuracy >= 0.85


@pytest.mark.slow
def test_recall_needs_a_choice_and_not_only_mixing(cell):
    in_context = 1 / 4  # what naming any value of the example would score
    assert train(cell("uniform", "recall")).accuracy < in_context + 0.05
    assert train(cell("linear", "recall")).accuracy > 0.8


@pytest.mark.slow
@pytest.mark.parametrize(
    ("task", "settings", "least"),
    [
        ("recall", {"causal": True}, 0.95),
        ("copy", {}, 0.95),
        ("tile_recall", {}, 0.75),
        ("induction", {}, 0.95),
        ("associative_recall", {}, 0.95),
        ("selective_copy", {}, 0.8),
    ],
)
def test_tasks_tell_softmax_from_no_attention(cell, task, settings, least):
    none = train(cell("none", task, **settings))
    assert abs(none.accuracy - none.chance) <= 0.1
    assert train(cell("softmax", task, **settings)).accuracy >= least


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


def test_targets_of_the_test_set_that_no_model_can_give_are_refused_and_not_scored(
    cell, monkeypatch
):
    task_class = type(build_task("recall", {}))
    batches = task_class.batches

    def shifted(self, split, seed):
        for batch in batches(self, split, seed):
            by = self.num_classes if split is Split.TEST else 0
            yield replace(batch, targets=batch.targets + by)

    monkeypatch.setattr(task_class, "batches", shifted)
    with pytest.raises(ValueError, match=r"the task recall has targets from \d+ to .* are 0 to 63"):
        train(cell("none", "recall", **RECALL | {"num_steps": 1}))


def test_an_embedding_of_another_width_is_refused_in_words(cell):
    __import__("tests.misbehaving")
    with pytest.raises(ValueError, match=r"embedding gives tokens of width 17; embed_dim is 16"):
        train(cell("softmax", "task_with_a_wide_embedding", **QUICK))
