"""Contracts of every task: golden examples, splits that share nothing, answers within range."""

import hashlib
from itertools import islice

import pytest
import torch

from bench.measuring.tasks.base import (
    NO_ANSWER,
    Batch,
    Recipe,
    Split,
    build_task,
    distinct,
    task_names,
)
from bench.measuring.tasks.generated import Generated, is_test, next_tokens
from tests.bench.measuring.tasks.small import SMALL, drawn, examples
from tests.digests import digest_of

FROM_FILES = {"cifar10", "fashion_mnist", "image_folder"}
GOLDEN = {
    "associative_recall": "ca69e0cd6296a5d6",
    "bytes": "05fd1d37cfd4e823",
    "canvas": "e298eb36b24e5d06",
    "copy": "145f233d17e8bce2",
    "digits": "b5add700c6b891be",
    "even_pairs": "f7ca77c71aff96c0",
    "induction": "f237ada600f28e5f",
    "listops": "589e9330cfb8bd1e",
    "mad_compression": "a0b6c8241ed0dfed",
    "mad_fuzzy_recall": "6a2a7cc19b775957",
    "mad_memorization": "62d19562f3fabfb8",
    "mad_noisy_recall": "21f039fbbb245235",
    "mad_recall": "9bb17daff0f337b3",
    "mad_selective_copy": "7b03ceaf13de3b8b",
    "mqar": "3e846aee8d6a2a03",
    "parity": "ac83b227e5d8f50e",
    "recall": "c044b7751ac63f5b",
    "reverse_string": "b3d5e0cbb3dd1c5a",
    "selective_copy": "88430fdf1a48e79d",
    "tile_recall": "3749f2f64fd37ebc",
    "word_problem": "e97ad27f97a1a4b5",
}


@pytest.mark.parametrize("name", sorted(SMALL))
def test_the_examples_of_a_seed_are_for_ever_the_same(name):
    # They follow from the seed alone: whoever changes them changes what published scores mean.
    torch.rand(7)
    assert digest_of(name, SMALL[name])[:16] == GOLDEN[name]


def test_no_task_is_left_out():
    ours = {name for name in task_names() if SMALL.keys() | FROM_FILES >= {name}}
    assert ours == SMALL.keys() | FROM_FILES


@pytest.mark.parametrize("name", sorted(SMALL))
def test_splits_share_nothing_and_the_test_set_is_that_of_every_seed(name):
    train = [*drawn(name, seed=1, count=20), *drawn(name, seed=2, count=20)]
    seen = {str(example[0]) for example in examples(train)}
    test = examples(drawn(name, Split.TEST, seed=1))
    assert test == examples(drawn(name, Split.TEST, seed=2))
    assert not seen & {str(example[0]) for example in test}


@pytest.mark.parametrize("name", sorted(SMALL))
def test_validation_shares_nothing_with_the_test_set_nor_with_training_where_that_is_fixed(
    name,
):
    task = build_task(name, SMALL[name])
    one, two = (examples(islice(task.validation(), 4)) for _ in range(2))
    assert one == two and len(one) >= 8
    shown = {str(example[0]) for example in one}
    assert not shown & {str(example[0]) for example in examples(drawn(name, Split.TEST))}
    # Of what is drawn, a small space may repeat an example; none is meant to come again.
    seen = {str(example[0]) for seed in (0, 1) for example in examples(drawn(name, seed=seed))}
    assert len(shown & seen) <= (0 if name in ("bytes", "canvas", "digits", "tile_recall") else 2)


@pytest.mark.parametrize("name", sorted(SMALL))
def test_answers_are_classes_and_are_read_inside_the_sequence(name):
    task = build_task(name, SMALL[name])
    assert task.chance() > 0 and (task.unit or task.chance() < 1)
    assert all(level > 0 for level in task.plateaus().values())
    for batch in (*drawn(name), *drawn(name, Split.TEST)):
        assert batch.inputs.shape[1] == task.seq_len
        asked = batch.targets[batch.targets != NO_ANSWER]
        assert 0 < len(asked) == batch.num_answers
        assert asked.min() >= 0 and asked.max() < task.num_classes
        if batch.positions is not None:
            assert batch.positions.min() >= 0 and batch.positions.max() < task.seq_len


CAUSAL = [n for n in sorted(SMALL) if n not in ("bytes", "canvas", "digits", "tile_recall")]


@pytest.mark.parametrize("name", [*CAUSAL, "bytes"])
def test_a_causal_model_never_sees_an_answer_before_it_gives_it(name, cell):
    from bench.measuring.tasks.model import build_model

    small = SMALL[name] | {"embed_dim": 8, "num_heads": 1, "num_layers": 1}
    always = name in ("bytes", "word_problem") or "mad" in name
    task = build_task(name, small if always else small | {"causal": True})
    batch = next(task.batches(Split.TRAIN, 0))
    model = build_model(task, "softmax", {}, 0).eval()
    at = torch.full((len(batch.inputs), 1), task.seq_len // 2)
    before = model(batch.inputs, at)
    inputs = batch.inputs.clone()
    inputs[:, task.seq_len // 2 + 1 :] = 0
    torch.testing.assert_close(model(inputs, at), before)


class Two(Generated):
    """Two possible examples."""

    vocab_size = num_classes = 2
    seq_len = 1
    name = "two"

    def draw(self, count, split, stream):
        tokens = torch.zeros(count, 1, dtype=torch.long)
        return Batch(inputs=tokens, targets=tokens, positions=tokens)


def test_settings_with_hardly_any_example_are_refused_and_not_waited_for():
    task = Two(Recipe(batch_size=4))
    split = Split.TRAIN if is_test(torch.zeros(1, 1, dtype=torch.long)) else Split.TEST
    with pytest.raises(ValueError, match=f"Hardly any example belongs to the {split} split"):
        next(task.batches(split, 0))


def test_what_is_not_asked_is_neither_scored_nor_counted():
    tokens = torch.tensor([[3, 1, 2, 0]])
    batch = next_tokens(tokens, torch.tensor([[True, True, False, True]]))
    assert batch.targets.tolist() == [[1, NO_ANSWER, 0]] and batch.num_answers == 2
    logits = torch.eye(4)[torch.tensor([[1, 2, 3]])]  # right, not asked, wrong
    assert build_task("recall", {}).score(logits, batch) == 0.5


@pytest.mark.parametrize(("size", "population"), [(1, 1), (3, 1000), (4, 4), (9, 10), (64, 4095)])
def test_distinct_numbers_are_distinct_and_every_one_is_as_likely(size, population):
    rows = distinct(2000, size, population, torch.Generator().manual_seed(0))
    assert rows.shape == (2000, size) and rows.min() >= 0 and rows.max() < population
    assert all(len(set(row)) == size for row in rows.tolist())
    means = rows.double().mean(dim=0)
    assert (means - (population - 1) / 2).abs().max() < 0.1 * population
    with pytest.raises(ValueError, match="different numbers"):
        distinct(1, population + 1, population, torch.Generator())


def test_the_frozen_text_is_the_one_described():
    from bench.measuring.tasks.bytes import TEXT

    found = hashlib.sha256(TEXT.read_bytes()).hexdigest()
    assert found in TEXT.with_name("README.md").read_text()
