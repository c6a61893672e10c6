"""A process that tries one member, times a block or trains: JSON lines in, JSON lines out.

``python -m bench.worker FD`` is a server with torch loaded. Each request on its control socket
makes it fork; the child gets a socket of its own, reads one request, answers in lines, and ends.
Nothing that a member does, crash, hang or leak, reaches another worker. Only this module catches
broadly, and it keeps the text.

Lines sent: ``{"step": name}`` before each step, so that a hang can be told from long work;
``{"round": [seconds, ...]}`` after each round; ``{"progress": [step, num_steps, loss]}`` in
training; last ``{"status": ..., "reason": ..., "detail": ..., "values": {...}}``.
"""

from __future__ import annotations

import array
import contextlib
import faulthandler
import importlib
import itertools
import json
import os
import select
import shutil
import signal
import socket
import sys
import tempfile
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

from bench.cell import Cell, ModelWorkload
from bench.measure.clock import clock_for, now_s
from bench.measure.headroom import keep_within_free_memory
from bench.measure.stopping import Stopping
from bench.record import Status

if TYPE_CHECKING:
    from bench.subject import Subject

Outcome = dict[str, Any]


class Channel:
    """JSON lines over a socket."""

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock
        self._lines = sock.makefile("rb")

    def send(self, **message: Any) -> None:
        """One line; the process ends quietly if nobody listens any more."""
        try:
            self._sock.sendall(json.dumps(message).encode() + b"\n")
        except OSError:
            os._exit(1)

    def read(self) -> dict[str, Any]:
        """The next line; ends the process if there is none."""
        line = self._lines.readline()
        if not line:
            os._exit(1)
        request: dict[str, Any] = json.loads(line)
        return request

    def is_stop_asked(self) -> bool:
        """Whether a line, or the end of the other side, is waiting."""
        return bool(select.select([self._sock], [], [], 0)[0])


def trial(request: dict[str, Any], channel: Channel) -> Outcome:
    """One member alone: built, called, checked against its oracle, memory and FLOPs taken."""
    import torch

    from bench.measure import flops, memory
    from bench.whole.oracle import check
    from bench.whole.subject import subject_of

    cell = Cell.from_dict(request["cell"])
    library = library_at(request.get("root"))
    w = cell.timed
    device = torch.device(cell.device)
    clock = clock_for(device)
    torch.set_num_threads(cell.num_threads)

    channel.send(step="build")
    subject = subject_of(cell, library)
    channel.send(step="first call")
    first_call_s = clock.time_calls(subject.call, 1)
    compile_s = None
    if w.compile == "inductor":
        compile_s = max(0.0, first_call_s - clock.time_calls(subject.call, 1))
    channel.send(step="oracle")
    errors = check(cell, library)

    started = now_s()
    channel.send(step="memory")
    peak = memory.peak_memory_bytes(subject.call, device)
    peak_rss = None
    if device.type == "cpu" and (peak or 0) >= memory.MIN_RSS_BYTES:
        peak_rss = memory.peak_rss_bytes(subject.call)
    saved = 0
    if w.has_backward:
        first = subject.sets[0]
        saved = memory.saved_for_backward_bytes(lambda: subject.forward(first), subject.parameters)
    channel.send(step="flops")
    counts = flops.count(subject.eager_call)
    fvcore = flops.FvcoreCount(flops=None)
    if not cell.is_model:  # tracing a whole model takes longer than timing it
        fvcore = flops.count_with_fvcore(subject.module, subject.sets[0][:-1])
    measured_s = now_s() - started + first_call_s

    num_parameters = sum(p.numel() for p in subject.parameters)
    return _ok(
        first_call_s=first_call_s,
        compile_s=compile_s,
        max_error=errors.max_error,
        rms_error=errors.rms_error,
        peak_memory_bytes=peak,
        peak_rss_bytes=peak_rss,
        saved_for_backward_bytes=saved,
        state_bytes=subject.state_bytes(),
        **_work(subject),
        counted_flops=counts.counted_flops,
        elementwise_elements=counts.elementwise_elements,
        num_operators=counts.num_operators,
        fvcore_flops=fvcore.flops,
        fvcore_unsupported=fvcore.unsupported,
        num_parameters=num_parameters,
        measured_s=measured_s,
    )


