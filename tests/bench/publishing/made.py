"""A made-up store with one of everything that a page can show, from which pages are frozen.

It is made once and then read from the frozen files, so that neither `tests.records` nor another
machine's rounding changes what goes in. Its only mechanism with a description is a plugin's.
"""

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from bench.core.examples import examples_folder
from bench.core.numbers import FILE, LeftOut, Number, Origin, write_lines
from bench.core.proofs import Badge, BadgeStatus, append_badges
from bench.core.record import Record, Status
from tests import records as made
from tests.bench.publishing.timed import PLUGIN, PLUGIN_MODULE, gpu_records, timed_records
from tests.bench.publishing.trained import NUM_ANSWERS, PER_EXAMPLE, TEST_SET, trained_records

OLD, NEW, OTHER, FIRST_SCHEMA = "older", "2031-05-06T070809-abc123/0", "other", "schema-1"
HERE = made.ENVIRONMENT | {"calibration": {"ceilings": [made.ceiling(flops_per_s=1e12)]}}
THERE = made.ENVIRONMENT | {
    "processor": "Imaginary(R) 12000 <b>",
    "num_cores": 64,
    "memory_bytes": 256 * 2**30,
    "versions": {"python": "3.12.1", "torch": "2.14.0", "numpy": "2.5.0"},
    "devices": {"cpu": "Imaginary(R) 12000 <b>", "cuda:0": "Imaginary GPU 80GB"},
    "allocator": None,
    "is_dirty": True,
}

PLUGIN_SOURCE = '''\
from attentions import Attention, Capabilities, register_attention


@register_attention(
    "frozen_plugin",
    title="A Mechanism That Is Only Made Up",
    source="Nobody et al., ICML 2031, Eq. 5",
    family="kernel",
    capabilities=Capabilities(causal=True, cross=True),
)
class FrozenPlugin(Attention):
    """Mixes ``v`` by a kernel of nothing.

    The second paragraph says more of it::

        o_i = sum_j phi(q_i) . phi(k_j) v_j

    and goes on after a formula.

    Args:
        scale: factor of the output.

    Hazards:
        - It exists in a test only.

    Differences:
        - None that anybody could name.
    """

    def __init__(self, geometry, scale: float = 1.0):
        super().__init__(geometry)
'''


def write_store(out: Path) -> None:
    """Write records of both schemas, examples, diagnostics, badges, and the plugin's source."""
    for sweep, records in (("new", new_records()), ("old", older_records())):
        made.stored(out, *records, name=sweep)
    file = out / "records" / "schema_1.jsonl"
    file.write_text("".join(f"{json.dumps(line)}\n" for line in first_schema_lines()))
    _write_examples(out)
    _write_diagnostics(out)
    badges = [
        Badge(claim="causal", status=BadgeStatus.FAILED, reason="sees <the> future"),
        Badge(claim="cross", status=BadgeStatus.PASSED, num_checks=12, torch="2.13.0"),
    ]
    append_badges(out, "run", PLUGIN, badges)
    verified = [{"mechanism": PLUGIN, "status": word} for word in ("passed", "passed", "failed")]
    (out / "verify.json").write_text(json.dumps(verified))
    package = out / "plugin"
    info = package / "frozen_plugin-1.5.dist-info"
    info.mkdir(parents=True)
    (package / f"{PLUGIN_MODULE}.py").write_text(PLUGIN_SOURCE)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: frozen-plugin\nVersion: 1.5\n")
    (info / "entry_points.txt").write_text(
        f"[attnbench.attentions]\n{PLUGIN_MODULE} = {PLUGIN_MODULE}\n"
    )


def new_records() -> list[Record]:
    """A sweep of two machines: kernels, layers, whole models, tasks, and what failed."""
    here = [*timed_records(), *trained_records(), *made.one_of_each_failure()]
    placed = [replace(r, environment=HERE, sweep=NEW) for r in here]
    there = [replace(r, environment=THERE, sweep=OTHER) for r in gpu_records()]
    there += [
        replace(record, environment=THERE, sweep=OTHER)
        for record in made.block_records(("softmax", "nala"), seq_len=256, num_rounds=12, seed=3)
    ]
    return [*placed, *there]


