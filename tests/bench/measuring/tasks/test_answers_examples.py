"""The first examples of a test set: written once, and read again as they were asked."""

import base64
import json

import numpy as np
import pytest
import torch

from bench.core.examples import examples_folder, read_examples
from bench.measuring.tasks.answers import NUM_SHOWN, digest_of, write_examples
from bench.measuring.tasks.base import NO_ANSWER, Batch, Split, build_task
from bench.measuring.tasks.train import train
from tests.bench.measuring.tasks.small import SMALL, drawn

QUICK = {"num_steps": 4, "batch_size": 8, "embed_dim": 16, "num_heads": 2}


def written(folder, name, **settings):
    batches = drawn(name, Split.TEST, **settings)
    task = build_task(name, SMALL.get(name, {}) | settings)
    return Batch.join(batches), write_examples(folder, digest_of(batches), task, batches)


@pytest.mark.parametrize("name", sorted(SMALL))
def test_what_is_written_of_a_task_is_its_first_examples(name, tmp_path):
    whole, file = written(tmp_path, name)
    found = read_examples(file)
    assert found.task == name and found.num_examples == min(NUM_SHOWN, len(whole.targets))
    first = whole.select(slice(NUM_SHOWN))
    assert found.targets == first.targets.tolist()
    assert (
        found.num_asked
        == (first.targets != NO_ANSWER).reshape(len(first.targets), -1).sum(dim=1).tolist()
    )
    if first.positions is not None:
        assert found.positions == first.positions.tolist()
    if not first.inputs.is_floating_point():
        assert found.inputs == first.inputs.tolist()


def test_pixels_come_back_within_half_a_step(tmp_path):
    whole, file = written(tmp_path, "digits")
    inputs = read_examples(file).inputs
    levels = np.frombuffer(base64.b64decode(inputs["uint8_base64"]), dtype=np.uint8)
    step = (inputs["high"] - inputs["low"]) / 255
    pixels = torch.from_numpy(levels.astype(np.float32) * step + inputs["low"])
    expected = whole.inputs[:NUM_SHOWN]
    assert inputs["shape"] == list(expected.shape)
    difference = (pixels.reshape(expected.shape) - expected).abs().max().item()
    assert difference <= step / 2 + 2e-4  # the extremes are rounded to four digits


def test_a_training_writes_the_file_that_its_record_names(cell, tmp_path):
    folder = examples_folder(tmp_path)
    quality = train(cell("softmax", "recall", num_test_examples=32, **QUICK), examples=folder)
    [file] = folder.iterdir()
    assert file.name == f"{quality.test_set}.json"
    assert json.loads(file.read_text())["num_examples"] == read_examples(file).num_examples == 32
    before = file.stat().st_mtime_ns
    other = train(cell("linear", "recall", num_test_examples=32, seed=1, **QUICK), examples=folder)
    assert other.test_set == quality.test_set
    assert [path.stat().st_mtime_ns for path in folder.iterdir()] == [before]
