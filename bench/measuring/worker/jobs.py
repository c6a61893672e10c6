"""Give a worker one job and wait for its end: an answer, a death, a timeout, or Ctrl-C."""

from __future__ import annotations

import signal
from collections.abc import Callable, Sequence
from dataclasses import replace
from types import FrameType
from typing import Any

from bench.core.cell import Cell
from bench.core.clock import now_s, sleep_s
from bench.core.record import Status
from bench.measuring.worker.launch import Worker, WorkerDied, WorkerHung, WorkerServer
from bench.measuring.worker.messages import Message, NoMessage
from bench.measuring.worker.outcome import Outcome
from bench.measuring.worker.results import BUILD, Job, R

TICK_S = 0.2
"""Seconds between two checks for a request to stop, while waiting."""

_STEP = {"step", "waits"}
"""Keys of a message that only says what is done now."""

_MAX_STEPS, _MAX_STEPS_OF_CELL = 20, 4
"""Largest number of such messages: of a job, and for each of its cells."""

_MAX_MESSAGES = 1_100_000
"""Largest number of messages of a job: a worker takes a million rounds at most."""


class Interrupted(Exception):
    """Raised after Ctrl-C, SIGTERM or a closed terminal, where nothing is lost by stopping."""


class Interrupt:
    """Turns the first Ctrl-C into a flag that is read between two rounds; a second one raises.

    SIGTERM counts as well, and so does a terminal that is closed, unless ``nohup`` ignores it. A
    context manager; outside of the main thread, where signals cannot be caught, it does nothing.
    """

    def __init__(self) -> None:
        self.is_asked = False
        self._had_signal = False  # a deadline asks too, and the first Ctrl-C after it is a first
        self._before: dict[int, Any] = {}

    def __enter__(self) -> Interrupt:
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            if number == signal.SIGHUP and signal.getsignal(number) == signal.SIG_IGN:
                continue
            try:
                self._before[number] = signal.signal(number, self._ask)
            except ValueError:
                break
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def pause(self, seconds: float) -> None:
        """Wait for some seconds.

        Raises:
            Interrupted: a stop is requested before they are over.
        """
        ends_s = now_s() + seconds
        while (left_s := ends_s - now_s()) > 0:
            if self.is_asked:
                raise Interrupted
            sleep_s(min(left_s, TICK_S))

    def _ask(self, number: int, frame: FrameType | None) -> None:
        if self._had_signal and number != signal.SIGHUP:  # which the shell and the system both send
            raise KeyboardInterrupt
        self.is_asked = self._had_signal = True


class Deadline(Interrupt):
    """Requests a stop on Ctrl-C or when a time on the clock of `now_s` is reached."""

    def __init__(self, ends_s: float) -> None:
        self.ends_s = ends_s
        super().__init__()

    @property
    def is_over(self) -> bool:
        """Whether the time is reached."""
        return now_s() >= self.ends_s

    @property
    def is_asked(self) -> bool:
        """Whether to stop."""
        return self._was_asked or self.is_over

    @is_asked.setter
    def is_asked(self, value: bool) -> None:
        self._was_asked = value


class Jobs:
    """Gives jobs to workers, one at a time.

    Attributes:
        busy_s: wall time inside measured calls, memory and FLOP passes, or training, so far.
    """

    def __init__(self, server: WorkerServer, timeout_s: float, interrupt: Interrupt) -> None:
        self.server = server
        self.timeout_s = timeout_s
        self.interrupt = interrupt
        self.busy_s = 0.0

    def do(
        self,
        job: Job[R],
        *,
        on_message: Callable[[Message], None] | None = None,
        may_stop: Callable[[], bool] | None = None,
        **request: Any,
    ) -> Outcome[R]:
        """Do one job.

        `on_message` is called with every message but the last, and may raise `WorkerHung` or
        `NoMessage` to end the job. On Ctrl-C the worker is asked to finish if it `may_stop`, as its
        messages so far are worth keeping; else it is killed.

        Raises:
            Interrupted: on Ctrl-C, if there is nothing to keep.
        """
        started = now_s()
        step = "start"
        try:
            worker = self.server.spawn(job=job.name, **request)
            try:
                num_steps = _MAX_STEPS + _MAX_STEPS_OF_CELL * len(request.get("cells", ()))
                message = self._last_message(worker, on_message, may_stop, num_steps)
            except (WorkerHung, NoMessage):
                worker.kill()
                raise
            finally:
                step = worker.step
            worker.close()
        except (WorkerDied, WorkerHung, NoMessage) as error:
            return replace(outcome_of_death(error, step), wall_s=now_s() - started)
        outcome = Outcome.from_message(message, job.result, now_s() - started)
        self.busy_s += outcome.measured_s
        return outcome

    def _last_message(
        self,
        worker: Worker,
        on_message: Callable[[Message], None] | None,
        may_stop: Callable[[], bool] | None,
        max_steps: int,
    ) -> Message:
        is_stopping = False
        num_steps = num_messages = 0
        silence_ends = now_s() + self.timeout_s
        while True:
            if self.interrupt.is_asked and not is_stopping:
                if may_stop is None or not may_stop():
                    worker.kill()
                    raise Interrupted
                worker.send(stop=True)
                is_stopping = True
            message = worker.poll(TICK_S)
            if message is None:
                if now_s() > silence_ends:
                    raise WorkerHung(f"no answer for {self.timeout_s:g} s in step '{worker.step}'")
                continue
            if "status" in message:
                return message
            num_messages += 1
            num_steps += message.keys() <= _STEP
            if num_steps > max_steps or num_messages > _MAX_MESSAGES:  # each ends the silence
                raise NoMessage("it is one more than its job has")
            silence_ends = now_s() + self.timeout_s
            if on_message is not None:
                on_message(message)
            if message.get("waits"):
                worker.send(heard=True)


def refusals(cells: Sequence[Cell], jobs: Jobs) -> dict[str, str]:
    """Reasons why plugins' constructors refuse cells, by the key of the cell.

    If a constructor fails in another way, such as ending its process, the trials of its cells will
    record that: its entry is left out here, and the job starts again with the others.
    """
    refused: dict[str, str] = {}
    asked = 0

    def on_message(message: Message) -> None:
        nonlocal asked
        now = message.get("asked", asked)
        if now >= len(waiting):
            raise NoMessage(f"asked is {now}, and there are {len(waiting)} cells")
        asked = now
        if "refused" in message:
            refused[waiting[asked].key] = message["refused"]

    waiting = list(cells)
    while waiting:
        asked = 0
        flat = [cell.to_dict() for cell in waiting]
        outcome = jobs.do(BUILD, on_message=on_message, plugins=waiting[0].plugins, cells=flat)
        culprit = waiting[asked].entry
        left = [] if outcome.is_ok else waiting[asked:]
        waiting = [cell for cell in left if cell.entry != culprit]
    return refused


def outcome_of_death(error: WorkerDied | WorkerHung | NoMessage, step: str) -> Outcome[Any]:
    """Outcome of a job that ended without a last message, at a given step."""
    if isinstance(error, WorkerHung):
        return Outcome(status=Status.TIMED_OUT, reason=str(error))
    if isinstance(error, NoMessage):
        return Outcome(status=Status.CRASHED, reason=f"{error} in step '{step}'")
    if error.exit_code == -signal.SIGKILL:
        reason = f"{error} in step '{step}', as the kernel does when memory runs out"
        return Outcome(status=Status.OUT_OF_MEMORY, reason=reason, detail=error.last_words)
    return Outcome(
        status=Status.CRASHED, reason=f"{error} in step '{step}'", detail=error.last_words
    )
