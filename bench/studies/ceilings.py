"""Measure a machine's ceilings by device, dtype and threads; print and store them for sweeps."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

from rich.console import Console

from bench.core.calibration import Calibration, calibration_file, fingerprint, read_calibration
from bench.core.cell import DTYPES, MAX_THREADS
from bench.core.cli.files import write_whole
from bench.core.clock import utc_now
from bench.core.format import column_for, quantity
from bench.core.grouping import grouped
from bench.core.record import Status
from bench.core.settings import (
    Folder,
    Interval,
    Many,
    Settings,
    Some,
    Word,
)
from bench.measuring.config import Device
from bench.measuring.device import device_named
from bench.measuring.machine import environment
from bench.measuring.machine.environment import Environment
from bench.measuring.plan import resolve_devices
from bench.measuring.sharing.devices import alone_on
from bench.measuring.worker.jobs import Interrupt, Jobs
from bench.measuring.worker.launch import ALLOCATORS, WorkerServer
from bench.measuring.worker.outcome import Outcome
from bench.measuring.worker.results import CEILING, CeilingResult
from bench.publishing.document import Document, Table, text_table
from bench.studies.session import Session

DeviceSetup = dict[str, Any]
"""A device, a dtype and a number of threads; the latter is None where the device is no CPU."""


class Workers(Settings):
    """How workers are run."""

    timeout_s: Annotated[float, Interval(ge=0.1, le=7 * 86_400.0)] = 60.0
    """Stop a worker after this much silence."""
    allocator: Annotated[str, Word(lambda: ALLOCATORS)] = "retain"
    """A sweep needs a calibration made with the same allocator."""


class Calibrate(Settings):
    """Measure the fastest matrix products of any library, and memory copies."""

    device: Many[Device] = ("auto",)
    """As cpu, cuda, cuda:1; auto: every device present."""
    dtype: Many[Annotated[str, Word(lambda: DTYPES)]] = DTYPES
    num_threads: Some[Annotated[int, Interval(ge=1, le=MAX_THREADS)]] = ()
    """Threads of the CPU; null: 1, and the number of cores."""
    out: Folder = Path("results")
    """Written to out/calibration, one file per machine; sweeps read it there."""
    run: Workers = Workers()


def study(asked: Calibrate, session: Session) -> int:
    """Measure, print and write; 1 if nothing could be measured."""
    devices = resolve_devices(asked.device)
    server, console = WorkerServer(asked.run.allocator), session.console
    here = environment.current(devices, asked.run.allocator, server.environment())
    kept = read_calibration(asked.out, here.to_dict())
    setups = {words_of(setup): setup for setup in setups_of(asked, devices, here)}
    outcomes: dict[str, Outcome[CeilingResult]] = {}
    with server, Interrupt() as interrupt:
        jobs = Jobs(server, asked.run.timeout_s, interrupt)

        def measure(name: str) -> str:
            with alone_on(setups[name]["device"], interrupt.pause, console.print):
                outcomes[name] = _measure(jobs, setups[name])
            return "measured" if outcomes[name].is_ok else f"{outcomes[name].reason}"

        session.one_by_one(setups, "setup", measure)
    if session.is_stopped:
        session.say("Nothing was written.")
        return 0

    ceilings = [
        {**setup, "device_name": here.devices[setup["device"]], **outcome.found.observed()}
        for setup, outcome in ((setups[name], outcome) for name, outcome in outcomes.items())
        if outcome.is_ok
    ]
    session.show(Document("", [*tables_of(ceilings)]))
    print_remarks(console, outcomes, ceilings)
    if not ceilings:
        return 1
    session.say(f"Wrote {write_calibration(asked.out, here, ceilings, kept)}")
    return 0


def _measure(jobs: Jobs, setup: DeviceSetup) -> Outcome[CeilingResult]:
    """Have a worker measure a setup; skipped if its device does not compute in its dtype."""
    if reason := device_named(setup["device"]).why_no_dtype(setup["dtype"]):
        return Outcome(status=Status.SKIPPED, reason=reason)
    return jobs.do(CEILING, **setup)


def setups_of(asked: Calibrate, devices: Sequence[str], here: Environment) -> Iterator[DeviceSetup]:
    """Setups to measure, one after the other: never two timings at once."""
    usual = tuple(dict.fromkeys((1, here.num_cores)))
    for device in devices:
        threads = (asked.num_threads or usual) if device_named(device).shares_cores else (None,)
        for num_threads, dtype in itertools.product(threads, asked.dtype):
            yield {"device": device, "dtype": dtype, "num_threads": num_threads}


def words_of(setup: DeviceSetup) -> str:
    """As ``float32 on cpu, 2 threads``."""
    threads = setup["num_threads"]
    suffix = "" if threads is None else f", {quantity(threads, 'thread')}"
    return f"{setup['dtype']} on {setup['device']}{suffix}"


def write_calibration(
    out: Path, here: Environment, ceilings: Sequence[dict[str, Any]], kept: Calibration | None
) -> Path:
    """Write the machine's file; stored ceilings of setups that were not measured now are kept.

    Raises:
        ConfigError: it cannot be written.
    """
    by_setup = {
        (ceiling["device"], ceiling["dtype"], ceiling["num_threads"]): ceiling
        for ceiling in [*(kept["ceilings"] if kept else ()), *ceilings]
    }
    facts = here.to_dict()
    calibration = {
        "made_at": utc_now(),
        "fingerprint": fingerprint(facts),
        "ceilings": list(by_setup.values()),
    }
    text = json.dumps(calibration, indent=1, allow_nan=False) + "\n"
    return write_whole(calibration_file(out, facts), text, inside=out)


def tables_of(ceilings: Sequence[dict[str, Any]]) -> Iterator[Table]:
    """One table per device, one row for each dtype and number of threads."""
    for title, own in grouped(ceilings, lambda x: f"{x['device']}: {x['device_name']}").items():
        flops = column_for("flops_per_s", [ceiling["flops_per_s"] for ceiling in own])
        rates = [rate for ceiling in own for _, rate in ceiling["bytes_per_s"]]
        copy = column_for("copy_bytes_per_s", rates)
        sizes = [f"{copy.title} of {_size_words(size)}" for size, _ in own[0]["bytes_per_s"]]
        rows = [
            (
                str(ceiling["num_threads"] or ""),
                ceiling["dtype"] + " ~" * ceiling["is_noisy"],
                f"{' x '.join(map(str, ceiling['product']))} by {ceiling['library']}",
                flops.write(ceiling["flops_per_s"]),
                *(copy.write(rate) for _, rate in ceiling["bytes_per_s"]),
            )
            for ceiling in own
        ]
        header = ("threads", "dtype", "fastest product", flops.title, *sizes)
        yield text_table(title, header, rows, num_words=3)


def _size_words(num_bytes: int) -> str:
    column = column_for("_bytes", [num_bytes])
    return f"{column.write(num_bytes)} {column.title.strip(' ()')}"


def print_remarks(
    console: Console,
    outcomes: Mapping[str, Outcome[CeilingResult]],
    ceilings: Sequence[dict[str, Any]],
) -> None:
    """Print ceilings that could not be measured, and whether others were using the machine."""
    for name, outcome in outcomes.items():
        if not outcome.is_ok:
            console.print(f"Not measured: {name}: {outcome.reason}", highlight=False)
    if any(ceiling["is_noisy"] for ceiling in ceilings):
        console.print(
            "Other programs kept this machine busy (~): its ceilings are higher than these. "
            "Calibrate again when it is quiet."
        )
