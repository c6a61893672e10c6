"""Scores of an explanation: where relevance lies, and how the answer changes with tokens."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from bench.core.statistics import BOOTSTRAP_SEED, NUM_RESAMPLES, mean_interval, percentiles
from bench.measuring.tasks.base import Batch
from bench.publishing.document import Estimate

NUM_SHARES = 10
"""Number of shares of tokens, none to all, over which insertion and deletion are averaged."""

Images = npt.NDArray[np.float64]
"""A number for each image; NaN where it has none."""

SCORES = ("pointing", "mass", "own", "insertion", "deletion")


def located(relevance: Tensor, own: Tensor, all_digits: Tensor) -> Mapping[str, Tensor]:
    """Scores of where relevance lies, (B,) each.

    ``pointing``: whether the most relevant token is of the class's digit. ``mass``: the share of
    relevance on it. ``own``: its part of what lies on any digit; NaN where nothing does, or where
    no other digit is there.

    Args:
        relevance: (B, N), 0 or more.
        own: (B, N), the tokens of the class's digit.
        all_digits: (B, N), those of any digit.
    """
    on_own = (relevance * own).sum(dim=-1)
    on_any = (relevance * all_digits).sum(dim=-1)
    has_other = (all_digits & ~own).any(dim=-1) & (on_any > 0)
    best = relevance.argmax(dim=-1, keepdim=True)
    return {
        "pointing": own.gather(-1, best)[:, 0].float(),
        "mass": on_own / relevance.sum(dim=-1).clamp(min=1e-12),
        "own": torch.where(has_other, on_own / on_any.clamp(min=1e-12), math.nan),
    }


@torch.no_grad()
def curves(
    model: nn.Module, batch: Batch, classes: Tensor, relevance: Tensor, blank: Tensor
) -> Mapping[str, Tensor]:
    """``insertion`` and ``deletion``, (B, NUM_SHARES) each: the class's probability.

    Petsiuk et al., 2018, arXiv:1806.07421. Tokens are put on a blank canvas, or taken off the full
    one, from the most to the least relevant, in `NUM_SHARES` shares from none to all. The score is
    the mean over these: higher is better for insertion, lower for deletion.

    Args:
        model: in eval mode.
        batch: B examples.
        classes: (B,), the classes whose probability is taken.
        relevance: (B, N); tokens with minus infinity come last, such as a class token.
        blank: (B, N, channels), the inputs of hidden tokens.
    """
    order = relevance.argsort(dim=-1, descending=True)
    num_tokens = int(relevance.isfinite().sum(dim=-1).min())
    found: dict[str, list[Tensor]] = {"insertion": [], "deletion": []}
    for step in range(NUM_SHARES):
        count = round(step * num_tokens / (NUM_SHARES - 1))
        changed = torch.zeros_like(relevance, dtype=torch.bool)
        changed.scatter_(1, order[:, :count], True)
        for name, is_shown in (("insertion", changed), ("deletion", ~changed)):
            inputs = torch.where(is_shown[..., None], batch.inputs, blank)
            logits = model(inputs, batch.positions)
            logits = logits if logits.dim() == 2 else logits[:, 0]
            found[name].append(logits.softmax(dim=-1).gather(1, classes[:, None])[:, 0])
    return {name: torch.stack(points, dim=1) for name, points in found.items()}


def over_models(samples: Sequence[Images]) -> Estimate | None:
    """A mean over models of one number per image each, NaN left out.

    The interval covers models of other seeds: Student's t over the means of the models. For one
    model, the estimate is that of `over_images`.
    """
    if len(samples) == 1:
        return over_images(samples[0])
    known = [own[~np.isnan(own)] for own in samples]
    if not all(map(len, known)):
        return None
    means = [float(own.mean()) for own in known]
    interval = mean_interval(means)
    if interval is None:
        return None
    return Estimate(sum(means) / len(means), *interval)


def over_images(samples: Images) -> Estimate | None:
    """Mean of one number per image, NaN left out; None if there are fewer than two numbers."""
    values = samples[~np.isnan(samples)]
    if len(values) < 2:
        return None
    draw = np.random.default_rng(BOOTSTRAP_SEED)
    means = np.empty(NUM_RESAMPLES)
    for start in range(0, NUM_RESAMPLES, _AT_ONCE):
        size = (min(_AT_ONCE, NUM_RESAMPLES - start), len(values))
        means[start : start + size[0]] = values[draw.integers(0, len(values), size=size)].mean(1)
    low, high = percentiles(means)
    return Estimate(float(values.mean()), low, high)


_AT_ONCE = 100  # resamples, so that ten thousand images take megabytes and no more
