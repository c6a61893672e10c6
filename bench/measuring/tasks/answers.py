"""Score a model on examples, and keep which answers were right so that others can check it.

The first examples of a test set are written once, so that a reader sees what was asked.
"""

from __future__ import annotations

import base64
import hashlib
import json
import os
import zlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from bench.core.answers import error_of_score
from bench.core.cli.files import write_whole
from bench.measuring.tasks.base import NO_ANSWER, Batch, Task
from bench.measuring.tasks.faults import first_not_finite


class NotFinite(Exception):
    """A prediction is infinite or no number; the message names the tensor."""


@dataclass(frozen=True, kw_only=True)
class Scored:
    """A score, and what it was made of.

    Attributes:
        score: mean over all answers.
        error: standard error of the score over the examples, clustered; None where the task gives
            no score per answer.
        right: whether each answer was right, in order; None where answers are not right or wrong.
        losses: mean loss of each example, of a score with a unit; None otherwise.
        per_cluster: consecutive answers that form a cluster; None where that differs.
    """

    score: float
    num_answers: int
    error: float | None
    right: Tensor | None
    losses: Tensor | None
    per_cluster: int | None

    @property
    def half_width(self) -> float:
        """Half of the 95 % interval of the score, by the normal distribution."""
        return 1.96 * self.error if self.error is not None else 0.0


@torch.no_grad()
def score_on(
    model: nn.Module, task: Task, batches: Iterable[Batch], device: torch.device
) -> Scored:
    """Score a model on batches.

    Raises:
        NotFinite: a prediction is infinite or no number.
    """
    model.eval()
    total, num_answers, num_examples = 0.0, 0, 0
    parts: list[Tensor] = []
    clusters: list[Tensor] = []
    for batch in batches:
        batch = batch.map(lambda tensor: tensor.to(device))
        logits = model(batch.inputs, batch.positions)
        if not logits.isfinite().all():
            raise NotFinite(first_not_finite(model, partial(model, batch.inputs, batch.positions)))
        total += task.score(logits, batch) * batch.num_answers
        num_answers += batch.num_answers
        each = task.each_answer(logits, batch)
        if each is not None:
            asked = batch.targets != NO_ANSWER
            own = task.clusters(batch)
            if own is None:
                rows = torch.arange(len(batch.targets), device=device) + num_examples
                own = rows.reshape(-1, *[1] * (batch.targets.dim() - 1)).expand_as(batch.targets)
            parts.append(each[asked].double().cpu())
            clusters.append(own[asked].cpu())
        num_examples += len(batch.targets)
    score = total / num_answers
    if not parts:
        return Scored(
            score=score, num_answers=num_answers, error=None, right=None, losses=None,
            per_cluster=None,
        )  # fmt: skip
    values, owners = torch.cat(parts), torch.cat(clusters)
    sums, counts = _by_cluster(values, owners)
    is_even = bool((counts == counts[0]).all()) and bool((owners.diff() >= 0).all())
    return Scored(
        score=score,
        num_answers=num_answers,
        error=error_of_score(sums.numpy(), counts.numpy()),
        right=None if task.unit else values.bool(),
        losses=sums / counts if task.unit else None,
        per_cluster=int(counts[0]) if is_even else None,
    )


def _by_cluster(values: Tensor, owners: Tensor) -> tuple[Tensor, Tensor]:
    """Sums of the values and numbers of answers, by cluster in the order of their numbers."""
    _, place, counts = owners.unique(return_inverse=True, return_counts=True)
    sums = torch.zeros(len(counts), dtype=values.dtype).index_add_(0, place, values)
    return sums, counts


def packed_bits(right: Tensor | None) -> str:
    """Bits packed into bytes, compressed, in base64; empty of None."""
    return "" if right is None else _packed(np.packbits(right.numpy()).tobytes())


def packed_losses(losses: Tensor | None) -> str:
    """Numbers as float16, compressed, in base64; empty of None."""
    return "" if losses is None else _packed(losses.numpy().astype("<f2").tobytes())


def _packed(content: bytes) -> str:
    return base64.b64encode(zlib.compress(content, 9)).decode()


def digest_of(batches: Iterable[Batch]) -> str:
    """16 hexadecimal digits of examples and answers; the same on every machine."""
    whole = hashlib.sha256()
    for batch in batches:
        for tensor in (batch.inputs, batch.targets, batch.positions):
            if tensor is not None:
                content = tensor.contiguous().cpu()
                # Images may differ in the last bit between processors.
                kept = (content * 256).round().int() if content.is_floating_point() else content
                whole.update(repr(tuple(content.shape)).encode())
                whole.update(kept.numpy().tobytes())
    return whole.hexdigest()[:16]


NUM_SHOWN = 64
"""Examples of a file."""


def write_examples(folder: Path, digest: str, task: Task, batches: Sequence[Batch]) -> Path:
    """Write the first examples of a test set to ``DIGEST.json``; a file that is there stays."""
    file = folder / f"{digest}.json"
    if os.path.exists(file):
        return file
    first: list[Batch] = []
    for batch in islice(batches, NUM_SHOWN):
        first.append(batch.select(slice(NUM_SHOWN - sum(len(b.targets) for b in first))))
        if sum(len(b.targets) for b in first) >= NUM_SHOWN:
            break
    shown = Batch.join(first)
    content = {
        "task": task.name,
        "test_set": digest,
        "num_examples": len(shown.targets),
        "inputs": _plain(shown.inputs),
        "targets": shown.targets.tolist(),
        "positions": None if shown.positions is None else shown.positions.tolist(),
    }
    text = json.dumps(content, separators=(",", ":")) + "\n"
    return write_whole(file, text, inside=folder.parent)


def _plain(inputs: Tensor) -> Any:
    """Token ids as lists; measured tokens, (B, N, channels), as bytes between their extremes."""
    if not inputs.is_floating_point():
        return inputs.tolist()
    low, high = float(inputs.min()), float(inputs.max())
    scaled = (inputs - low) / max(high - low, 1e-12) * 255
    return {
        "shape": list(inputs.shape),
        "low": round(low, 4),
        "high": round(high, 4),
        "uint8_base64": base64.b64encode(
            scaled.round().to(torch.uint8).contiguous().numpy().tobytes()
        ).decode(),
    }
