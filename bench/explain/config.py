"""What the command was asked for, checked."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.app.entries import AttentionEntry, chosen_rows
from bench.app.values import Values, command_line, text, whole, word
from bench.config import SEED
from bench.explain.methods import IDENTITIES, NAMES

MAX_IMAGES = 10_000


@dataclass(frozen=True, kw_only=True)
class ExplainConfig:
    """Everything that `bench.explain` was asked for; the YAML says what each key means.

    Attributes:
        command: what was typed, in its shortest form.
    """

    attention: tuple[AttentionEntry, ...]
    explain: tuple[str, ...]
    num_images: int
    seed: tuple[int, ...]
    identity: str
    canvas: Mapping[str, Any]
    plugins: tuple[str, ...]
    docs: Path
    out: Path
    command: str


def read_explain_config(config: Mapping[str, Any]) -> ExplainConfig:
    """Check every value.

    Raises:
        ConfigError: naming the key, what was given and what is allowed.
    """
    values = Values(config)
    return ExplainConfig(
        attention=chosen_rows(config),
        explain=values.some("explain", word(NAMES)),
        num_images=values.one("num_images", whole(low=2, high=MAX_IMAGES)),
        seed=values.some("seed", SEED),
        identity=values.one("identity", word(IDENTITIES)),
        canvas=values.section("canvas").given,
        plugins=values.some("plugins", text, or_none=True),
        docs=Path(values.one("docs", text)),
        out=Path(values.one("out", text)),
        command=command_line("explain", config, without=("docs",)),
    )
