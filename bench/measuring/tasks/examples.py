"""The first examples of a test set, written once, so that a reader sees what was asked."""

from __future__ import annotations

import base64
import json
import os
from collections.abc import Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from bench.core.cli.files import write_whole
from bench.measuring.tasks.base import Batch, Task

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
