"""Settings of `bench.diagnose`, and the training runs that it needs."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

from bench.core.cli.errors import ConfigError
from bench.core.settings import (
    AfterValidator,
    Folder,
    Group,
    Interval,
    Many,
    Name,
    Rows,
    Seed,
    Settings,
    Some,
    chosen,
    rows,
)
from bench.measuring.config import SweepConfig, training_config
from bench.studies.diagnostics.samples import Size

Norm = Annotated[float, Interval(ge=1e-6, le=1e6)]


class Diagnose(Settings):
    """Analyse attention weights, on random queries and keys and on those of trained models.

    Random queries and keys are unit normal, with norms of about sqrt(head_dim), then scaled.
    """

    attention: Rows = rows("softmax", "flatten", "nala")
    task: Annotated[dict[str, Any] | None, Group("task")] = chosen("recall")
    rates: Annotated[Any, Group("rates")] = chosen("searched")
    num_heads: Annotated[int, Interval(ge=1, le=2**31 - 1)] = 4
    head_dim: Annotated[int, Interval(ge=1, le=2**31 - 1)] = 16
    seq_len: Annotated[int, Interval(ge=2, le=4096)] = 64
    causal: bool = False
    """Causal-only mechanisms get a causal mask in any case."""
    norms: Annotated[Many[Norm], AfterValidator(lambda norms: tuple(sorted(norms)))] = (
        *(0.1, 0.25, 0.5, 1.0, 2.0, 3.0, 4.0, 6.0, 8.0, 16.0),
    )
    """Norms of all queries, at fixed directions."""
    token_norms: Some[Norm] = (1.0, 2.0, 4.0, 8.0)
    """Medians of norms that vary between tokens; softmax is compared there."""
    lengths: Some[Annotated[int, Interval(ge=1, le=65_536)]] = (64, 256, 1024)
    """Numbers of tokens for errors in bfloat16 and float16; [] skips them."""
    num_seeds: Annotated[int, Interval(ge=2, le=1000)] = 5
    """For random inputs, and for random weights of a mechanism."""
    trained: bool = True
    """Also on models trained on one task=; they are kept under out/checkpoints and reused."""
    seed: Many[Seed] = (0,)
    """Seed of training runs, or a list of them."""
    num_examples: Annotated[int, Interval(ge=1, le=10_000)] = 24
    """Test examples whose queries and keys are analysed."""
    fine_tune_steps: Annotated[int, Interval(ge=0, le=1_000_000)] = 50
    """After the mechanism replaces a trained softmax; 0 skips this."""
    plugins: Some[Name] = ()
    """Modules to import that register further mechanisms or tasks."""
    out: Folder = Path("results/diagnostics")

    @property
    def size(self) -> Size:
        """Sizes of random inputs."""
        return Size(
            num_heads=self.num_heads,
            head_dim=self.head_dim,
            num_tokens=self.seq_len,
            causal=self.causal,
        )

    def training(self, composed: Mapping[str, Any]) -> SweepConfig | None:
        """A sweep over the task alone, softmax among its rows; None without a trained part.

        Raises:
            ConfigError: there is not exactly one task, or its settings are wrong.
        """
        if not self.trained:
            return None
        tasks = self.task or {}
        if len(tasks) != 1:
            raise ConfigError(
                f"task names {len(tasks)} tasks; one is looked at. Say task=recall, or "
                "trained=false."
            )
        # Softmax is trained too: in its model, others take its place.
        softmax = {"softmax": {"mechanism": "softmax"}}
        rows = softmax | dict(composed["attention"])
        more = {"seed": list(self.seed), "plugins": list(self.plugins), "device": "cpu"}
        return training_config(rows, tasks, self.out, rates=self.rates, **more)
