"""How large and how fast the page of 100,000 records is: `python tools/bench_page.py`.

Makes a store of that size, builds the page in a fresh process, opens it in Chromium and sets
filters. Prints what it measured, and what is promised, and writes both to results/bench-page.json.
Beside seconds stand CPU seconds, of the process or of the tab's main thread: on a machine that does
other things too, these are nearer to what it costs.
"""

from __future__ import annotations

import json
import os
import random
import resource
import shutil
import subprocess
import sys
import tempfile
import time  # noqa: TID251  # nothing of what is published is timed here
from collections.abc import Iterator
from itertools import product
from pathlib import Path
from typing import Any

from bench.core.cell import Cell, KernelWorkload, TaskWorkload
from bench.core.record import Quality, Record, Speed, Status
from bench.core.rows import row_labels, settings_of

NUM_RECORDS = 100_000
NUM_SAMPLES = 20
NUM_ENTRIES = 40
NUM_TASK_RECORDS = 2_000
RESULT = Path("results/bench-page.json")
PROMISED = {
    "build_s": 120.0,
    "build_bytes": 1e9,
    "opens_s": 3.0,
    "filter_s": 0.2,
    "page_without_data_bytes": 3e6,
}
ENVIRONMENT = {
    "processor": "Imaginary 9000",
    "num_cores": 2,
    "memory_bytes": 24 * 2**30,
    "versions": {"torch": "2.13.0"},
    "devices": {"cpu": "Imaginary 9000"},
    "allocator": "retain",
    "commit": "0" * 40,
    "is_dirty": False,
}


def main() -> int:
    """Measure; 1 if a promise is not kept."""
    if sys.argv[1:2] == ["build"]:
        return build(Path(sys.argv[2]))
    found: dict[str, float] = {"load_before": os.getloadavg()[0]}
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder)
        fill(out)
        found["store_bytes"] = sum(f.stat().st_size for f in (out / "records").iterdir())
        found |= {f"build_{what}": value for what, value in built(out).items()}
        found |= opened(out / "leaderboard.html")
    return said(found)


def fill(out: Path) -> None:
    """Write the store, a file for every 10,000 records as sweeps would."""
    (out / "records").mkdir()
    draw = random.Random(1)
    cells = [*timed_cells(), *task_cells()]
    for start in range(0, len(cells), 10_000):
        lines = (record(cell, draw).to_json() for cell in cells[start : start + 10_000])
        text = "\n".join(lines) + "\n"
        (out / "records" / f"sweep-{start:06}.jsonl").write_text(text)


def timed_cells() -> Iterator[Cell]:
    """Cells of many settings and lengths, a block after the other."""
    entries = [label for label in row_labels() if label != "softmax"][: NUM_ENTRIES - 1]
    axes = product(
        ("float32", "bfloat16"),
        ("forward", "forward_backward"),
        (False, True),
        (1, 2, 4, 8, 16, 32),
        (32, 64, 128),
        (2, 4, 8, 12),
        (128, 256, 512, 1024, 2048, 4096, 8192, 16384, 32768),
    )
    left = NUM_RECORDS - NUM_TASK_RECORDS
    for dtype, mode, causal, batch_size, head_dim, num_heads, seq_len in axes:
        for entry in ("softmax", *entries):
            if not left:
                return
            left -= 1
            work = KernelWorkload(
                seq_len=seq_len,
                batch_size=batch_size,
                num_heads=num_heads,
                head_dim=head_dim,
                dtype=dtype,
                mode=mode,
                causal=causal,
                scope="core",
            )
            yield cell_of(entry, work)


