"""Training runs under way, as many at a time as there are cores: a score is not a timing."""

from __future__ import annotations

import select
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from bench.core.cell import Cell
from bench.core.clock import now_s, utc_now
from bench.core.examples import examples_folder
from bench.core.record import Status
from bench.measuring.device import device_named
from bench.measuring.machine.environment import Environment, source_of_training
from bench.measuring.sharing.devices import DeviceLock
from bench.measuring.tasks.base import task_class
from bench.measuring.worker.jobs import TICK_S, Jobs, outcome_of_death
from bench.measuring.worker.launch import Worker, WorkerDied
from bench.measuring.worker.outcome import Outcome
from bench.measuring.worker.results import TRAIN, TrainResult


@dataclass(frozen=True, kw_only=True)
class Training:
    """One run.

    Attributes:
        started_s: its start, by `now_s`.
        lock: lock on its device, shared with other trainings.
        first: steps and seconds until its first message; a resumed run does not begin at step 0.
    """

    cell: Cell
    started_s: float
    started_at: str
    lock: DeviceLock
    first: tuple[int, float] | None = None


class Trainings:
    """The runs of one sweep. A context manager that ends those under way.

    Interrupted runs are resumed from the checkpoints in `folder`.
    """

    def __init__(
        self,
        jobs: Jobs,
        environment: Environment,
        timeout_s: float,
        folder: Path,
        say: Callable[[str], None],
    ) -> None:
        self._jobs = jobs
        self._environment = environment
        self._timeout_s = timeout_s
        self._folder = folder
        self._say = say
        self._running: dict[Worker, Training] = {}

    def __enter__(self) -> Trainings:
        return self

    def __exit__(self, *_: object) -> None:
        for worker, training in self._running.items():
            worker.kill()
            training.lock.release()

    def __len__(self) -> int:
        return len(self._running)

    def has_room(self, cell: Cell) -> bool:
        """Whether a run may start: one per accelerator; on a CPU, as many threads as cores."""
        beside = [t.cell for t in self._running.values() if t.cell.device == cell.device]
        if not beside:
            return True
        if not device_named(cell.device).shares_cores:
            return False
        used = sum(other.num_threads for other in beside)
        return used + cell.num_threads <= self._environment.num_cores

    def start(self, cell: Cell, lock: DeviceLock) -> None:
        """Start a run whose device is locked; the lock is released at its end."""
        worker = self._jobs.server.spawn(
            job=TRAIN.name,
            plugins=cell.plugins,
            cell=cell.to_dict(),
            checkpoint=str(self.checkpoint(cell)),
            source=source_of_training(cell, self._environment),
            examples=str(examples_folder(self._folder.parent)),
        )
        self._running[worker] = Training(
            cell=cell, started_s=now_s(), started_at=utc_now(), lock=lock
        )

    def checkpoint(self, cell: Cell) -> Path:
        """File from which an interrupted run is resumed."""
        return self._folder / f"{cell.key}.pt"

    def ended(self) -> Iterator[tuple[Training, Outcome[Any]]]:
        """Runs that end within a tick, with their outcomes."""
        tick = now_s()
        ready = select.select(list(self._running), [], [], TICK_S)[0]
        if self._running:
            self._jobs.busy_s += now_s() - tick
        for worker in [w for w in self._running if w in ready or w.has_line]:
            outcome = self._hear(worker, self._running[worker])
            if outcome is not None:
                yield self._pop(worker), outcome

    def overdue(self) -> Iterator[tuple[Training, Outcome[Any]]]:
        """End the runs that exceed the timeout; yields them with their outcomes."""
        for worker, training in list(self._running.items()):
            passed_s = now_s() - training.started_s
            if passed_s > self._timeout_s:
                worker.kill()
                reason = f"training took longer than {self._timeout_s:g} s"
                late = Outcome[Any](status=Status.TIMED_OUT, reason=reason, wall_s=passed_s)
                yield self._pop(worker), late

    def _pop(self, worker: Worker) -> Training:
        training = self._running.pop(worker)
        training.lock.release()
        return training

    def _hear(self, worker: Worker, training: Training) -> Outcome[TrainResult] | None:
        try:
            message = worker.poll(0)
            if message is not None and "status" in message:
                worker.close()
        except WorkerDied as error:
            return replace(outcome_of_death(error, "training"), wall_s=now_s() - training.started_s)
        if message is None:
            return None
        passed_s = now_s() - training.started_s
        if "progress" in message:
            first = training.first or (message["progress"][1], passed_s)
            self._running[worker] = replace(training, first=first)
            unit = task_class(training.cell.task.task).unit
            words = training_words(message["progress"], passed_s, first, unit)
            self._say(f"{training.cell.describe()}: {words}")
        if "status" not in message:
            return None
        return Outcome.from_message(message, TrainResult, passed_s)


def training_words(
    progress: Sequence[Any],
    passed_s: float,
    first: tuple[int, float] = (0, 0.0),
    unit: str = "",
) -> str:
    """Words such as ``train 120/400, loss 0.512, validation 84.3, at most 14 s left``.

    `passed_s` counts from the run's beginning or resumption; `first` are steps and seconds at its
    first message, from which the time left is reckoned. A score without a `unit` is a share.
    """
    phase, step, num_steps, loss, score = progress
    words = [f"{phase} {step}/{num_steps}", f"loss {loss:.3f}"]
    if score is not None:
        words.append(f"validation {score:.3f} {unit}" if unit else f"validation {100 * score:.1f}")
    since, began_s = first
    if phase == "train" and step > since:
        each_s = (passed_s - began_s) / (step - since)
        words.append(f"at most {each_s * (num_steps - step):.0f} s left")
    return ", ".join(words)
