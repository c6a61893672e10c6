"""Pages of made-up records, and a mechanism with a name that would like to be a tag."""

import base64
import json
import random
import zlib
from dataclasses import replace
from pathlib import Path

import numpy as np

from bench.core.numbers import FILE, Number, write_lines
from bench.core.record import Filtered, Record, Status
from bench.core.rows import task_settings_of
from bench.publishing.config import PublishConfig
from bench.publishing.leaderboard import Leaderboard, build_leaderboard
from bench.publishing.page.assemble import write_page
from bench.publishing.page.content import page_content
from tests import records as made

METRICS = (
    *("latency_s", "speedup_over"),
    *("flops", "peak_memory_bytes", "accuracy", "chance", "num_steps"),
    *("flops_per_s", "arithmetic_intensity", "roofline_fraction"),
)
CEILING = made.ceiling(flops_per_s=1e12, bytes_per_s=[[2**15, 2e11], [2**40, 1e10]], library="any")
RUDE = "<img src=x onerror=alert(1)></script><!--"


def config(out: Path) -> PublishConfig:
    return PublishConfig(out=out, metrics=METRICS, columns=("speedup_over",), controls=("none",))


def board(records: list[Record]) -> Leaderboard:
    return build_leaderboard(records, ("none",))


def learned(record: Record) -> Record:
    """A training run with a learning curve, and with fewer tokens."""
    end = record.result.accuracy
    curve = {"validation_steps": (10, 50, 100), "validation": (0.1, end / 2, end)}
    fewer = tuple(
        Filtered(
            filter="random",
            keep=keep,
            num_tokens=4,
            accuracy=end * keep,
            flops=int(1000 * keep),
            latency_s=[keep] * 6,
            unfiltered_latency_s=[1.0] * 6,
        )
        for keep in (0.25, 0.5)
    )
    return made.changed(record, flops=1000, filtered=fewer, **curve)


TEST_SET = "0123456789abcdef"


def solved(record: Record, right: np.ndarray | None = None) -> Record:
    """A training run that keeps which of its answers were right, four to an example."""
    if right is None:
        count, num = round(record.result.accuracy * 400), 400
        places = random.Random(record.to_json()).sample(range(num), count)
        right = np.isin(np.arange(num), places)
    return made.changed(
        record,
        accuracy=float(right.mean()),
        num_examples=right.size,
        answers=base64.b64encode(zlib.compress(np.packbits(right).tobytes())).decode(),
        answers_per_cluster=4,
        test_set=TEST_SET,
    )


def with_examples(out: Path, **changes: object) -> Path:
    """A folder with the first two examples of that test set."""
    content = {
        "task": "recall",
        "test_set": TEST_SET,
        "num_examples": 2,
        "inputs": [[1, 2, 3, 4, 5], [6, 7, 8, 9, 1]],
        "targets": [[11, 12, 13, 14], [15, 16, -100, -100]],
        "positions": [[0, 1, 2, 3], [3, 4, 0, 0]],
    }
    file = out / "examples" / f"{TEST_SET}.json"
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(content | changes))
    return out


def diagnosed(out: Path) -> Path:
    """A folder in which `bench.diagnose` was, too."""
    lines = [
        Number(
            attention=name,
            inputs="random",
            measure="entropy",
            at=f"norm {norm}",
            samples=(1 / norm,),
        )
        for name in ("softmax", RUDE)
        for norm in (1, 2, 4)
    ]
    write_lines(out / FILE, lines)
    return out


def rude_records() -> list[Record]:
    """A block in which one name, one reason and one mark's text are markup."""
    named = [
        replace(r, cell=replace(r.cell, entry=RUDE)) if r.cell.entry == "nala" else r
        for r in made.block_records(("softmax", "nala"), seq_len=256)
    ]
    hole = made.failed_record(made.kernel_cell("linear"), Status.ERROR, f"said {RUDE}")
    return [*named, hole]


def planned(record: Record, label: str, **changes: object) -> Record:
    """A training run as a sweep plans it, with every setting of the YAML of recall."""
    usual = task_settings_of("recall") or {}
    settings = {name: value for name, value in usual.items() if name != "task"} | changes
    work = replace(record.cell.task, label=label, settings=settings, shared_rate=None)
    return replace(record, cell=replace(record.cell, workload=work))


def sweep() -> list[Record]:
    """A sweep with everything in it, and an older one of some of its cells."""
    old = [
        replace(r, started_at="2031-05-05T00:00:00Z", sweep="older")
        for r in made.block_records(("softmax", "nala"), seq_len=256, seed=5)
    ]
    tasks = [solved(learned(r)) for r in made.task_records(task="recall")]
    tasks += [learned(r) for r in made.task_records(task="digits")]
    others = [r for r in made.sweep_records() if not r.cell.is_task or r.result is None]
    calibrated = made.ENVIRONMENT | {"calibration": {"ceilings": [CEILING]}}
    return [*old, *(replace(r, environment=calibrated) for r in others), *tasks]


def written(records: list[Record], out: Path) -> Path:
    return write_page(board(records), records, config(out))


def content(records: list[Record], out: Path) -> dict[str, object]:
    return page_content(board(records), records, config(out))
