"""Fewer tokens into a trained model, without fine-tuning: what is lost, and what is gained.

Filters, which keep the most of each:

- ``attention_rate``: Naruko and Akutsu, 2025, arXiv:2506.01519. A token is high in an image if the
  first layer's attention that it receives, averaged over heads and queries, is above the mean of
  the image's tokens; its rate is the share of calibration images in which it is. Those of the
  highest rate are kept, the same ones in every image. The threshold on the rate is not public: the
  share to keep takes its place.
- ``object_rate``: those of an object first, then by the rate; an oracle, for the mask is the true
  one and not a detector's.
- ``random``: drawn for each image, a control.
- ``patch_contrast``: those whose pixels differ most among themselves, a control without a model.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from itertools import islice
from typing import Any

import torch
from torch import Tensor

from bench.measuring.tasks.base import Batch, Split, Task, generator
from bench.measuring.tasks.match import flops_per_example
from bench.measuring.tasks.model import Backbone
from bench.measuring.tasks.watching import watched

NUM_CALIBRATION = 512
NUM_ROUNDS = 15
"""In each, the whole model and the filtered one are timed once, one after the other."""

Score = Callable[[Batch, slice], Tensor]
"""(B, N), the greatest are kept; of examples at some places of the test set."""


def why_not_filtered(task: Task, filters: Sequence[str]) -> str | None:
    """Reason why a task cannot take these filters, as the end of a sentence; None if it can."""
    if not task.has_patches:
        return (
            "whose tokens are no patches of an image. Take task=[canvas,fashion_mnist], or others "
            "on images."
        )
    if task.recipe.conv_width > 1 or task.recipe.position == "rope":
        return (
            f"with conv_width={task.recipe.conv_width} and position={task.recipe.position}: tokens "
            "that are kept would get other neighbours or places. Set conv_width=1 and "
            "position=learned."
        )
    if "object_rate" in filters and task.objects() is None:
        return (
            "which does not know where its objects are, and object_rate needs that; canvas does. "
            "Drop one."
        )
    return None


@torch.no_grad()
def filtered_scores(
    model: Backbone,
    task: Task,
    filters: tuple[str, ...],
    keep: tuple[float, ...],
    now_s: Callable[[], float],
) -> tuple[dict[str, Any], ...]:
    """The fields of `bench.core.record.Filtered`, for every filter and share to keep.

    Positions are added before tokens are dropped, so that those kept stay where they are. Shares to
    keep are of the patches: tokens at which answers are read stay besides. The model is left in
    eval mode.
    """
    model.eval()
    device = next(model.parameters()).device
    test = [batch.map(lambda tensor: tensor.to(device)) for batch in task.batches(Split.TEST, 0)]
    rows: list[dict[str, Any]] = []
    for name in filters:
        for share in keep:
            about = {"filter": name, "keep": share}
            try:
                rows.append(
                    about | _measured(model, task, test, _score_of(name, model, task), share, now_s)
                )
            except ValueError as error:  # no weights to rate by, or a mechanism of a whole grid
                rows.append(about | {"reason": str(error)})
    return tuple(rows)


def _measured(
    model: Backbone,
    task: Task,
    test: list[Batch],
    score: Score,
    share: float,
    now_s: Callable[[], float],
) -> dict[str, Any]:
    total, num_answers, start = 0.0, 0, 0
    for batch in test:
        places = slice(start, start + len(batch.targets))
        kept = kept_tokens(score(batch, places), batch, share)
        total += task.score(_answers(model, batch, kept), batch) * batch.num_answers
        num_answers, start = num_answers + batch.num_answers, places.stop
    whole, fewer = _rounds(model, test[0], score, share, now_s)
    smaller = copy.copy(task)
    smaller.seq_len = kept.shape[1]
    return {
        "num_tokens": kept.shape[1],
        "accuracy": total / num_answers,
        "flops": flops_per_example(smaller, model.mixers),
        "latency_s": fewer,
        "unfiltered_latency_s": whole,
    }


def kept_tokens(scores: Tensor, batch: Batch, share: float) -> Tensor:
    """(B, n) places in rising order: of those with the greatest scores, and where answers are read.

    Scores are (B, N); the share is of the other tokens, one at least.
    """
    num_read = 0
    if batch.positions is not None:
        scores = scores.scatter(1, batch.positions, torch.inf)
        num_read = int(scores[0].isinf().sum())
    count = num_read + max(1, round(share * (scores.shape[1] - num_read)))
    return scores.topk(count, dim=1).indices.sort(dim=1).values


def _answers(model: Backbone, batch: Batch, kept: Tensor) -> Tensor:
    positions = batch.positions
    if positions is not None:  # where they are among those kept
        positions = torch.searchsorted(kept, positions)
    return model(batch.inputs, positions, kept)  # type: ignore[no-any-return]


def _rounds(
    model: Backbone, batch: Batch, score: Score, share: float, now_s: Callable[[], float]
) -> tuple[list[float], list[float]]:
    """Seconds of the whole model's forward and of the filtered one's, choice of tokens included."""
    everything = slice(len(batch.targets))

    def whole() -> Tensor:
        return model(batch.inputs, batch.positions)  # type: ignore[no-any-return]

    def fewer() -> Tensor:
        return _answers(model, batch, kept_tokens(score(batch, everything), batch, share))

    samples: tuple[list[float], list[float]] = ([], [])
    for number in range(NUM_ROUNDS + 1):
        for call, own in zip((whole, fewer), samples, strict=True):
            started = now_s()
            call().sum().item()  # waits for an accelerator
            if number:  # the first round warms up
                own.append(now_s() - started)
    return samples


def _score_of(name: str, model: Backbone, task: Task) -> Score:
    stream = generator(0, "token_filter")
    device = next(model.parameters()).device
    if name == "random":
        return lambda batch, _: torch.rand(batch.inputs.shape[:2], generator=stream).to(device)
    if name == "patch_contrast":
        return lambda batch, _: batch.inputs.std(dim=-1, correction=0)
    rate = attention_rate(model, task)
    # Rates are counts, and many are alike: which of these come first is drawn once.
    rate = rate + 1e-6 * torch.rand(rate.shape, generator=stream).to(device)
    if name == "attention_rate":
        return lambda batch, _: rate.expand(len(batch.targets), -1)
    masks = task.objects()
    assert masks is not None, "plan refuses a task that does not know where its objects are"
    is_object = masks.to(device)
    return lambda _, places: is_object[places] + 0.5 * rate


def attention_rate(model: Backbone, task: Task) -> Tensor:
    """(N,), the share of calibration images in which a token is high, as above.

    Calibration images are those held out for validation, up to `NUM_CALIBRATION` of them.

    Raises:
        NoWeights: the mechanism has none.
    """
    device = next(model.parameters()).device
    size = task.recipe.batch_size
    highs = []
    for batch in islice(task.validation(), -(-NUM_CALIBRATION // size)):
        batch = batch.map(lambda tensor: tensor.to(device))
        with watched(model) as seen:
            model(batch.inputs, batch.positions)
        received = seen.weights[0].mean(dim=(1, 2))
        highs.append(received > received.mean(dim=1, keepdim=True))
    return torch.cat(highs)[:NUM_CALIBRATION].float().mean(dim=0)
