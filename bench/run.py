"""Cells → records. Every planned cell ends as exactly one record, whatever happens to it.

Kernel cells of one shape form a block: mechanisms, eager or compiled. Each member is first tried
alone in a fresh worker, where a crash, a hang, a wrong result or too much memory harms nobody;
those that passed then share one worker, their references among them, and are timed in interleaved
rounds, because two processes running the same code differ by 10 to 20 % for as long as they live.
With ``measure.num_processes`` several workers take their share of the rounds one after another.
"""

from __future__ import annotations

import hashlib
import itertools
import select
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import replace
from operator import attrgetter
from pathlib import Path
from typing import Any, Protocol

from bench.cell import Cell
from bench.config import RunConfig, SweepConfig
from bench.costs.estimate import PLUGIN_TIMEOUT_S, is_foreign, needed_bytes
from bench.machine.environment import Environment, freshness
from bench.measure.clock import now_s, utc_now
from bench.measure.headroom import free_bytes
from bench.plan import PlannedCell, reference_cell, why_not
from bench.record import Quality, Record, Speed, Status
from bench.worker.block import Rounds, time_block
from bench.worker.jobs import TICK_S, Interrupted, Jobs, misfortune
from bench.worker.launch import Worker, WorkerDied
from bench.worker.outcome import Outcome
from bench.worker.results import (
    ESTIMATE,
    PROBE,
    TRAIN,
    TRIAL,
    TrainResult,
    TrialResult,
)


class Listener(Protocol):
    """Told what is going on, in a few words."""

    def say(self, words: str) -> None:
        """A detail that the next one replaces."""
        ...

    def announce(self, words: str) -> None:
        """A step of the sweep."""
        ...


RETRIED = (Status.TIMED_OUT, Status.CRASHED, Status.ERROR, Status.OUT_OF_MEMORY)
"""Ends that may have had their reason outside of the cell; they are tried again next time."""


Trial = tuple[Cell, Outcome[TrialResult]]
"""A cell, and what its trial observed."""


