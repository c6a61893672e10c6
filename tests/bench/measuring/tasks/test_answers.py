"""Scores, what they are made of, and the digest of the examples that they rest on."""

import base64
import json
import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from bench.core.answers import losses_of_examples, right_answers
from bench.core.examples import examples_folder, read_examples
from bench.measuring.tasks.answers import (
    NUM_SHOWN,
    NotFinite,
    digest_of,
    packed_bits,
    packed_losses,
    score_on,
    write_examples,
)
from bench.measuring.tasks.base import NO_ANSWER, Batch, Split, build_task
from bench.measuring.tasks.bytes import TEXT
from bench.measuring.tasks.train import train
from bench.validate import why_not_its_answers
from tests import records as made
from tests.bench.measuring.tasks.small import SMALL, drawn

CPU = torch.device("cpu")
QUICK = {"num_steps": 4, "batch_size": 8, "embed_dim": 16, "num_heads": 2}


class Says(torch.nn.Module):
    """A model whose answers are prescribed, batch by batch."""

    def __init__(self, task, answers):
        super().__init__()
        self.num_classes = task.num_classes
        self.answers = iter(answers)

    def forward(self, inputs, positions):
        said = next(self.answers).clamp(min=0)
        return torch.nn.functional.one_hot(said, self.num_classes).float()


def scored(right, sizes=(5, 3)):
    """`score_on` of a recall task with (8, 4) answers of which some are right."""
    task = build_task("recall", SMALL["recall"])
    whole = Batch.join(list(task.batches(Split.TEST, 0)))
    batches, starts = [], np.cumsum([0, *sizes])
    for start, size in zip(starts, sizes, strict=False):
        batches.append(whole.select(slice(int(start), int(start) + size)))
    said = [
        torch.where(own, batch.targets, (batch.targets + 1) % task.num_classes)
        for own, batch in zip(right.split(list(sizes)), batches, strict=True)
    ]
    return score_on(Says(task, said), task, batches, CPU)


RIGHT = torch.tensor([[1, 1, 1, 1], [1, 0, 1, 1], [0, 0, 0, 0], [1, 1, 1, 1]] * 2, dtype=torch.bool)


def test_answers_are_kept_in_the_order_of_the_test_set():
    found = scored(RIGHT)
    assert torch.equal(found.right, RIGHT.flatten())
    assert (found.num_answers, found.per_cluster, found.losses) == (32, 4, None)
    assert found.score == pytest.approx(RIGHT.double().mean().item())
    assert torch.equal(scored(RIGHT, (8,)).right, found.right)


def test_the_error_is_that_of_examples_and_not_of_answers():
    found = scored(RIGHT)
    shares = RIGHT.double().mean(dim=1)
    assert found.error == pytest.approx(shares.std().item() / math.sqrt(8))
    naive = RIGHT.double().std().item() / math.sqrt(32)
    assert found.error > 1.5 * naive
    assert found.half_width == pytest.approx(1.96 * found.error)


def test_answers_to_one_key_are_one_cluster_however_they_are_spread():
    # Every other key is known: that error is four times as large as if examples were clusters.
    task = build_task("mad_memorization", SMALL["mad_memorization"])
    [batch] = [Batch.join(list(task.batches(Split.TEST, 0)))]
    keys = task.clusters(batch)
    is_known = keys % 2 == 0
    said = torch.where(is_known, batch.targets, (batch.targets + 1) % task.num_classes)
    found = score_on(Says(task, [said]), task, [batch], CPU)
    assert found.per_cluster is None
    asked = batch.targets != NO_ANSWER
    sums = {}
    for key, right in zip(keys[asked].tolist(), is_known[asked].tolist(), strict=True):
        count, total = sums.get(key, (0, 0))
        sums[key] = (count + 1, total + right)
    counts, totals = np.array(list(sums.values()), dtype=float).T
    residuals = totals - counts * totals.sum() / counts.sum()
    groups = len(counts)
    expected = math.sqrt(groups / (groups - 1) * (residuals**2).sum()) / counts.sum()
    assert found.error == pytest.approx(expected)
    # As many answers to each of two keys, but in turn: no number of them in a row is a cluster.
    row = batch.select(slice(1)).map(lambda x: x[:, : x.shape[1] // 8].repeat(1, 2))
    assert len(task.clusters(row).unique()) == 2
    assert score_on(Says(task, [row.targets]), task, [row], CPU).per_cluster is None


def test_a_prediction_that_is_no_number_is_no_answer():
    task = build_task("recall", SMALL["recall"])
    [batch, *_] = drawn("recall", Split.TEST)

    class Lost(torch.nn.Module):
        def forward(self, inputs, positions):
            return torch.full((*positions.shape, task.num_classes), math.nan)

    with pytest.raises(NotFinite):
        score_on(Lost(), task, [batch], CPU)


@pytest.mark.parametrize("count", [1, 8, 13, 4096])
def test_bits_and_losses_come_out_as_they_went_in(count):
    draw = torch.Generator().manual_seed(count)
    right = torch.rand(count, generator=draw) < 0.6
    assert np.array_equal(right_answers(packed_bits(right), count), right.numpy())
    losses = torch.rand(count, generator=draw, dtype=torch.float64) * 8
    unpacked = losses_of_examples(packed_losses(losses), count)
    assert np.array_equal(unpacked, losses.numpy().astype(np.float16).astype(float))
    assert packed_bits(None) == packed_losses(None) == ""


@pytest.mark.parametrize("task", ["recall", "mqar", "digits", "bytes", "mad_memorization"])
def test_what_a_training_keeps_gives_its_score_and_error(cell, task, tmp_path):
    (tmp_path / "text").write_bytes(TEXT.read_bytes()[:10_000])
    few = {
        "bytes": {"root": str(tmp_path / "text"), "context_len": 64},
        "recall": {"vocab_size": 10, "seq_len": 16, "num_pairs": 2},
    }
    asked = cell("softmax", task, **SMALL.get(task, {}) | few.get(task, {}) | QUICK)
    quality = train(asked)
    assert bool(quality.answers) != bool(quality.window_losses)
    assert quality.score_error is not None and quality.train_accuracy is not None
    assert quality.score_error > 0 or quality.accuracy == 0
    record = made.ok_record(asked, quality)
    assert why_not_its_answers(record) is None
    assert why_not_its_answers(made.changed(record, accuracy=quality.accuracy + 0.05))


def test_the_digest_is_the_same_twice_and_another_for_another_answer():
    batches = drawn("recall", Split.TEST)
    first = digest_of(batches)
    assert digest_of(drawn("recall", Split.TEST)) == first and len(first) == 16
    assert digest_of(drawn("recall", Split.TEST, seed=5)) == first  # one test set for all seeds
    last = batches[-1]
    for name in ("inputs", "targets", "positions"):
        changed = getattr(last, name).clone()
        changed[-1, -1] += 1
        assert digest_of([*batches[:-1], replace(last, **{name: changed})]) != first


def test_the_last_bit_of_a_pixel_is_no_other_test_set():
    [batch, *rest] = drawn("digits", Split.TEST)
    first = digest_of([batch, *rest])
    off = replace(batch, inputs=batch.inputs * (1 + 1e-7))
    assert digest_of([off, *rest]) == first
    brighter = batch.inputs.clone()
    brighter[0, 0, 0] += 1 / 16
    assert digest_of([replace(batch, inputs=brighter), *rest]) != first


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
