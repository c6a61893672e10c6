"""Softmax and gla as a sweep times them, beside other tools.

Use: `python -m tools.other_timers [rounds=5]`.

Each round runs every tool once, in random order, each in a process of its own, with one thread. A
tool that is not installed is left out. Run it on a machine that does nothing else.
"""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
import tempfile
from collections.abc import Callable
from itertools import product
from pathlib import Path
from statistics import median

from bench.publishing.document import markdown_table

ROOT = Path(__file__).resolve().parent.parent
LENGTHS = (256, 1024, 4096)
SHAPE = (1, 4, 64)
"""Batch size, heads and channels per head."""
BASE = "torch.utils.benchmark"
CALLS = {
    "softmax": "attend(q, k, v)",
    "softmax, causal": "attend(q, k, v, is_causal=True)",
    "gla, causal": "gla.forward(q, k, v, log_decay=decay)",
}
"""Python lines that other tools time; each has the mechanism of a sweep's row."""

Seconds = dict[tuple[str, int], float]
"""Median seconds by call and length."""

_INPUTS = """
import torch
from torch.nn.functional import logsigmoid, scaled_dot_product_attention as attend
from attentions import Geometry, build_attention
torch.set_num_threads(1)
torch.manual_seed(0)
q, k, v, decay = torch.randn(4, {batch}, {heads}, {length}, {width})
decay = logsigmoid(decay) / 16
shape = Geometry(num_heads={heads}, head_dim={width}, seq_len={length}, causal=True)
gla = build_attention("gla", shape).eval()
"""
_BY_TORCH = """
from torch.utils.benchmark import Timer
with torch.no_grad():
    timer = Timer({call!r}, globals=globals(), num_threads=1)
    print(timer.blocked_autorange(min_run_time=2.0).median)
"""


def setup(length: int) -> str:
    """Python lines that make the inputs, and gla."""
    batch, heads, width = SHAPE
    return _INPUTS.format(batch=batch, heads=heads, length=length, width=width)


def by_sweep() -> Seconds:
    """Median seconds as records of sweeps say them."""
    return {
        (call, length): seconds
        for call in CALLS
        for length, seconds in _by_sweep(call.split(",")[0], "causal" in call).items()
    }


def _by_sweep(mechanism: str, causal: bool) -> dict[int, float]:
    batch, heads, width = SHAPE
    with tempfile.TemporaryDirectory() as folder:
        words = [
            *(
                f"attention=[{mechanism}]",
                f"causal={str(causal).lower()}",
                f"seq_len=[{','.join(map(str, LENGTHS))}]",
                "task=[]",
            ),
            *(f"batch_size={batch}", f"num_heads={heads}", f"head_dim={width}", "device=cpu"),
            *("charts=false", "wandb.mode=disabled", "require_ok=true", f"out={folder}"),
        ]
        run("-m", "bench.sweep", *words)
        files = Path(folder, "records").glob("*.jsonl")
        records = [json.loads(line) for file in files for line in file.read_text().splitlines()]
    return {record["cell"]["seq_len"]: median(record["result"]["latency_s"]) for record in records}


def by_torch() -> Seconds:
    """Median seconds of torch.utils.benchmark, each in a process of its own."""
    return {
        (call, length): float(run("-c", setup(length) + _BY_TORCH.format(call=line)))
        for call, line in CALLS.items()
        for length in LENGTHS
    }


def by_pyperf() -> Seconds:
    """Median seconds of ``pyperf timeit``, over its twenty processes."""
    found = {}
    for call, length in product(CALLS, LENGTHS):
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder) / "found.json"
            lines = setup(length) + "torch.set_grad_enabled(False)"
            run(*("-m", "pyperf", "timeit", "-q", "-o", file, "-s", lines, CALLS[call]))
            found[call, length] = float(run("-c", _MEDIAN, file))
    return found


_MEDIAN = "import sys, pyperf; print(pyperf.Benchmark.load(sys.argv[1]).median())"


def run(*words: str | Path) -> str:
    """Output of Python called with some words, run in the repository's root.

    Raises:
        SystemExit: it failed; with what it said.
    """
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    line = [sys.executable, *map(str, words)]
    done = subprocess.run(line, cwd=ROOT, env=environment, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"{' '.join(line)[:200]} ended with {done.returncode}:\n{done.stderr}")
    return done.stdout.strip()


def table(rounds: list[dict[str, Seconds]]) -> str:
    """Medians over rounds, and their ratios to torch.utils.benchmark, as a pipe table."""
    rows = []
    for tool in sorted(rounds[0]):
        for call, length in product(CALLS, LENGTHS):
            own = [seconds[tool][call, length] for seconds in rounds]
            ratio = median(each[tool][call, length] / each[BASE][call, length] for each in rounds)
            shown = " ".join(f"{1e6 * one:.1f}" for one in own)
            rows.append((tool, call, f"{length:,}", shown, f"{ratio:.3f}"))
    head = ("tool", "call", "tokens", "median of each round (µs)", "ratio")
    return markdown_table(head, rows, "llrrr")


def main(words: list[str]) -> int:
    """Run the tools in turn and print the table."""
    given = dict(word.partition("=")[::2] for word in words)
    num_rounds = int(given.get("rounds", "5"))
    tools: dict[str, Callable[[], Seconds]] = {"attnbench": by_sweep, BASE: by_torch}
    code = "import importlib.util as u; print(u.find_spec('pyperf') is not None)"
    if run("-c", code) == "True":
        tools["pyperf"] = by_pyperf
    else:
        print("pyperf is not installed, and left out: pip install pyperf")
    rounds = []
    for index in range(num_rounds):
        order = random.sample(sorted(tools), len(tools))
        print(f"round {index + 1} of {num_rounds}: {', '.join(order)}", file=sys.stderr)
        rounds.append({tool: tools[tool]() for tool in order})
    print(table(rounds))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