class Runner:
    """Runs a plan on one machine."""

    def __init__(
        self,
        config: SweepConfig,
        environment: Environment,
        jobs: Jobs,
        listener: Listener,
        sweep: str,
    ) -> None:
        self._config = config
        self._run: RunConfig = config.run
        self._stopping = config.measure
        self._environment = environment
        self._jobs = jobs
        self._listener = listener
        self._sweep = sweep

    def run(self, planned: Sequence[PlannedCell]) -> Iterator[Record]:
        """Records in an order that suits measuring; stops with `Interrupted` after a round."""
        for p in planned:
            if p.unsupported is not None:
                yield self._record(p.cell, Outcome(status=Status.SKIPPED, reason=p.unsupported))
        supported = [p.cell for p in planned if p.unsupported is None]
        kernels = [c for c in supported if not c.is_task]
        for _, block in itertools.groupby(sorted(kernels, key=_block_order(kernels)), _block):
            yield from self._run_block(list(block))
        yield from self._train([c for c in supported if c.is_task])

    # Kernel cells

    def _run_block(self, cells: list[Cell]) -> Iterator[Record]:
        started_at = utc_now()
        fitting = []
        for cell in cells:
            reason = self._why_too_large(cell)
            if reason is None:
                fitting.append(cell)
            else:
                yield self._record(cell, Outcome(status=Status.SKIPPED, reason=reason))
        trials: list[Trial] = []
        for cell in fitting:
            self._listener.say(f"trying {cell.describe()}")
            outcome = self._jobs.do(TRIAL, plugins=cell.plugins, cell=cell.to_dict())
            if outcome.is_ok:
                trials.append((cell, outcome))
            else:
                yield self._record(cell, outcome, started_at=started_at)
        if trials:
            failed = {cell.key for cell in cells} - {cell.key for cell, _ in trials}
            yield from self._time(trials, self._usable_references(trials, failed), started_at)

    def _why_too_large(self, cell: Cell) -> str | None:
        """As `why_too_large`; a plugin's code is run in a worker only, and not for long."""
        if not is_foreign(cell):
            return why_too_large(cell, needed_bytes(cell))
        jobs = Jobs(self._jobs.server, PLUGIN_TIMEOUT_S, self._jobs.interrupt)
        outcome = jobs.do(ESTIMATE, plugins=cell.plugins, cell=cell.to_dict())
        return why_too_large(cell, outcome.found.needed_bytes if outcome.is_ok else None)

    def _usable_references(self, trials: list[Trial], failed: set[str]) -> dict[str, Cell]:
        """The references that can run in this block, by key; members have been tried already."""
        wanted = [reference_cell(cell, self._config) for cell, _ in trials]
        members = {cell.key for cell, _ in trials}
        return {
            key: reference
            for key, reference in {cell.key: cell for cell in wanted}.items()
            if key in members or (key not in failed and self._can_run(reference))
        }

    def _can_run(self, reference: Cell) -> bool:
        if why_not(reference) is not None or self._why_too_large(reference) is not None:
            return False
        self._listener.say(f"trying the reference {reference.describe()}")
        flat = reference.to_dict()
        return self._jobs.do(PROBE, plugins=reference.plugins, cell=flat).is_ok

    def _time(
        self, trials: list[Trial], references: dict[str, Cell], started_at: str
    ) -> Iterator[Record]:
        members = [cell for cell, _ in trials]
        seed = int(members[0].block, 16) % 1_000_000
        self._listener.announce(
            f"timing {len(members)} at {members[0].describe().partition(' ')[2]}"
        )
        rounds = self._do_rounds(members, references, seed)
        is_noisy = rounds.outcome.is_ok and rounds.outcome.found.is_noisy
        if is_noisy and not self._jobs.interrupt.is_asked:
            with suppress(Interrupted):  # what was timed before is kept, noisy as it is
                again = self._do_rounds(members, references, seed)
                # Kept whichever was quieter; if it was noisy as well, the records say so.
                rounds = min(rounds, again, key=attrgetter("foreign_cores"))
        if not rounds.outcome.is_ok and len(members) > 1:
            # Somebody ended the shared worker: each again with its reference alone.
            for one in trials:
                yield from self._time([one], references, started_at)
            return
        if not rounds.outcome.is_ok and references:
            # It may have been the reference.
            yield from self._time(trials, {}, started_at)
            return
        for index in range(len(trials)):
            yield self._record_timed(trials, rounds, index, seed, started_at)
        if self._jobs.interrupt.is_asked:
            raise Interrupted

    def _record_timed(
        self, trials: list[Trial], rounds: Rounds, index: int, seed: int, started_at: str
    ) -> Record:
        """The record of one member, whatever became of the rounds."""
        cell, trial = trials[index]
        shared = rounds.outcome
        if not shared.is_ok:
            return self._record(cell, shared, started_at=started_at)
        wall_s = trial.wall_s + shared.wall_s / len(trials)
        wrong = shared.found.wrong[index]
        if wrong is not None:
            outcome: Outcome[Any] = Outcome(status=Status.INCORRECT, reason=wrong, wall_s=wall_s)
            return self._record(cell, outcome, started_at=started_at)
        reference = reference_cell(cell, self._config)
        speed = replace(
            _speed(trial, rounds, index, seed),
            reference=reference.entry,
            reference_key=reference.key,
        )
        cost = trial.measured_s + shared.measured_s / len(trials)
        timed = replace(trial, wall_s=wall_s)
        return self._record(cell, timed, result=speed, started_at=started_at, measured_s=cost)

    def _do_rounds(self, members: list[Cell], references: dict[str, Cell], seed: int) -> Rounds:
        """The members' columns come first; references that are no members have theirs behind."""
        wanted = [reference_cell(cell, self._config).key for cell in members]
        keys = [cell.key for cell in members]
        keys += [key for key in dict.fromkeys(wanted) if key in references and key not in keys]
        columns = [*members, *(references[key] for key in keys[len(members) :])]
        indices = [keys.index(key) if key in references else None for key in wanted]
        beside = [None] * (len(columns) - len(members))
        return time_block(
            self._jobs, columns, [*indices, *beside], self._stopping, seed, self._listener.say
        )

    # Task cells

    def _train(self, cells: list[Cell]) -> Iterator[Record]:
        """Training runs, as many at once as there are cores: a score is not a timing."""
        waiting = list(cells)
        running: dict[Worker, tuple[Cell, float, str]] = {}
        try:
            while waiting or running:
                while waiting and self._has_room(waiting[0], running):
                    cell = waiting.pop(0)
                    worker = self._jobs.server.spawn(
                        job=TRAIN.name,
                        plugins=cell.plugins,
                        cell=cell.to_dict(),
                        checkpoint=str(self._checkpoint(cell)),
                        freshness=freshness(cell, self._environment),
                    )
                    running[worker] = (cell, now_s(), utc_now())
                tick = now_s()
                ready = select.select(list(running), [], [], TICK_S)[0]
                self._jobs.busy_s += now_s() - tick
                for worker in [w for w in running if w in ready or w.has_line]:
                    outcome = self._hear_training(worker, *running[worker][:2])
                    if outcome is not None:
                        cell, _, started_at = running.pop(worker)
                        record = self._record(cell, outcome, started_at=started_at)
                        yield record
                        if is_measured(record):  # it is on the disk
                            self._checkpoint(cell).unlink(missing_ok=True)
                if self._jobs.interrupt.is_asked:  # after what has ended meanwhile was kept
                    raise Interrupted
                for worker in list(running):
                    cell, started, started_at = running[worker]
                    if now_s() - started > self._run.task_timeout_s:
                        del running[worker]
                        worker.kill()
                        reason = f"training took longer than {self._run.task_timeout_s:g} s"
                        outcome = Outcome(
                            status=Status.TIMED_OUT, reason=reason, wall_s=now_s() - started
                        )
                        yield self._record(cell, outcome, started_at=started_at)
        finally:
            for worker in running:
                worker.kill()

    def _checkpoint(self, cell: Cell) -> Path:
        """Where a run that was cut off goes on from."""
        return self._config.out / "checkpoints" / f"{cell.key}.pt"

    def _has_room(self, cell: Cell, running: dict[Worker, tuple[Cell, float, str]]) -> bool:
        """One at a time on an accelerator; on a CPU, one per core that it uses."""
        if not running:
            return True
        if cell.device != "cpu":
            return False
        used = sum(other.num_threads for other, _, _ in running.values())
        return used + cell.num_threads <= self._environment.num_cores

    def _hear_training(
        self, worker: Worker, cell: Cell, started: float
    ) -> Outcome[TrainResult] | None:
        try:
            message = worker.poll(0)
            if message is not None and "status" in message:
                worker.close()
        except WorkerDied as error:
            return replace(misfortune(error, "training"), wall_s=now_s() - started)
        if message is None:
            return None
        if "progress" in message:
            words = training_words(message["progress"], now_s() - started)
            self._listener.say(f"{cell.describe()}: {words}")
        if "status" not in message:
            return None
        return Outcome.from_message(message, TrainResult, now_s() - started)

    # Records

    def _record(
        self,
        cell: Cell,
        outcome: Outcome[Any],
        *,
        result: Speed | Quality | None = None,
        started_at: str | None = None,
        measured_s: float | None = None,
    ) -> Record:
        if isinstance(outcome.result, TrainResult):
            result = Quality(**outcome.result.observed(), train_s=outcome.wall_s)
        measured = outcome.measured_s if measured_s is None else measured_s
        return Record(
            cell=cell,
            status=outcome.status,
            reason=outcome.reason,
            result=result,
            detail=outcome.detail,
            environment=self._environment.to_dict(),
            freshness=freshness(cell, self._environment),
            started_at=started_at or utc_now(),
            cost_s={"measured": round(measured, 4), "total": round(outcome.wall_s, 4)},
            sweep=self._sweep,
        )