def older_records() -> list[Record]:
    """Records that newer ones replace, one of them with another method."""
    blocks = made.block_records(("softmax", "nala", "linear"), seq_len=256, num_rounds=12, seed=5)
    blocks += made.block_records(("softmax", "performer"), seq_len=512, num_rounds=12)
    aged = [replace(r, started_at="2031-05-05T00:00:00Z", sweep=OLD) for r in blocks]
    return [*aged[:-1], replace(aged[-1], method_version=2)]


def first_schema_lines() -> Iterator[dict[str, Any]]:
    """Lines as the first schema had them: fewer fields, one process, softmax as the reference."""
    later_of_speed = ("processes", "rounds_key", "reference", "reference_key", "calls_per_set")
    later_of_quality = ("train_accuracy", "score_error", "answers", "answers_per_cluster")
    later_of_quality += ("window_losses", "test_set", "ended", "causal", "filtered", "matched")
    later_of_cell = ("cache", "compile", "num_kv_heads", "key_len", "padding", "ragged")
    records = made.block_records(("softmax", "flatten"), seq_len=128, num_rounds=8)
    records += made.task_records(("softmax", "flatten"), task="digits", seeds=(0,))
    records.append(made.failed_record(made.kernel_cell("nala", seq_len=128), Status.ERROR, "No."))
    for record in records:
        aged = replace(record, started_at="2031-05-01T00:00:00+00:00", sweep=FIRST_SCHEMA)
        line = json.loads(aged.to_json()) | {"schema_version": 1, "method_version": 1}
        for name in ("digest", "training_version"):
            del line[name]
        for name in (*later_of_speed, *later_of_quality):
            (line["result"] or {}).pop(name, None)
        for name in later_of_cell:
            line["cell"].pop(name, None)
        yield line


def _write_examples(out: Path) -> None:
    content = {
        "task": "recall",
        "test_set": TEST_SET,
        "num_examples": NUM_ANSWERS // PER_EXAMPLE,
        "inputs": [[1, 2, 3, 4, 5], [6, 7, 8, 9, 1]],
        "targets": [[11, 12, 13, 14], [15, 16, 17, 18]],
        "positions": [[0, 1, 2, 3], [1, 2, 3, 4]],
    }
    file = examples_folder(out) / f"{TEST_SET}.json"
    file.parent.mkdir(parents=True)
    file.write_text(json.dumps(content))


def _write_diagnostics(out: Path) -> None:
    def number(
        attention: str, measure: str, at: str, *samples: float | None, inputs: str = "random"
    ) -> Number:
        return Number(attention=attention, inputs=inputs, measure=measure, at=at, samples=samples)

    lines: list[Number | LeftOut] = []
    for i, name in enumerate(("softmax", "nala", PLUGIN)):
        lines += [
            number(name, "entropy", f"norm {norm:g}", 1 / (norm + i), 1.02 / (norm + i))
            for norm in (0.5, 1, 2, 4)
        ]
        lines += [
            number(name, "entropy", "", 0.8 - 0.1 * i, 0.81 - 0.1 * i),
            number(name, "PSE", "", 4.0, 4.1 + i),
            number(name, "row sum", "", 1.0, None if i == 2 else 1.0),
            number(name, "gradient", "q", 0.1 * (i + 1)),
            number(name, "rounding error", "bfloat16, 256 tokens", 1e-3 * (i + 1)),
        ]
        lines += [
            number(name, measure, "", 0.4 + 0.1 * i, 0.5 + 0.1 * i, inputs="recall, layer 0")
            for measure in ("query norm", "entropy", "rank correlation")
        ]
    lines.append(LeftOut(attention="gla", inputs="random", why="it needs gates."))
    origin = Origin(
        command="python -m bench.diagnose", settings=("256 tokens, 2 seeds.",), machine="a CPU"
    )
    write_lines(out / FILE, lines, origin)
