"""Mechanisms that raise, leave, hang or kill anywhere, each beside two that do nothing wrong."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import cycle, islice
from pathlib import Path
from random import Random

from bench.core.record import Record, Status
from bench.measuring.worker.launch import WorkerServer
from tests.bench.measuring.test_config import BASE
from tests.bench.measuring.test_run import QUICK, run
from tests.torture.trial import Trial

NEIGHBOURS = ("linear", "softmax")
PLUGIN = "tests.torture.misbehaving"
MEASURE = QUICK | {"min_rounds": 30, "max_rounds": 30}
RUN = BASE["run"] | {"timeout_s": 5}
MANY = 5
"""Mechanisms of one block."""


def mechanisms(count: int, draw: Random, folder: Path) -> Iterator[Trial]:
    """`count` misbehaving mechanisms in blocks of five: the same misdeed at different places."""
    # Imported late: it registers mechanisms that no other test may see.
    from tests.torture.misbehaving import MISBEHAVING

    names = list(islice(cycle(name for names in MISBEHAVING.values() for name in names), count))
    with WorkerServer() as server:
        for first in range(0, count, MANY):
            block = names[first : first + MANY]
            mode = draw.choice(("forward_backward", "backward"))
            records = run(
                server, [*block, *NEIGHBOURS], plugins=[PLUGIN], measure=MEASURE, run=RUN, mode=mode
            )
            lost = [name for name in NEIGHBOURS if records[name].status is not Status.OK]
            for name in block:
                fault = f"lost neighbours: {lost}" if lost else _fault(records.get(name))
                what = name.partition("_in_")[0]
                fault = f"{name}: {fault}" if fault else ""
                yield Trial(what=f"{what}: {_end(records, name)}", fault=fault)


def _end(records: dict[str, Record], name: str) -> str:
    return str(records[name].status) if name in records else "no record"


def _fault(record: Record | None) -> str:
    """Why this is no proper end of a mechanism that did something wrong; empty if it is."""
    if record is None:
        return "no record"
    if record.status in (Status.OK, Status.SKIPPED):
        return "measured as if nothing had been"
    said = f"{record.reason}{record.detail}"
    if not record.reason or len(said) > 60_000 or "\x1b" in said:
        return f"no reason that could be printed: {said[:500]!r}"
    return "" if Record.from_json(record.to_json()) == record else "it is read as another record"
