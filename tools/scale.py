"""How planning, leasing and resuming grow with a plan: `python -m tools.scale 1000 10000`.

Nothing is measured: the records are made up, and the sweeps are simulated in one process.
Each step runs in a process of its own, which tells its seconds and the most memory that it had.
Without sizes all are run, and docs/scaling.md gets the table; 1 if a step took too much.
"""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TypedDict

from bench.core.cell import Cell
from bench.core.cli.command import CONF, read_yaml
from bench.core.cli.files import write_whole
from bench.core.clock import cpu_s, now_s, utc_now
from bench.core.record import Record, Status
from bench.core.store import Store, Tail, read_records, records_folder
from bench.measuring.config import SweepConfig, read_sweep_config
from bench.measuring.machine import environment
from bench.measuring.plan import plan, reference_cell
from bench.measuring.sharing.leases import Leases
from bench.measuring.sharing.work import SharedWork
from bench.measuring.todo import missing
from bench.publishing.document import markdown_table
from tests import records as made
from tests.page_parts import with_part

NUM_SWEEPS = 100
SIZES = (1_000, 10_000, 100_000)
STEPS = ("planning", "leasing", "resuming")
MOST_CPU_S, MOST_MIB = 60.0, 2048.0
"""Most CPU seconds and MiB that each step may take."""

ROOT = Path(__file__).resolve().parent.parent
PAGE = ROOT / "docs" / "scaling.md"
ENTRIES = ("softmax", "linear", "performer", "flatten", "nala", "cosformer", "polaformer")
SHAPES_OF_ONE_LENGTH = 2 * 2 * len(ENTRIES)


class Cost(TypedDict):
    """Time of a step in seconds, and the most memory of its process in MiB."""

    wall_s: float
    cpu_s: float
    peak_mib: float


@contextmanager
def costed() -> Iterator[None]:
    """Print what the body took, as JSON."""
    started, worked = now_s(), cpu_s()
    yield
    wall, cpu = now_s() - started, cpu_s() - worked
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**10
    print(json.dumps(Cost(wall_s=round(wall, 1), cpu_s=round(cpu, 1), peak_mib=round(peak))))


