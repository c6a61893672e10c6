"""What `bench.diagnose` was asked for, as typed values, and the training runs that it needs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.app.command import CONF, read_yaml
from bench.app.entries import AttentionEntry, chosen_rows
from bench.app.errors import ConfigError
from bench.app.values import Values, command_line, flag, number, text, whole
from bench.config import SEED, SIZE, SweepConfig, read_sweep_config
from bench.diagnostics.samples import Size

NORM = number(low=1e-6, high=1e6)


@dataclass(frozen=True, kw_only=True)
class DiagnoseConfig:
    """Everything that was asked for; the YAML says what each key means.

    Attributes:
        training: a sweep over the task alone, softmax among its rows; None without a trained part.
        command: what was typed, in its shortest form.
    """

    attention: tuple[AttentionEntry, ...]
    size: Size
    norms: tuple[float, ...]
    token_norms: tuple[float, ...]
    lengths: tuple[int, ...]
    num_seeds: int
    training: SweepConfig | None
    num_examples: int
    fine_tune_steps: int
    plugins: tuple[str, ...]
    out: Path
    command: str


def read_diagnose_config(config: Mapping[str, Any]) -> DiagnoseConfig:
    """Check every value.

    Raises:
        ConfigError: naming the key, what was given and what is allowed.
    """
    values = Values(config)
    return DiagnoseConfig(
        attention=chosen_rows(config),
        size=Size(
            num_heads=values.one("num_heads", SIZE),
            head_dim=values.one("head_dim", SIZE),
            num_tokens=values.one("seq_len", whole(low=2, high=4096)),
            causal=values.one("causal", flag),
        ),
        norms=tuple(sorted(values.some("norms", NORM))),
        token_norms=values.some("token_norms", NORM, or_none=True),
        lengths=values.some("lengths", whole(low=1, high=65_536), or_none=True),
        num_seeds=values.one("num_seeds", whole(low=2, high=1000)),
        training=_training(config) if values.one("trained", flag) else None,
        num_examples=values.one("num_examples", whole(low=1, high=10_000)),
        fine_tune_steps=values.one("fine_tune_steps", whole(low=0, high=1_000_000)),
        plugins=values.some("plugins", text, or_none=True),
        out=Path(values.one("out", text)),
        command=command_line("diagnose", config),
    )


def _training(config: Mapping[str, Any]) -> SweepConfig:
    """Softmax is trained too: it is what others take the place of."""
    tasks = config.get("task") or {}
    if len(tasks) != 1:
        raise ConfigError(
            f"task names {len(tasks)} tasks; one is looked at. Say task=recall, or trained=false."
        )
    usual = read_yaml(CONF / "sweep.yaml")
    given: dict[str, Any] = {
        "attention": {"softmax": {"mechanism": "softmax"}} | dict(config["attention"]),
        "task": tasks,
        "rates": config.get("rates"),
        "seq_len": [],
        "seed": Values(config).some("seed", SEED),
        "device": "cpu",
        "out": config.get("out"),
        "plugins": config.get("plugins"),
    }
    return read_sweep_config(usual | given)
