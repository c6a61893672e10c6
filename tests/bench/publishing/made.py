"""A made-up store with one of everything that a page can show, from which pages are frozen.

It is made once and then read from the frozen files, so that neither `tests.records` nor another
machine's rounding changes what goes in. Its only mechanism with a description is a plugin's.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

<<<<<<< HEAD
import numpy as np

from bench.answers import error_of_score
from bench.core.badges import Badge, BadgeStatus, append_badges
from bench.core.numbers import FILE, LeftOut, Number, Origin, write_lines
=======
from bench.core.badges import Badge, BadgeStatus, append_badges
from bench.core.numbers import FILE, LeftOut, Number, Origin, write_lines
>>>>>>> wip-freeze
from bench.examples import examples_folder
from bench.record import Record, Status
from bench.store import Store
from tests import records as made
from tests.bench.publishing.timed import PLUGIN, PLUGIN_MODULE, gpu_records, timed_records
from tests.bench.publishing.trained import NUM_ANSWERS, PER_EXAMPLE, TEST_SET, trained_records

OLD, NEW, OTHER, FIRST_SCHEMA = "older", "2031-05-06T070809-abc123/0", "other", "schema-1"
HERE = made.ENVIRONMENT | {"calibration": {"ceilings": [made.ceiling()]}}
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
        store = Store(out, sweep)
        for record in records:
            store.append(record)
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
    """What newer records replace, one of them with another method."""
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


<<<<<<< HEAD
def _kernels() -> Iterator[Record]:
    few, num_rounds = ("softmax", "linear", "nala", "none"), 12
    for seq_len in (256, 1024, 4096):
        entries = [e for e in made.ENTRIES if e != "softmax_explicit" or seq_len <= 1024]
        yield from made.block_records(entries, seq_len=seq_len, num_rounds=20)
    for shape in (
        {"seq_len": 256, "mode": "forward_backward"},
        {"seq_len": 1024, "mode": "forward_backward"},
        {"seq_len": 1024, "dtype": "bfloat16"},
        {"seq_len": 512, "causal": True, "batch_size": 2},
        {"seq_len": 512, "scope": "layer", "mode": "train_step"},
        {"seq_len": 512, "cache": "cold"},
        {"seq_len": 512, "num_kv_heads": 2},
        {"seq_len": 512, "key_len": 64},
        {"seq_len": 512, "padding": 0.25},
        {"seq_len": 512, "ragged": 0.5, "batch_size": 3},
    ):
        yield from made.block_records(few, num_rounds=num_rounds, **shape)
    for mode in ("prefill", "decode"):
        for seq_len in (256, 1024):
            shape = {"seq_len": seq_len, "mode": mode, "causal": True}
            for record in made.block_records(few, num_rounds=num_rounds, **shape):
                is_growing = record.cell.entry == "softmax"
                size = 2048 * seq_len if is_growing else 65_536
                yield made.changed(record, state_bytes=size)
    for record in made.block_records(few, seq_len=256, num_rounds=20, seed=1):
        yield _compiled(record)
        yield _threaded(record)


def _compiled(record: Record) -> Record:
    work = replace(record.cell.kernel, compile="inductor")
    assert isinstance(record.result, Speed)
    faster = tuple(0.7 * value for value in record.result.latency_s)
    cell = replace(record.cell, workload=work)
    return made.changed(replace(record, cell=cell), latency_s=faster, compile_s=11.5)


def _threaded(record: Record) -> Record:
    assert isinstance(record.result, Speed)
    faster = tuple(0.6 * value for value in record.result.latency_s)
    cell = replace(record.cell, num_threads=2)
    return made.changed(replace(record, cell=cell), latency_s=faster)


def _marked() -> Iterator[Record]:
    """One row for each mark of a timed cell."""
    amiss: tuple[tuple[str, dict[str, Any]], ...] = (
        ("softmax", {}),
        ("linear", {"leaks_future": True}),
        ("performer", {"flops_off": 3.14159}),
        ("flatten", {"is_view": True, "oracle": "itself"}),
        ("nala", {"checked_len": 128, "checked_share": 0.125, "is_noisy": True}),
        ("nala_cosine", {"cpu_per_wall": 1.9}),
    )
    timed = made.block_records(
        [e for e, _ in amiss], seq_len=512, num_rounds=12, dtype="float64", causal=True
    )
    for record, (_, changes) in zip(timed, amiss, strict=True):
        yield made.changed(record, **changes)


def _plugins() -> Iterator[Record]:
    """A plugin's mechanism under a row of its own in two settings, and beside another reference."""
    for record in made.block_records(("softmax", "nala", "linear"), seq_len=2048, num_rounds=12):
        if record.cell.entry == "softmax":
            yield record
            continue
        settings = {"scale": 1.0 if record.cell.entry == "nala" else 0.5}
        cell = replace(
            record.cell,
            entry=PLUGIN,
            mechanism=PLUGIN,
            hyperparameters=settings,
            plugins=(PLUGIN_MODULE,),
        )
        yield made.changed(replace(record, cell=cell), is_foreign=True)
    against = made.block_records(("linear", "nala"), seq_len=768, num_rounds=12)
    key = against[0].cell.key
    for record in against:
        yield made.changed(record, reference="linear", reference_key=key, rounds_key="r" * 8)


