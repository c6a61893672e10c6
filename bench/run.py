"""Cells → records. Every planned cell ends as exactly one record, whatever happens to it.

Kernel cells that differ in the mechanism only form a block. Each member is first tried alone in a
fresh worker, where a crash, a hang, a wrong result or too much memory harms nobody; those that
passed then share one worker, the reference among them, and are timed in interleaved rounds,
because two processes running the same code differ by 10 to 20 % for as long as they live.
"""

from __future__ import annotations

import itertools
import select
import signal
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field, replace
from types import FrameType
from typing import Any, Protocol

from bench.cell import Cell
from bench.config import RunConfig, SweepConfig
from bench.environment import Environment, free_bytes, freshness
from bench.estimate import needed_bytes
from bench.launch import Worker, WorkerDied, WorkerHung, WorkerServer
from bench.measure.clock import now_s, utc_now
from bench.plan import PlannedCell, reference_cell, why_not
from bench.record import Quality, Record, Speed, Status


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


class Interrupted(Exception):
    """Ctrl-C, or SIGTERM, at a point where nothing is lost by stopping."""


class Interrupt:
    """Turns the first Ctrl-C into a question that is asked between two rounds; a second one raises.

    A context manager; outside of the main thread, where signals cannot be caught, it does nothing.
    """

    def __init__(self) -> None:
        self.is_asked = False
        self._before: dict[int, Any] = {}

    def __enter__(self) -> Interrupt:
        for number in (signal.SIGINT, signal.SIGTERM):
            try:
                self._before[number] = signal.signal(number, self._ask)
            except ValueError:
                break
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _ask(self, number: int, frame: FrameType | None) -> None:
        if self.is_asked:
            raise KeyboardInterrupt
        self.is_asked = True


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """How a job ended, before it is a record."""

    status: Status
    reason: str | None = None
    detail: str | None = None
    values: dict[str, Any] = field(default_factory=dict)
    wall_s: float = 0.0

    @property
    def is_ok(self) -> bool:
        """Whether `values` hold what was asked for."""
        return self.status is Status.OK

    @property
    def measured_s(self) -> float:
        """Seconds inside timed calls, memory and FLOP passes, or training."""
        return float(self.values.get("measured_s", 0.0))


@dataclass(frozen=True, kw_only=True)
class Rounds:
    """The samples of one block: one list per round, one entry per column.

    Attributes:
        reference: the column of the yardstick; None without one.
    """

    samples: list[list[float]]
    reference: int | None
    outcome: Outcome


