"""A language model of bytes: its windows, its bits, and texts that are too short."""

import math

import pytest
import torch

from bench.measuring.tasks.base import Split, build_task


def test_windows_cover_the_last_tenth_and_ask_for_the_next_byte(tmp_path):
    path = tmp_path / "text"
    path.write_bytes(bytes(range(200)))
    task = build_task("bytes", {"root": str(path), "context_len": 6, "batch_size": 2})
    test = [batch.inputs.tolist() for batch in task.batches(Split.TEST, 0)]
    assert test == [[list(range(180, 186)), list(range(186, 192))], [list(range(192, 198))]]
    batch = next(task.batches(Split.TRAIN, 0))
    assert torch.equal(batch.targets, batch.inputs + 1) and batch.targets.max() < 180
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
    assert task.plateaus()["the byte before it"] < 0.02


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
