"""Made-up trainings: scores over seeds, with the fields of today and of the first records."""

import base64
import random
import zlib
from collections.abc import Iterable, Iterator
from dataclasses import replace
from typing import Any

import numpy as np

from bench.core.answers import error_of_score
from bench.core.cell import Cell
from bench.core.record import Filtered, Quality, Record, Status
from tests import records as made

TEST_SET = "0123456789abcdef"
PER_EXAMPLE = 4
NUM_ANSWERS = 200


def trained_records() -> Iterator[Record]:
    """Everything that is trained."""
    yield from _recalls()
    for task in ("recall", "digits"):  # as records were at first
        yield from made.task_records(made.ENTRIES[:4], task=task)
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
        settings = _RECALL | {"num_pairs": num_pairs, "match": "state"}
        settings |= {"num_layers": 2, "embed_dim": 64, "num_heads": 4}
        for record in made.task_records(entries):
            seed, entry = record.cell.task.seed, record.cell.entry
            label = f"recall num_pairs={num_pairs}"
            cell = made.task_cell(entry, "recall", seed, settings=settings)
            work = replace(cell.task, label=label, is_at_edge=entry == "flatten")
            own = replace(record, cell=replace(cell, workload=work))
            yield _learned(_solved(own, lag=num_pairs), num_pairs)


def _learned(record: Record, num_pairs: int) -> Record:
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
        end, entry = record.result.accuracy, record.cell.entry
        work = replace(
            record.cell.task,
            label="digits filtered",
            settings=record.cell.task.settings | {"match": "flops"},
            token_filters=names,
            token_keep=shares,
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
        flops = 100_000 if entry == "softmax" else 104_000
        yield made.changed(own, filtered=tuple(rows), flops=flops, test_set="e" * 16)


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
    """A task with one seed and another dtype, and entries that did not end well."""
    yield made.ok_record(_image_cell("softmax"), _quality(0.7, 600))
    yield made.ok_record(_image_cell("nala"), _quality(0.72, 600))
    reasons: Iterable[tuple[str, Status, str]] = (
        ("linear", Status.SKIPPED, "linear has no form for images_of|this size."),
        ("performer", Status.DIVERGED, "The loss was nan after step 40."),
        ("flatten", Status.OUT_OF_MEMORY, "It asked for 64 GiB; 20 GiB were free."),
    )
    for entry, status, reason in reasons:
        yield made.failed_record(_image_cell(entry), status, reason)


def _image_cell(entry: str) -> Cell:
    cell = made.task_cell(entry, "images")
    return replace(cell, workload=replace(cell.task, dtype="bfloat16"))
