"""Handwritten digits: the data is what it says, and the split is fixed."""

import hashlib
import re
from itertools import islice

import pytest
import torch

from bench.measuring.tasks.base import Batch, Split, build_task
from bench.measuring.tasks.digits import CSV

SHA256 = "6ebb3d2fee246a4e99363262ddf8a00a3c41bee6014c373ed9d9216ba7f651b8"


@pytest.fixture(scope="module")
def task():
    return build_task("digits", {})


@pytest.fixture(scope="module")
def test_set(task):
    return whole(task.batches(Split.TEST, 0))


def whole(batches):
    inputs, targets = zip(*((batch.inputs, batch.targets) for batch in batches), strict=True)
    return Batch(inputs=torch.cat(inputs), targets=torch.cat(targets))


def epochs(task, seed, count):
    """The first `count` training images with their labels."""
    batches = islice(task.batches(Split.TRAIN, seed), -(-count // task.recipe.batch_size))
    return [row for batch in batches for row in images(batch)][:count]


def images(batch):
    pixels = ((batch.inputs.squeeze(-1) + 1) * 8).int().tolist()
    return [(*row, label) for row, label in zip(pixels, batch.targets.tolist(), strict=True)]


def lines():
    return [tuple(int(n) for n in line.split(",")) for line in CSV.read_text().splitlines()]


def test_the_file_is_the_one_that_scikit_learn_ships():
    assert hashlib.sha256(CSV.read_bytes()).hexdigest() == SHA256
    note = CSV.with_name("README.md").read_text()
    assert SHA256 in note
    licence = re.search(r"\((LICENSE\S+)\)", note)[1]
    assert "BSD 3-Clause" in CSV.with_name(licence).read_text()


NUM_HELD_OUT = (1797 - 540) // 8
NUM_TRAINED = 1797 - 540 - NUM_HELD_OUT


def test_every_image_is_in_one_split_and_unchanged(task, test_set):
    train = epochs(task, 0, NUM_TRAINED)
    validation = images(whole(task.validation()))
    assert len(validation) == NUM_HELD_OUT
    assert sorted(train + validation + images(test_set)) == sorted(lines())


def test_the_test_set_is_thirty_per_cent_of_every_digit_whatever_the_seed(task, test_set):
    assert len(test_set.targets) == 540
    totals = torch.tensor([row[-1] for row in lines()]).bincount()
    assert torch.all((test_set.targets.bincount() - 0.3 * totals).abs() < 1.1)
    other = whole(task.batches(Split.TEST, 5))
    assert torch.equal(other.inputs, test_set.inputs)
    assert torch.equal(other.targets, test_set.targets)


def test_an_epoch_shows_every_training_image_once_and_in_an_order_of_its_own(task):
    size = NUM_TRAINED
    two = epochs(task, 0, 2 * size)
    assert sorted(two[:size]) == sorted(two[size:])
    assert two[:size] != two[size:]
    assert epochs(task, 0, size) == two[:size]
    assert epochs(task, 1, size) != two[:size]


def test_chance_is_the_most_frequent_training_digit_among_the_test_images(task, test_set):
    train = [row[-1] for row in epochs(task, 0, 1797 - 540)]
    most_frequent = max(sorted(set(train)), key=train.count)
    right = test_set.targets.tolist().count(most_frequent)
    assert task.chance() == pytest.approx(right / 540)
    assert "most frequent" in task.guess
