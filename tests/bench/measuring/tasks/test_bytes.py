"""A language model of bytes: its windows, its bits, and texts that are too short."""

import math
import zlib
from itertools import pairwise

import pytest
import torch

from bench.measuring.tasks.base import Split, build_task


def test_windows_cover_the_last_tenth_and_ask_for_the_next_byte(tmp_path):
    path = tmp_path / "text"
    path.write_bytes(bytes(range(190)))  # the last 19 are three windows and the byte behind
    task = build_task("bytes", {"root": str(path), "context_len": 6, "batch_size": 2})
    test = [batch.inputs.tolist() for batch in task.batches(Split.TEST, 0)]
    assert test == [[list(range(171, 177)), list(range(177, 183))], [list(range(183, 189))]]
    batch = next(task.batches(Split.TRAIN, 0))
    assert torch.equal(batch.targets, batch.inputs + 1) and batch.targets.max() < 171
    assert batch.positions.tolist() == [list(range(6))] * 2
    assert task.files() == (path,)


def test_the_score_is_bits_per_byte():
    task = build_task("bytes", {"batch_size": 2, "context_len": 16})
    batch = next(task.batches(Split.TRAIN, 0))
    assert task.score(torch.zeros(2, 16, 256), batch) == pytest.approx(8)
    assert (task.better, task.unit) == ("lower", "bits per byte")
    sure = torch.nn.functional.one_hot(batch.targets, 256) * 100.0
    assert task.score(sure, batch) == pytest.approx(0, abs=1e-6)


def test_floors_are_what_frequencies_say(tmp_path):
    path = tmp_path / "text"
    path.write_bytes(b"ab" * 500)
    task = build_task("bytes", {"root": str(path), "context_len": 4})
    assert task.chance() == pytest.approx(math.log2((900 + 256) / 451))
    # "ab" 450 times and "ba" 449 times; an unseen pair is as likely as its second byte.
    test = b"ab" * 50
    alone = {byte: (450 * (byte in b"ab") + 1) / (900 + 256) for byte in range(256)}
    seen = {(97, 98): 450, (98, 97): 449}
    bits = [
        -math.log2((seen[one, other] + alone[other]) / (seen[one, other] + 1))
        for one, other in pairwise(test)
    ]
    levels = task.plateaus()
    assert levels["the byte before it"] == pytest.approx(sum(bits) / 99)
    assert levels["gzip"] == pytest.approx(8 * len(zlib.compress(test, 9)) / 100)


def test_the_end_of_the_training_text_validates_and_no_step_sees_it(tmp_path):
    path = tmp_path / "text"
    path.write_bytes(bytes(range(200)))  # 180 bytes to train and validate on, an eighth held out
    task = build_task("bytes", {"root": str(path), "context_len": 6, "batch_size": 5000})
    held_out = [row for batch in task.validation() for row in batch.inputs.tolist()]
    assert held_out == [[*range(158 + 6 * i, 164 + 6 * i)] for i in range(3)]
    batch = next(task.batches(Split.TRAIN, 0))
    assert (batch.inputs.min(), batch.targets.max()) == (0, 157)


@pytest.mark.parametrize(
    ("content", "message"),
    [(b"", "has 0 bytes; context_len=128 needs 1,290"), (b"short", "has 5 bytes; .* shorter con")],
)
def test_a_text_that_is_too_short_is_refused(tmp_path, content, message):
    path = tmp_path / "text"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=message):
        build_task("bytes", {"root": str(path)})
    with pytest.raises(ValueError, match="is a folder; a file is needed"):
        build_task("bytes", {"root": str(tmp_path)})
    with pytest.raises(ValueError, match="is not there; a file is needed"):
        build_task("bytes", {"root": str(tmp_path / "none")})