def _work(subject: Subject) -> dict[str, int | None]:
    """FLOPs by formula and tokens of a call; of a model what a counter sees of its shapes.

    A model is left without its values.
    """
    from bench.subject import shape_of
    from bench.whole.facts import forward_flops

    w = subject.cell.timed
    if isinstance(w, ModelWorkload):
        counted = forward_flops(subject.module.to("meta"), w)
        return {"flops": None if counted is None else w.flops_factor * counted}
    shape = shape_of(w)
    module: Any = subject.module
    if w.mode == "decode":
        useful = executed = module.decode_flops(shape)
    else:
        useful, executed = module.flops(shape), module.executed_flops(shape)
    return {
        "flops": w.flops_factor * useful,
        "executed_flops": w.flops_factor * executed,
        "tokens_per_call": w.batch_size * (1 if w.mode == "decode" else w.seq_len),
    }


def library_at(root: str | None) -> ModuleType | None:
    """The `attentions` package of another source tree, beside this one's; None for this one's."""
    if root is None:
        return None
    from bench.library import load_library

    return load_library(root)


def probe(request: dict[str, Any], channel: Channel) -> Outcome:
    """One call of the reference, to know that it may join the rounds."""
    import torch

    from bench.whole.subject import subject_of

    cell = Cell.from_dict(request["cell"])
    torch.set_num_threads(cell.num_threads)
    channel.send(step="first call of the reference")
    seconds = clock_for(torch.device(cell.device)).time_calls(subject_of(cell).call, 1)
    return _ok(measured_s=seconds)


def rounds(request: dict[str, Any], channel: Channel) -> Outcome:
    """The members of a block, in interleaved rounds."""
    import torch

    from bench.measure import load
    from bench.measure.cache import flusher
    from bench.measure.card import before_and_after, card_state
    from bench.measure.latency import round_order, time_round, warm_up
    from bench.whole.subject import subject_of

    cells = [Cell.from_dict(flat) for flat in request["cells"]]
    stopping = Stopping(**request["stopping"])
    device = torch.device(cells[0].device)
    clock = clock_for(device)
    flush = flusher(device) if cells[0].timed.cache == "cold" else None
    torch.set_num_threads(cells[0].num_threads)

    members = []
    measured_s = 0.0
    for cell in cells:
        channel.send(step=f"warm-up of {cell.entry}")
        subject = subject_of(cell)
        subject.rotate()
        members.append(warm_up(subject.call, clock, stopping.min_sample_s))
        measured_s += sum(members[-1].warmup_s)

    taken: list[list[float]] = []
    card = card_state(device)
    before = load.snapshot()
    stop = None
    while stop is None:
        order = round_order(len(members), request["order_seed"], len(taken))
        begun = now_s()
        taken.append(time_round(members, order, clock, flush))
        measured_s += now_s() - begun
        channel.send(round=taken[-1])
        if channel.is_stop_asked():
            stop = "interrupted"
        else:
            widths = _half_widths(taken, request["reference"], stopping)
            spent_s = now_s() - before.wall_s
            stop = stopping.verdict(
                num_rounds=len(taken),
                num_members=len(members),
                spent_s=spent_s,
                half_widths=widths,
            )
    observed = load.between(before, load.snapshot())
    observed |= before_and_after(card, card_state(device))
    return _ok(
        stop_reason=stop,
        warmup_s=[m.warmup_s for m in members],
        calls_per_sample=[m.calls_per_sample for m in members],
        load=observed,
        is_noisy=load.is_noisy(observed),
        measured_s=measured_s,
    )


def _half_widths(
    taken: list[list[float]], reference: int | None, stopping: Stopping
) -> list[float] | None:
    from bench.statistics import paired_ratio

    if reference is None or not stopping.is_check_due(len(taken)):
        return None
    numbers = range(len(taken))
    columns = list(zip(*taken, strict=True))
    ratios = [paired_ratio(c, numbers, columns[reference], numbers) for c in columns]
    return [ratio.half_width for ratio in ratios if ratio is not None]