class Runner:
    """Runs a plan on one machine.

    Attributes:
        busy_s: wall time inside measured calls, memory and FLOP passes, or training, so far.
    """

    def __init__(
        self,
        config: SweepConfig,
        environment: Environment,
        server: WorkerServer,
        interrupt: Interrupt,
        listener: Listener,
        sweep: str,
    ) -> None:
        self._run: RunConfig = config.run
        self._stopping = config.measure
        self._environment = environment
        self._server = server
        self._interrupt = interrupt
        self._listener = listener
        self._sweep = sweep
        self.busy_s = 0.0

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
            reason = why_too_large(cell)
            if reason is None:
                fitting.append(cell)
            else:
                yield self._record(cell, Outcome(status=Status.SKIPPED, reason=reason))
        trials = []
        for cell in fitting:
            self._listener.say(f"trying {cell.describe()}")
            outcome = self._do("trial", cell)
            if outcome.is_ok:
                trials.append((cell, outcome))
            else:
                yield self._record(cell, outcome, started_at=started_at)
        if trials:
            yield from self._time(trials, self._usable_reference(trials), started_at)

    def _usable_reference(self, trials: list[tuple[Cell, Outcome]]) -> Cell | None:
        """The yardstick, if it can run in this block; as a member it has been tried already."""
        reference = reference_cell(trials[0][0])
        if any(cell.key == reference.key for cell, _ in trials):
            return reference
        if why_not(reference) is not None or why_too_large(reference) is not None:
            return None
        self._listener.say(f"trying the reference {reference.describe()}")
        return reference if self._do("probe", reference).is_ok else None

    def _time(
        self, trials: list[tuple[Cell, Outcome]], reference: Cell | None, started_at: str
    ) -> Iterator[Record]:
        members = [cell for cell, _ in trials]
        seed = int(members[0].block, 16) % 1_000_000
        self._listener.announce(
            f"timing {len(members)} at {members[0].describe().partition(' ')[2]}"
        )
        rounds = self._do_rounds(members, reference, seed)
        if not rounds.outcome.is_ok and len(members) > 1:
            # Somebody ended the shared worker: each again with the reference alone.
            for one in trials:
                yield from self._time([one], reference, started_at)
            return
        if not rounds.outcome.is_ok and reference is not None:
            # It may have been the reference.
            yield from self._time(trials, None, started_at)
            return
        for index, (cell, trial) in enumerate(trials):
            if rounds.outcome.is_ok:
                outcome = replace(
                    trial,
                    values={"speed": _speed(trial, rounds, index, seed)},
                    wall_s=trial.wall_s + rounds.outcome.wall_s / len(trials),
                )
                cost = trial.measured_s + rounds.outcome.measured_s / len(trials)
                yield self._record(cell, outcome, started_at=started_at, measured_s=cost)
            else:
                yield self._record(cell, rounds.outcome, started_at=started_at)
        if self._interrupt.is_asked:
            raise Interrupted

    def _do_rounds(self, members: list[Cell], reference: Cell | None, seed: int) -> Rounds:
        """The members' columns come first; a reference that is no member has one behind them."""
        columns = members
        index = None
        if reference is not None:
            keys = [cell.key for cell in members]
            if reference.key not in keys:
                columns = [*members, reference]
                keys.append(reference.key)
            index = keys.index(reference.key)
        samples: list[list[float]] = []
        worker = self._server.spawn(
            job="rounds",
            cells=[cell.to_dict() for cell in columns],
            reference=index,
            stopping=asdict(self._stopping),
            order_seed=seed,
        )

        def hear(message: dict[str, Any]) -> None:
            if "round" in message:
                samples.append(message["round"])

        def stop() -> None:
            # Rounds that support no interval are not worth keeping.
            if len(samples) < self._stopping.min_rounds:
                worker.kill()
                raise Interrupted
            worker.send(stop=True)

        outcome = self._await(worker, hear, stop)
        return Rounds(samples=samples, reference=index, outcome=outcome)

    def _do(self, job: str, cell: Cell) -> Outcome:
        worker = self._server.spawn(job=job, cell=cell.to_dict())

        def stop() -> None:
            worker.kill()
            raise Interrupted

        return self._await(worker, lambda message: None, stop)

    def _await(
        self,
        worker: Worker,
        hear: Callable[[dict[str, Any]], None],
        stop: Callable[[], None],
    ) -> Outcome:
        """Listen to a worker until its last line, its death, or too long a silence."""
        started = now_s()
        has_stopped = False
        silence_ends = started + self._run.timeout_s
        while True:
            if self._interrupt.is_asked and not has_stopped:
                stop()
                has_stopped = True
            try:
                message = worker.poll(_TICK_S)
                if message is None:
                    if now_s() > silence_ends:
                        worker.kill()
                        raise WorkerHung(
                            f"no answer for {self._run.timeout_s:g} s in step '{worker.step}'"
                        )
                    continue
            except (WorkerDied, WorkerHung) as error:
                return replace(_misfortune(error, worker.step), wall_s=now_s() - started)
            silence_ends = now_s() + self._run.timeout_s
            if "status" not in message:
                hear(message)
                continue
            worker.close()
            outcome = _outcome(message, now_s() - started)
            self.busy_s += outcome.measured_s
            return outcome

    # Task cells

    def _train(self, cells: list[Cell]) -> Iterator[Record]:
        """Training runs, as many at once as there are cores: a score is not a timing."""
        waiting = list(cells)
        running: dict[Worker, tuple[Cell, float, str]] = {}
        try:
            while waiting or running:
                while waiting and self._has_room(waiting[0], running):
                    cell = waiting.pop(0)
                    worker = self._server.spawn(job="train", cell=cell.to_dict())
                    running[worker] = (cell, now_s(), utc_now())
                tick = now_s()
                ready = select.select(list(running), [], [], _TICK_S)[0]
                self.busy_s += now_s() - tick
                if self._interrupt.is_asked:
                    raise Interrupted
                for worker in [w for w in running if w in ready or w.has_line]:
                    outcome = self._hear_training(worker, *running[worker][:2])
                    if outcome is not None:
                        cell, _, started_at = running.pop(worker)
                        yield self._record(cell, outcome, started_at=started_at)
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

    def _has_room(self, cell: Cell, running: dict[Worker, tuple[Cell, float, str]]) -> bool:
        """One at a time on an accelerator; on a CPU, one per core that it uses."""
        if not running:
            return True
        if cell.device != "cpu":
            return False
        used = sum(other.num_threads for other, _, _ in running.values())
        return used + cell.num_threads <= self._environment.num_cores

    def _hear_training(self, worker: Worker, cell: Cell, started: float) -> Outcome | None:
        try:
            message = worker.poll(0)
        except WorkerDied as error:
            return replace(_misfortune(error, "training"), wall_s=now_s() - started)
        if message is None:
            return None
        if "progress" in message:
            phase, step, num_steps, loss = message["progress"]
            self._listener.say(f"{cell.describe()}: {phase} {step}/{num_steps}, loss {loss:.3f}")
        if "status" not in message:
            return None
        worker.close()
        return _outcome(message, now_s() - started)

    # Records

    def _record(
        self,
        cell: Cell,
        outcome: Outcome,
        *,
        started_at: str | None = None,
        measured_s: float | None = None,
    ) -> Record:
        result: Speed | Quality | None = outcome.values.get("speed")
        if outcome.is_ok and result is None:
            flat = outcome.values["quality"]
            result = Quality(**flat | {"losses": tuple(flat["losses"]), "train_s": outcome.wall_s})
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


