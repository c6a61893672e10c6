"""Build rows as cores, and make rows of findings with intervals over seeds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch

from attentions import Attention
from bench.studies.diagnostics.measures import mean_with_interval
from bench.studies.diagnostics.samples import Size, build_core
from bench.studies.rates.tuned import Arm
from bench.studies.reproduce import verdicts
from bench.studies.reproduce.runs import ends_of, steps_of
from bench.studies.reproduce.stored import FindingRow, entry_of


def core_of(entry: str, size: Size, seed: int = 0, **settings: object) -> Attention:
    """A row in float64, for evaluation, its weights drawn under a seed.

    Raises:
        NoWeights: it owns its projections, or has no form in which queries see all keys.
    """
    chosen = entry_of("attention", entry) | settings
    return build_core(entry, chosen.pop("mechanism"), chosen, size, seed)


def row_over(name: str, samples: Sequence[float], *, most: float | None = None) -> FindingRow:
    """A mean with its interval over seeds.

    Args:
        name: what was measured.
        samples: one per seed.
        most: largest possible score, to which the interval is clipped, as to 0; None: no clipping.
    """
    mean, low, high = mean_with_interval(torch.tensor(samples, dtype=torch.float64))
    if most is not None:
        low, high = max(low, 0.0), min(high, most)
    return FindingRow(name=name, value=mean, low=low, high=high)


def trained_row(name: str, arm: Arm) -> FindingRow:
    """The scores of an arm, and how it was trained.

    Args:
        name: what was measured.
        arm: trained under several seeds.
    """
    runs = list(arm.runs.values())
    return replace(
        row_over(name, arm.scores, most=1),
        rate=arm.rate,
        rate_chosen="the task's own" if arm.is_control else "searched",
        steps=f"{steps_of(runs)} of {arm.num_steps:,}",
        ended=ends_of(runs),
        num_seeds=len(runs),
    )


def judged_arm(name: str, arm: Arm) -> verdicts.Arm:
    """Numbers of an arm that a verdict needs."""
    return verdicts.Arm(
        name=name,
        is_tuned=arm.is_tuned,
        stuck=tuple(bool(run.stuck_at) for run in arm.runs.values()),
        scores=tuple(arm.scores),
        is_control=arm.is_control,
        not_learned=arm.not_learned,
    )
