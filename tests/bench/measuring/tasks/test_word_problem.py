"""Word problems: products of permutations, found again point by point, and what guesses score."""

from itertools import pairwise

import pytest
import torch

from bench.measuring.tasks.base import Split, build_task
from bench.measuring.tasks.train import train
from bench.measuring.tasks.word_problem import named_group
from tests.bench.measuring.tasks.small import drawn, examples

ORDERS = {"Z2": 2, "Z60": 60, "D4": 8, "S3": 6, "S5": 120, "A4": 12, "A5": 60, "S6": 720}
NUM_GENERATORS = {"Z2": 1, "Z60": 1, "D4": 2, "S3": 3, "S5": 10, "A4": 8, "A5": 20, "S6": 15}


@pytest.mark.parametrize("name", ORDERS)
def test_a_group_has_its_order_and_its_generating_set(name):
    group = named_group(name)
    assert group.order == ORDERS[name] and len(group.generators) == NUM_GENERATORS[name]
    elements = [tuple(row) for row in group.elements.tolist()]
    assert len(set(elements)) == group.order
    assert elements[0] == tuple(range(len(elements[0])))  # the identity
    assert 0 not in group.generators


@pytest.mark.parametrize("name", ["Z60", "D4", "S4", "A5"])
def test_products_are_one_permutation_after_the_other(name):
    group = named_group(name)
    elements = [tuple(row) for row in group.elements.tolist()]
    products = group.products(torch.arange(group.order)).tolist()
    for a in range(0, group.order, 7):
        for b, second in enumerate(elements):
            both = tuple(second[point] for point in elements[a])
            assert elements[products[a][b]] == both


@pytest.mark.parametrize("name", ["Z7", "D4", "S3", "A4"])
@pytest.mark.parametrize("split", Split)
@pytest.mark.parametrize("which", ["generators", "all"])
def test_each_answer_is_the_product_of_all_tokens_so_far(name, split, which):
    group = named_group(name)
    elements = [tuple(row) for row in group.elements.tolist()]
    meaning = [0, *(range(1, group.order) if which == "all" else group.generators)]
    shown = examples(drawn("word_problem", split, group=name, elements=which))
    for inputs, targets, places in shown:
        assert places == list(range(32))
        so_far = elements[0]
        for token, answer in zip(inputs, targets, strict=True):
            so_far = tuple(elements[meaning[token]][point] for point in so_far)
            assert elements[answer] == so_far
    assert {token for inputs, _, _ in shown for token in inputs} == set(range(len(meaning)))


def test_the_last_quarter_is_scored_and_everything_trained_on():
    own = {"num_test_examples": 64, "batch_size": 64}
    whole, late = (
        build_task("word_problem", own | {"scored": scored}) for scored in ("all", "last_quarter")
    )
    (every,), (last,) = whole.batches(Split.TEST, 0), late.batches(Split.TEST, 0)
    assert torch.equal(last.inputs, every.inputs)
    assert torch.equal(last.targets, every.targets[:, 24:])
    assert torch.equal(last.positions, every.positions[:, 24:])
    trained = next(late.batches(Split.TRAIN, 0))
    assert torch.equal(trained.targets, next(whole.batches(Split.TRAIN, 0)).targets)
    assert next(late.validation()).targets.shape == late.as_scored(trained).targets.shape == (64, 8)


@pytest.mark.parametrize("scored", ["all", "last_quarter"])
@pytest.mark.parametrize(("name", "which"), [("S3", "generators"), ("S4", "all"), ("Z5", "all")])
def test_chance_and_the_sign_are_what_such_guesses_score(name, which, scored):
    given = {"group": name, "elements": which, "scored": scored, "batch_size": 20_000}
    task = build_task("word_problem", given)
    batch = task.as_scored(next(task.batches(Split.TRAIN, 0)))
    right, right_by_sign = [], []
    is_odd = task.named.is_odd()
    for answers in batch.targets.unbind(dim=1):
        counts = answers.bincount(minlength=task.named.order)
        right.append(counts.max() / counts.sum())
        halves = [counts[is_odd == half].max() for half in (False, True) if (is_odd == half).any()]
        right_by_sign.append(sum(halves) / counts.sum())
    assert task.chance() == pytest.approx(float(torch.stack(right).mean()), abs=0.01)
    assert set(task.plateaus()) == ({"the sign of the permutation"} if name[0] == "S" else set())
    for level in task.plateaus().values():
        assert level == pytest.approx(float(torch.stack(right_by_sign).mean()), abs=0.01)


def test_a_model_is_scored_at_two_four_and_eight_times_its_length(cell):
    quick = {"seq_len": 6, "num_steps": 3, "batch_size": 8, "embed_dim": 16, "num_heads": 2}
    quality = train(cell("linear", "word_problem", num_test_examples=16, **quick))
    assert list(quality.longer) == ["12", "24", "48"]
    assert all(a < b for a, b in pairwise(map(int, quality.longer)))