def versus(request: dict[str, Any], channel: Channel) -> Outcome:
    """The same cell of two source trees, in rounds of base, current, current, base."""
    import random

    import torch

    from bench.measure.latency import Member, time_round, warm_up
    from bench.subject import Subject

    cells = [Cell.from_dict(request["base"]), Cell.from_dict(request["current"])]
    device = torch.device(cells[0].device)
    clock = clock_for(device)
    torch.set_num_threads(cells[0].num_threads)
    channel.send(step="build")
    base = Subject(cells[0], library=library_at(request["root"]))
    base.rotate()
    # The same tensors for both, so that neither has the luckier place in memory.
    current = Subject(cells[1], sets=base.sets)
    calls = [base.call, repeating(current.call, request["repeat_every"])]
    channel.send(step="warm-up")
    warm = [warm_up(call, clock, request["min_sample_s"]) for call in calls]
    every = request["repeat_every"] or 1
    count = -(-max(m.calls_per_sample for m in warm) // every) * every
    members = [Member(call=m.call, calls_per_sample=count, warmup_s=m.warmup_s) for m in warm]

    coin = random.Random(request["seed"])
    started = now_s()
    num_rounds = 0
    while num_rounds < request["min_rounds"] or now_s() - started < request["budget_s"]:
        first = coin.randrange(2)
        there = time_round(members, [first, 1 - first], clock)
        back = time_round(members, [1 - first, first], clock)
        channel.send(ratio=(there[1] + back[1]) / (there[0] + back[0]))
        num_rounds += 1
        if channel.is_stop_asked():
            break
    return _ok(measured_s=now_s() - started, latency_s=there[1])


def repeating(call: Callable[[], Any], every: int | None) -> Callable[[], Any]:
    """A call whose every nth repeats its work: a slowdown of known size, for self-tests."""
    if every is None:
        return call
    counter = itertools.count(1)

    def slowed() -> Any:
        if next(counter) % every == 0:
            call()
        return call()

    return slowed


def train(request: dict[str, Any], channel: Channel) -> Outcome:
    """One training run."""
    from dataclasses import asdict

    import torch

    from bench.tasks.train import Diverged
    from bench.tasks.train import train as train_task

    cell = Cell.from_dict(request["cell"])
    torch.set_num_threads(cell.num_threads)
    started = now_s()
    try:
        quality = train_task(
            cell,
            lambda phase, step, total, loss: channel.send(progress=[phase, step, total, loss]),
            library_at(request.get("root")),
        )
    except Diverged as error:
        return _outcome(Status.DIVERGED, str(error))
    return _ok(quality=asdict(quality), measured_s=now_s() - started)


def ceiling(request: dict[str, Any], channel: Channel) -> Outcome:
    """What a device does at best in one dtype with a number of threads."""
    from dataclasses import asdict

    import torch

    from bench.measure import load
    from bench.measure.roofline import measure_ceiling

    device = torch.device(request["device"])
    if request["num_threads"] is not None:
        torch.set_num_threads(request["num_threads"])
    channel.send(step="products and copies")
    before = load.snapshot()
    found = measure_ceiling(device, getattr(torch, request["dtype"]), clock_for(device))
    after = load.snapshot()
    is_noisy = load.is_noisy(load.between(before, after))
    measured_s = after.wall_s - before.wall_s
    return _ok(ceiling=asdict(found) | {"is_noisy": is_noisy}, measured_s=measured_s)


JOBS: dict[str, Callable[[dict[str, Any], Channel], Outcome]] = {
    "trial": trial,
    "probe": probe,
    "rounds": rounds,
    "versus": versus,
    "train": train,
    "ceiling": ceiling,
}


def _ok(**values: Any) -> Outcome:
    return {"status": Status.OK, "reason": None, "detail": None, "values": values}


def _outcome(status: Status, reason: str, detail: str | None = None) -> Outcome:
    return {"status": status, "reason": reason, "detail": detail, "values": {}}


def answer(request: dict[str, Any], channel: Channel) -> Outcome:
    """Do a job; whatever goes wrong in it becomes a status."""
    from bench.oracle import Incorrect

    try:
        for plugin in request.get("plugins", ()):
            importlib.import_module(plugin)
        if device_of(request) == "cpu":
            keep_within_free_memory()
        return JOBS[request["job"]](request, channel)
    except Incorrect as error:
        return _outcome(Status.INCORRECT, str(error))
    except Exception as error:
        text = traceback.format_exc()
        if is_out_of_memory(error):
            return _outcome(Status.OUT_OF_MEMORY, _first_line(error), text)
        return _outcome(Status.ERROR, f"{type(error).__name__}: {_first_line(error)}", text)


def device_of(request: dict[str, Any]) -> str:
    """The device that a job runs on; cells of one job share theirs."""
    cells = [request.get("cell"), request.get("current"), *request.get("cells", ()), request]
    return str(next(cell["device"] for cell in cells if cell is not None))


def is_out_of_memory(error: Exception) -> bool:
    """Whether an exception says that memory ran out, in any of the ways in which torch says it."""
    import torch

    if isinstance(error, (MemoryError, torch.OutOfMemoryError)):
        return True
    text = str(error).lower()
    return isinstance(error, RuntimeError) and (
        "can't allocate memory" in text or "out of memory" in text or "bad_alloc" in text
    )


def _first_line(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return lines[0][:300] if lines else type(error).__name__


def _preload() -> None:
    """Import and start once what every worker would otherwise pay for."""
    import fvcore.nn  # noqa: F401  # 0.1 s
    import torch

    import attentions
    import bench.measure.load
    import bench.oracle
    import bench.statistics
    import bench.subject
    import bench.tasks.train
    import bench.whole.oracle  # noqa: F401

    attentions.attention_names()
    torch.set_num_threads(1)
    # Its first use in a process takes a second, and some builds print a line about it.
    with quiet_stderr(), torch.profiler.profile(profile_memory=True):
        torch.ones(1)


@contextlib.contextmanager
def quiet_stderr() -> Iterator[None]:
    """Nothing reaches the terminal from below Python."""
    kept, nowhere = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 2)
    try:
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(nowhere)


def _become_child(fds: list[int]) -> None:
    channel_fd, log_fd = fds
    os.setsid()
    os.dup2(log_fd, 1)
    os.dup2(log_fd, 2)
    faulthandler.enable(file=2)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    channel = Channel(socket.socket(fileno=channel_fd))
    try:
        channel.send(**answer(channel.read(), channel))
    except BaseException:
        traceback.print_exc()
        os._exit(1)
    os._exit(0)


def serve(control: socket.socket) -> None:
    """Fork a worker for each pair of file descriptors received; report exits when asked.

    Ends, and ends every worker, when the other side is gone.
    """
    children: set[int] = set()
    control.sendall(b"ready\n")
    while True:
        ancillary = socket.CMSG_LEN(2 * array.array("i").itemsize)
        message, fds, _, _ = control.recvmsg(64, ancillary)
        if not message:
            break
        if message.startswith(b"fork"):
            received = array.array("i")
            for _, _, data in fds:
                received.frombytes(data)
            pid = os.fork()
            if pid == 0:
                control.close()
                _become_child(list(received))
            for fd in received:
                os.close(fd)
            children.add(pid)
            control.sendall(f"{pid}\n".encode())
        else:
            pid = int(message.split()[1])
            _, status = os.waitpid(pid, 0)
            children.discard(pid)
            _discard_compiled(pid)
            control.sendall(f"{os.waitstatus_to_exitcode(status)}\n".encode())
    for pid in children:
        os.kill(pid, signal.SIGKILL)
        _discard_compiled(pid)


def _discard_compiled(pid: int) -> None:
    """Remove what a worker's compiler left. Here, since a worker may have been killed."""
    from bench.subject import COMPILED_PREFIX

    for folder in Path(tempfile.gettempdir()).glob(f"{COMPILED_PREFIX}{pid}-*"):
        shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    _preload()
    serve(socket.socket(fileno=int(sys.argv[1])))
