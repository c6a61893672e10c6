"""Sweeps to be published to W&B, and how."""

from pathlib import Path
from typing import Any

from bench.core.record import Record
from bench.publishing.config import PublishConfig, WandbConfig
from tests import records as made

METRICS = ("latency_s", "speedup_over", "peak_memory_bytes", "accuracy")


def config(out: Path, **changes: Any) -> PublishConfig:
    wandb = WandbConfig(**({"mode": "offline", "tags": ("nightly",)} | changes))
    return PublishConfig(out=out, metrics=METRICS, columns=METRICS[:1], wandb=wandb)


def small_sweep(sweep: str = made.SWEEP) -> list[Record]:
    timed = [r for n in (1024, 256) for r in made.block_records(["softmax", "nala"], seq_len=n)]
    records = timed + made.task_records(["nala", "softmax"]) + made.one_of_each_failure()
    return [made.of_sweep(record, sweep) for record in records]