def config_of(num_cells: int, out: Path) -> SweepConfig:
    """A plan of about so many cells: lengths, two dtypes, two modes, and seeds of a task."""
    num_lengths = max(1, round(0.9 * num_cells / SHAPES_OF_ONE_LENGTH))
    num_seeds = max(1, num_cells // 10 // len(ENTRIES))
    return read_sweep_config(
        read_yaml(CONF / "sweep.yaml")
        | {
            "attention": {name: {"mechanism": name} for name in ENTRIES},
            "task": {"recall": {"task": "recall"}},
            "rates": None,
            "seq_len": list(range(64, 64 + num_lengths)),
            "dtype": ["float32", "bfloat16"],
            "mode": ["forward", "forward_backward"],
            "seed": list(range(num_seeds)),
            "out": str(out),
        }
    )


def planning(num_cells: int, out: Path) -> None:
    """From a configuration to checked cells."""
    config = config_of(num_cells, out)
    with costed():
        plan(config)


def cells_of(num_cells: int) -> list[Cell]:
    """Cells of as many blocks, cheaply made."""
    return [made.kernel_cell("linear", seq_len=64 + number) for number in range(num_cells)]


def leasing(num_cells: int, out: Path) -> None:
    """100 sweeps lease work, write a record and release it, each knowing what the others wrote."""
    cells = cells_of(num_cells)
    with costed(), ExitStack() as stack:
        stores = [Store(out, f"sweep-{number}") for number in range(NUM_SWEEPS)]
        leases = [stack.enter_context(Leases(out)) for _ in range(NUM_SWEEPS)]
        tail = Tail(out)
        tail.leave_out(stores[0])
        # One sweep reads what the others write; all of them would share this process's memory.
        first = SharedWork(leases[0], tail, lambda record, cell: True, cells, lambda record: None)
        for number, cell in enumerate(cells):
            sweep = number % NUM_SWEEPS
            if sweep == 0:
                assert first.acquire(cell.block, [cell], "a block")
            else:
                assert leases[sweep].acquire(cell.block, "a block")
            record = made.failed_record(cell, Status.INCORRECT, "made up")
            with stores[sweep].path.open("a") as file:  # unsynced: this is no test of the disk
                file.write(record.to_json() + "\n")
            leases[sweep].release(cell.block)


def resuming(num_cells: int, out: Path) -> None:
    """Time the search for cells that are still to do, where the store has all of them."""
    here = environment.current(("cpu",), "retain", {})
    planned = plan(config_of(num_cells, out))
    write_records([p.cell for p in planned], out, here)
    with costed():
        todo = missing(planned, read_records(out), here)
    assert todo == []


def write_records(cells: Sequence[Cell], out: Path, here: environment.Environment) -> None:
    """A record of each, as a sweep leaves them, in as many files as there are sweeps."""
    samples = [1e-3 + 1e-6 * number for number in range(30)]
    records_folder(out).mkdir(parents=True)
    files = [records_folder(out) / f"sweep-{number}.jsonl" for number in range(NUM_SWEEPS)]
    with ExitStack() as stack:
        opened = [stack.enter_context(file.open("w")) for file in files]
        for number, cell in enumerate(cells):
            opened[number % NUM_SWEEPS].write(_record(cell, samples, here).to_json() + "\n")


def _record(cell: Cell, samples: list[float], here: environment.Environment) -> Record:
    told = {"freshness": environment.freshness(cell, here), "environment": here.to_dict()}
    if cell.is_task:
        return made.failed_record(cell, Status.DIVERGED, "made up", **told)
    reference = reference_cell(cell)
    speed = made.speed(samples, reference=reference.entry, reference_key=reference.key)
    return made.ok_record(cell, speed, **told)


def table(costs: dict[tuple[int, str], Cost]) -> str:
    """Markdown table of the steps' times and memory at each size."""
    head = ("cells", "step", "CPU time", "wall time", "most memory")
    rows = [
        (
            f"{size:,}",
            step,
            f"{cost['cpu_s']:.1f} s",
            f"{cost['wall_s']:.1f} s",
            f"{cost['peak_mib']:,.0f} MiB",
        )
        for (size, step), cost in costs.items()
    ]
    return markdown_table(head, rows, "rlrrr")


def run(sizes: Sequence[int]) -> dict[tuple[int, str], Cost]:
    """Each step at each size, in a process of its own."""
    costs = {}
    for size in sizes:
        for step in STEPS:
            print(f"{size:,} cells, {step} ...", file=sys.stderr)
            line = [sys.executable, "-m", "tools.scale", step, str(size)]
            done = subprocess.run(line, cwd=ROOT, check=True, stdout=subprocess.PIPE, text=True)
            costs[size, step] = json.loads(done.stdout)
    return costs


def main(words: list[str]) -> int:
    """Run a step, or all of them at some sizes."""
    if words and words[0] in STEPS:
        with tempfile.TemporaryDirectory() as folder:
            globals()[words[0]](int(words[1]), Path(folder, "out"))
        return 0
    costs = run([int(word) for word in words] or SIZES)
    print(table(costs))
    if not words:
        here = environment.current((), "retain", {})
        line = (
            f"Measured {utc_now()[:10]} at commit {(here.commit or '')[:7]}, on {here.num_cores} "
            f"cores ({here.processor}) at load average {os.getloadavg()[2]:.1f}"
        )
        part = f"{line}\n\n{table(costs)}"
        write_whole(PAGE, with_part(PAGE.read_text(), "scale", part))
    is_met = all(c["cpu_s"] <= MOST_CPU_S and c["peak_mib"] <= MOST_MIB for c in costs.values())
    return 0 if is_met else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
