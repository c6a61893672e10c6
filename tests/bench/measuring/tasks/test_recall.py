"""Associative recall: the labels are right, and the answers are where only mixing finds them."""

from itertools import islice

import pytest
import torch

from bench.measuring.tasks.base import Split, build_task
from bench.measuring.tasks.recall import FILLER

SMALL = {"vocab_size": 10, "seq_len": 20, "num_pairs": 2, "num_test_examples": 300}


def drawn(split=Split.TRAIN, seed=0, count=5, **settings):
    """Batches; of the test set all of them."""
    batches = build_task("recall", settings).batches(split, seed)
    return list(batches if split is Split.TEST else islice(batches, count))


def rows(batches):
    """Every example as one hashable row."""
    return [
        (tuple(inputs), tuple(positions), tuple(targets))
        for batch in batches
        for inputs, positions, targets in zip(
            batch.inputs.tolist(), batch.positions.tolist(), batch.targets.tolist(), strict=True
        )
    ]


@pytest.mark.parametrize("settings", [{}, SMALL, {"num_pairs": 13, "conv_width": 5}])
@pytest.mark.parametrize("split", Split)
def test_looking_up_the_pair_answers_every_query(split, settings):
    num_pairs = settings.get("num_pairs", 4)
    for inputs, positions, targets in rows(drawn(split, **settings)):
        shown = inputs[: 2 * num_pairs]
        value_of = dict(zip(shown[0::2], shown[1::2], strict=True))
        assert [value_of[inputs[position]] for position in positions] == list(targets)


@pytest.mark.parametrize("settings", [{}, SMALL])
@pytest.mark.parametrize("split", Split)
def test_answers_are_values_and_inputs_from_the_queries_on_hold_none(split, settings):
    vocab_size, num_pairs = settings.get("vocab_size", 64), settings.get("num_pairs", 4)
    for inputs, positions, targets in rows(drawn(split, **settings)):
        keys = inputs[: 2 * num_pairs : 2]
        assert len(set(keys)) == len(set(targets)) == len(set(positions)) == num_pairs
        assert all(0 < key < vocab_size // 2 for key in keys)
        assert all(vocab_size // 2 <= value < vocab_size for value in targets)
        rest = inputs[2 * num_pairs :]
        assert sorted(rest) == sorted([*keys, *[FILLER] * (len(rest) - num_pairs)])


@pytest.mark.parametrize("settings", [{}, {"num_layers": 4, "conv_width": 7}])
def test_queries_lie_beyond_the_reach_of_the_convolutions(settings):
    task = build_task("recall", settings)
    nearest = min(int(batch.positions.min()) for batch in drawn(count=50, **settings))
    last_value = 2 * task.num_pairs - 1
    assert nearest == last_value + task.recipe.reach + 1


def test_chance_is_one_value_token_of_all():
    task = build_task("recall", {})
    assert task.chance() == 1 / 32
    answers = torch.cat([batch.targets.flatten() for batch in drawn(Split.TEST)])
    shares = answers.bincount(minlength=64) / len(answers)
    assert shares[:32].sum() == 0
    assert shares[32:].max() < 2 / 32  # no value is a better guess than the others by much
    assert "value" in task.guess


def test_the_smallest_sequence_and_vocabulary_are_as_the_messages_say():
    assert drawn(vocab_size=10, num_pairs=4)
    with pytest.raises(ValueError, match=r"vocab_size is 9, .* num_pairs=4; 10 or more"):
        build_task("recall", {"vocab_size": 9})
    assert drawn(Split.TEST, seq_len=21)
    with pytest.raises(ValueError, match=r"seq_len is 20; num_pairs=4 .* needs 21 or more"):
        build_task("recall", {"seq_len": 20})