def task_cells() -> Iterator[Cell]:
    """Training runs of ten tasks over five seeds."""
    entries = row_labels()[:NUM_ENTRIES]
    for task, entry, seed in product(range(10), entries, range(NUM_TASK_RECORDS // 400)):
        yield cell_of(
            entry, TaskWorkload(label=f"task{task}", task="recall", settings={}, seed=seed)
        )


def cell_of(entry: str, work: KernelWorkload | TaskWorkload) -> Cell:
    """A cell as its YAML sets it."""
    settings = dict(settings_of(entry) or {})
    mechanism = settings.pop("mechanism", entry)
    return Cell(
        entry=entry,
        mechanism=mechanism,
        hyperparameters=settings,
        device="cpu",
        num_threads=1,
        workload=work,
    )


def record(cell: Cell, draw: random.Random) -> Record:
    """A plausible record of a cell."""
    if isinstance(cell.workload, TaskWorkload):
        steps = tuple(range(50, 1001, 50))
        score = draw.uniform(0.5, 1)
        result: Speed | Quality = Quality(
            accuracy=score,
            chance=0.1,
            guess="one of ten",
            num_examples=1000,
            num_parameters=70_000,
            losses=tuple(3 / step for step in steps),
            validation_steps=steps,
            validation=tuple(score * step / 1000 for step in steps),
        )
    else:
        base = 1e-8 * cell.kernel.seq_len * cell.kernel.batch_size * draw.uniform(1, 3)
        beside = random.Random(f"{cell.block} {cell.kernel.seq_len}")
        scale = 2e-8 * cell.kernel.seq_len * cell.kernel.batch_size
        result = Speed(
            latency_s=tuple(base * draw.uniform(1, 1.2) for _ in range(NUM_SAMPLES)),
            rounds=tuple(range(NUM_SAMPLES)),
            rounds_key=f"{cell.block}-{cell.kernel.seq_len}",
            reference_key="0" * 16,
            reference_latency_s=tuple(scale * beside.uniform(1, 1.2) for _ in range(NUM_SAMPLES)),
            reference_rounds=tuple(range(NUM_SAMPLES)),
            flops=cell.kernel.seq_len * 10**6,
            peak_memory_bytes=cell.kernel.seq_len * draw.randrange(1000, 3000),
            num_parameters=0,
            tokens_per_call=cell.kernel.num_tokens,
            rms_error=1e-7,
            oracle="softmax",
            checked_len=cell.kernel.seq_len,
        )
    return Record(
        cell=cell,
        status=Status.OK,
        result=result,
        environment=ENVIRONMENT,
        freshness="f" * 16,
        started_at="2031-05-06T07:08:09Z",
        sweep="sweep",
    )


def build(out: Path) -> int:
    """Write the page of a folder; prints seconds and bytes. Runs in a process of its own."""
    from omegaconf import OmegaConf

    from bench.core.store import read_records
    from bench.publishing.config import read_publish_config
    from bench.publishing.leaderboard import build_leaderboard
    from bench.publishing.page.assemble import write_page

    composed: Any = OmegaConf.to_container(OmegaConf.load("conf/publish/default.yaml"))
    config = read_publish_config(composed | {"out": str(out)})
    started, started_cpu = time.perf_counter(), time.process_time()
    records = read_records(out)
    path = write_page(build_leaderboard(records, config.controls), records, config)
    found = {
        "s": time.perf_counter() - started,
        "cpu_s": time.process_time() - started_cpu,
        "bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
        "page_bytes": path.stat().st_size,
    }
    print(json.dumps(found))
    return 0


def built(out: Path) -> dict[str, float]:
    """Seconds and bytes that `build` prints of itself, from a process of its own."""
    command = [sys.executable, __file__, "build", str(out)]
    answer = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    found: dict[str, float] = json.loads(answer.splitlines()[-1])
    return found


def opened(page: Path) -> dict[str, float]:
    """Seconds until the page shows its table in Chromium, and until a filter has answered."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        chromium = shutil.which("chromium")
        flags = ["--no-sandbox", "--disable-background-networking"]
        browser = playwright.chromium.launch(executable_path=chromium, args=flags)
        tab = browser.new_page()
        session = tab.context.new_cdp_session(tab)
        session.send("Performance.enable", {"timeDomain": "threadTicks"})

        def cpu_s() -> float:
            metrics = session.send("Performance.getMetrics")["metrics"]
            return float(next(one["value"] for one in metrics if one["name"] == "ThreadTime"))

        started = time.perf_counter()
        tab.goto(page.as_uri())
        tab.wait_for_selector("#table .tabulator-row", timeout=120_000)
        found = {"opens_s": time.perf_counter() - started, "opens_cpu_s": cpu_s()}
        for name, value in (("filter", "forward_backward"), ("filter_all", "*")):
            tab.wait_for_function(_IS_DRAWN, timeout=120_000)
            before = cpu_s()
            found[f"{name}_s"] = tab.evaluate(_ANSWER, value)
            found[f"{name}_cpu_s"] = cpu_s() - before
        data = tab.evaluate("document.getElementById('content').textContent.length")
        browser.close()
    return found | {"page_without_data_bytes": page.stat().st_size - data}


_IS_DRAWN = "document.getElementById('charts').dataset.drawn == drawing"


_ANSWER = """async (value) => {
  const box = document.getElementById("filter-mode");
  const table = document.getElementById("table");
  const before = table.dataset.ready;
  const started = performance.now();
  box.value = value;
  box.dispatchEvent(new Event("change"));
  while (table.dataset.ready === before || !document.querySelector("#table .tabulator-row")) {
    await new Promise((ready) => requestAnimationFrame(ready));
  }
  return (performance.now() - started) / 1000;
}"""


def said(found: dict[str, float]) -> int:
    """Print and store the numbers; 1 if one is above what is promised."""
    broken = [name for name, most in PROMISED.items() if found[name] > most]
    for name, value in found.items():
        promise = f"  (promised: {PROMISED[name]:,.6g} at most)" if name in PROMISED else ""
        print(f"{name:26} {value:>16,.3f}{promise}{'  BROKEN' if name in broken else ''}")
    RESULT.parent.mkdir(exist_ok=True)
    facts = {"num_records": NUM_RECORDS, "num_samples": NUM_SAMPLES, "found": found}
    RESULT.write_text(json.dumps(facts | {"promised": PROMISED}, indent=1) + "\n")
    print(f"Wrote {RESULT}")
    return 1 if broken else 0


if __name__ == "__main__":
    sys.exit(main())
