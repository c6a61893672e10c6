"""Cells → records. Every planned cell ends as exactly one record, whatever happens to it.

Kernel cells of one shape form a block: mechanisms, eager or compiled. Each member is first tried
alone in a fresh worker, where a crash, a hang, a wrong result or too much memory harms nobody;
those that passed then share one worker, their references among them, and are timed in interleaved
rounds, because two processes running the same code can differ by 10 to 20 % for as long as they
live. With ``measure.num_processes`` several workers take their share of the rounds one after
another.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator, Sequence
from contextlib import ExitStack, suppress
from copy import copy
from dataclasses import replace
from operator import attrgetter
from typing import Any, Protocol

from bench.core.cell import Cell
from bench.core.clock import utc_now
from bench.core.grouping import grouped
from bench.core.record import TRAINING_VERSION, Quality, Record, Speed, Status
from bench.measuring.building import is_foreign
from bench.measuring.config import RunConfig, SweepConfig
from bench.measuring.costs.estimate import PLUGIN_TIMEOUT_S, needed_bytes, why_too_large
from bench.measuring.device import device_named
from bench.measuring.machine.environment import Environment, freshness
from bench.measuring.plan import PlannedCell, reference_cell
from bench.measuring.sharing.devices import DeviceLock, alone_on
from bench.measuring.sharing.side_by_side import side_by_side
from bench.measuring.sharing.work import Unit, Work, blocks, in_order, name_of, name_of_skips
from bench.measuring.support import why_not
from bench.measuring.worker.block import Rounds, time_block
from bench.measuring.worker.jobs import Interrupted, Jobs
from bench.measuring.worker.launch import WorkerServer
from bench.measuring.worker.outcome import Outcome
from bench.measuring.worker.results import ESTIMATE, PROBE, TRIAL, TrainResult, TrialResult
from bench.measuring.worker.roofs import Roofs
from bench.measuring.worker.training import Training, Trainings


class Listener(Protocol):
    """Receives short messages about progress."""

    def say(self, words: str) -> None:
        """Show a detail, until the next one replaces it."""
        ...

    def announce(self, words: str) -> None:
        """Show a step of the sweep."""
        ...


RETRIED = (Status.TIMED_OUT, Status.CRASHED, Status.ERROR, Status.OUT_OF_MEMORY)
"""Statuses whose cause may lie outside the cell; such cells are tried again next time."""

_WAIT_S = 1.0
"""Seconds between two checks for leases and records of other sweeps."""

Trial = tuple[Cell, Outcome[TrialResult]]
"""A cell and the outcome of its trial."""


Records = Generator[Record, None, list[Unit]]
"""Generator of records as they are made; returns the units that other sweeps hold."""


class Runner:
    """Runs a plan on one machine.

    `work` shares the cells with other sweeps; without it, all are measured here. `roofs` measures
    ceilings of the machine beside each block.
    """

    def __init__(
        self,
        config: SweepConfig,
        environment: Environment,
        jobs: Jobs,
        listener: Listener,
        sweep: str,
        work: Work | None = None,
        roofs: Roofs | None = None,
    ) -> None:
        self._config = config
        self._run: RunConfig = config.run
        self._stopping = config.measure
        self._environment = environment
        self._jobs = jobs
        self._listener = listener
        self._sweep = sweep
        self._work = work or Work()
        self._roofs = roofs

    def run(self, planned: Sequence[PlannedCell]) -> Iterator[Record]:
        """Measure a plan and yield its records, in the order in which they are made.

        Ends when each cell has a record, of this sweep or of another one. When a stop is requested,
        a block that is being timed is recorded before `Interrupted`.

        Raises:
            Interrupted: a stop was requested; a block that is being timed is recorded before.
        """
        unsupported = [p for p in planned if p.unsupported is not None]
        supported = [p.cell for p in planned if p.unsupported is None]
        timed = blocks([cell for cell in supported if not cell.is_task])
        trainings = [[cell] for cell in supported if cell.is_task]
        while unsupported or timed or trainings:
            unsupported = yield from self._skip(unsupported)
            timed = yield from self._time_blocks(timed)
            trainings = yield from self._train(trainings)
            self._wait_for([p.cell for p in unsupported], timed + trainings)

    def _wait_for(self, skips: list[Cell], held: list[Unit]) -> None:
        """Wait a little for work that other sweeps hold."""
        names = [name_of(cells, self._environment) for cells in held if self._work.left(cells)]
        if self._work.left(skips):
            names.append(name_of_skips(skips, self._environment))
        if names:
            self._listener.say(f"waiting for {self._work.holders(names)}")
            self._jobs.interrupt.pause(_WAIT_S)

    def _in_order(self, units: list[Unit]) -> list[Unit]:
        across = self._work.is_across_machines
        return in_order(units, self._stopping, is_across_machines=across)

    def _skip(self, planned: list[PlannedCell]) -> Generator[Record, None, list[PlannedCell]]:
        """Record the cells that cannot be measured; returns them if another sweep does so now."""
        cells = [p.cell for p in planned]
        if not self._work.left(cells):
            return []
        reasons = {p.cell.entry + p.cell.key: p.unsupported for p in planned}
        name = name_of_skips(cells, self._environment)
        left = self._work.acquire(name, cells, "what cannot be measured")
        if left is None:
            return planned
        try:
            for cell in left:
                reason = reasons[cell.entry + cell.key]
                yield self._record(cell, Outcome(status=Status.SKIPPED, reason=reason))
        finally:
            if left:
                self._work.release(name)
        return []

    # Kernel cells

    def _time_blocks(self, units: list[Unit]) -> Records:
        """Time the blocks of accelerators at the same time, a worker each; then the CPU's."""
        of_device = grouped(units, lambda block: block[0].device)
        accelerators = [name for name in of_device if not device_named(name).shares_cores]
        held: list[Unit] = []
        if len(accelerators) > 1:
            each = [self._beside_others(of_device.pop(device)) for device in accelerators]
            held += yield from side_by_side(each)
        for on_one in of_device.values():
            held += yield from self._one_by_one(on_one)
        return held

    def _beside_others(self, units: list[Unit]) -> Records:
        """Time the blocks of one device by a runner with a worker server of its own."""
        with WorkerServer(self._run.allocator) as server:
            jobs = Jobs(server, self._jobs.timeout_s, self._jobs.interrupt)
            runner = copy(self)
            runner._jobs = jobs
            try:
                return (yield from runner._one_by_one(units))
            finally:
                self._jobs.busy_s = max(self._jobs.busy_s, jobs.busy_s)

    def _one_by_one(self, units: list[Unit]) -> Records:
        held = []
        for block in self._in_order(units):
            if not self._work.left(block):
                continue
            name = name_of(block, self._environment)
            words = f"{len(block)} at {block[0].describe().partition(' ')[2]}"
            pause, tell = self._jobs.interrupt.pause, self._listener.announce
            with alone_on(block[0].device, pause, tell, store=self._config.out):
                cells = self._work.acquire(name, block, words)
                if cells is None:
                    held.append(block)
                elif cells:
                    try:
                        yield from self._run_block(cells)
                    finally:
                        self._work.release(name)
        return held

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
            reference = reference_cell(cell, self._config)
            flat = reference.to_dict() if why_not(reference) is None else None
            outcome = self._jobs.do(
                TRIAL, plugins=cell.plugins, cell=cell.to_dict(), reference=flat
            )
            if outcome.is_ok:
                trials.append((cell, outcome))
            else:
                yield self._record(cell, outcome, started_at=started_at)
        if trials:
            if self._roofs is not None:
                self._listener.say("looking at what this machine does at best")
                self._roofs.look(self._jobs, [cell for cell, _ in trials])
            failed = {cell.key for cell in cells} - {cell.key for cell, _ in trials}
            yield from self._time(trials, self._usable_references(trials, failed), started_at)

    def _why_too_large(self, cell: Cell) -> str | None:
        """As `why_too_large`; a plugin's code runs in a worker only, under a short timeout."""
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
            with suppress(Interrupted):  # then the noisy rounds are kept
                again = self._do_rounds(members, references, seed)
                # Keep the quieter rounds; if they are noisy as well, the records say so.
                rounds = min(rounds, again, key=attrgetter("disturbance"))
        if not rounds.outcome.is_ok and len(members) > 1:
            # Some member ended the shared worker: time each again, alone with its reference.
            for one in trials:
                yield from self._time([one], references, started_at)
            return
        if not rounds.outcome.is_ok and references:
            # The reference may have ended the worker: time the member without it.
            yield from self._time(trials, {}, started_at)
            return
        # A plugin may have made others in its process wrong.
        has_plugins = rounds.outcome.is_ok and any(map(is_foreign, members))
        for index, cell in enumerate(members):
            if has_plugins and rounds.outcome.found.wrong[index] and not is_foreign(cell):
                yield from self._time([trials[index]], references, started_at)
            else:
                yield self._record_timed(trials, rounds, index, seed, started_at)
        if self._jobs.interrupt.is_asked:
            raise Interrupted

    def _record_timed(
        self, trials: list[Trial], rounds: Rounds, index: int, seed: int, started_at: str
    ) -> Record:
        """Record of one member after the rounds, also if these failed."""
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
            rounds.speed(index, trial.found, seed),
            reference=reference.entry,
            reference_key=reference.key,
            ceiling=None if self._roofs is None else self._roofs.of(cell),
        )
        cost = trial.measured_s + shared.measured_s / len(trials)
        timed = replace(trial, wall_s=wall_s)
        return self._record(cell, timed, result=speed, started_at=started_at, measured_s=cost)

    def _do_rounds(self, members: list[Cell], references: dict[str, Cell], seed: int) -> Rounds:
        """Time members and references; columns of references that are no members come last."""
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

    def _train(self, waiting: list[Unit]) -> Records:
        held: list[Unit] = []
        waiting = self._in_order(waiting)
        folder = self._config.out / "checkpoints"
        with Trainings(
            self._jobs, self._environment, self._run.task_timeout_s, folder, self._listener.say
        ) as trainings:
            while waiting or len(trainings):
                while waiting and trainings.has_room(waiting[0][0]):
                    if not self._start_one(waiting, held, trainings):
                        break
                yield from self._finish(trainings, trainings.ended())
                if self._jobs.interrupt.is_asked:  # only once the runs that ended are recorded
                    raise Interrupted
                yield from self._finish(trainings, trainings.overdue())
        return held

    def _start_one(self, waiting: list[Unit], held: list[Unit], trainings: Trainings) -> bool:
        """Start the next training unless another sweep has it; False if its device is taken."""
        (cell,) = waiting[0]
        with ExitStack() as locks:
            lock = DeviceLock(cell.device, shared=True, store=self._config.out)
            locks.callback(lock.release)
            if not len(trainings):
                lock.take(self._jobs.interrupt.pause, self._listener.announce)
            elif not lock.try_take():
                return False
            cells = self._work.acquire(
                name_of(waiting[0], self._environment), waiting[0], cell.describe()
            )
            if cells:
                trainings.start(cell, lock)
                locks.pop_all()
            elif cells is None:
                held.append(waiting[0])
        del waiting[0]
        return True

    def _finish(
        self, trainings: Trainings, ended: Iterator[tuple[Training, Outcome[Any]]]
    ) -> Iterator[Record]:
        """Record trainings that have ended, and release each lease once its record is stored."""
        for training, outcome in ended:
            record = self._record(training.cell, outcome, started_at=training.started_at)
            yield record
            if is_measured(record):
                trainings.checkpoint(training.cell).unlink(missing_ok=True)
            self._work.release(name_of([training.cell], self._environment))

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
            result = Quality(**outcome.result.observed())
        measured = outcome.measured_s if measured_s is None else measured_s
        return Record(
            cell=cell,
            status=outcome.status,
            reason=outcome.reason,
            result=result,
            detail=outcome.detail,
            environment=self._environment.to_dict(),
            freshness=freshness(cell, self._environment),
            training_version=TRAINING_VERSION,
            started_at=started_at or utc_now(),
            cost_s={"measured": round(measured, 4), "total": round(outcome.wall_s, 4)},
            sweep=self._sweep,
        )


def is_measured(record: Record) -> bool:
    """Whether a record settles its cell; cells with a status of `RETRIED` are tried again."""
    return record.status not in RETRIED
