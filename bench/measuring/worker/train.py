"""Training run of a task, with messages about its progress."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from bench.core.cell import Cell
from bench.core.cli.errors import ConfigError
from bench.core.clock import now_s
from bench.core.record import Status, unfit
from bench.measuring.worker.channel import Channel
from bench.measuring.worker.outcome import JobFailed
from bench.measuring.worker.request import Request, library_at
from bench.measuring.worker.results import TrainResult

if TYPE_CHECKING:
    from bench.measuring.tasks.checkpoint import Checkpoint


def train(request: Request, channel: Channel) -> TrainResult:
    """Train a cell.

    Raises:
        JobFailed: the loss became infinite or NaN, the score or the task is invalid, or a
            checkpoint is refused.
    """
    import torch

    from bench.measuring.tasks.base import build_task, why_no_task
    from bench.measuring.tasks.checkpoint import CheckpointRefused
    from bench.measuring.tasks.train import Diverged
    from bench.measuring.tasks.train import train as train_task

    cell = Cell.from_dict(request["cell"])
    torch.set_num_threads(cell.num_threads)
    if reason := why_no_task(build_task(cell.task.task, cell.task.settings)):
        raise JobFailed(Status.ERROR, reason)
    started = now_s()
    try:
        quality = train_task(
            cell,
            lambda *said: channel.send(progress=said),
            library_at(request.get("root")),
            _checkpoint(request, cell),
            now_s,
            Path(request["examples"]) if request.get("examples") else None,
        )
    except Diverged as error:
        raise JobFailed(Status.DIVERGED, str(error)) from error
    except (CheckpointRefused, ConfigError) as error:
        raise JobFailed(Status.ERROR, str(error)) from error
    if reason := unfit(quality):
        raise JobFailed(Status.ERROR, f"the task gave what no record can hold: {reason}")
    return TrainResult(**vars(quality), measured_s=now_s() - started)


def _checkpoint(request: Request, cell: Cell) -> Checkpoint | None:
    """The checkpoint that a request names, for its cell and source; None without one."""
    from bench.measuring.tasks.checkpoint import Checkpoint

    if (path := request.get("checkpoint")) is None:
        return None
    return Checkpoint(Path(path), of=cell.key, source=request["source"])
