"""Made-up cells that time: kernels, layers and whole models, with a row for each mark."""

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from bench.core.record import Record, Status
from tests import records as made

PLUGIN = "frozen_plugin"
PLUGIN_MODULE = "frozen_plugin_of_tests"
RUDE = "a|b <img src=x onerror=alert(1)></script><!--"


def timed_records() -> Iterator[Record]:
    """Everything that is timed on the first machine."""
    for of_one_kind in (_kernels, _marked, _plugins, _processes, _models, _rude):
        yield from of_one_kind()


def _kernels() -> Iterator[Record]:
    few, num_rounds = ("softmax", "linear", "nala", "none"), 12
    for seq_len in (256, 1024, 4096):
        entries = [e for e in made.ENTRIES if e != "softmax_explicit" or seq_len <= 1024]
        yield from _together(made.block_records(entries, seq_len=seq_len, num_rounds=20))
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
    for record in _together(made.block_records(few, seq_len=384, num_rounds=20)):
        yield from (record, _compiled(record), _threaded(record))


def _together(block: list[Record]) -> list[Record]:
    """A block as it is measured today: with the key of its rounds, and of its first member."""
    key = block[0].cell.key
    return [made.changed(r, reference_key=key, rounds_key=key[:8]) for r in block]


def _compiled(record: Record) -> Record:
    work = replace(record.cell.kernel, compile="inductor")
    faster = tuple(0.7 * value for value in record.result.latency_s)
    cell = replace(record.cell, workload=work)
    return made.changed(replace(record, cell=cell), latency_s=faster, compile_s=11.5)


def _threaded(record: Record) -> Record:
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
    for record in _together(made.block_records(("linear", "nala"), seq_len=768, num_rounds=12)):
        yield made.changed(record, reference="linear")
    # Two references in one table have no order.
    yield from _together(made.block_records(("softmax", "nala"), seq_len=896, num_rounds=12))
    for record in _together(made.block_records(("linear", "flatten"), seq_len=896, num_rounds=12)):
        yield made.changed(record, reference="linear")


def _processes() -> Iterator[Record]:
    """Rounds that were taken in three processes, and a row of other rounds than these."""
    apart = made.block_records(("nala",), seq_len=640, num_rounds=12, seed=1)[0]
    apart = replace(apart, started_at="2031-05-06T07:00:00Z")
    yield made.changed(apart, rounds_key="o" * 8)
    for record in made.block_records(("softmax", "flatten"), seq_len=640, num_rounds=12):
        processes = tuple(i // 4 for i in range(len(record.result.rounds)))
        yield made.changed(record, processes=processes, rounds_key="p" * 8)


def gpu_records() -> Iterator[Record]:
    """A block on an accelerator, and a cell that did not fit there."""
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