def _processes() -> Iterator[Record]:
    """Rounds that were taken in three processes."""
    for record in made.block_records(("softmax", "flatten"), seq_len=640, num_rounds=12):
        assert isinstance(record.result, Speed)
        processes = tuple(i // 4 for i in range(len(record.result.rounds)))
        yield made.changed(record, processes=processes, rounds_key="p" * 8)


def _on_a_gpu() -> Iterator[Record]:
    for record in made.block_records(
        ("softmax", "nala"), seq_len=1024, dtype="float16", num_rounds=12, seed=2
    ):
        cell = replace(record.cell, device="cuda:0")
        yield replace(record, cell=cell)
    cell = made.kernel_cell("linear", seq_len=1024, dtype="float16", device="cuda:0")
    yield made.failed_record(cell, Status.OUT_OF_MEMORY, "It asked for 96 GiB; 80 GiB were free.")


def _models() -> Iterator[Record]:
    for image_size, first_s in ((224, 0.1), (384, 0.3)):
        for mode in ("forward", "train_step"):
            yield from made.model_records(first_s=first_s, image_size=image_size, mode=mode)
    cell = made.model_cell("performer", image_size=384)
    yield made.failed_record(cell, Status.SKIPPED, "performer cannot stand in nalaformer_xt.")


def _rude() -> Iterator[Record]:
    """A name and a reason that would like to be markup."""
    record = made.block_records(("softmax",), seq_len=320, num_rounds=12)[0]
    yield record
    yield replace(record, cell=replace(record.cell, entry=RUDE))
    yield made.failed_record(
        made.kernel_cell("linear", seq_len=320), Status.ERROR, f"said {RUDE}", detail="Traceback\n"
    )


def _tasks() -> Iterator[Record]:
    yield from _recalls()
    yield from made.task_records(made.ENTRIES[:4], task="digits")  # as records were at first
    yield from _filtered_digits()
    yield from _bytes()
    yield from _searched()
    yield from _doubled()
    yield from _untrained()


_RECALL = {"seq_len": 64, "num_pairs": 4, "causal": False, "num_steps": 600, "batch_size": 64}


def _recalls() -> Iterator[Record]:
    """Recall at two numbers of pairs, with all that a training keeps today."""
    entries = ("softmax", "linear", "nala", "flatten", "uniform", "none")
    for num_pairs in (4, 16):
        settings = _RECALL | {"num_pairs": num_pairs, "match": "state" if num_pairs == 16 else ""}
        settings |= {"num_layers": 2, "embed_dim": 64, "num_heads": 4}
        for record in made.task_records(entries):
            seed, entry = record.cell.task.seed, record.cell.entry
            label = f"recall num_pairs={num_pairs}"
            cell = made.task_cell(entry, "recall", seed, settings=settings)
            work = replace(cell.task, label=label, is_at_edge=entry == "flatten")
            own = replace(record, cell=replace(cell, workload=work))
            yield _learned(_solved(own, lag=num_pairs), num_pairs)


def _learned(record: Record, num_pairs: int) -> Record:
    assert isinstance(record.result, Quality)
    end, entry, seed = record.result.accuracy, record.cell.entry, record.cell.task.seed
    is_slow = entry == "linear" and seed == 2
    changes: dict[str, Any] = {
        "ended": "maximum" if is_slow else ("ceiling" if end > 0.9 else "plateau"),
        "num_steps": 600 if is_slow else 300,
        "steps_to_90": 120 + 30 * seed if end > 0.9 else None,
        "validation_steps": (100, 200, 300),
        "validation": (0.1, end / 2, end),
        "validation_error": 0.01,
        "train_accuracy": min(1.0, end + 0.01),
        "plateaus": {"one of the shown values": 1 / num_pairs},
        "longer": {"128": end * 0.8, "256": end * 0.5},
        "state_bytes": 32_768 if entry != "softmax" else None,
        "causal": False,
        "collapsed": entry == "flatten" and seed == 1,
        "flops": 1_234_567,
        "num_parameters": 70_000 if entry != "nala" else 72_000,
    }
    if entry == "nala":
        changes |= {"gates": ("decay",), "matched": "feature_dim=16"}
    return made.changed(record, **changes)


def _solved(record: Record, lag: int = 0) -> Record:
    """With which of its answers were right, and the error that these have."""
    assert isinstance(record.result, Quality)
    draw = random.Random(f"{record.cell.entry} {record.cell.task.seed} {lag}")
    count = round(record.result.accuracy * NUM_ANSWERS)
    right = np.isin(np.arange(NUM_ANSWERS), draw.sample(range(NUM_ANSWERS), count))
    sums = right.reshape(-1, PER_EXAMPLE).sum(1)
    return made.changed(
        record,
        accuracy=float(right.mean()),
        num_examples=NUM_ANSWERS,
        score_error=error_of_score(sums, np.full(len(sums), PER_EXAMPLE)),
        answers=_packed(np.packbits(right).tobytes()),
        answers_per_cluster=PER_EXAMPLE,
        test_set=TEST_SET if lag == PER_EXAMPLE else "f" * 16,
    )


def _packed(content: bytes) -> str:
    return base64.b64encode(zlib.compress(content)).decode()


def _filtered_digits() -> Iterator[Record]:
    """Digits with token filters, one of which a mechanism cannot take."""
    shares, names = (0.25, 0.5), ("random", "object_rate", "attention_rate")
    for record in made.task_records(("softmax", "nala"), task="digits"):
        assert isinstance(record.result, Quality)
        end = record.result.accuracy
        work = replace(
            record.cell.task, label="digits filtered", token_filters=names, token_keep=shares
        )
        rows = [
            Filtered(
                filter=name,
                keep=keep,
                num_tokens=int(64 * keep),
                accuracy=end * (0.5 + keep / 2) - 0.02 * i,
                flops=int(100_000 * keep),
                latency_s=[keep, keep * 1.1, keep * 0.9, keep, keep, keep],
                unfiltered_latency_s=[1.0, 1.1, 0.9, 1.0, 1.0, 1.0],
            )
            for i, name in enumerate(names[:2])
            for keep in shares
        ]
        rows += [Filtered(filter=names[2], keep=k, reason="It has no weights.") for k in shares]
        own = replace(record, cell=replace(record.cell, workload=work))
        yield made.changed(own, filtered=tuple(rows), flops=100_000, test_set="e" * 16)


def _bytes() -> Iterator[Record]:
    """A score with a unit, of which less is better, with the loss of each window."""
    for i, entry in enumerate(("softmax", "linear", "nala")):
        for seed in (0, 1, 2):
            losses = np.array([2.0 + 0.2 * i + 0.01 * seed + 0.001 * w for w in range(16)], "<f2")
            quality = Quality(
                accuracy=float(losses.astype(np.float64).mean()),
                chance=8.0,
                guess="each byte as likely as any other",
                num_examples=16,
                num_parameters=90_000,
                losses=(5.5, 3.0, 2.1),
                train_s=40.0,
                unit="bits per byte",
                causal=True,
                ended="plateau",
                leaks_future=entry == "nala",
                num_steps=900,
                validation_steps=(300, 600, 900),
                validation=(3.5, 2.5, 2.1 + 0.2 * i),
                train_accuracy=1.9,
                score_error=0.02,
                window_losses=_packed(losses.tobytes()),
                test_set="d" * 16,
                state_bytes=4096,
            )
            settings = {"seq_len": 256, "causal": True, "num_steps": 900, "batch_size": 16}
            yield made.ok_record(made.task_cell(entry, "bytes", seed, settings=settings), quality)


def _searched() -> Iterator[Record]:
    """Rows at three rates on one seed and at the best one on others; one row only at a shared."""
    for entry, best in (("softmax", 0.01), ("linear", 0.003), ("nala", None)):
        rates = (0.003, 0.01, 0.03) if best else (0.01,)
        for rate in rates:
            for seed in (0, 1, 2) if rate == best or not best else (0,):
                score = 0.97 - 0.01 * seed - (0.2 if best and rate != best else 0.0)
                settings = {"num_steps": 500, "batch_size": 32, "learning_rate": rate}
                cell = made.task_cell(
                    entry, "match", seed, settings=settings, shared_rate=0.01 if best else None
                )
                yield made.ok_record(cell, _quality(score, 500))


def _doubled() -> Iterator[Record]:
    """Steps that were doubled until one row changed no more, and one seed that stays at chance."""
    ends = {"softmax": (0.9, 0.96, 0.962), "linear": (0.6, 0.7, 0.8), "nala": (0.5, 0.501, 0.502)}
    for entry, scores in ends.items():
        for i, score in enumerate(scores):
            for seed in (0, 1, 2):
                steps = 600 * 2**i
                settings = {"num_steps": steps, "batch_size": 32, "learning_rate": 0.01}
                cell = made.task_cell(entry, "tile_recall", seed, settings=settings)
                is_lost = entry == "nala" and seed == 2
                end = 0.1 if is_lost else score + 0.001 * seed
                ended = "maximum" if entry == "linear" else "plateau"
                yield made.ok_record(cell, _quality(end, steps, ended=ended))


def _quality(score: float, num_steps: int, **changes: Any) -> Quality:
    values: dict[str, Any] = {
        "accuracy": score,
        "chance": 0.1,
        "guess": "the most frequent class",
        "num_examples": 1000,
        "num_parameters": 60_000,
        "losses": (2.3, 0.9, 0.3),
        "train_s": 12.5,
        "ended": "plateau",
        "num_steps": num_steps,
        "validation_steps": (num_steps // 2, num_steps),
        "validation": (score / 2, score),
        "train_accuracy": score,
        "score_error": 0.005,
    }
    return Quality(**(values | changes))


def _untrained() -> Iterator[Record]:
    """A task with one seed, and entries that were not trained or did not end well."""
    yield made.ok_record(made.task_cell("softmax", "images", 0), _quality(0.7, 600))
    yield made.ok_record(made.task_cell("nala", "images", 0), _quality(0.72, 600))
    reasons: Iterable[tuple[str, Status, str]] = (
        ("linear", Status.SKIPPED, "linear has no form for images_of|this size."),
        ("performer", Status.DIVERGED, "The loss was nan after step 40."),
        ("flatten", Status.OUT_OF_MEMORY, "It asked for 64 GiB; 20 GiB were free."),
    )
    for entry, status, reason in reasons:
        yield made.failed_record(made.task_cell(entry, "images", 0), status, reason)


=======
>>>>>>> wip-freeze
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