def _block(cell: Cell) -> str:
    return cell.block


def _block_order(cells: Sequence[Cell]) -> Callable[[Cell], int]:
    """Blocks in the order in which the plan first names them."""
    first: dict[str, int] = {}
    for index, cell in enumerate(cells):
        first.setdefault(cell.block, index)
    return lambda cell: first[cell.block]


def is_measured(record: Record) -> bool:
    """Whether a record settles its cell; what may have had outside reasons is tried again."""
    return record.status not in RETRIED


def training_words(progress: Sequence[Any], passed_s: float) -> str:
    """As ``train 120/400, loss 0.512, validation 84.3, at most 14 s left``.

    Args:
        progress: as `bench.tasks.train.Progress` is called.
        passed_s: since the run began.
    """
    phase, step, num_steps, loss, score = progress
    words = [f"{phase} {step}/{num_steps}", f"loss {loss:.3f}"]
    if score is not None:
        words.append(f"validation {100 * score:.1f}" if score <= 1 else f"validation {score:.3f}")
    if phase == "train" and step:
        words.append(f"at most {passed_s / step * (num_steps - step):.0f} s left")
    return ", ".join(words)


def why_too_large(cell: Cell, needed: int | None) -> str | None:
    """A sentence with the estimate, if a cell needs more memory than there is."""
    free = free_bytes(cell.device)
    if needed is None or needed <= free:
        return None
    return (
        f"needs about {needed / 2**30:,.1f} GiB by a dry run, and {free / 2**30:,.1f} GiB are "
        f"free on {cell.device}."
    )


def _speed(trial: Outcome[TrialResult], rounds: Rounds, column: int, seed: int) -> Speed:
    """What a trial and the rounds observed of one member."""
    shared = rounds.outcome.found
    numbers = tuple(range(len(rounds.samples)))
    yardstick = rounds.references[column]
    is_one_process = len(set(rounds.processes)) == 1
    return Speed(
        latency_s=tuple(samples[column] for samples in rounds.samples),
        rounds=numbers,
        processes=() if is_one_process else tuple(rounds.processes),
        rounds_key=hashlib.sha256(repr(rounds.samples).encode()).hexdigest()[:16],
        reference_latency_s=(
            () if yardstick is None else tuple(samples[yardstick] for samples in rounds.samples)
        ),
        reference_rounds=() if yardstick is None else numbers,
        calls_per_sample=shared.calls_per_sample[column],
        calls_per_set=shared.calls_per_set[column],
        cpu_per_wall=shared.cpu_per_wall[column],
        warmup_s=shared.warmup_s[column],
        order_seed=seed,
        stop_reason=shared.stop_reason,
        load=shared.load,
        is_noisy=shared.is_noisy,
        **trial.found.observed(),
    )
