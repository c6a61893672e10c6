"""Checkpoints: a run that was killed goes on to the same end, to the bit; others are refused."""

import multiprocessing
import os
import signal
from dataclasses import replace

import pytest
import torch

from bench.measuring.tasks.checkpoint import (
    Checkpoint,
    CheckpointRefused,
)
from bench.measuring.tasks.train import train

CPU = torch.device("cpu")
QUICK = {"num_steps": 24, "batch_size": 8, "embed_dim": 16, "num_heads": 2, "learning_rate": 0.01}
QUICK |= {"patience": 1, "num_test_examples": 64}  # no plateau ends these runs


def _be_killed_at(cell, path, step):
    """Train in this process until a step, and be killed there, as by kill -9."""

    def report(phase, at, *rest):
        if at == step:
            os.kill(os.getpid(), signal.SIGKILL)

    train(cell, report, checkpoint=Checkpoint(path, of=cell.key))


# Another projection for performer is drawn in the middle of the run.
@pytest.mark.parametrize(
    ("name", "settings"), [("performer", {"redraw_interval": 7}), ("noisy", {})]
)
def test_a_run_that_was_killed_goes_on_to_the_same_end_to_the_bit(
    name, settings, cell, mechanism, tmp_path
):
    if name == "noisy":
        mechanism(name, lambda core, q, k, v: v + torch.randn_like(v))
    asked = replace(cell(name, "recall", **QUICK), hyperparameters=settings)
    whole = train(asked)
    path = tmp_path / "checkpoints" / "one.pt"
    child = multiprocessing.get_context("fork").Process(
        target=_be_killed_at, args=(asked, path, 15)
    )
    child.start()
    child.join()
    assert child.exitcode == -signal.SIGKILL
    assert [p.name for p in path.parent.iterdir()] == ["one.pt"]
    steps = []
    rest = train(
        asked, lambda phase, step, *_: steps.append(step), checkpoint=Checkpoint(path, of=asked.key)
    )
    assert steps[0] == 15  # the one before it was through
    assert rest == whole


def test_a_resumed_run_took_the_time_until_its_checkpoint_as_well(cell, tmp_path):
    asked = cell("none", "recall", **QUICK)
    path = tmp_path / "checkpoints" / "one.pt"
    now = [0.0]

    def leg(begins_s, first, until=None):
        def report(phase, at, *rest):
            now[0] = begins_s + at - first  # a step a second
            if at == until:
                raise KeyboardInterrupt

        now[0] = begins_s
        checkpoint = Checkpoint(path, of=asked.key)
        return train(asked, report, checkpoint=checkpoint, now_s=lambda: now[0])

    for begins_s, first, until in ((0.0, 0, 8), (100.0, 6, 15)):
        with pytest.raises(KeyboardInterrupt):
            leg(begins_s, first, until)
    assert leg(200.0, 14).train_s == 24.0
    assert train(asked).train_s is None  # without a clock


def test_a_checkpoint_of_another_configuration_is_refused(cell, tmp_path):
    one, other = (cell("none", "recall", seed=seed, **QUICK) for seed in (0, 1))
    path = tmp_path / "one.pt"
    train(one, checkpoint=Checkpoint(path, of=one.key))
    with pytest.raises(CheckpointRefused, match=f"another configuration, {one.key}, .*Delete it"):
        train(other, checkpoint=Checkpoint(path, of=other.key))


def test_what_other_code_left_behind_is_begun_anew(tmp_path):
    path = tmp_path / "one.pt"
    Checkpoint(path, of="cell", source="old").save({"steps": [3]})
    assert Checkpoint(path, of="cell", source="old").load(CPU) == {"steps": [3]}
    assert Checkpoint(path, of="cell", source="new").load(CPU) is None
    assert Checkpoint(tmp_path / "none.pt", of="cell").load(CPU) is None


class Malicious:
    """Contents of a file of another origin."""

    def __reduce__(self):
        return os._exit, (3,)


@pytest.mark.parametrize("content", ["nothing", "noise", "code", "another dictionary"])
def test_what_is_no_checkpoint_is_refused_and_runs_nothing(content, tmp_path):
    path = tmp_path / "one.pt"
    if content == "code":
        torch.save({"of": "cell", "source": "", "state": Malicious()}, path)
    elif content == "another dictionary":
        torch.save({"weights": torch.zeros(3)}, path)
    else:
        path.write_bytes(b"" if content == "nothing" else os.urandom(999))
    with pytest.raises(CheckpointRefused, match=r"one\.pt cannot be read .*Delete it"):
        Checkpoint(path, of="cell").load(CPU)


def test_whoever_is_killed_while_saving_leaves_the_one_before(tmp_path, monkeypatch):
    checkpoint = Checkpoint(tmp_path / "one.pt", of="cell")
    checkpoint.save({"steps": [1]})

    def torn(content, file):
        file.write(b"half")
        raise KeyboardInterrupt

    monkeypatch.setattr(torch, "save", torn)
    with pytest.raises(KeyboardInterrupt):
        checkpoint.save({"steps": [2]})
    assert checkpoint.load(CPU) == {"steps": [1]}