_TICK_S = 0.2


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


def why_too_large(cell: Cell) -> str | None:
    """A sentence with the estimate, if a cell needs more memory than there is."""
    needed, free = needed_bytes(cell), free_bytes(cell.device)
    if needed <= free:
        return None
    return (
        f"needs about {needed / 2**30:,.1f} GiB by its formula, and {free / 2**30:,.1f} GiB are "
        f"free on {cell.device}."
    )


def _outcome(message: dict[str, Any], wall_s: float) -> Outcome:
    return Outcome(
        status=Status(message["status"]),
        reason=message["reason"],
        detail=message["detail"],
        values=message["values"],
        wall_s=wall_s,
    )


def _misfortune(error: WorkerDied | WorkerHung, step: str) -> Outcome:
    if isinstance(error, WorkerHung):
        return Outcome(status=Status.TIMED_OUT, reason=str(error))
    if error.exit_code == -signal.SIGKILL:
        reason = f"{error} in step '{step}', as the kernel does when memory runs out"
        return Outcome(status=Status.OUT_OF_MEMORY, reason=reason, detail=error.last_words)
    return Outcome(
        status=Status.CRASHED, reason=f"{error} in step '{step}'", detail=error.last_words
    )


def _speed(trial: Outcome, rounds: Rounds, column: int, seed: int) -> Speed:
    """What a trial and the rounds observed of one member."""
    shared = rounds.outcome.values
    numbers = tuple(range(len(rounds.samples)))
    yardstick = rounds.reference
    observed = {k: v for k, v in trial.values.items() if k != "measured_s"}
    return Speed(
        latency_s=tuple(samples[column] for samples in rounds.samples),
        rounds=numbers,
        reference_latency_s=(
            () if yardstick is None else tuple(samples[yardstick] for samples in rounds.samples)
        ),
        reference_rounds=() if yardstick is None else numbers,
        calls_per_sample=shared["calls_per_sample"][column],
        warmup_s=tuple(shared["warmup_s"][column]),
        order_seed=seed,
        stop_reason=shared["stop_reason"],
        load=shared["load"],
        **observed,
    )
